"""A FHIR search as it was asked: the query string read against the tables of `parameters`. Pure.

FHIR R4 search 3.1.1.4. Whatever the string holds, the outcome is a `Search` or a `Rejected` that says what to change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from polyclinic.core.errors import Rejected
from polyclinic.edges.fhir_http.parameters import (
    CONTROLS,
    INCLUDES,
    MODIFIERS,
    PARAMETERS,
    REVINCLUDES,
    SORTS,
    Kind,
    SearchParameter,
)
from polyclinic.fhir.moments import Prefix, Stretch, parse_moment

DEFAULT_COUNT = 50
MAX_COUNT = 500
MAX_VALUES = 200
_MAX_PARAMETERS = 100
_MAX_CHARACTERS = 2000
_PREFIXED = re.compile(r"(?P<prefix>[a-z]{2})?(?P<moment>\d.*)", re.ASCII)
_REFERENCE = re.compile(r"(?:https?://[^\s?#]+/)?(?:(?P<type>[A-Z][A-Za-z]{1,63})/)?(?P<id>[A-Za-z0-9\-.]{1,64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """``[system|]code``; None for a part that may be anything, ``""`` for one that must be absent."""

    system: str | None
    code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DateValue:
    """A stretch of time with how it compares."""

    prefix: Prefix
    stretch: Stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A reference; the type is empty where any of the parameter's may be meant."""

    resource_type: str
    resource_id: str


Value = Token | DateValue | Target | str | bool
"""A bool is the value of ``:missing``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One parameter of a search; a resource fits when any of the values does."""

    parameter: SearchParameter
    values: tuple[Value, ...]
    modifier: str = ""
    chain: Criterion | None = None
    """What must hold for the Patient that a reference points to, instead of values."""

    @property
    def plain(self) -> bool:
        """Whether its values stand for themselves, without modifier or chain."""
        return not self.modifier and self.chain is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A whole search."""

    resource_type: str
    criteria: tuple[Criterion, ...] = ()
    count: int = DEFAULT_COUNT
    sort: tuple[str, bool] | None = None
    """Parameter, and whether the last comes first."""
    includes: tuple[str, ...] = ()
    revincludes: tuple[str, ...] = ()
    summary: str = ""
    elements: tuple[str, ...] = ()
    total: str = ""
    used: tuple[tuple[str, str], ...] = ()
    """The parameters that were understood, for the answer's ``self`` link."""
    ignored: tuple[str, ...] = ()
    """Names of those that were not."""

    def of(self, name: str) -> list[Criterion]:
        """The criteria on a parameter whose values stand for themselves."""
        return [one for one in self.criteria if one.parameter.name == name and one.plain]


@dataclass(slots=True)
class _Reading:
    resource_type: str
    strict: bool
    criteria: list[Criterion] = field(default_factory=list)
    used: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    control: dict[str, str] = field(default_factory=dict)
    includes: list[str] = field(default_factory=list)
    revincludes: list[str] = field(default_factory=list)
    sort: tuple[str, bool] | None = None

    def ignore(self, name: str, text: str) -> None:
        if self.strict:
            raise Rejected("fhir.bad-search", text)
        self.ignored.append(name[:64])


def parse_search(resource_type: str, parameters: Iterable[tuple[str, str]], *, strict: bool = False) -> Search:
    """Read a query string.

    Raises
    ------
    Rejected
        ``fhir.bad-search`` for a value that is none of its kind, a modifier that is not offered, and with `strict`
        for a parameter that is not known.
    """
    reading = _Reading(resource_type, strict)
    pairs = [(name, value) for name, value in parameters if value]
    if len(pairs) > _MAX_PARAMETERS or any(len(n) + len(v) > _MAX_CHARACTERS for n, v in pairs):
        raise Rejected("fhir.bad-search", "The search has too many or too long parameters; ask for less at once")
    if any("\0" in name + value for name, value in pairs):
        raise Rejected("fhir.bad-search", "A parameter holds a NUL character; leave it out")
    for name, value in pairs:
        if name in CONTROLS:
            _control(reading, name, value)
        else:
            _criterion(reading, name, value)
    control = reading.control
    count = _count(control.get("_count", str(DEFAULT_COUNT)))
    return Search(
        resource_type=resource_type,
        criteria=tuple(reading.criteria),
        count=count,
        sort=reading.sort,
        includes=tuple(dict.fromkeys(reading.includes)),
        revincludes=tuple(dict.fromkeys(reading.revincludes)),
        summary=control.get("_summary", "") if count else "count",
        elements=tuple(e for e in control.get("_elements", "").split(",") if e),
        total=control.get("_total", ""),
        used=tuple(reading.used),
        ignored=tuple(reading.ignored),
    )


def _control(reading: _Reading, name: str, value: str) -> None:
    kind = reading.resource_type
    if name in ("_include", "_revinclude"):
        offered = INCLUDES[kind] if name == "_include" else REVINCLUDES[kind]
        wanted = ":".join(value.split(":")[:2])
        if wanted not in offered:
            return reading.ignore(name, f"{name} does not offer this; the capability statement lists what it does")
        (reading.includes if name == "_include" else reading.revincludes).append(wanted)
    elif name == "_sort":
        field_name = value.removeprefix("-")
        if field_name not in SORTS.get(kind, ()):
            return reading.ignore(name, f"{kind} cannot be sorted so; leave _sort out")
        reading.sort = (field_name, value.startswith("-"))
    elif name == "_summary" and value not in ("count", "false"):
        return reading.ignore(name, "_summary is offered as count only")
    elif name == "_total" and value not in ("none", "estimate", "accurate"):
        return reading.ignore(name, "_total is none, estimate or accurate")
    elif name == "_page":
        raise Rejected("fhir.bad-search", "_page is given by the server alone; follow the next link as it is")
    else:
        reading.control[name] = value
    if name not in ("_format", "_pretty", "fhirVersion"):
        reading.used.append((name, value))
    return None


