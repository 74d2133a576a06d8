"""``routing.toml``: destinations, rules and which priors to fetch, as people write them (docs/routing.md)."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from datetime import UTC, datetime, time
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from polyclinic.core.errors import Rejected
from polyclinic.core.ids import is_uid
from polyclinic.departments.routing.contracts import (
    Content,
    Destination,
    DestinationKind,
    Match,
    PriorRules,
    Relevance,
    RoutingTable,
    Rule,
    TlsFiles,
    Trigger,
    Window,
)
from polyclinic.departments.routing.rules import next_open

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ONLY_SIGNED = frozenset({Content.DERIVED, Content.REPORT})
_NAMED_SYNTAXES = {
    "implicit-vr-little-endian": "1.2.840.10008.1.2",
    "explicit-vr-little-endian": "1.2.840.10008.1.2.1",
    "deflated": "1.2.840.10008.1.2.1.99",
    "jpeg-baseline": "1.2.840.10008.1.2.4.50",
    "jpeg-lossless": "1.2.840.10008.1.2.4.70",
    "jpeg-ls-lossless": "1.2.840.10008.1.2.4.80",
    "jpeg-2000-lossless": "1.2.840.10008.1.2.4.90",
    "jpeg-2000": "1.2.840.10008.1.2.4.91",
    "htj2k-lossless": "1.2.840.10008.1.2.4.201",
    "rle": "1.2.840.10008.1.2.5",
}


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError: see below
        raise ValueError("write a name of the IANA database, e.g. Asia/Shanghai") from error
    except KeyError as error:
        raise ValueError("there is no such time zone; write one of the IANA database, e.g. Asia/Shanghai") from error
    return value


def _clock(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"([01]\d|2[0-4]):[0-5]\d", value) or value > "24:00":
        raise ValueError('write it as "HH:MM", from "00:00" to "24:00"')
    return time(0, 0) if value == "24:00" else time.fromisoformat(value)


def _syntax(value: str) -> str:
    uid = _NAMED_SYNTAXES.get(value.casefold(), value)
    if not is_uid(uid):
        raise ValueError(f"write a transfer syntax UID or one of {', '.join(_NAMED_SYNTAXES)}")
    return uid


Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Clock = Annotated[time, BeforeValidator(_clock)]
Zone = Annotated[str, AfterValidator(_zone)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Window(_Written):
    start: Clock = time(0, 0)
    end: Clock = time(0, 0)
    days: Annotated[tuple[Day, ...], Field(min_length=1)] = _DAYS
    timezone: Zone = "UTC"

    def noun(self) -> Window:
        days = frozenset(_DAYS.index(day) for day in self.days)
        return Window(start=self.start, end=self.end, days=days, timezone=self.timezone)


class _Tls(_Written):
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    verify_hostname: bool = True


class _Destination(_Written):
    name: Name
    kind: DestinationKind = DestinationKind.DICOM
    ae_title: Annotated[str, Field(pattern=r"^([^\\\s]([^\\]{0,14}[^\\\s])?)?$")] = ""
    host: str = ""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    url: Annotated[str, Field(pattern=r"^(https?://[^\s?#]+)?$")] = ""
    token_file: str = ""
    tls: _Tls | bool = False
    transfer_syntaxes: tuple[Annotated[str, AfterValidator(_syntax)], ...] = ()
    hours: _Window | None = None
    connections: Annotated[int, Field(ge=1, le=16)] = 1
    issuer: str = ""
    commitment: bool = False
    commitment_wait_s: Annotated[float, Field(ge=1, le=604_800)] = 3600.0

    def noun(self) -> Destination:
        files = self.tls.model_dump() if isinstance(self.tls, _Tls) else {}
        values = self.model_dump(exclude={"tls", "hours"})
        return Destination(
            **values,
            tls=TlsFiles(**files) if self.tls else None,
            hours=self.hours.noun() if self.hours else None,
        )


class _Match(_Written):
    modality: Texts = ()
    station_name: Texts = ()
    series_description: Texts = ()
    body_part: Texts = ()
    calling_ae_title: Texts = ()
    study_description: Texts = ()
    patient_class: Texts = ()
    finding: Texts = ()
    decision: Annotated[
        tuple[Literal["proposed", "accepted", "edited", "rejected"], ...], BeforeValidator(_several)
    ] = ()
    agent: Texts = ()
    urgency: Annotated[tuple[Literal["routine", "priority", "stat"], ...], BeforeValidator(_several)] = ()


class _Rule(_Written):
    name: Name
    when: Trigger
    to: Annotated[Texts, Field(min_length=1)]
    match: _Match = _Match()
    send: Annotated[tuple[Content, ...], BeforeValidator(_several), Field(min_length=1)] = (Content.ORIGINALS,)
    matching_series_only: bool = False
    window: _Window | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    enabled: bool = True

    def noun(self) -> Rule:
        values = self.model_dump(exclude={"match", "window"})
        return Rule(
            **values,
            match=Match(**self.match.model_dump()),
            window=self.window.noun() if self.window else None,
        )


class _Relevance(_Written):
    modality: Texts = ()
    body_part: Texts = ()
    prior_modality: Texts = ()
    prior_body_part: Texts = ()
    prior_description: Texts = ()


class _Priors(_Written):
    most_recent: Annotated[int, Field(ge=0, le=50)] = 3
    within_years: Annotated[float, Field(gt=0, le=150)] = 5.0
    wait_s: Annotated[float, Field(ge=0, le=3600)] = 60.0
    retrieve: Literal["c-get", "c-move"] = "c-get"
    relevant: tuple[_Relevance, ...] = ()

    def noun(self) -> PriorRules:
        values = self.model_dump(exclude={"relevant"})
        return PriorRules(**values, relevant=tuple(Relevance(**r.model_dump()) for r in self.relevant))


class _Document(_Written):
    destination: tuple[_Destination, ...] = ()
    rule: tuple[_Rule, ...] = ()
    priors: _Priors = _Priors()


def read_routing(text: str) -> RoutingTable:
    """The table that the text of a ``routing.toml`` describes.

    Raises
    ------
    Rejected
        ``routing.invalid``: one sentence for each fault with its line, its rule or destination, and what to do.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Rejected("routing.invalid", f"The file is no TOML: {error}") from error
    lines = _lines(text)
    try:
        document = _Document.model_validate(raw)
    except ValidationError as error:
        faults = [_fault(e, raw, lines) for e in error.errors()]
        raise Rejected("routing.invalid", "; ".join(dict.fromkeys(faults))) from error
    table = RoutingTable(
        destinations=tuple(d.noun() for d in document.destination),
        rules=tuple(r.noun() for r in document.rule),
        priors=document.priors.noun(),
    )
    if faults := [f"{_where(kind, i, name, lines)}: {text}" for kind, i, name, text in _contradictions(table)]:
        raise Rejected("routing.invalid", "; ".join(faults))
    return table


