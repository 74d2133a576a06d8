"""Which archives are still to be asked for priors, and how each fetch went; survives whatever dies in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Engine, and_, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from polyclinic.departments.routing.contracts import FetchedPrior, JobState, PriorSearch, PriorState
from polyclinic.departments.routing.rules import retry_after_s
from polyclinic.departments.routing.tables import fetched_prior, prior_search

MAX_SEARCH_ATTEMPTS = 8
"""About ten minutes: later the study has been read without its priors."""


class PriorStore:
    """Every method may be called from any thread and any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def want(self, study_instance_uid: str, destinations: Iterable[str], *, now: float) -> None:
        """Ask each archive for priors of a study, once however often it is called."""
        rows = [
            {
                "study_instance_uid": study_instance_uid,
                "destination": destination,
                "state": JobState.QUEUED,
                "attempts": 0,
                "reason": "",
                "due_at": now,
                "queued_at": now,
                "holder": "",
                "held_until": 0.0,
            }
            for destination in destinations
        ]
        if not rows:
            return
        with self._engine.begin() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(dialect.insert(prior_search).values(rows).on_conflict_do_nothing())

    def asked_at(self, study_instance_uid: str) -> float:
        """When priors of the study were asked for first, in seconds since 1970 UTC; 0 when never."""
        query = select(func.min(prior_search.c.queued_at)).where(
            prior_search.c.study_instance_uid == study_instance_uid
        )
        with self._engine.connect() as connection:
            return float(connection.execute(query).scalar_one() or 0.0)

    def untried(self, study_instance_uid: str) -> int:
        """How many archives have not been asked for priors of the study yet, or are just sending them.

        One that was asked and did not answer is not waited for.
        """
        query = (
            select(func.count())
            .select_from(prior_search)
            .where(
                prior_search.c.study_instance_uid == study_instance_uid,
                prior_search.c.state == JobState.QUEUED,
                prior_search.c.attempts == 0,
            )
        )
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def searches(self, study_instance_uid: str) -> tuple[PriorSearch, ...]:
        """By destination."""
        query = select(prior_search).where(prior_search.c.study_instance_uid == study_instance_uid)
        with self._engine.connect() as connection:
            return tuple(
                _search(row) for row in connection.execute(query.order_by(prior_search.c.destination)).mappings()
            )

    def claim(self, destination: str, holder: str, *, now: float, lease_s: float) -> PriorSearch | None:
        """Take the next search that is due in an archive, newest study first: its reader waits."""
        due = and_(
            prior_search.c.state == JobState.QUEUED,
            prior_search.c.destination == destination,
            prior_search.c.due_at <= now,
            prior_search.c.held_until < now,
        )
        query = select(prior_search).where(due).order_by(prior_search.c.queued_at.desc()).limit(8)
        with self._engine.connect() as connection:
            found = [_search(row) for row in connection.execute(query).mappings()]
        for one in found:
            take = update(prior_search).where(_is(one), due).values(holder=holder, held_until=now + lease_s)
            with self._engine.begin() as connection:
                if connection.execute(take).rowcount:
                    return one
        return None

    def finish(self, one: PriorSearch, holder: str) -> None:
        """The archive was asked and everything worth fetching was tried."""
        self._set(one, holder, {"state": JobState.SENT, "reason": "", "holder": ""})

    def postpone(self, one: PriorSearch, holder: str, reason: str, *, now: float, chance: Callable[[], float]) -> bool:
        """The archive did not answer: again later, or given up. Whether it will be asked again."""
        attempts = one.attempts + 1
        values: dict[str, Any] = {"attempts": attempts, "reason": reason, "holder": "", "held_until": 0.0}
        again = attempts < MAX_SEARCH_ATTEMPTS
        values |= {"due_at": now + retry_after_s(attempts, chance)} if again else {"state": JobState.FAILED}
        self._set(one, holder, values)
        return again

    def hand_back(self, one: PriorSearch, holder: str) -> None:
        """Let go in the middle, because the process stops."""
        self._set(one, holder, {"holder": "", "held_until": 0.0})

    def release(self, is_gone: Callable[[str], bool]) -> None:
        """Free the searches whose holder has died, once after the start."""
        held = select(prior_search.c.holder).where(prior_search.c.holder != "").distinct()
        with self._engine.begin() as connection:
            dead = [holder for holder in connection.execute(held).scalars() if is_gone(holder)]
            if dead:
                freed = update(prior_search).where(prior_search.c.holder.in_(dead))
                connection.execute(freed.values(holder="", held_until=0.0))

    def give_up_unknown(self, destinations: Iterable[str]) -> None:
        """End the searches in archives that are asked no longer."""
        gone = and_(prior_search.c.state == JobState.QUEUED, prior_search.c.destination.not_in(list(destinations)))
        with self._engine.begin() as connection:
            reason = "The archive is no longer in POLYCLINIC_PRIORS_FROM"
            connection.execute(update(prior_search).where(gone).values(state=JobState.FAILED, reason=reason))

    def note(self, fetched: FetchedPrior, *, now: float) -> None:
        """How the last fetch of a prior went."""
        values = {
            "state": fetched.state,
            "kept": fetched.kept,
            "refused": fetched.refused,
            "expected": fetched.expected,
            "reason": fetched.reason,
            "fetched_at": now,
        }
        key = {"study_instance_uid": fetched.study_instance_uid, "destination": fetched.destination}
        with self._engine.begin() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            insert = dialect.insert(fetched_prior).values(key | values)
            columns = [fetched_prior.c.study_instance_uid, fetched_prior.c.destination]
            connection.execute(insert.on_conflict_do_update(index_elements=columns, set_=values))

    def fetched(self, study_instance_uids: Iterable[str]) -> tuple[FetchedPrior, ...]:
        """Of those studies that were fetched as priors."""
        wanted = fetched_prior.c.study_instance_uid.in_(list(study_instance_uids))
        query = select(fetched_prior).where(wanted).order_by(fetched_prior.c.fetched_at)
        with self._engine.connect() as connection:
            return tuple(_fetched(row) for row in connection.execute(query).mappings())

    def _set(self, one: PriorSearch, holder: str, values: dict[str, Any]) -> None:
        with self._engine.begin() as connection:
            mine = prior_search.c.holder == holder
            connection.execute(update(prior_search).where(_is(one), mine).values(**values))


def _is(one: PriorSearch) -> Any:
    return and_(
        prior_search.c.study_instance_uid == one.study_instance_uid, prior_search.c.destination == one.destination
    )


def _search(row: Any) -> PriorSearch:
    values = {name: row[name] for name in PriorSearch.__dataclass_fields__}
    return PriorSearch(**(values | {"state": JobState(row["state"])}))


def _fetched(row: Any) -> FetchedPrior:
    values = {name: row[name] for name in FetchedPrior.__dataclass_fields__}
    return FetchedPrior(**(values | {"state": PriorState(row["state"])}))
