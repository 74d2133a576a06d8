"""The audit ledger in the database: appended to, read and verified; never changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    and_,
    insert,
    or_,
    select,
    text,
)

from polyclinic.core.audit import AgentKind, AuditEntry, AuditOutcome, KeptEntry
from polyclinic.departments.access.audit import (
    GENESIS_SHA256,
    Anchor,
    Damage,
    Problem,
    bounded,
    chain,
    check_chain,
    is_genuine,
    microseconds,
)

metadata = MetaData()

ledger = Table(
    "access_audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("action", String(40), nullable=False),
    Column("outcome", String(8), nullable=False),
    Column("agent_kind", String(8), nullable=False),
    Column("agent_id", String(64), nullable=False),
    Column("roles", Text, nullable=False),
    Column("address", String(64), nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Index("ix_access_audit_study", "study_instance_uid", "sequence"),
    Index("ix_access_audit_patient", "patient_id", "sequence"),
    Index("ix_access_audit_agent", "agent_id", "sequence"),
    Index("ix_access_audit_at", "at_us"),
    comment="appended, never changed; each row's hash covers the row before it",
)

_POSTGRESQL_LOCK = 0x706F6C79_61756474
"""Advisory lock under which one writer at a time reads the end of the chain and adds to it."""
_PAGE = 1000
_MOST_PROBLEMS = 100

Writing = Callable[[Engine], AbstractContextManager[Connection]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which entries are wanted; what is left empty does not restrict."""

    study_instance_uids: tuple[str, ...] = ()
    patients: tuple[tuple[str, str], ...] = ()
    """(patient id, issuer) pairs; entries of any of these or of any of the studies match."""
    agent_id: str = ""
    action: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before_sequence: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What `Ledger.verify` found."""

    rows: int
    last_sequence: int
    anchors_matched: int
    problems: tuple[Problem, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


class Ledger:
    """One chain a database. Every method may be called from any thread and any process.

    Parameters
    ----------
    writing
        Opens a transaction that holds the write lock from its start, see `polyclinic.edges.sql.engine.writing`.
    """

    def __init__(self, engine: Engine, writing: Writing) -> None:
        self._engine = engine
        self._writing = writing

    def append(self, entries: Sequence[AuditEntry]) -> tuple[KeptEntry, ...]:
        """Add entries in their order, all or none; they are durable when this returns.

        Raises
        ------
        Rejected
            ``audit.too-large``.
        """
        if not entries:
            return ()
        wanted = [bounded(entry) for entry in entries]
        with self._writing(self._engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRESQL_LOCK})
            kept = tuple(chain(_head(connection), map(_storable, wanted)))
            connection.execute(insert(ledger), [_row(one) for one in kept])
        return kept

    def head(self) -> tuple[int, str]:
        """Number and hash of the newest entry; 0 and the hash that the first one follows when there is none."""
        with self._engine.connect() as connection:
            return _head(connection)

    def find(self, question: Question) -> tuple[KeptEntry, ...]:
        """Newest first."""
        statement = select(ledger).where(*_conditions(question)).order_by(ledger.c.sequence.desc())
        with self._engine.connect() as connection:
            return tuple(_kept(row) for row in connection.execute(statement.limit(question.limit)).mappings())

    def entries(self, *, since: datetime | None = None) -> Iterator[KeptEntry]:
        """All entries, or those from a time on, oldest first, in batches that do not grow with the ledger."""
        statement = select(ledger).order_by(ledger.c.sequence)
        if since is not None:
            statement = statement.where(ledger.c.at_us >= microseconds(since))
        with self._engine.connect().execution_options(yield_per=_PAGE) as connection:
            for row in connection.execute(statement).mappings():
                yield _kept(row)

    def verify(self, anchors: Iterable[Anchor] = (), key: bytes = b"") -> Verification:
        """Check every row's hash against the row before it, and the anchors against the rows."""
        problems: list[Problem] = []
        genuine = []
        for anchor in anchors:
            if is_genuine(anchor, key):
                genuine.append(anchor)
            else:
                text_ = f"the anchor of row {anchor.sequence} does not carry this installation's signature"
                problems.append(Problem(sequence=anchor.sequence, damage=Damage.ANCHOR, message=text_))
        waiting = {anchor.sequence: anchor.sha256 for anchor in genuine}
        rows = last = matched = 0
        for found in check_chain(self._as_stored()):
            if isinstance(found, Problem):
                if len(problems) < _MOST_PROBLEMS:
                    problems.append(found)
                continue
            rows, last = rows + 1, found.sequence
            known = waiting.pop(found.sequence, None)
            if known == found.sha256:
                matched += 1
            elif known is not None:
                text_ = f"row {found.sequence} is another one than when its anchor was signed"
                problems.append(Problem(sequence=found.sequence, damage=Damage.REWRITTEN, message=text_))
        ahead = [sequence for sequence in waiting if sequence > last]
        if ahead:
            text_ = f"rows {last + 1} to {max(ahead)} or beyond are cut off: an anchor of row {max(ahead)} was signed"
            problems.append(Problem(sequence=last + 1, damage=Damage.CUT, message=text_))
        return Verification(rows=rows, last_sequence=last, anchors_matched=matched, problems=tuple(problems))

    def _as_stored(self) -> Iterator[KeptEntry]:
        """Rows for the check: one whose columns cannot be read any more must not end it."""
        statement = select(ledger).order_by(ledger.c.sequence)
        with self._engine.connect().execution_options(yield_per=_PAGE) as connection:
            for row in connection.execute(statement).mappings():
                try:
                    kept = _kept(row)
                except (ValueError, TypeError, OverflowError, AttributeError):
                    kept = None
                # A row that reads alike but is written otherwise was edited too.
                if kept is None or _row(kept) != dict(row):
                    kept = KeptEntry(sequence=row["sequence"], entry=_UNREADABLE, sha256=row["sha256"])
                yield kept