def _lines(text: str) -> dict[str, list[int]]:
    """Lines on which each kind of table begins, counted from 1."""
    found: dict[str, list[int]] = {"destination": [], "rule": [], "priors": []}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*(destination|rule|priors)\s*\]\]?", line):
            found[header[1]].append(number)
    return found


def _where(kind: str, index: int, name: str, lines: dict[str, list[int]]) -> str:
    line = f"line {lines[kind][index]}, " if index < len(lines.get(kind, [])) else ""
    return f"{line}{kind}" + (f" {name!r}" if name else "")


def _fault(error: Any, raw: dict[str, Any], lines: dict[str, list[int]]) -> str:
    kind, *rest = error["loc"]
    index = rest.pop(0) if rest and isinstance(rest[0], int) else 0
    of_kind = raw.get(kind)
    entry = of_kind[index] if isinstance(of_kind, list) and index < len(of_kind) else {}
    name = entry.get("name", "") if isinstance(entry, dict) else ""
    key = ".".join(str(part) for part in rest if part not in ("_Tls", "bool"))
    what = {
        "extra_forbidden": "is no key that is known here: correct its spelling or remove it",
        "missing": "is missing: add it",
    }.get(error["type"], error["msg"].removeprefix("Value error, "))
    return f"{_where(str(kind), index, str(name)[:64], lines)}: {key} {what}".replace(":  ", ": ")


def _contradictions(table: RoutingTable) -> list[tuple[str, int, str, str]]:
    """What is written right and cannot be meant: kind, position, name, what to do."""
    found: list[tuple[str, int, str, str]] = []
    for kind, given in (
        ("destination", [d.name for d in table.destinations]),
        ("rule", [r.name for r in table.rules]),
    ):
        often = Counter(given)
        found += [
            (kind, i, name, "the name is given twice: choose another one")
            for i, name in enumerate(given)
            if often[name] > 1
        ]
    for i, destination in enumerate(table.destinations):
        found += [("destination", i, destination.name, text) for text in _incomplete(destination)]
    names = {d.name: d for d in table.destinations}
    for i, rule in enumerate(table.rules):
        found += [("rule", i, rule.name, text) for text in _impossible(rule, names)]
    return found


def _incomplete(destination: Destination) -> list[str]:
    faults = []
    if destination.kind is DestinationKind.DICOM:
        missing = [name for name in ("ae_title", "host", "port") if not getattr(destination, name)]
        if missing:
            faults.append(f"a DICOM destination needs {' and '.join(missing)}: add it")
        if destination.url or destination.token_file:
            faults.append('url and token_file belong to kind = "dicomweb": change the kind or remove them')
    elif not destination.url:
        faults.append("a DICOMweb destination needs url: add the address without /studies")
    if destination.commitment and destination.kind is not DestinationKind.DICOM:
        faults.append('storage commitment belongs to kind = "dicom": change the kind or remove it')
    if destination.tls and bool(destination.tls.certificate_file) != bool(destination.tls.key_file):
        faults.append("certificate_file and key_file go together: give both or none")
    return faults


def _impossible(rule: Rule, destinations: dict[str, Destination]) -> list[str]:
    faults = []
    for name in rule.to:
        destination = destinations.get(name)
        if destination is None:
            faults.append(f"there is no destination {name!r}: add it or correct the name")
            continue
        windows = [w for w in (rule.window, destination.hours) if w is not None]
        if next_open(datetime.now(UTC), windows) is None:
            faults.append(f"its window and the hours of {name!r} are never open together: change one of them")
    if _ONLY_SIGNED & set(rule.send) and rule.when is not Trigger.SIGNED:
        faults.append('derived objects and reports exist once a report is signed: set when = "report-signed"')
    if rule.matching_series_only and set(rule.send) != {Content.ORIGINALS}:
        faults.append("matching_series_only is for originals: send derived objects and reports by another rule")
    if rule.when is Trigger.SETTLED and (rule.match.finding or rule.match.decision or rule.match.agent):
        faults.append('no agent has looked at a study that has just arrived: set when = "agent-result"')
    if rule.when is Trigger.SETTLED and rule.match.urgency:
        faults.append('the urgency follows from the agents\' result: set when = "agent-result"')
    return faults
