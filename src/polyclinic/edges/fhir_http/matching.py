"""Whether a resource fits a search: FHIR R4 search 3.1.1.4 on plain JSON. Pure; the same for every source."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from polyclinic.core.names import fold_name
from polyclinic.edges.fhir_http.parameters import Kind, SearchParameter
from polyclinic.edges.fhir_http.query import Criterion, DateValue, Target, Token, Value
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.moments import Stretch, holds, parse_moment, parse_period

_NAME_PARTS = ("family", "given", "prefix", "suffix", "text")


def fits(resource: Json, criteria: Iterable[Criterion], *, now_us: int) -> bool:
    """Whether the resource fits all the criteria; those with a chain must have been resolved before."""
    return all(_fits(resource, one, now_us) for one in criteria)


def _fits(resource: Json, criterion: Criterion, now_us: int) -> bool:
    found = list(elements_at(resource, criterion.parameter))
    if criterion.modifier == "missing":
        return any(bool(found) is not value for value in criterion.values)
    if criterion.modifier == "not":
        return not any(_equal(criterion, element, value, now_us) for value in criterion.values for element in found)
    return any(_equal(criterion, element, value, now_us) for value in criterion.values for element in found)


def elements_at(resource: Json, parameter: SearchParameter) -> Iterator[object]:
    """The values of the elements that a parameter looks at."""
    for path in parameter.paths:
        yield from _walk(resource, path.split("."))


def _walk(value: object, path: list[str]) -> Iterator[object]:
    if isinstance(value, list):
        for inner in value:
            yield from _walk(inner, path)
    elif not path:
        if value is not None:
            yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _walk(value[path[0]], path[1:])


def _equal(criterion: Criterion, element: object, value: Value, now_us: int) -> bool:
    if isinstance(value, DateValue):
        said = stretch_of(element)
        return said is not None and holds(value.prefix, value.stretch, said, now_us=now_us)
    if isinstance(value, Target):
        return any(
            value.resource_id == resource_id and value.resource_type in ("", resource_type)
            for resource_type, resource_id in references_of(element)
        )
    if isinstance(value, Token):
        if criterion.parameter.kind is Kind.REFERENCE:
            element = element.get("identifier") if isinstance(element, dict) else None
        return any(_same_token(value, system, code) for system, code in tokens_of(element))
    return isinstance(value, str) and any(_same_text(criterion, text, value) for text in texts_of(element))


def _same_token(wanted: Token, system: str, code: str) -> bool:
    return (wanted.system is None or wanted.system == system) and (wanted.code is None or wanted.code == code)


def _same_text(criterion: Criterion, text: str, wanted: str) -> bool:
    if criterion.modifier == "exact":
        return text == wanted
    if criterion.modifier == "contains":
        return fold(wanted) in fold(text)
    return fold(text).startswith(fold(wanted))


def fold(text: str) -> str:
    """Text without what searching leaves out: capitals, accents, width."""
    return fold_name(unicodedata.normalize("NFKC", text))


def tokens_of(element: object) -> Iterator[tuple[str, str]]:
    """(system, code) pairs of a code, Coding, CodeableConcept, Identifier or boolean."""
    if isinstance(element, bool):
        yield "", str(element).lower()
    elif isinstance(element, str):
        yield "", element
    elif isinstance(element, dict):
        if "coding" in element:
            for one in element["coding"]:
                yield str(one.get("system", "")), str(one.get("code", ""))
        elif "value" in element or "code" in element:
            yield str(element.get("system", "")), str(element.get("value", element.get("code", "")))


def texts_of(element: object) -> Iterator[str]:
    """Strings of a string or a HumanName."""
    if isinstance(element, str):
        yield element
    elif isinstance(element, dict):
        for part in _NAME_PARTS:
            value = element.get(part)
            yield from (str(v) for v in (value if isinstance(value, list) else [value]) if v)


def references_of(element: object) -> Iterator[tuple[str, str]]:
    """(type, id) of a Reference to a resource of this server, relative or by its whole address."""
    if isinstance(element, dict) and isinstance(element.get("reference"), str):
        parts = element["reference"].partition("/_history/")[0].rsplit("/", 2)
        if len(parts) >= 2 and not element["reference"].startswith(("#", "urn:")):
            yield parts[-2], parts[-1]


def stretch_of(element: object) -> Stretch | None:
    """The stretch of time of a date, dateTime, instant or Period."""
    return parse_moment(element) if isinstance(element, str) else parse_period(element)