_UNREADABLE = AuditEntry(
    at=datetime(1970, 1, 1, tzinfo=UTC), action="", outcome=AuditOutcome.DENIED, agent_kind=AgentKind.NOBODY
)
"""Stands for a row that says nothing readable; its hash is no entry's."""


def _head(connection: Connection) -> tuple[int, str]:
    newest = select(ledger.c.sequence, ledger.c.sha256).order_by(ledger.c.sequence.desc()).limit(1)
    row = connection.execute(newest).first()
    return (row.sequence, row.sha256) if row else (0, GENESIS_SHA256)


def _conditions(question: Question) -> list[Any]:
    column = ledger.c
    wanted: list[Any] = []
    about: list[Any] = []
    if question.study_instance_uids:
        about.append(column.study_instance_uid.in_(list(map(_text, question.study_instance_uids))))
    about += [
        and_(column.patient_id == _text(patient), column.issuer == _text(issuer))
        for patient, issuer in question.patients
    ]
    if about:
        wanted.append(or_(*about))
    if question.agent_id:
        wanted.append(column.agent_id == _text(question.agent_id))
    if question.action:
        wanted.append(column.action == _text(question.action))
    if question.since is not None:
        wanted.append(column.at_us >= microseconds(question.since))
    if question.until is not None:
        wanted.append(column.at_us < microseconds(question.until))
    if question.before_sequence is not None:
        wanted.append(column.sequence < question.before_sequence)
    return wanted


def _storable(entry: AuditEntry) -> AuditEntry:
    """As the database will give it back: text that no database takes is replaced before it is hashed."""
    return AuditEntry(
        at=entry.at.astimezone(UTC),
        action=_text(entry.action)[:40],
        outcome=entry.outcome,
        agent_kind=entry.agent_kind,
        agent_id=_text(entry.agent_id)[:64],
        roles=tuple(sorted(map(_text, entry.roles))),
        address=_text(entry.address)[:64],
        study_instance_uid=_text(entry.study_instance_uid)[:64],
        patient_id=_text(entry.patient_id),
        issuer=_text(entry.issuer),
        detail={_text(name): _text(value) for name, value in entry.detail.items()},
    )


def _text(value: str) -> str:
    """Without NUL and lone surrogates, which PostgreSQL or UTF-8 cannot hold."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _row(kept: KeptEntry) -> dict[str, object]:
    entry = kept.entry
    return {
        "sequence": kept.sequence,
        "at_us": microseconds(entry.at),
        "action": entry.action,
        "outcome": entry.outcome.value,
        "agent_kind": entry.agent_kind.value,
        "agent_id": entry.agent_id,
        "roles": ",".join(entry.roles),
        "address": entry.address,
        "study_instance_uid": entry.study_instance_uid,
        "patient_id": entry.patient_id,
        "issuer": entry.issuer,
        "detail": json.dumps(dict(entry.detail), sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        "sha256": kept.sha256,
    }


def _kept(row: RowMapping) -> KeptEntry:
    detail = json.loads(row["detail"])
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row["at_us"])
    entry = AuditEntry(
        at=at,
        action=row["action"],
        outcome=AuditOutcome(row["outcome"]),
        agent_kind=AgentKind(row["agent_kind"]),
        agent_id=row["agent_id"],
        roles=tuple(filter(None, row["roles"].split(","))),
        address=row["address"],
        study_instance_uid=row["study_instance_uid"],
        patient_id=row["patient_id"],
        issuer=row["issuer"],
        detail={str(name): str(value) for name, value in detail.items()},
    )
    return KeptEntry(sequence=row["sequence"], entry=entry, sha256=row["sha256"])
