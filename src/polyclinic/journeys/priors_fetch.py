"""Earlier studies of the patient from other archives: asked for when a study settles, waited for a bounded time.

What has not come by then still comes, and stands beside the study when its reader opens it. Fetched studies start no
journey and stand on no worklist: `priors_intake` says how.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from datetime import UTC, datetime

from polyclinic.core.errors import NotFound, PolyclinicError, Unavailable
from polyclinic.core.people import Patient
from polyclinic.departments.routing.contracts import (
    Destination,
    FetchedPrior,
    PatientIdentity,
    PriorQuestion,
    PriorSearch,
    PriorState,
    RemoteStudy,
)
from polyclinic.departments.routing.priors import can_be_asked_for, choose
from polyclinic.journeys.neighbours import Neighbours
from polyclinic.journeys.rooms import Rooms
from polyclinic.journeys.watchers import Loop, log_failure

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.1
_FIND_S = 30.0
_FETCH_S = 1800.0
_LEASE_S = 4 * 3600.0
"""Longer than any search with its fetches; what a dead process held is freed at its next start."""


def fetchers(rooms: Rooms) -> tuple[PriorFetcher, ...]:
    """One for each archive that is asked."""
    neighbours = rooms.neighbours
    if neighbours is None:
        return ()
    return tuple(PriorFetcher(rooms, neighbours, source) for source in neighbours.priors_from)


class PriorFetcher:
    """Asks one archive for the priors of one study after the other."""

    def __init__(self, rooms: Rooms, neighbours: Neighbours, source: Destination) -> None:
        self._rooms = rooms
        self._neighbours = neighbours
        self._source = source

    def loop(self) -> Loop:
        """The thread that asks."""
        return Loop(f"priors {self._source.name}", self.turn, every_s=_LOOK_EVERY_S)

    def turn(self) -> int:
        """Work on everything that is due; how many searches came to their end."""
        ended = 0
        searches, holder = self._neighbours.prior_searches, self._neighbours.holder
        while not self._rooms.stopping.is_set():
            search = searches.claim(self._source.name, holder, now=self._rooms.now(), lease_s=_LEASE_S)
            if search is None:
                break
            try:
                self._search(search)
                searches.finish(search, holder)
                ended += 1
            except NotFound:
                searches.finish(search, holder)  # the study was deleted: nobody waits for its priors
            except PolyclinicError as error:
                log.warning("priors from %s: %s", self._source.name, error.code)
                self._postpone(search, error.message)
            except Exception as error:  # noqa: BLE001 - one search that cannot be done must not hold up the others
                log_failure("a search for priors", error)
                self._postpone(search, f"An unexpected {type(error).__name__} stopped it; the server log says more")
        return ended

    def _postpone(self, search: PriorSearch, reason: str) -> None:
        searches, holder = self._neighbours.prior_searches, self._neighbours.holder
        if self._rooms.stopping.is_set():
            searches.hand_back(search, holder)
        else:
            searches.postpone(search, holder, reason, now=self._rooms.now(), chance=random.random)

    def _search(self, search: PriorSearch) -> None:
        """Ask, choose, fetch.

        Raises
        ------
        Unavailable
            The archive did not answer, or not with everything: another time it may.
        """
        study = self._rooms.archive.study(search.study_instance_uid)
        identity = identity_of(study.patient)
        if not can_be_asked_for(identity):
            return
        found = self._neighbours.remote.find(self._source, identity, limit_s=_FIND_S)
        parts = {series.body_part for series in self._rooms.archive.series(study.study_instance_uid)}
        question = PriorQuestion(
            study_instance_uid=study.study_instance_uid,
            identity=identity,
            study_date=study.study_date,
            modalities=study.modalities,
            body_parts=tuple(sorted(filter(None, parts))),
            here=self._here(found),
            today=datetime.fromtimestamp(self._rooms.now(), UTC).date(),
        )
        choices = choose(question, found, self._neighbours.table.priors)
        wanted = [choice.study for choice in choices if choice.fetch]
        log.info("priors from %s: %d studies, %d to fetch", self._source.name, len(found), len(wanted))
        failures = [error for prior in wanted if (error := self._fetch(prior, identity)) is not None]
        if failures:
            raise failures[-1]

    def _here(self, found: Sequence[RemoteStudy]) -> frozenset[str]:
        """Those of the studies that are here as far as they are to be had."""
        uids = [study.study_instance_uid for study in found]
        unfinished = {
            one.study_instance_uid
            for one in self._neighbours.prior_searches.fetched(uids)
            if one.state in (PriorState.PARTIAL, PriorState.FAILED) and one.destination == self._source.name
        }
        return frozenset(uid for uid in uids if uid not in unfinished and self._count(uid))

    def _fetch(self, prior: RemoteStudy, identity: PatientIdentity) -> Unavailable | None:
        """Fetch one prior and note how it went; what another attempt may put right."""
        if self._rooms.stopping.is_set():
            return Unavailable("priors.stopped", "The platform was stopped while priors were fetched")
        failure: PolyclinicError | None = None
        with self._neighbours.intake.expecting(prior.study_instance_uid, identity, self._source) as expected:
            try:
                self._neighbours.remote.fetch(
                    self._source,
                    prior,
                    self._neighbours.intake.keep,
                    retrieve=self._neighbours.table.priors.retrieve,
                    limit_s=_FETCH_S,
                )
            except PolyclinicError as error:
                failure = error
        kept = self._count(prior.study_instance_uid)
        whole = failure is None and not expected.refused and kept >= (prior.instance_count or 1)
        if expected.refused and not expected.taken:
            state = PriorState.REFUSED
        elif whole:
            state = PriorState.KEPT
        else:
            state = PriorState.PARTIAL if kept else PriorState.FAILED
        fetched = FetchedPrior(
            study_instance_uid=prior.study_instance_uid,
            destination=self._source.name,
            state=state,
            kept=kept,
            refused=expected.refused,
            expected=prior.instance_count,
            reason=expected.reason or (failure.message if failure else ""),
        )
        self._neighbours.prior_searches.note(fetched, now=self._rooms.now())
        detail = {"source": self._source.name, "state": state.value, "instances": str(kept)}
        self._neighbours.note("study.fetch-prior", prior.study_instance_uid, detail)
        log.info("a prior from %s: %s, %d images, %d refused", self._source.name, state, kept, expected.refused)
        return failure if isinstance(failure, Unavailable) and not expected.refused else None

    def _count(self, study_instance_uid: str) -> int:
        try:
            return self._rooms.archive.study(study_instance_uid).instance_count
        except NotFound:
            return 0


def identity_of(patient: Patient) -> PatientIdentity:
    """What of a patient another archive is asked for and compared by."""
    return PatientIdentity(
        patient_id=patient.patient_id,
        issuer=patient.issuer,
        birth_date=f"{patient.birth_date:%Y%m%d}" if patient.birth_date else "",
        sex=patient.sex,
    )