def _count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
        raise Rejected("fhir.bad-search", "_count must be a number that is not negative")
    return min(int(value), MAX_COUNT)


def _criterion(reading: _Reading, name: str, value: str) -> None:
    head, dot, chained = name.partition(".")
    base, _, modifier = head.partition(":")
    if not dot:
        base, _, modifier = name.partition(":")
    parameter = PARAMETERS[reading.resource_type].get(base)
    if parameter is None:
        return reading.ignore(
            name, f"{reading.resource_type} is not searched by this parameter; see the capability statement"
        )
    if dot:
        found = _chain(parameter, modifier, chained, value)
    else:
        found = Criterion(parameter=parameter, modifier=modifier, values=_values(parameter, modifier, value))
        if modifier in parameter.targets:
            typed = [v for v in found.values if isinstance(v, Target) and v.resource_type in ("", modifier)]
            same = tuple(Target(resource_type=modifier, resource_id=v.resource_id) for v in typed)
            found = Criterion(parameter=parameter, values=same)
    reading.criteria.append(found)
    reading.used.append((name, value))
    return None


def _chain(parameter: SearchParameter, modifier: str, chained: str, value: str) -> Criterion:
    inner_name, _, inner_modifier = chained.partition(":")
    inner = PARAMETERS["Patient"].get(inner_name)
    if "Patient" not in parameter.targets or modifier not in ("", "Patient") or inner is None:
        raise Rejected("fhir.bad-search", "Only references to a Patient can be followed by a parameter of Patient")
    values = _values(inner, inner_modifier, value)
    return Criterion(
        parameter=parameter,
        values=(),
        chain=Criterion(parameter=inner, modifier=inner_modifier, values=values),
    )


def _values(parameter: SearchParameter, modifier: str, value: str) -> tuple[Value, ...]:
    if modifier and modifier not in MODIFIERS[parameter.kind] and modifier not in parameter.targets:
        raise Rejected("fhir.bad-search", f"{parameter.name} does not take this modifier")
    if modifier == "missing":
        if value not in ("true", "false"):
            raise Rejected("fhir.bad-search", ":missing is true or false")
        return (value == "true",)
    parts = split_unescaped(value, ",")
    if len(parts) > MAX_VALUES:
        raise Rejected("fhir.bad-search", f"{parameter.name} has more than {MAX_VALUES} values; ask in parts")
    return tuple(_value(parameter, modifier, part) for part in parts if part)


def _value(parameter: SearchParameter, modifier: str, text: str) -> Value:
    if parameter.kind is Kind.STRING:
        return unescape(text)
    if parameter.kind is Kind.TOKEN or modifier == "identifier":
        return _token(text)
    if parameter.kind is Kind.DATE:
        return _date(parameter, text)
    match = _REFERENCE.fullmatch(unescape(text))
    if match is None or (match["type"] and match["type"] not in parameter.targets):
        raise Rejected("fhir.bad-search", f"{parameter.name} needs an id or Type/id")
    return Target(resource_type=match["type"] or "", resource_id=match["id"])


def _token(text: str) -> Token:
    parts = split_unescaped(text, "|")
    if len(parts) == 1:
        return Token(system=None, code=unescape(text))
    system, code = unescape(parts[0]), unescape("|".join(parts[1:]))
    return Token(system=system, code=code or None)


def _date(parameter: SearchParameter, text: str) -> DateValue:
    match = _PREFIXED.fullmatch(text)
    prefix = (match["prefix"] or "eq") if match else ""
    # A + in a query string means a blank: zones come so from careless clients
    stretch = parse_moment(match["moment"].replace(" ", "+")) if match else None
    if stretch is None or prefix not in {one.value for one in Prefix}:
        raise Rejected("fhir.bad-search", f"{parameter.name} needs a date like 2026-01-31, with a prefix such as ge")
    return DateValue(prefix=Prefix(prefix), stretch=stretch)


def split_unescaped(text: str, separator: str) -> list[str]:
    """Split at separators that no backslash precedes; backslashes stay."""
    parts, start, position = [], 0, 0
    while position < len(text):
        if text[position] == "\\":
            position += 2
            continue
        if text[position] == separator:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    return [*parts, text[start:]]


def unescape(text: str) -> str:
    """Without the backslashes before ``$ , | \\`` (FHIR R4 search 3.1.1.4.0.1)."""
    return re.sub(r"\\([$,|\\])", r"\1", text)


def reference_ids(criteria: Sequence[Criterion], resource_type: str) -> frozenset[str] | None:
    """Ids that all the reference criteria allow for a target type; None where they say nothing of it."""
    allowed: frozenset[str] | None = None
    for one in criteria:
        if resource_type in one.parameter.targets and one.plain and one.parameter.kind is Kind.REFERENCE:
            ids = frozenset(
                v.resource_id for v in one.values if isinstance(v, Target) and v.resource_type in ("", resource_type)
            )
            allowed = ids if allowed is None else allowed & ids
    return allowed
