"""Codes <-> DICOM coded entries (DICOM PS3.3 8.1 to 8.8, PS3.16 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from polyclinic.core.codes import DCM, LOCAL, LOINC, RADLEX, SNOMED_CT, UCUM, Code
from polyclinic.core.errors import Rejected
from polyclinic.core.ids import stable_uid
from polyclinic.core.units import PRINTED

LOCAL_DESIGNATOR = "99POLYCLINIC"

DESIGNATORS: dict[str, str] = {
    SNOMED_CT: "SCT",
    LOINC: "LN",
    RADLEX: "RADLEX",
    DCM: "DCM",
    UCUM: "UCUM",
    LOCAL: LOCAL_DESIGNATOR,
}
"""FHIR URI -> coding scheme designator (DICOM PS3.16 table 8-1); private schemes begin with 99."""

SHORT_LOCAL_CODES: dict[str, str] = {
    "nodule-attenuation": "nodule-atten",
    "vertebral-attenuation": "vertebral-atten",
    "liver-attenuation": "liver-atten",
    "ascending-aorta-diameter": "asc-aorta-diam",
    "descending-aorta-diameter": "desc-aorta-diam",
    "agatston-equivalent": "agatston-equiv",
    "consolidated-share": "consolid-share",
    "prior-mean-diameter": "prior-mean-diam",
    "volume-doubling-time": "vol-doubling-t",
}
"""Local codes above 16 characters -> the Code Value they are written with. Long Code Value would be legal, but
readers as good as highdicom stumble over a concept name without Code Value."""

_LONG_LOCAL_CODES = {short: full for full, short in SHORT_LOCAL_CODES.items()}
_SYSTEMS = {designator: system for system, designator in DESIGNATORS.items()}
_UNIT_MEANINGS = {"%": "percent", "1": "no units", "d": "day", "[hnsf'U]": "Hounsfield unit"}
_MEANING_LENGTH = 64
_WITHOUT_LOCAL_CODES = {"CodingSchemeIdentificationSequence", "PerFrameFunctionalGroupsSequence"}
"""Not searched: the explanation itself, and the frames of a segmentation, thousands of items of standard codes."""


def to_concept(code: Code) -> CodedConcept:
    """Coded entry of `code`; a value above 16 characters becomes Long Code Value.

    Raises
    ------
    Rejected
        ``dicom.unknown-code-system`` when the system has no designator here.
    """
    designator = DESIGNATORS.get(code.system)
    if designator is None:
        raise Rejected(
            "dicom.unknown-code-system",
            f"Code system {code.system} has no DICOM designator; add it to polyclinic.dicom.codes.DESIGNATORS",
        )
    value = SHORT_LOCAL_CODES.get(code.code, code.code) if code.system == LOCAL else code.code
    return CodedConcept(value, designator, (code.display or code.code)[:_MEANING_LENGTH])


def from_concept(concept: Dataset) -> Code:
    """The Code that a coded entry (any item of a code sequence) stands for.

    A designator unknown to us is kept as ``urn:dicom:designator:<designator>``, so that nothing is lost.
    """
    value = concept.get("CodeValue") or concept.get("LongCodeValue") or concept.get("URNCodeValue") or ""
    designator = str(concept.get("CodingSchemeDesignator", ""))
    if designator == LOCAL_DESIGNATOR:
        value = _LONG_LOCAL_CODES.get(str(value), value)
    return Code(
        system=_SYSTEMS.get(designator, f"urn:dicom:designator:{designator}"),
        code=str(value),
        display=str(concept.get("CodeMeaning", "")),
    )


def unit_concept(unit: str) -> CodedConcept:
    """Coded entry of a UCUM unit; its meaning is what readers see (DICOM PS3.16 CID 82).

    Raises
    ------
    Rejected
        ``dicom.unknown-unit`` when `polyclinic.core.units` does not list it.
    """
    if unit not in PRINTED:
        raise Rejected("dicom.unknown-unit", f"Unit {unit!r} is not used in Findings; add it to polyclinic.core.units")
    return CodedConcept(unit, "UCUM", _UNIT_MEANINGS.get(unit, unit))


def method_concept(method: str) -> CodedConcept:
    """Local coded entry for a measurement method given as text; equal text gives the equal code."""
    return CodedConcept(
        f"m-{hashlib.sha256(method.encode()).hexdigest()[:12]}", LOCAL_DESIGNATOR, method[:_MEANING_LENGTH]
    )


def coding_scheme_identification() -> list[Dataset]:
    """Items of Coding Scheme Identification Sequence that explain the private scheme (PS3.3 C.12.1.1.4)."""
    item = Dataset()
    item.CodingSchemeDesignator = LOCAL_DESIGNATOR
    item.CodingSchemeUID = stable_uid("coding-scheme", LOCAL)
    item.CodingSchemeName = "Polyclinic local concepts"
    item.CodingSchemeResponsibleOrganization = "Polyclinic"
    return [item]


def uses_local_codes(dataset: Dataset) -> bool:
    """Whether any coded entry in `dataset`, at any depth, is of the private scheme."""
    return any(designator == LOCAL_DESIGNATOR for designator in _designators([dataset]))


def _designators(datasets: Iterable[Dataset]) -> Iterable[str]:
    for dataset in datasets:
        for element in dataset:
            if element.keyword == "CodingSchemeDesignator":
                yield str(element.value)
            elif element.VR == "SQ" and element.keyword not in _WITHOUT_LOCAL_CODES:
                yield from _designators(element.value)
