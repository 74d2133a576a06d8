"""FHIR date, dateTime and instant as stretches of time, and what the search prefixes say of two of them.

FHIR R4 search 3.1.1.4.5: a date stands for all its moments, ``2026`` for a year. Stretches are half open,
``[low, high)``, in microseconds since 1970 UTC. A time without a zone is the site's, which is this machine's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

_MOMENT = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2})"
    r"(?:T(?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>Z|[+-]\d{2}:\d{2})?)?)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGINNING_US = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
END_US = (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) + 1
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """``[low_us, high_us)``."""

    low_us: int
    high_us: int


class Prefix(StrEnum):
    """How a search value compares with what a resource says."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    LT = "lt"
    GE = "ge"
    LE = "le"
    SA = "sa"
    EB = "eb"
    AP = "ap"


def parse_moment(text: str) -> Stretch | None:
    """The stretch that a date, dateTime or instant stands for; None when it is none or does not exist."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    part = {name: value for name, value in match.groupdict().items() if value is not None}
    try:
        start = datetime(  # noqa: DTZ001 - the zone is applied below
            int(part["year"]),
            int(part.get("month", 1)),
            int(part.get("day", 1)),
            int(part.get("hour", 0)),
            int(part.get("minute", 0)),
            min(int(part.get("second", 0)), 59),
        )
        if int(part.get("second", 0)) > 60:
            return None
        low = _utc_us(start, part.get("zone", ""))
        if "hour" not in part:
            return Stretch(low_us=low, high_us=_utc_us(_next(start, part), ""))
        digits = part.get("fraction", "")
        low += int(f"{digits:0<6}"[:6]) if digits else 0
        width = _SECOND_US // 10 ** min(len(digits), 6) if "second" in part else 60 * _SECOND_US
        return Stretch(low_us=low, high_us=low + width)
    except (ValueError, OverflowError):
        return None


def parse_period(period: object) -> Stretch | None:
    """The stretch of a FHIR Period; an end that is not given is open."""
    if not isinstance(period, dict):
        return None
    first, last = period.get("start"), period.get("end")
    start = parse_moment(first) if isinstance(first, str) else None
    end = parse_moment(last) if isinstance(last, str) else None
    if start is None and end is None:
        return None
    return Stretch(low_us=start.low_us if start else BEGINNING_US, high_us=end.high_us if end else END_US)


def holds(prefix: Prefix, asked: Stretch, said: Stretch, *, now_us: int) -> bool:  # noqa: PLR0911 - one per prefix
    """Whether a resource that says `said` is found by a search for `prefix` `asked`."""
    inside = asked.low_us <= said.low_us and said.high_us <= asked.high_us
    match prefix:
        case Prefix.EQ:
            return inside
        case Prefix.NE:
            return not inside
        case Prefix.GT:
            return said.high_us > asked.high_us
        case Prefix.LT:
            return said.low_us < asked.low_us
        case Prefix.GE:
            return said.high_us > asked.high_us or inside
        case Prefix.LE:
            return said.low_us < asked.low_us or inside
        case Prefix.SA:
            return said.low_us >= asked.high_us
        case Prefix.EB:
            return said.high_us <= asked.low_us
        case Prefix.AP:
            around = approximate(asked, now_us=now_us)
            return said.low_us < around.high_us and around.low_us < said.high_us


def approximate(asked: Stretch, *, now_us: int) -> Stretch:
    """The stretch that ``ap`` means: a tenth of the gap to now wider on both sides, as R4 recommends."""
    middle = (asked.low_us + asked.high_us) // 2
    gap = abs(now_us - middle) // 10
    return Stretch(low_us=asked.low_us - gap, high_us=asked.high_us + gap)


def reach(prefix: Prefix, asked: Stretch, *, now_us: int) -> Stretch:  # noqa: PLR0911 - one per prefix
    """A stretch that everything found by `prefix` `asked` touches: for narrowing a search before `holds` decides."""
    match prefix:
        case Prefix.EQ:
            return asked
        case Prefix.GT | Prefix.SA:
            return Stretch(low_us=asked.high_us, high_us=END_US)
        case Prefix.GE:
            return Stretch(low_us=asked.low_us, high_us=END_US)
        case Prefix.LT | Prefix.EB:
            return Stretch(low_us=BEGINNING_US, high_us=asked.low_us)
        case Prefix.LE:
            return Stretch(low_us=BEGINNING_US, high_us=asked.high_us)
        case Prefix.AP:
            return approximate(asked, now_us=now_us)
        case Prefix.NE:
            return Stretch(low_us=BEGINNING_US, high_us=END_US)


def to_instant(at: datetime) -> str:
    """An aware time as FHIR instant, to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def to_us(at: datetime) -> int:
    """Microseconds since 1970 of an aware time."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def site_time(naive: datetime) -> datetime:
    """A time without a zone as the site means it."""
    try:
        return naive.astimezone()
    except (OverflowError, OSError, ValueError):
        return naive.replace(tzinfo=UTC)  # centuries that the machine's zone rules do not reach


def _next(start: datetime, part: dict[str, str]) -> datetime:
    if "day" in part:
        return start + timedelta(days=1)
    if "month" in part:
        return (start + timedelta(days=32)).replace(day=1)
    return start.replace(year=start.year + 1)


def _utc_us(naive: datetime, zone: str) -> int:
    if not zone:
        return to_us(site_time(naive))
    offset = timedelta(0)
    if zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[4:6])
        if hours > 14 or minutes > 59:
            raise ValueError(zone)
        offset = timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)
    return to_us(naive.replace(tzinfo=UTC)) - offset // timedelta(microseconds=1)
