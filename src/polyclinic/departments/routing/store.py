"""The durable outbox of routing: what is queued stays queued until it has arrived, whatever dies in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, and_, case, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.core.ids import stable_id
from polyclinic.departments.routing.contracts import Content, Delivery, Job, JobState
from polyclinic.departments.routing.rules import MAX_ATTEMPTS, retry_after_s
from polyclinic.departments.routing.tables import job, job_instance


class RoutingStore:
    """Every method may be called from any thread and any process.

    A job is worked on by one `holder` at a time, who says again and again that it is alive; when it no longer does,
    another may take the job.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def enqueue(
        self, study_instance_uid: str, revision: int, deliveries: Sequence[Delivery], *, now: float
    ) -> tuple[str, ...]:
        """Queue each delivery once, however often and for whichever reason it is asked for; the keys.

        A job that still waits goes out at the earliest time and with the highest priority that was asked for.
        """
        keys = []
        with self._engine.begin() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            for delivery in deliveries:
                series = "\n".join(delivery.series_instance_uids)
                same = (
                    job.c.study_instance_uid == study_instance_uid,
                    job.c.destination == delivery.destination,
                    job.c.content == delivery.content,
                    job.c.series_instance_uids == series,
                )
                earlier = select(func.max(job.c.revision)).where(*same, job.c.revision < revision)
                key = stable_id(
                    "routing-job", study_instance_uid, revision, delivery.destination, delivery.content, series
                )
                due_at = delivery.due_at.timestamp()
                row = {
                    "key": key,
                    "study_instance_uid": study_instance_uid,
                    "revision": revision,
                    "since_revision": connection.execute(earlier).scalar_one() or 0,
                    "destination": delivery.destination,
                    "content": delivery.content,
                    "series_instance_uids": series,
                    "priority": delivery.priority,
                    "because": "\n".join(delivery.because),
                    "due_at": due_at,
                    "queued_at": now,
                    **_FRESH,
                }
                insert = dialect.insert(job).values(row)
                waiting = and_(job.c.state == JobState.QUEUED, job.c.attempts == 0)
                connection.execute(
                    insert.on_conflict_do_update(
                        index_elements=[job.c.key],
                        set_={
                            "due_at": case((and_(waiting, job.c.due_at > due_at), due_at), else_=job.c.due_at),
                            "priority": case(
                                (job.c.priority < delivery.priority, delivery.priority), else_=job.c.priority
                            ),
                        },
                    )
                )
                keys.append(key)
        return tuple(keys)

    def jobs(self, *, study_instance_uid: str = "", state: JobState | None = None, limit: int = 100) -> tuple[Job, ...]:
        """Newest first."""
        query = select(job).order_by(job.c.queued_at.desc(), job.c.key).limit(limit)
        if study_instance_uid:
            query = query.where(job.c.study_instance_uid == study_instance_uid)
        if state is not None:
            query = query.where(job.c.state == state)
        with self._engine.connect() as connection:
            return tuple(_job(row) for row in connection.execute(query).mappings())

    def job(self, key: str) -> Job:
        """Raises `NotFound` (``routing.no-job``)."""
        with self._engine.connect() as connection:
            row = connection.execute(select(job).where(job.c.key == key)).mappings().first()
        if row is None:
            raise NotFound("routing.no-job", "There is no such job; list the jobs again")
        return _job(row)

    def claim(self, destination: str, holder: str, *, now: float, lease_s: float) -> Job | None:
        """Take the next job for a destination that is due and that nobody works on; None when there is none."""
        due = and_(
            job.c.state == JobState.QUEUED,
            job.c.destination == destination,
            job.c.due_at <= now,
            job.c.held_until < now,
        )
        query = select(job.c.key).where(due).order_by(job.c.priority.desc(), job.c.due_at, job.c.key).limit(8)
        with self._engine.connect() as connection:
            keys = connection.execute(query).scalars().all()
        for key in keys:
            take = update(job).where(job.c.key == key, due).values(holder=holder, held_until=now + lease_s)
            with self._engine.begin() as connection:
                taken = connection.execute(take).rowcount
            if taken:
                return self.job(key)
        return None

    def done_of(self, key: str) -> frozenset[str]:
        """Instances of a job that need not be sent again."""
        query = select(job_instance.c.sop_instance_uid).where(job_instance.c.key == key)
        with self._engine.connect() as connection:
            return frozenset(connection.execute(query).scalars())

    def advance(
        self, key: str, holder: str, done: Mapping[str, str], *, total: int, now: float, lease_s: float
    ) -> bool:
        """Note instances that arrived (reason empty) or were refused, and that the holder is alive.

        Returns whether the job is still the holder's.
        """
        with self._engine.begin() as connection:
            values: dict[str, Any] = {"held_until": now + lease_s, "total": total}
            if done:
                values["attempts"] = 0
            mine = connection.execute(
                update(job).where(job.c.key == key, job.c.holder == holder).values(**values)
            ).rowcount
            if done:
                dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
                rows = [{"key": key, "sop_instance_uid": uid, "reason": reason} for uid, reason in done.items()]
                connection.execute(dialect.insert(job_instance).values(rows).on_conflict_do_nothing())
                of_job = select(func.count()).select_from(job_instance).where(job_instance.c.key == key)
                connection.execute(
                    update(job)
                    .where(job.c.key == key)
                    .values(
                        sent=of_job.where(job_instance.c.reason == "").scalar_subquery(),
                        refused=of_job.where(job_instance.c.reason != "").scalar_subquery(),
                    )
                )
        return bool(mine)

    def finish(self, key: str, holder: str, *, reason: str = "") -> None:
        """Everything was tried: sent, or failed where some instances were refused (`reason` says why)."""
        state = JobState.FAILED if reason else JobState.SENT
        with self._engine.begin() as connection:
            connection.execute(
                update(job)
                .where(job.c.key == key, job.c.holder == holder)
                .values(state=state, reason=reason, holder="", held_until=0.0)
            )
            if not reason:
                connection.execute(delete(job_instance).where(job_instance.c.key == key))

    def postpone(self, one: Job, holder: str, reason: str, *, now: float, chance: Callable[[], float]) -> bool:
        """It could not be sent now: again later, or given up after days. Whether it will be tried again."""
        values: dict[str, Any] = {"reason": reason, "holder": "", "held_until": 0.0}
        with self._engine.begin() as connection:
            before = connection.execute(select(job.c.attempts).where(job.c.key == one.key)).scalar_one()
            values["attempts"] = before + 1
            again = bool(before + 1 < MAX_ATTEMPTS)
            if again:
                values["due_at"] = now + retry_after_s(before + 1, chance)
            else:
                values["state"] = JobState.FAILED
            connection.execute(update(job).where(job.c.key == one.key, job.c.holder == holder).values(**values))
        return again

    def send_again(self, key: str, sop_instance_uids: Iterable[str]) -> None:
        """Forget that these instances of a job arrived."""
        wanted = list(sop_instance_uids)
        with self._engine.begin() as connection:
            for start in range(0, len(wanted), 500):
                some = job_instance.c.sop_instance_uid.in_(wanted[start : start + 500])
                connection.execute(delete(job_instance).where(job_instance.c.key == key, some))

    def hand_back(self, key: str, holder: str, *, due_at: float | None = None, reason: str | None = None) -> None:
        """Let go of a job in the middle: the process stops, the destination has closed, or (`reason`) it must wait."""
        values: dict[str, Any] = {"holder": "", "held_until": 0.0}
        if reason is not None:
            values["reason"] = reason
        if due_at is not None:
            values["due_at"] = due_at
        with self._engine.begin() as connection:
            connection.execute(update(job).where(job.c.key == key, job.c.holder == holder).values(**values))

    def release(self, is_gone: Callable[[str], bool]) -> int:
        """Free the jobs whose holder has died, once after the start; how many."""
        held = select(job.c.holder).where(job.c.state == JobState.QUEUED, job.c.holder != "").distinct()
        with self._engine.begin() as connection:
            dead = [holder for holder in connection.execute(held).scalars() if is_gone(holder)]
            if not dead:
                return 0
            freed = update(job).where(job.c.holder.in_(dead)).values(holder="", held_until=0.0)
            return connection.execute(freed).rowcount

    def refuse_unknown(self, destinations: Iterable[str]) -> int:
        """Fail the jobs for destinations that are no longer in the table; how many."""
        reason = "The destination is no longer in routing.toml: put it back and retry, or leave it"
        gone = and_(job.c.state == JobState.QUEUED, job.c.destination.not_in(list(destinations)))
        with self._engine.begin() as connection:
            return connection.execute(update(job).where(gone).values(state=JobState.FAILED, reason=reason)).rowcount

    def retry(self, key: str, *, now: float) -> Job:
        """Queue a failed job once more; what has arrived is not sent again, what was refused is.

        Raises
        ------
        NotFound
            ``routing.no-job``.
        Conflict
            ``routing.not-failed`` when it has arrived.
        """
        failed = and_(job.c.key == key, job.c.state == JobState.FAILED)
        values = {"state": JobState.QUEUED, "attempts": 0, "reason": "", "due_at": now, "queued_at": now}
        with self._engine.begin() as connection:
            if connection.execute(update(job).where(failed).values(**values)).rowcount:
                refused = and_(job_instance.c.key == key, job_instance.c.reason != "")
                connection.execute(delete(job_instance).where(refused))
        found = self.job(key)
        if found.state is JobState.SENT:
            raise Conflict("routing.not-failed", "This job has arrived; list the jobs again")
        return found

    def refusals(self, key: str) -> Mapping[str, str]:
        """Why, by SOP Instance UID, of the instances that the destination did not take."""
        query = select(job_instance).where(job_instance.c.key == key, job_instance.c.reason != "")
        with self._engine.connect() as connection:
            return {row["sop_instance_uid"]: row["reason"] for row in connection.execute(query).mappings()}


_FRESH: dict[str, Any] = {
    "state": JobState.QUEUED,
    "attempts": 0,
    "reason": "",
    "sent": 0,
    "refused": 0,
    "total": 0,
    "holder": "",
    "held_until": 0.0,
}


def _job(row: Any) -> Job:
    values = {name: row[name] for name in Job.__dataclass_fields__}
    values |= {
        "content": Content(row["content"]),
        "state": JobState(row["state"]),
        "series_instance_uids": tuple(filter(None, row["series_instance_uids"].split("\n"))),
        "because": tuple(filter(None, row["because"].split("\n"))),
    }
    return Job(**values)
