"""ORU^R01: the signed report and its coded observations (HL7 v2.5.1 7.3.1, IHE Radiology RAD-28)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from polyclinic.core.codes import DCM, LOINC, SNOMED_CT, Code
from polyclinic.core.findings import Finding
from polyclinic.core.people import Patient
from polyclinic.departments.archive.contracts import StudyRecord
from polyclinic.departments.reading.contracts import Language, Report, Section
from polyclinic.departments.records.patients import Order
from polyclinic.edges.hl7v2.acknowledge import APPLICATION
from polyclinic.edges.hl7v2.charsets import UTF_8
from polyclinic.edges.hl7v2.er7 import STANDARD, components, escape, segment_text
from polyclinic.edges.hl7v2.fields import cwe, timestamp, xcn, xpn

STUDY = Code(system=LOINC, code="18748-4", display="Diagnostic imaging study")
_STUDY_REFERENCE = Code(system=DCM, code="113014", display="DICOM Study")
SECTIONS = {
    "technique": Code(system=LOINC, code="55111-9", display="Current imaging procedure descriptions"),
    "comparison": Code(system=LOINC, code="18834-2", display="Radiology comparison study"),
    "findings": Code(system=LOINC, code="59776-5", display="Procedure findings"),
    "impression": Code(system=LOINC, code="19005-8", display="Radiology imaging study impression"),
}
"""Section of the report -> OBX-3."""
_FINDING = Code(system=DCM, code="121071", display="Finding")
_SITE = Code(system=SNOMED_CT, code="363698007", display="Finding site")
_LATERALITY = Code(system=SNOMED_CT, code="272741003", display="Laterality")
_NOTE = Code(system=DCM, code="121106", display="Comment")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultAddress:
    """Who tells it to whom: MSH-4, MSH-5, MSH-6, and where people open the study."""

    facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    page_url: str = ""
    """Address of the web page without a slash at its end; empty leaves the link out."""


def control_id_of(key: str) -> str:
    """MSH-10 for a delivery: the same however often it is sent; 20 characters, as 2.3.1 allows."""
    return key.replace("-", "")[:20]


def result_message(
    *,
    key: str,
    report: Report,
    findings: Sequence[Finding],
    study: StudyRecord,
    patient: Patient,
    order: Order | None,
    corrects: bool,
    at: datetime,
    address: ResultAddress,
) -> bytes:
    """The message for a signed report, in UTF-8.

    Parameters
    ----------
    key
        Of the delivery; gives the control id.
    findings
        Those that stand in the report.
    corrects
        Whether an earlier result was sent: result status C instead of F.
    at
        Time of sending.
    """
    status = "C" if corrects else "F"
    observations = [
        _observation("HD", _STUDY_REFERENCE, study.study_instance_uid, ""),
        *(_section(section) for section in report.sections),
        *(line for number, finding in enumerate(findings, 1) for line in _of_finding(finding, number)),
    ]
    if address.page_url:
        link = components(f"{address.page_url}/study/{study.study_instance_uid}", "", "Application", "HTML")
        observations.append(["RP", cwe(STUDY), "link", link, ""])
    lines = [
        _header(key, at, address, report.language),
        _person(patient),
        *_order_segments(report, study, order, status),
        *(
            segment_text("OBX", [str(n), kind, code, sub_id, value, unit, "", "", "", "", status])
            for n, (kind, code, sub_id, value, unit) in enumerate(observations, 1)
        ),
    ]
    return "".join(f"{line}\r" for line in lines).encode()


def _header(key: str, at: datetime, address: ResultAddress, language: Language) -> str:
    return segment_text(
        "MSH",
        [
            STANDARD.encoding_characters,
            APPLICATION,
            escape(address.facility),
            escape(address.receiving_application),
            escape(address.receiving_facility),
            timestamp(at),
            "",
            "ORU^R01^ORU_R01",
            control_id_of(key),
            "P",
            "2.5.1",
            *("",) * 5,
            UTF_8,
            components(language, "", "ISO639"),
        ],
    )


def _person(patient: Patient) -> str:
    identifier = components(patient.patient_id, "", "", patient.issuer, "MR" if patient.issuer else "")
    born = patient.birth_date.strftime("%Y%m%d") if patient.birth_date else ""
    return segment_text("PID", ["1", "", identifier, "", xpn(patient.name), "", born, patient.sex])


def _order_segments(report: Report, study: StudyRecord, order: Order | None, status: str) -> list[str]:
    placer = escape(order.placer_number) if order else ""
    filler = escape(order.filler_number if order and order.filler_number else study.accession_number)
    procedure = order.procedure if order and order.procedure else None
    service = cwe(procedure) if procedure else components("", (order and order.description) or study.description)
    done = (study.study_date + study.study_time[:6]) if study.study_date else ""
    signed = report.signature
    # OBR-32 is an NDL: its first component is an XCN written with subcomponents
    interpreter = xcn(signed.person_id, signed.person_name).replace("^", "&") if signed else ""
    request = ["1", placer, filler, service or "18748-4^Diagnostic imaging study^LN", "", "", done]
    request += [""] * 5
    request.append(escape(order.indication) if order else "")  # OBR-13
    request += ["", "", xcn("", order.requester) if order else ""]  # OBR-16
    request += ["", escape(study.accession_number)]  # OBR-18
    request += ["", "", "", timestamp(signed.at) if signed else ""]  # OBR-22
    request += ["", escape(next(iter(study.modalities), "")), status]  # OBR-24, OBR-25
    request += [""] * 6 + [interpreter]  # OBR-32
    return [segment_text("ORC", ["RE", placer, filler]), segment_text("OBR", request)]


def _section(section: Section) -> list[str]:
    text = "\n".join(sentence.text for sentence in section.sentences)
    return _observation("FT", SECTIONS.get(section.id, STUDY), text, section.id)


def _of_finding(finding: Finding, number: int) -> list[list[str]]:
    """A finding as observations that share a sub-id: what, where, its attributes and measurements."""
    sub_id = str(number)
    lines = [["CWE", cwe(_FINDING), sub_id, cwe(finding.code), ""]]
    for name, code in ((_SITE, finding.body_site), (_LATERALITY, finding.laterality)):
        if code is not None:
            lines.append(["CWE", cwe(name), sub_id, cwe(code), ""])
    lines += [["CWE", cwe(a.code), sub_id, cwe(a.value), ""] for a in finding.attributes]
    for m in finding.measurements:
        unit = components(m.unit, m.unit, "UCUM") if m.unit != "1" else ""
        lines.append(["NM", cwe(m.code), sub_id, f"{m.value:.6g}", unit])
    if finding.note:
        lines.append(_observation("TX", _NOTE, finding.note, sub_id))
    return lines


def _observation(kind: str, code: Code, text: str, sub_id: str) -> list[str]:
    return [kind, cwe(code), sub_id, escape(text), ""]
