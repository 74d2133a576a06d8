"""Storage commitments that survive a restart: those asked of us and not reported yet, and those we asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    and_,
    delete,
    insert,
    select,
    update,
)

from polyclinic.core.errors import Conflict, NotFound, PolyclinicError
from polyclinic.departments.archive.schema import from_microseconds, to_microseconds
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.sql.engine import writing

metadata = MetaData()
commitment = Table(
    "dimse_commitment",
    metadata,
    Column("direction", String(8), primary_key=True),  # "asked" of us, or "asking" by us
    Column("peer", String(16), primary_key=True),
    Column("transaction_uid", String(64), primary_key=True),
    Column("instances", Text, nullable=False),  # JSON: [[SOP class UID, SOP instance UID], ...]
    Column("failures", Text, nullable=False),  # JSON: [[SOP class UID, SOP instance UID, failure reason], ...]
    Column("state", String(16), nullable=False),
    Column("requested_at_us", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at_us", BigInteger, nullable=False),
    Index("ix_dimse_commitment_due", "direction", "state", "next_attempt_at_us"),
)

GRACE_S = 30.0
"""So long the association on which commitment was asked for may report first."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 10.0, 3600.0
_GIVE_UP_AFTER = timedelta(days=7)
_FORGET_AFTER = timedelta(days=30)

PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
CLASS_INSTANCE_CONFLICT = 0x0119
FAILURE_REASONS = {
    PROCESSING_FAILURE: "The instance is indexed, but its bytes cannot be read or have changed",
    NO_SUCH_INSTANCE: "The instance is not here",
    CLASS_INSTANCE_CONFLICT: "The instance is here with another SOP class",
}
"""Failure Reason (0008,1197), see PS3.3 C.14.1.1."""


class State(StrEnum):
    OWED = "owed"
    """The result is to be reported."""
    REPORTED = "reported"
    GIVEN_UP = "given-up"
    """The peer could not be reached for a week."""
    WAITING = "waiting"
    """We asked, and the peer has not reported."""
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An instance that is to be committed."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An instance that is not committed, and the reason (PS3.3 C.14.1.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    reason: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a request."""

    peer: str
    transaction_uid: str
    instances: tuple[Reference, ...]
    failures: tuple[Failure, ...] = ()
    state: State
    requested_at: datetime | None = None
    accepted: bool = False
    """Of a request of ours: whether the peer has taken it, and owes an answer."""

    @property
    def committed(self) -> tuple[Reference, ...]:
        """Those instances that the other side is responsible for now; none before it is judged."""
        failed = {one.sop_instance_uid for one in self.failures}
        return tuple(one for one in self.instances if one.sop_instance_uid not in failed)


