"""C-FIND of the patient root and study root information models (PS3.4 C.4.1, C.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import RowMapping
from sqlalchemy.exc import SQLAlchemyError

from polyclinic.departments.archive.matching import DATES, INTEGERS, TIMES, UIDS, is_universal
from polyclinic.departments.archive.search import Level, Query, keys_of, matches, returned_by
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse.conversation import Answer, Conversation, Request
from polyclinic.edges.dimse.identifier import BadIdentifier, Identifier, Keys, encode_identifier, read_identifier
from polyclinic.edges.dimse.sequence_keys import MOST_OPENED, sequences_of
from polyclinic.edges.dimse.statuses import (
    CANCELLED,
    MISTYPED_ARGUMENT,
    PENDING,
    PENDING_OPTIONAL_KEYS,
    SUCCESS,
    TOO_MANY_MATCHES,
    UNABLE,
    UNREADABLE_IDENTIFIER,
    Status,
    mismatch,
)
from polyclinic.edges.dimse.syntaxes import PATIENT_ROOT_FIND, PATIENT_ROOT_GET, PATIENT_ROOT_MOVE

log = structlog.get_logger(__name__)

_UNIQUE_KEYS = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}
_PATIENT_ROOT = frozenset({PATIENT_ROOT_FIND, PATIENT_ROOT_MOVE, PATIENT_ROOT_GET})
_ANSWERED_HERE = frozenset({"InstanceAvailability", "RetrieveAETitle"})
_IGNORED = frozenset({"TimezoneOffsetFromUTC"})
_DATE = re.compile(r"\d{8}|\d{8}-(\d{8})?|-\d{8}", re.ASCII)
_TIME = re.compile(r"(\d{2}){1,3}(\.\d{1,6})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,12}", re.ASCII)


class Mismatch(ValueError):
    """An identifier that does not fit the information model; the message holds no patient data."""


class TooMany(Exception):
    """More entities would have to be opened than are for one query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A checked request: what to match, and what to return of each match."""

    level: Level
    query: Query
    attributes: tuple[str, ...]
    """Keywords that the index knows."""
    sequences: Mapping[str, Sequence[Keys]]
    is_partial: bool
    """Whether a key is not known, or has a value that is not matched (status FF01)."""


def levels_above(level: Level, sop_class_uid: str) -> tuple[Level, ...]:
    """Levels from the root of the information model down to the one above `level`."""
    below_root = tuple(Level)[0 if sop_class_uid in _PATIENT_ROOT else 1 :]
    if level not in below_root:
        raise Mismatch("The study root has no level PATIENT")
    return below_root[: below_root.index(level)]


def level_of(identifier: Identifier) -> Level:
    """The level that is asked for; raises `Mismatch`."""
    try:
        return Level(identifier.level)
    except ValueError as error:
        raise Mismatch("Query/Retrieve Level is missing or unknown") from error


def unique_key(level: Level) -> str:
    """Keyword of the attribute that tells the entities of a level apart."""
    return _UNIQUE_KEYS[level]


def asked(identifier: Identifier, request: Request, *, limit: int) -> Asked:
    """Check an identifier against its information model; raises `Mismatch`."""
    level = level_of(identifier)
    for upper in levels_above(level, request.context.abstract_syntax):
        value = identifier.keys.get(unique_key(upper), "")
        single = value and not is_universal(value) and not set(value) & set("\\*?")
        if not single and not request.context.relational:
            raise Mismatch(f"Level {level} needs one {unique_key(upper)}")
    for keyword, value in identifier.keys.items():
        check_value(keyword, value)
    matched, known = keys_of(level), returned_by(level)
    wanted = {k for k in identifier.keys if k not in _ANSWERED_HERE | _IGNORED}
    not_matched = {k for k in wanted - matched if not is_universal(identifier.keys[k])}
    unmatched = identifier.sequences if level is Level.PATIENT else {}
    return Asked(
        level=level,
        sequences={} if unmatched else identifier.sequences,
        query=Query(
            matches={k: v for k, v in identifier.keys.items() if k in matched and v},
            limit=limit,
            combined_times=request.context.combined_times,
        ),
        attributes=tuple(sorted(wanted & known | _always(level, request.context.abstract_syntax))),
        is_partial=identifier.others or bool(unmatched) or bool(wanted - known) or bool(not_matched),
    )


def _always(level: Level, sop_class_uid: str) -> set[str]:
    return {unique_key(one) for one in (*levels_above(level, sop_class_uid), level)}


def check_value(keyword: str, value: str) -> None:
    """Refuse values that cannot be of their kind, so that a slip of the pen is not taken for "no such study"."""
    if is_universal(value):
        return
    good = True
    if keyword in DATES or keyword == "ScheduledProcedureStepStartDate":
        good = _DATE.fullmatch(value) is not None
    elif keyword in TIMES or keyword == "ScheduledProcedureStepStartTime":
        ends = [end.strip() for end in value.split("-")]
        good = len(ends) <= 2 and any(ends) and all(_TIME.fullmatch(end) for end in ends if end)
    elif keyword in INTEGERS:
        good = _INTEGER.fullmatch(value) is not None
    elif keyword in UIDS:
        good = not set(value) - set("0123456789.\\,")
    if not good:
        raise Mismatch(f"Bad value of {keyword}")


def find(
    conversation: Conversation,
    request: Request,
    archive: SqlArchive,
    *,
    ae_title: str,
    limit: int,
    character_sets: tuple[str, ...] = (),
) -> Status:
    """Answer C-FIND: a pending response for each match; the final status is returned.

    `character_sets` are those of the peer, for matches that the character sets of its request do not have.
    """
    if request.dataset is None:
        return MISTYPED_ARGUMENT
    try:
        identifier = read_identifier(request.dataset, request.context.transfer_syntax)
        wanted = asked(identifier, request, limit=limit + 1)
    except BadIdentifier:
        return UNREADABLE_IDENTIFIER
    except Mismatch as error:
        return mismatch(str(error))
    pending = PENDING_OPTIONAL_KEYS if wanted.is_partial else PENDING

    def responses(rows: Iterator[RowMapping]) -> Iterator[Answer]:
        for opened, row in enumerate(rows):
            sequences: dict[str, object] | None = {}
            if wanted.sequences:
                if opened == MOST_OPENED:
                    raise TooMany
                sequences = sequences_of(archive, wanted.level, row, wanted.sequences)
            if sequences is None:
                continue
            values = [*_values(row, wanted.level, identifier, ae_title), *sequences.items()]
            dataset = encode_identifier(
                values, request.context.transfer_syntax, identifier.character_sets, character_sets
            )
            yield Answer(status=pending, dataset=dataset)

    count, status = 0, SUCCESS
    try:
        with matches(archive.engine, wanted.level, wanted.query, wanted.attributes) as rows:
            for answer in responses(rows):
                if conversation.is_cancelled() or count == limit:
                    status = TOO_MANY_MATCHES if count == limit else CANCELLED
                    break
                conversation.respond(answer)
                count += 1
    except TooMany:
        status = TOO_MANY_MATCHES
    except SQLAlchemyError as error:
        log.warning("dimse.find-failed", peer=request.peer, level=wanted.level, error=type(error).__name__)
        return UNABLE
    log.info("dimse.found", peer=request.peer, level=wanted.level, matches=count, status=status.code)
    return status


def _values(row: RowMapping, level: Level, identifier: Identifier, ae_title: str) -> Iterator[tuple[str, object]]:
    yield "QueryRetrieveLevel", str(level)
    yield "RetrieveAETitle", ae_title
    if "InstanceAvailability" in identifier.keys:
        yield "InstanceAvailability", "ONLINE"
    for keyword, value in row.items():
        yield keyword, value.rstrip("\\") if keyword == "ModalitiesInStudy" else value
