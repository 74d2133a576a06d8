"""Agent runs: a table from which worker processes take work on a lease."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Engine, and_, or_, select, update

from polyclinic.agentkit.outcome import Abstained, Fact, Outcome
from polyclinic.core.codes import Code
from polyclinic.core.errors import Conflict, NotFound
from polyclinic.core.ids import stable_id
from polyclinic.core.plain import from_plain
from polyclinic.departments.reading.contracts import AgentRun, RunState, Task, Withheld
from polyclinic.departments.reading.tables import agent_run, dump, insert_new, study_run

MAX_ATTEMPTS = 3
"""How often a run is begun before it counts as failed."""

_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Summary:
    """What the run's row keeps of the outcome, so that a page need not open the outcome itself."""

    series_instance_uid: str = ""
    facts: tuple[Fact, ...] = ()
    not_assessed: tuple[str, ...] = ()
    normal: tuple[Code, ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()


def run_id_of(study_instance_uid: str, task: Task, inputs_sha256: str) -> str:
    """Equal inputs and an equal agent version give the same run, whichever revision asks."""
    return stable_id("run", study_instance_uid, task.agent_id, task.agent_version, inputs_sha256)


class RunStore:
    """Every method may be called from any thread and any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def enqueue(self, study_instance_uid: str, revision: int, tasks: Sequence[tuple[str, Task]], *, now: float) -> None:
        """Queue each (run id, task) that is not known yet and attach all of them to the revision."""
        rows = [
            {
                "run_id": run_id,
                "study_instance_uid": study_instance_uid,
                "revision": revision,
                "queue": task.queue,
                "task": dump(task),
                "state": RunState.QUEUED,
                "queued_at": now,
            }
            for run_id, task in tasks
        ]
        links = [
            {"study_instance_uid": study_instance_uid, "revision": revision, "run_id": run_id} for run_id, _ in tasks
        ]
        with self._engine.begin() as connection:
            insert_new(connection, agent_run, rows)
            insert_new(connection, study_run, links)

    def get(self, run_id: str) -> AgentRun:
        """Raises `NotFound` (``reading.no-run``)."""
        found = self.many([run_id])
        if not found:
            raise NotFound("reading.no-run", "There is no such run; read the study again")
        return found[0]

    def many(self, run_ids: Iterable[str]) -> tuple[AgentRun, ...]:
        """Those that exist, by agent id."""
        query = select(agent_run).where(agent_run.c.run_id.in_(list(run_ids)))
        return self._read(query)

    def of_revision(self, study_instance_uid: str, revision: int) -> tuple[AgentRun, ...]:
        """The runs of a revision, by agent id."""
        query = (
            select(agent_run)
            .join(study_run, study_run.c.run_id == agent_run.c.run_id)
            .where(study_run.c.study_instance_uid == study_instance_uid, study_run.c.revision == revision)
        )
        return self._read(query)

    def of_study(self, study_instance_uid: str, revision: int, run_id: str) -> AgentRun:
        """That run of that revision. Raises `NotFound` (``reading.no-run``)."""
        for run in self.of_revision(study_instance_uid, revision):
            if run.run_id == run_id:
                return run
        raise NotFound("reading.no-run", "There is no such run; read the study again")

    def claim(self, worker: str, queues: Sequence[str], *, lease_s: float, now: float) -> AgentRun | None:
        """Take the run that waits longest, or one whose worker let its lease end; None when there is none.

        A run that was begun `MAX_ATTEMPTS` times and whose worker is gone is marked failed instead.
        """
        with self._engine.begin() as connection:
            connection.execute(
                update(agent_run)
                .where(
                    agent_run.c.state == RunState.RUNNING,
                    agent_run.c.lease_until < now,
                    agent_run.c.attempt >= MAX_ATTEMPTS,
                )
                .values(
                    state=RunState.FAILED,
                    reason=f"The worker stopped in the middle {MAX_ATTEMPTS} times",
                    worker="",
                )
            )
            waiting = and_(agent_run.c.state == RunState.QUEUED, agent_run.c.not_before <= now)
            abandoned = and_(agent_run.c.state == RunState.RUNNING, agent_run.c.lease_until < now)
            oldest = (
                select(agent_run.c.run_id)
                .where(agent_run.c.queue.in_(list(queues)), or_(waiting, abandoned))
                .order_by(agent_run.c.queued_at, agent_run.c.run_id)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            row = connection.execute(
                update(agent_run)
                .where(agent_run.c.run_id == oldest.scalar_subquery())
                .values(
                    state=RunState.RUNNING,
                    worker=worker,
                    lease_until=now + lease_s,
                    attempt=agent_run.c.attempt + 1,
                    step="start",
                    fraction=0.0,
                )
                .returning(agent_run)
            ).first()
        return _run(row._mapping) if row else None

    def waiting(self, queues: Sequence[str], *, now: float) -> bool:
        """Whether `claim` would find something; a read only, for polling."""
        query = (
            select(agent_run.c.run_id)
            .where(
                agent_run.c.queue.in_(list(queues)),
                or_(
                    and_(agent_run.c.state == RunState.QUEUED, agent_run.c.not_before <= now),
                    and_(agent_run.c.state == RunState.RUNNING, agent_run.c.lease_until < now),
                ),
            )
            .limit(1)
        )
        with self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def heartbeat(self, run_id: str, worker: str, *, step: str, fraction: float, lease_until: float) -> bool:
        """Keep the lease and say how far the run is; False when another worker has taken it."""
        values = {"step": step, "fraction": fraction, "lease_until": lease_until}
        return self._mine(run_id, worker, values)

    def end(self, run_id: str, worker: str, outcome: Outcome) -> bool:
        """Mark the run done or abstained, after its outcome is durable; False when the lease was lost."""
        if isinstance(outcome, Abstained):
            summary = _Summary(series_instance_uid=outcome.series_instance_uid, facts=outcome.facts)
            state, reason = RunState.ABSTAINED, outcome.reason
        else:
            summary = _Summary(
                series_instance_uid=outcome.series_instance_uid,
                facts=outcome.facts,
                not_assessed=outcome.not_assessed,
                normal=outcome.normal,
                seconds=outcome.seconds,
            )
            state, reason = RunState.DONE, ""
        values = {"state": state, "reason": reason, "summary": dump(summary), "fraction": 1.0, "step": ""}
        return self._mine(run_id, worker, values)

    def give_up(self, run: AgentRun, worker: str, reason: str, *, again: bool, now: float) -> bool:
        """End an attempt without outcome: queue the run once more, or mark it failed with the reason."""
        if again and run.attempt < MAX_ATTEMPTS:
            later = now + _RETRY_AFTER_S * run.attempt
            values = {"state": RunState.QUEUED, "reason": reason, "not_before": later, "worker": ""}
        else:
            values = {"state": RunState.FAILED, "reason": reason, "worker": ""}
        return self._mine(run.run_id, worker, values)

    def hand_back(self, run_id: str, worker: str) -> None:
        """Queue a run again that was interrupted because the worker was asked to stop; it counts as not begun."""
        self._mine(run_id, worker, {"state": RunState.QUEUED, "worker": "", "attempt": agent_run.c.attempt - 1})

    def retry(self, run_id: str, *, now: float) -> AgentRun:
        """Queue a failed run once more, with all its attempts.

        Raises
        ------
        Conflict
            ``reading.run-not-failed``.
        """
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(agent_run)
                .where(agent_run.c.run_id == run_id, agent_run.c.state == RunState.FAILED)
                .values(state=RunState.QUEUED, attempt=0, reason="", not_before=0.0, queued_at=now, fraction=0.0)
            )
        run = self.get(run_id)
        if changed.rowcount == 0 and run.state is not RunState.QUEUED:
            raise Conflict("reading.run-not-failed", "Only a failed run can be tried again; read the study again")
        return run

    def withhold(self, run_id: str, withheld: Sequence[Withheld]) -> None:
        """Keep what the checks held back, with the reasons."""
        with self._engine.begin() as connection:
            connection.execute(
                update(agent_run).where(agent_run.c.run_id == run_id).values(withheld=dump(tuple(withheld)))
            )

    def _mine(self, run_id: str, worker: str, values: dict[str, Any]) -> bool:
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(agent_run)
                .where(
                    agent_run.c.run_id == run_id,
                    agent_run.c.worker == worker,
                    agent_run.c.state == RunState.RUNNING,
                )
                .values(**values)
            )
        return changed.rowcount == 1

    def _read(self, query: Any) -> tuple[AgentRun, ...]:
        with self._engine.connect() as connection:
            runs = [_run(row._mapping) for row in connection.execute(query)]
        return tuple(sorted(runs, key=lambda run: run.task.agent_id))


def _run(row: Any) -> AgentRun:
    summary = from_plain(_Summary, orjson.loads(row["summary"]))
    run = AgentRun(
        run_id=row["run_id"],
        study_instance_uid=row["study_instance_uid"],
        revision=row["revision"],
        task=from_plain(Task, orjson.loads(row["task"])),
        state=RunState(row["state"]),
        step=row["step"],
        fraction=row["fraction"],
        attempt=row["attempt"],
        reason=row["reason"],
        withheld=tuple(from_plain(Withheld, entry) for entry in orjson.loads(row["withheld"])),
    )
    return replace(
        run,
        series_instance_uid=summary.series_instance_uid,
        facts=summary.facts,
        not_assessed=summary.not_assessed,
        normal=summary.normal,
        seconds=summary.seconds,
    )
