"""DICOM person names <-> FHIR HumanName, one per component group.

DICOM PS3.5 6.2: up to three groups, ``alphabetic=ideographic=phonetic``, of five components
``family^given^middle^prefix^suffix``. FHIR says which group a name is by the extension iso21090-EN-representation
(``ABC``, ``IDE``, ``SYL``). FHIR has no middle names: they are the second and further given ones.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from polyclinic.core.errors import Rejected
from polyclinic.fhir.json_text import Json

REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
GROUP_CHARACTERS = 64
_GROUPS = ("ABC", "IDE", "SYL")
_RANK = {"official": 0, "usual": 1, "": 2}


def human_names(person_name: str) -> list[Json]:
    """A HumanName for each group that says something; the first one is official."""
    names = []
    for representation, group in zip(_GROUPS, person_name.split("=")[:3], strict=False):
        parts = [part.strip() for part in group.split("^")]
        family, given, middle, prefix, suffix = (parts + [""] * 5)[:5]
        name: Json = {"extension": [{"url": REPRESENTATION, "valueCode": representation}], "use": "official"}
        text = " ".join(part for part in (prefix, given, middle, family, suffix) if part)
        if not text:
            continue
        name["text"] = text if representation == "ABC" else _close(family, given, middle) or text
        if family:
            name["family"] = family
        if given:
            name["given"] = [given, *filter(None, [middle])]
        elif middle:
            name["given"] = [None, middle]
            name["_given"] = [{"extension": [{"url": ABSENT, "valueCode": "unknown"}]}, None]
        if prefix:
            name["prefix"] = [prefix]
        if suffix:
            name["suffix"] = [suffix]
        names.append(name)
    return names


def person_name(names: Sequence[Json]) -> str:
    """The DICOM PN of FHIR names: of each group the first official, else usual, else any other name.

    Raises
    ------
    Rejected
        ``fhir.name`` where a part cannot stand in a PN: ``^``, ``=``, ``\\``, or more than 64 characters a group.
    """
    chosen: dict[str, str] = {}
    for name in sorted(names, key=lambda n: _RANK.get(str(n.get("use", "")), 3)):
        group = _group(name)
        if group and (representation := _representation(name, group)) not in chosen:
            chosen[representation] = group
    return "=".join(chosen.get(r, "") for r in _GROUPS).rstrip("=")


def _close(*parts: str) -> str:
    """Chinese, Japanese and Korean names are written family first; blanks only between what is not ideographic."""
    there = [part for part in parts if part]
    return ("" if all(_script(part) == "IDE" for part in there) else " ").join(there)


def _group(name: Json) -> str:
    given = [str(part or "") for part in name.get("given", [])]
    first, rest = (given[0], [part for part in given[1:] if part]) if given else ("", [])
    parts = [
        str(name.get("family", "")),
        first,
        " ".join(rest),
        " ".join(map(str, name.get("prefix", []))),
        " ".join(map(str, name.get("suffix", []))),
    ]
    parts = [" ".join(part.split()) for part in parts]
    if not any(parts):
        parts[0] = " ".join(str(name.get("text", "")).split())
    group = "^".join(parts).rstrip("^")
    if any(c in part for part in parts for c in "^=\\") or len(group) > GROUP_CHARACTERS:
        raise Rejected(
            "fhir.name",
            "A name holds ^, = or a backslash, or is longer than 64 characters; send it as it should print",
        )
    return group


def _representation(name: Json, group: str) -> str:
    for extension in name.get("extension", []):
        if extension.get("url") == REPRESENTATION and extension.get("valueCode") in _GROUPS:
            return str(extension["valueCode"])
    return _script(group)


def _script(text: str) -> str:
    """``SYL`` for kana, ``IDE`` for Chinese characters and Hangul, else ``ABC``."""
    kinds = {unicodedata.name(c, "").split(" ")[0] for c in text if c.isalpha()}
    if "CJK" in kinds or "HANGUL" in kinds:
        return "IDE"
    return "SYL" if kinds & {"HIRAGANA", "KATAKANA", "HALFWIDTH"} else "ABC"
