"""The reading room's memory: where studies stand, findings, decisions, signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, and_, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.core.findings import Finding
from polyclinic.core.people import Person
from polyclinic.core.plain import from_plain, to_plain
from polyclinic.departments.reading import rules
from polyclinic.departments.reading.contracts import (
    DecidedFinding,
    Decision,
    DecisionKind,
    FindingEdit,
    Report,
    RunState,
    Signature,
    StudyState,
    StudyStatus,
    Urgency,
)
from polyclinic.departments.reading.tables import (
    agent_run,
    agreement,
    decision,
    derived_object,
    dump,
    insert_new,
    lock_study,
    proposal,
    seconds,
    signature,
    study_run,
    study_status,
)

Compose = Callable[[Sequence[DecidedFinding]], tuple[Report, str]]
"""Findings in, the report composed of them and the SHA-256 of its content out."""


class ReadingStore:
    """Every method may be called from any thread and any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # Where studies stand

    def settling(self, study_instance_uid: str, evidence: str, *, now: float) -> None:
        """Note, before its snapshot is made, that a study is complete; found again after a crash."""
        values = {"state": StudyState.SETTLING, "step": "settle", "evidence": evidence, "changed_at": now}
        with self._engine.begin() as connection:
            row = {"study_instance_uid": study_instance_uid, "revision": 0, "fraction": 0.0, **values}
            if insert_new(connection, study_status, [row]) == 0:
                self._set(connection, study_instance_uid, values)

    def progress(
        self,
        study_instance_uid: str,
        revision: int,
        state: StudyState,
        *,
        now: float,
        step: str = "",
        fraction: float = 0.0,
        reason: str = "",
    ) -> None:
        """Move a study along its path.

        A revision that is no longer the newest changes nothing, nor does a step of the way to the draft that runs
        once more, after a crash, when the revision is signed already.
        """
        values = {"revision": revision, "state": state, "step": step, "fraction": fraction}
        values |= {"reason": reason, "changed_at": now}
        not_behind = study_status.c.revision <= revision
        if state is not StudyState.SIGNED:
            not_signed = study_status.c.state.not_in([StudyState.SIGNED, StudyState.DELIVERED])
            not_behind = or_(study_status.c.revision < revision, and_(study_status.c.revision == revision, not_signed))
        with self._engine.begin() as connection:
            self._set(connection, study_instance_uid, values, not_behind)

    def delivered(self, study_instance_uid: str, revision: int, *, now: float) -> None:
        """A signed revision has arrived everywhere it should."""
        with self._engine.begin() as connection:
            self._set(
                connection,
                study_instance_uid,
                {"state": StudyState.DELIVERED, "step": "", "reason": "", "changed_at": now},
                and_(study_status.c.revision == revision, study_status.c.state == StudyState.SIGNED),
            )

    def status(self, study_instance_uid: str) -> StudyStatus:
        """Raises `NotFound` (``reading.no-study``)."""
        found = self.statuses([study_instance_uid])
        if not found:
            raise NotFound("reading.no-study", "This study is not in the reading room; check its address")
        return found[0]

    def statuses(self, study_instance_uids: Iterable[str]) -> tuple[StudyStatus, ...]:
        """Those that exist, in no order."""
        return self._statuses(study_status.c.study_instance_uid.in_(list(study_instance_uids)))

    def in_state(self, state: StudyState) -> tuple[StudyStatus, ...]:
        """Every study in that state."""
        return self._statuses(study_status.c.state == state)

    def changed_since(self, changed_at: float) -> tuple[StudyStatus, ...]:
        """Studies that changed at or after that time, oldest change first."""
        return self._statuses(study_status.c.changed_at >= changed_at)

    def _statuses(self, where: Any) -> tuple[StudyStatus, ...]:
        query = select(study_status).where(where).order_by(study_status.c.changed_at)
        with self._engine.connect() as connection:
            return tuple(_status(row._mapping) for row in connection.execute(query))

    def _set(self, connection: Connection, uid: str, values: dict[str, Any], *where: Any) -> None:
        query = update(study_status).where(study_status.c.study_instance_uid == uid, *where)
        connection.execute(query.values(**values))

    # Findings

    def propose(self, run_id: str, study_instance_uid: str, findings: Sequence[Finding]) -> None:
        """Keep what a run proposed; repeating it changes nothing."""
        rows = [
            {
                "origin": run_id,
                "finding_id": finding.id,
                "study_instance_uid": study_instance_uid,
                "position": position,
                "finding": dump(finding),
            }
            for position, finding in enumerate(findings)
        ]
        with self._engine.begin() as connection:
            insert_new(connection, proposal, rows)

    def findings(self, study_instance_uid: str, revision: int) -> tuple[DecidedFinding, ...]:
        """The findings of a revision as they stand: each agent's in its order, then those that readers drew."""
        with self._engine.connect() as connection:
            return tuple(found for _, found in self._findings(connection, study_instance_uid, revision))

    def _findings(self, connection: Connection, uid: str, revision: int) -> list[tuple[str, DecidedFinding]]:
        runs = connection.execute(
            select(study_run.c.run_id)
            .join(agent_run, agent_run.c.run_id == study_run.c.run_id)
            .where(
                study_run.c.study_instance_uid == uid,
                study_run.c.revision == revision,
                agent_run.c.state == RunState.DONE,
            )
        ).scalars()
        origins = [*sorted(runs), _reader_origin(uid)]
        rows = connection.execute(
            select(proposal.c.origin, proposal.c.finding_id, proposal.c.finding, proposal.c.position).where(
                proposal.c.study_instance_uid == uid, proposal.c.origin.in_(origins)
            )
        ).all()
        spoken: dict[tuple[str, str], list[Decision]] = {}
        for row in connection.execute(
            select(decision.c.origin, decision.c.finding_id, decision.c.decision)
            .where(decision.c.study_instance_uid == uid)
            .order_by(decision.c.version)
        ):
            word = from_plain(Decision, orjson.loads(row.decision))
            spoken.setdefault((row.origin, row.finding_id), []).append(word)
        ordered = sorted(rows, key=lambda row: (origins.index(row.origin), row.position))
        return [
            (
                row.origin,
                rules.fold(
                    from_plain(Finding, orjson.loads(row.finding)), spoken.get((row.origin, row.finding_id), [])
                ),
            )
            for row in ordered
        ]

    def recount(self, study_instance_uid: str, revision: int, *, now: float) -> None:
        """Renew the worklist's counts and urgency from the findings as they stand."""
        with self._engine.begin() as connection:
            lock_study(connection, study_instance_uid)
            self._recount(connection, study_instance_uid, revision, now)

    def touched(self, study_instance_uids: Sequence[str], *, now: float) -> None:
        """Something else about these studies changed, such as whose they are: those who watch the list are told."""
        with self._engine.begin() as connection:
            connection.execute(
                update(study_status)
                .where(study_status.c.study_instance_uid.in_(list(study_instance_uids)))
                .values(changed_at=now)
            )

    def _recount(self, connection: Connection, uid: str, revision: int, now: float) -> None:
        found = [item for _, item in self._findings(connection, uid, revision)]
        urgency, reason = rules.urgency(item.finding for item in found)
        values: dict[str, Any] = {"finding_count": len(found), "undecided": rules.undecided(found), "changed_at": now}
        values |= {"urgency": urgency, "urgency_reason": reason}
        self._set(connection, uid, values, study_status.c.revision == revision)

    def decide(
        self,
        study_instance_uid: str,
        finding_id: str,
        *,
        kind: DecisionKind,
        version: int,
        person: Person,
        at: datetime,
        reason: str = "",
        edit: FindingEdit | None = None,
    ) -> DecidedFinding:
        """Append a decision that was made on version `version` of the finding.

        Raises
        ------
        NotFound
            ``reading.no-finding`` or ``reading.no-study``.
        Conflict
            ``reading.stale`` when somebody decided first, ``reading.signed`` when the report is signed.
        Rejected
            ``reading.bad-edit``.
        """
        word = Decision(
            kind=kind,
            version=version + 1,
            person_id=person.person_id,
            person_name=person.name,
            at=at,
            reason=reason.strip(),
            edit=edit if kind is DecisionKind.EDIT else None,
        )
        with self._engine.begin() as connection:
            revision = self._open_revision(connection, study_instance_uid)
            found = self._findings(connection, study_instance_uid, revision)
            origin, before = next(
                ((origin, item) for origin, item in found if item.finding.id == finding_id), ("", None)
            )
            if before is None:
                raise NotFound("reading.no-finding", "There is no such finding; read the study again")
            proposed = self._proposed(connection, origin, finding_id)
            after = rules.apply_decision(proposed, before, word)
            row = {"origin": origin, "finding_id": finding_id, "version": word.version}
            row |= {"study_instance_uid": study_instance_uid, "decision": dump(word)}
            connection.execute(insert(decision).values(row))
            self._recount(connection, study_instance_uid, revision, seconds(at))
        return after

    def add_own(self, finding: Finding, *, at: datetime) -> DecidedFinding:
        """Keep a finding that a reader drew.

        Raises
        ------
        Conflict
            ``reading.signed``.
        """
        uid = finding.study_instance_uid
        origin = _reader_origin(uid)
        with self._engine.begin() as connection:
            revision = self._open_revision(connection, uid)
            position = connection.execute(
                select(func.count()).select_from(proposal).where(proposal.c.origin == origin)
            ).scalar_one()
            row = {"origin": origin, "finding_id": finding.id, "study_instance_uid": uid}
            insert_new(connection, proposal, [row | {"position": position, "finding": dump(finding)}])
            self._recount(connection, uid, revision, seconds(at))
        return DecidedFinding(finding=finding)

    def _proposed(self, connection: Connection, origin: str, finding_id: str) -> Finding:
        text = connection.execute(
            select(proposal.c.finding).where(proposal.c.origin == origin, proposal.c.finding_id == finding_id)
        ).scalar_one()
        return from_plain(Finding, orjson.loads(text))

    def _open_revision(self, connection: Connection, uid: str) -> int:
        """The newest revision, locked, after making sure that nobody signed it."""
        lock_study(connection, uid)
        revision: int = connection.execute(
            select(study_status.c.revision).where(study_status.c.study_instance_uid == uid)
        ).scalar_one()
        if self._signature(connection, uid, revision) is not None:
            raise Conflict("reading.signed", "The report is signed; what comes later needs an addendum")
        return revision

    # Signing

    def sign(
        self,
        study_instance_uid: str,
        revision: int,
        *,
        person: Person,
        at: datetime,
        expected_sha256: str,
        compose: Compose,
    ) -> Report:
        """Sign the report as the signer saw it; of several who try, exactly one succeeds.

        Raises
        ------
        Conflict
            ``reading.signed``, ``reading.undecided``, ``reading.content-changed``, or ``reading.not-ready`` when
            the study is still on its way or has a newer revision.
        """
        try:
            with self._engine.begin() as connection:
                if self._open_revision(connection, study_instance_uid) != revision:
                    raise Conflict("reading.not-ready", "New images arrived; read the study again")
                state = connection.execute(
                    select(study_status.c.state).where(study_status.c.study_instance_uid == study_instance_uid)
                ).scalar_one()
                if state not in (StudyState.READY, StudyState.FAILED):
                    raise Conflict("reading.not-ready", "The study is still being worked on; wait, then sign")
                found = tuple(item for _, item in self._findings(connection, study_instance_uid, revision))
                report, sha256 = compose(found)
                rules.refuse_sign(found, expected_sha256, sha256)
                signed = Signature(person_id=person.person_id, person_name=person.name, at=at, sha256=sha256)
                report = replace(report, signature=signed)
                self._write_signature(connection, report, signed, found, seconds(at))
        except IntegrityError as error:
            raise Conflict("reading.signed", "Somebody signed this report first; read it again") from error
        return report

    def _write_signature(
        self,
        connection: Connection,
        report: Report,
        signed: Signature,
        found: tuple[DecidedFinding, ...],
        now: float,
    ) -> None:
        uid, revision = report.study_instance_uid, report.revision
        row = {"study_instance_uid": uid, "revision": revision, "signature": dump(signed)}
        connection.execute(insert(signature).values(row | {"report": dump(report), "findings": dump(found)}))
        counted = [to_plain(a) | {"signed_at": now} for a in rules.agreement(uid, revision, found)]
        insert_new(connection, agreement, counted)
        self._set(connection, uid, {"state": StudyState.SIGNED, "step": "", "reason": "", "changed_at": now})

    def signatures(self, study_instance_uid: str) -> dict[int, Signature]:
        """Who signed, by revision, first one first."""
        query = select(signature.c.revision, signature.c.signature).order_by(signature.c.revision)
        with self._engine.connect() as connection:
            rows = connection.execute(query.where(signature.c.study_instance_uid == study_instance_uid))
            return {n: from_plain(Signature, orjson.loads(text)) for n, text in rows}

    def _signature(self, connection: Connection, uid: str, revision: int) -> Signature | None:
        text = connection.execute(
            select(signature.c.signature).where(signature.c.study_instance_uid == uid, signature.c.revision == revision)
        ).scalar_one_or_none()
        return from_plain(Signature, orjson.loads(text)) if text else None

    def signed_without_objects(self) -> tuple[tuple[str, int], ...]:
        """(study, revision) of every signature from which nothing was made yet."""
        made = and_(
            derived_object.c.study_instance_uid == signature.c.study_instance_uid,
            derived_object.c.revision == signature.c.revision,
        )
        query = (
            select(signature.c.study_instance_uid, signature.c.revision)
            .outerjoin(derived_object, made)
            .where(derived_object.c.sop_instance_uid.is_(None))
        )
        with self._engine.connect() as connection:
            return tuple((row.study_instance_uid, row.revision) for row in connection.execute(query))

    def signed_report(self, study_instance_uid: str, revision: int) -> tuple[Report, tuple[DecidedFinding, ...]] | None:
        """What was signed, as it was, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(
                select(signature.c.report, signature.c.findings).where(
                    signature.c.study_instance_uid == study_instance_uid, signature.c.revision == revision
                )
            ).first()
        if row is None:
            return None
        found = tuple(from_plain(DecidedFinding, item) for item in orjson.loads(row.findings))
        return from_plain(Report, orjson.loads(row.report)), found


def _reader_origin(study_instance_uid: str) -> str:
    return f"reader:{study_instance_uid}"


def _status(row: Any) -> StudyStatus:
    return StudyStatus(
        study_instance_uid=row["study_instance_uid"],
        revision=row["revision"],
        state=StudyState(row["state"]),
        step=row["step"],
        fraction=row["fraction"],
        urgency=Urgency(row["urgency"]),
        urgency_reason=row["urgency_reason"],
        reason=row["reason"],
        evidence=row["evidence"],
        finding_count=row["finding_count"],
        undecided=row["undecided"],
        changed_at=row["changed_at"],
    )