class Commitments:
    """Kept in table ``dimse_commitment``. Every method may be called from any thread.

    Parameters
    ----------
    engine
        Database with the table.
    clock
        Gives the time, aware.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._clock = clock

    def keep(self, peer: str, transaction_uid: str, instances: Sequence[Reference]) -> None:
        """Note that a peer asks for commitment; asked again with the same instances, it is reported again.

        Raises
        ------
        Conflict
            ``dimse.transaction-in-use`` when the peer uses a Transaction UID for other instances.
        """
        self._keep("asked", peer, transaction_uid, instances, State.OWED)

    def expect(self, peer: str, transaction_uid: str, instances: Sequence[Reference]) -> None:
        """Note that we ask a peer for commitment; raises as `keep`."""
        self._keep("asking", peer, transaction_uid, instances, State.WAITING)

    def accepted(self, peer: str, transaction_uid: str) -> None:
        """Note that a peer has taken our request; the result comes later."""
        self._update("asking", peer, transaction_uid, attempts=1)

    def answered(self, peer: str, transaction_uid: str, failures: Sequence[Failure]) -> None:
        """Note what a peer reports; raises `NotFound` (``dimse.no-transaction``) when we never asked."""
        changed = self._update(
            "asking", peer, transaction_uid, state=State.ANSWERED, failures=_failures_json(failures), attempts=1
        )
        if not changed:
            raise NotFound("dimse.no-transaction", "Storage commitment was not asked for under this Transaction UID")

    def result(self, peer: str, transaction_uid: str) -> Report:
        """What came of our request; raises `NotFound` (``dimse.no-transaction``)."""
        return _report(self._row("asking", peer, transaction_uid))

    def judged(self, peer: str, transaction_uid: str, archive: SqlArchive) -> Report | None:
        """The result of a request that is still owed, None when somebody else has reported it.

        Every instance's bytes are read and compared with their hash: the peer may delete its own after this.
        """
        kept = _report(self._row("asked", peer, transaction_uid))
        if kept.state is not State.OWED:
            return None
        # While bytes are read, nobody else shall begin the same
        self._update("asked", peer, transaction_uid, next_attempt_at_us=self._in_s(_LONGEST_WAIT_S))
        failures = tuple(filter(None, (_judge(archive, one) for one in kept.instances)))
        self._update("asked", peer, transaction_uid, failures=_failures_json(failures))
        return Report(
            peer=peer, transaction_uid=transaction_uid, instances=kept.instances, failures=failures, state=State.OWED
        )

    def told(self, report: Report) -> None:
        """The peer has taken the report."""
        self._update("asked", report.peer, report.transaction_uid, state=State.REPORTED)

    def report_elsewhere(self, peer: str, transaction_uids: Sequence[str]) -> None:
        """The association has ended before the report: another one is opened at once."""
        for uid in transaction_uids:
            self._update("asked", peer, uid, next_attempt_at_us=to_microseconds(self._clock()))

    def due(self, limit: int = 100) -> list[tuple[str, str]]:
        """Peer and Transaction UID of reports that are to be tried now, the longest waiting first."""
        c = commitment.c
        query = (
            select(c.peer, c.transaction_uid)
            .where(
                c.direction == "asked",
                c.state == State.OWED,
                c.next_attempt_at_us <= to_microseconds(self._clock()),
            )
            .order_by(c.next_attempt_at_us)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [(row.peer, row.transaction_uid) for row in connection.execute(query)]

    def postpone(self, peer: str, transaction_uid: str) -> None:
        """The report could not be delivered: wait twice as long as before, and give up after a week."""
        row = self._row("asked", peer, transaction_uid)
        if row["state"] != State.OWED:
            return
        attempts = row["attempts"] + 1
        wait_s = min(_FIRST_WAIT_S * 2 ** min(attempts - 1, 20), _LONGEST_WAIT_S)
        old = self._clock() - from_microseconds(row["requested_at_us"]) > _GIVE_UP_AFTER
        self._update(
            "asked",
            peer,
            transaction_uid,
            attempts=attempts,
            next_attempt_at_us=self._in_s(wait_s),
            state=State.GIVEN_UP if old else State.OWED,
        )

    def forget_old(self) -> None:
        """Drop what was finished, or never answered, a month ago."""
        before = to_microseconds(self._clock() - _FORGET_AFTER)
        c = commitment.c
        with writing(self._engine) as connection:
            connection.execute(delete(commitment).where(c.requested_at_us < before, c.state != State.OWED))

    def _keep(
        self, direction: str, peer: str, transaction_uid: str, instances: Sequence[Reference], state: State
    ) -> None:
        c = commitment.c
        here = and_(c.direction == direction, c.peer == peer, c.transaction_uid == transaction_uid)
        listed = json.dumps([[one.sop_class_uid, one.sop_instance_uid] for one in instances])
        values = {
            "failures": "[]",
            "state": state,
            "requested_at_us": to_microseconds(self._clock()),
            "attempts": 0,
            "next_attempt_at_us": self._in_s(GRACE_S),
        }
        key = {"direction": direction, "peer": peer, "transaction_uid": transaction_uid}
        with writing(self._engine) as connection:
            known = connection.execute(select(c.instances).where(here)).scalar()
            if known is None:
                connection.execute(insert(commitment).values(**key, instances=listed, **values))
            elif known == listed:
                connection.execute(update(commitment).where(here).values(**values))
            else:
                raise Conflict("dimse.transaction-in-use", "The Transaction UID stands for other instances: take a new")

    def _row(self, direction: str, peer: str, transaction_uid: str) -> RowMapping:
        c = commitment.c
        query = select(commitment).where(c.direction == direction, c.peer == peer, c.transaction_uid == transaction_uid)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound("dimse.no-transaction", "Storage commitment was not asked for under this Transaction UID")
        return row

    def _update(self, direction: str, peer: str, transaction_uid: str, **values: object) -> bool:
        c = commitment.c
        here = and_(c.direction == direction, c.peer == peer, c.transaction_uid == transaction_uid)
        with writing(self._engine) as connection:
            return connection.execute(update(commitment).where(here).values(**values)).rowcount > 0

    def _in_s(self, seconds: float) -> int:
        return to_microseconds(self._clock() + timedelta(seconds=seconds))


def _judge(archive: SqlArchive, reference: Reference) -> Failure | None:
    """Why an instance cannot be committed, None when it can."""
    reason: int | None = None
    try:
        kept = archive.kept_file(reference.sop_instance_uid)
        if kept.record.sop_class_uid != reference.sop_class_uid:
            reason = CLASS_INSTANCE_CONFLICT
        else:
            digest = hashlib.sha256()
            for piece in archive.stream(replace(kept, corrected=0)):  # what was received, not what leaves
                digest.update(piece)
            if digest.hexdigest() != kept.record.sha256:
                reason = PROCESSING_FAILURE
    except NotFound:
        reason = NO_SUCH_INSTANCE
    except (PolyclinicError, OSError):
        reason = PROCESSING_FAILURE
    if reason is None:
        return None
    return Failure(sop_class_uid=reference.sop_class_uid, sop_instance_uid=reference.sop_instance_uid, reason=reason)


def _report(row: RowMapping) -> Report:
    return Report(
        peer=row["peer"],
        transaction_uid=row["transaction_uid"],
        instances=tuple(Reference(sop_class_uid=c, sop_instance_uid=i) for c, i in json.loads(row["instances"])),
        failures=tuple(
            Failure(sop_class_uid=c, sop_instance_uid=i, reason=r) for c, i, r in json.loads(row["failures"])
        ),
        state=State(row["state"]),
        requested_at=from_microseconds(row["requested_at_us"]),
        accepted=row["direction"] == "asking" and row["attempts"] > 0,
    )


def _failures_json(failures: Sequence[Failure]) -> str:
    return json.dumps([[one.sop_class_uid, one.sop_instance_uid, one.reason] for one in failures])
