"""Whether a JSON object is a resource as R4 describes it: names, cardinality, types, codes, sizes. Never raises."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from polyclinic.fhir.json_text import Json
from polyclinic.fhir.moments import parse_moment
from polyclinic.fhir.structure import Element, elements

MAX_STRING_CHARACTERS = 1_048_576
_MAX_ISSUES = 20
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_PATTERNS = {
    "id": re.compile(r"[A-Za-z0-9\-.]{1,64}"),
    "code": re.compile(r"[^\s]+(?: [^\s]+)*"),
    "uri": re.compile(r"\S+"),
    "url": re.compile(r"\S+"),
    "canonical": re.compile(r"\S+"),
    "date": re.compile(r"\d{4}(-\d{2}(-\d{2})?)?", re.ASCII),
    "dateTime": re.compile(r"\d{4}(-\d{2}(-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2}))?)?)?", re.ASCII),
    "instant": re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})", re.ASCII),
    "time": re.compile(r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d{1,9})?", re.ASCII),
    "base64Binary": re.compile(r"[A-Za-z0-9+/=\s]+"),
    "string": re.compile(r"[\s\S]*\S[\s\S]*"),
    "markdown": re.compile(r"[\s\S]*\S[\s\S]*"),
    "xhtml": re.compile(r"<div[\s>][\s\S]*</div>"),
}
_LEAST = {"integer": -(2**31), "unsignedInt": 0, "positiveInt": 1}
_MOMENTS = frozenset({"date", "dateTime", "instant"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong, and where, as a FHIRPath of element names; never the value itself."""

    path: str
    text: str
    unknown: bool = False
    """Whether R4 has no such element: kept or refused, as the caller was asked to handle it."""


def faults_of(resource: Json, resource_type: str) -> list[Fault]:
    """The first faults of a resource that should be of that type."""
    if resource.get("resourceType") != resource_type:
        return [Fault(path=resource_type, text=f"resourceType must be {resource_type}")]
    found: list[Fault] = []
    for fault in _complex(resource, resource_type, resource_type):
        found.append(fault)
        if len(found) >= _MAX_ISSUES:
            break
    return found


def _complex(value: Json, type_name: str, path: str) -> Iterator[Fault]:
    table = elements(type_name)
    if table is None:
        yield from _plain(value, path)
        return
    if not value:
        yield Fault(path=path, text="the object is empty; leave it out")
    choices: dict[str, str] = {}
    for key, inner in value.items():
        if key == "resourceType":
            continue
        where = f"{path}.{key[:64]}"
        element = table.get(key.removeprefix("_"))
        if element is None:
            yield Fault(path=where, text="R4 has no such element", unknown=True)
            yield from _plain(inner, where)
            continue
        if element.choice and not key.startswith("_") and choices.setdefault(element.choice, key) != key:
            yield Fault(path=where, text=f"only one {element.choice}[x] may be there")
        if key.startswith("_"):
            yield from _beside(inner, element, where)
        else:
            yield from _element(inner, element, where)
    for name, element in table.items():
        if element.required and name not in value and f"_{name}" not in value:
            yield Fault(path=f"{path}.{name}", text="it must be there")


def _element(value: object, element: Element, path: str) -> Iterator[Fault]:
    if not element.many:
        yield from _single(value, element, path)
        return
    if not isinstance(value, list):
        yield Fault(path=path, text="it must be an array")
        return
    if not value:
        yield Fault(path=path, text="the array is empty; leave it out")
    for position, inner in enumerate(value):
        if inner is not None or element.type[0].isupper():  # None: only an extension beside it is there
            yield from _single(inner, element, f"{path}[{position}]")


def _single(value: object, element: Element, path: str) -> Iterator[Fault]:
    kind = element.type
    if kind == "Resource":
        yield from _contained(value, path)
    elif kind == "Extension":
        yield from _extension(value, path)
    elif elements(kind) is not None:
        if isinstance(value, dict):
            yield from _complex(value, kind, path)
        else:
            yield Fault(path=path, text=f"it must be an object ({kind})")
    elif (text := _primitive(value, kind)) or (text := _coded(value, element)):
        yield Fault(path=path, text=text)


def _contained(value: object, path: str) -> Iterator[Fault]:
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        yield Fault(path=path, text="it must be a resource")
        return
    inner = value["resourceType"]
    if "contained" in value and "contained" in path:
        yield Fault(path=path, text="a contained resource contains no other")
    yield from _complex(value, inner, path)


def _extension(value: object, path: str) -> Iterator[Fault]:
    if not isinstance(value, dict) or not isinstance(value.get("url"), str) or not value["url"]:
        yield Fault(path=path, text="an extension needs a url")
        return
    values = [key for key in value if key.startswith("value")]
    if len(values) > 1 or (values and "extension" in value):
        yield Fault(path=path, text="an extension has one value, or extensions")
    yield from _plain(value, path)


def _beside(value: object, element: Element, path: str) -> Iterator[Fault]:
    """The extensions of a primitive, under its name with an underscore."""
    if elements(element.type) is not None:
        yield Fault(path=path, text="only primitives have an element with an underscore")
        return
    inner = value if element.many and isinstance(value, list) else [value]
    for one in inner:
        if one is not None and not (isinstance(one, dict) and one.keys() <= {"id", "extension"} and one):
            yield Fault(path=path, text="it must hold an id or extensions")
    yield from _plain(value, path)


def _primitive(value: object, kind: str) -> str:  # noqa: PLR0911 - one return per kind
    """What is wrong with a primitive; empty when nothing is."""
    if kind == "boolean":
        return "" if isinstance(value, bool) else "it must be true or false"
    if kind in _LEAST:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return "" if whole and _LEAST[kind] <= int(str(value)) < 2**31 else f"it must be a whole number ({kind})"
    if kind == "decimal":
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return "it must be a number"
        return "" if abs(value) < 1e100 else "the number is too large"
    if not isinstance(value, str):
        return f"it must be a string ({kind})"
    if kind != "base64Binary" and (text := _unfit(value)):
        return text
    if not _PATTERNS[kind].fullmatch(value):
        return f"it is not a valid {kind}"
    if kind in _MOMENTS and parse_moment(value) is None:
        return "there is no such date"
    return ""


def _coded(value: object, element: Element) -> str:
    if not element.codes or value in element.codes:
        return ""
    return f"it must be one of {', '.join(sorted(element.codes))}"


def _unfit(value: str) -> str:
    if len(value) > MAX_STRING_CHARACTERS:
        return "the text is longer than 1 MB"
    return "control characters are not allowed" if _CONTROL.search(value) else ""


def _plain(value: object, path: str) -> Iterator[Fault]:
    """What holds anywhere, also where the tables end."""
    if isinstance(value, str):
        if text := _unfit(value):
            yield Fault(path=path, text=text)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if _CONTROL.search(key):
                yield Fault(path=path, text="control characters are not allowed")
            yield from _plain(inner, f"{path}.{key[:64]}")
    elif isinstance(value, list):
        for inner in value:
            yield from _plain(inner, path)
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        yield Fault(path=path, text="the number is too large")
