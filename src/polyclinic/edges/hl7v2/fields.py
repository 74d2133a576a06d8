"""HL7 data types <-> the platform's nouns: identifiers, names, times, codes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone

from polyclinic.core.codes import DCM, LOINC, RADLEX, SNOMED_CT, UCUM, Code
from polyclinic.departments.records.patients import PatientKey
from polyclinic.edges.hl7v2.er7 import Field, components

_TIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?(?:(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6})\d*)?)?([+-]\d{4})?", re.ASCII)
_NOT_IN_A_NAME = re.compile(r"[\^=\\\x00-\x1f]+")
_SYSTEMS = {"LN": LOINC, "SCT": SNOMED_CT, "SNM3": SNOMED_CT, "RADLEX": RADLEX, "DCM": DCM, "UCUM": UCUM}
"""Name of coding system (HL7 table 0396) -> FHIR URI. Others keep their name, see `code_of`."""
_DESIGNATOR = "urn:dicom:designator:"
_LEGAL_NAMES = ("", "L", "D", "U")
"""Name types (HL7 table 0200) that may be the patient's: unmarked, legal, display, unspecified."""


def patient_key(repetitions: Sequence[Field], *, site_issuer: str) -> PatientKey | None:
    """The identifier to go by among those of PID-3 or MRG-1 (CX); None when none has a value.

    That of the site's own issuer comes first, then a medical record number (CX.5 ``MR``), then ``PI``, then any. One
    without an assigning authority is of the site's issuer.
    """
    keys: list[tuple[int, PatientKey]] = []
    for one in repetitions:
        issuer = one.text(4, 1) or one.text(4, 2) or site_issuer
        kind = one.text(5)
        rank = (issuer != site_issuer) * 4 + {"MR": 0, "PI": 1, "": 2}.get(kind, 3)
        if one.text(1):
            keys.append((rank, PatientKey(patient_id=one.text(1), issuer=issuer)))
    return min(keys, key=lambda ranked: ranked[0])[1] if keys else None


def person_name(repetitions: Sequence[Field]) -> str:
    """DICOM PN from the repetitions of an XPN: alphabetic, ideographic and phonetic group (XPN.8, HL7 table 0465).

    Repetitions that do not say what they are go by their script, the first to the first group when it stands alone.
    """
    groups = {"A": "", "I": "", "P": ""}
    unmarked: list[str] = []
    for one in repetitions:
        if one.text(7) not in _LEGAL_NAMES or not (name := _name_of(one)):
            continue
        kind = one.text(8)
        if kind not in groups:
            unmarked.append(name)
        elif not groups[kind]:
            groups[kind] = name
    for name in unmarked:
        alone = len(unmarked) == 1 and not any(groups.values())
        kind = "A" if alone else _script(name)
        if not groups[kind]:
            groups[kind] = name
    return "=".join(groups.values()).rstrip("=")


def staff_name(field: Field) -> str:
    """DICOM PN of a member of staff (XCN): components 2 to 6 behind the number."""
    family, given, middle, suffix, prefix = (_part(field.text(n)) for n in (2, 3, 4, 5, 6))
    return "^".join((family, given, middle, prefix, suffix)).rstrip("^")


def _name_of(field: Field) -> str:
    family, given, middle, suffix, prefix = (_part(field.text(n)) for n in (1, 2, 3, 4, 5))
    return "^".join((family, given, middle, prefix, suffix)).rstrip("^")


def _part(text: str) -> str:
    return _NOT_IN_A_NAME.sub(" ", text).strip()


def _script(name: str) -> str:
    named = {unicodedata.name(c, "").split(" ", 1)[0] for c in name if c.isalpha()}
    if "CJK" in named:
        return "I"
    return "P" if named & {"HIRAGANA", "KATAKANA", "HANGUL"} else "A"


def xpn(name: str) -> str:
    """The repetitions of an XPN for a DICOM PN."""
    made = []
    for kind, group in zip("AIP", name.split("="), strict=False):
        family, given, middle, prefix, suffix = (*group.split("^"), "", "", "", "", "")[:5]
        if group.strip("^ "):
            made.append(components(family, given, middle, suffix, prefix, "", "L", kind))
    return "~".join(made)


def xcn(number: str, name: str) -> str:
    """An XCN for a number and a DICOM PN, of which the first group counts that has a value."""
    group = next((g for g in name.split("=") if g.strip("^ ")), "")
    family, given, middle, prefix, suffix = (*group.split("^"), "", "", "", "", "")[:5]
    return components(number, family, given, middle, suffix, prefix)


def day_of(text: str) -> date | None:
    """The day of a DT or TS; None when it is none or is not known to the day."""
    found = _TIME.fullmatch(text)
    if not found or not found[3]:
        return None
    try:
        return date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None


def moment_of(text: str, *, zone: timezone | None = None) -> datetime | None:
    """The moment of a TS, at least to the day; None when it is none.

    Parameters
    ----------
    zone
        Of a time that names none; this machine's own when it is not given.
    """
    found = _TIME.fullmatch(text)
    if not found or not found[3]:
        return None
    hour, minute, second = (int(found[n] or 0) for n in (4, 5, 6))
    try:
        at = datetime(  # noqa: DTZ001 - the zone comes below
            int(found[1]), int(found[2]), int(found[3]), hour, minute, second, int((found[7] or "0").ljust(6, "0"))
        )
        zone = zone_of(found[8] or "") or zone
        return at.replace(tzinfo=zone) if zone else at.astimezone()
    except (ValueError, OverflowError):
        return None


def zone_of(offset: str) -> timezone | None:
    """The time zone of ``+hhmm`` at the end of a TS."""
    found = re.search(r"([+-])(\d{2})(\d{2})$", offset, re.ASCII)
    if not found:
        return None
    away = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return timezone(-away if found[1] == "-" else away) if away < timedelta(hours=24) else None


def timestamp(at: datetime) -> str:
    """A TS in UTC to the second."""
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")


def code_of(field: Field) -> Code | None:
    """The code of a CE or CWE; of the alternate identifier when the first names no coding system.

    A coding system without a FHIR URI here is kept as ``urn:dicom:designator:NAME``, as `polyclinic.dicom.codes` does.
    """
    first, second = ((field.text(n), field.text(n + 1), field.text(n + 2)) for n in (1, 4))
    code, display, system = second if second[0] and (not first[0] or (second[2] and not first[2])) else first
    if not code:
        return None
    return Code(system=_SYSTEMS.get(system, f"{_DESIGNATOR}{system or 'L'}"), code=code, display=display or code)


def cwe(code: Code) -> str:
    """A CE or CWE for a code."""
    named = {uri: name for name, uri in _SYSTEMS.items() if name != "SNM3"}
    system = named.get(code.system) or (
        code.system.removeprefix(_DESIGNATOR) if code.system.startswith(_DESIGNATOR) else "99POLYCLINIC"
    )
    return components(code.code, code.display, system)
