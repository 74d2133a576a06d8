"""Every agent run as a UPS workitem, so that other systems see and follow the platform's own work (IHE AIW-I)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, select

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.contracts import StudyRecord
from polyclinic.departments.archive.ports import Archive
from polyclinic.departments.reading.contracts import AgentRun, RunState
from polyclinic.departments.reading.runs import RunStore
from polyclinic.departments.reading.tables import agent_run
from polyclinic.departments.workitems import rules
from polyclinic.departments.workitems.contracts import PLATFORM, Json, State
from polyclinic.departments.workitems.store import Refused, WorkitemStore

WORKLIST = "Agents"
_OVERLAP_S = 120.0
"""Runs are looked for again from so long before the newest that is known: clocks of processes differ."""
_MOST_AT_ONCE = 200
_ENDED = {RunState.DONE: State.COMPLETED, RunState.ABSTAINED: State.COMPLETED, RunState.FAILED: State.CANCELED}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Queued:
    run_id: str
    queued_at: float

    @property
    def uid(self) -> str:
        """A run that is tried again is new work: no path leads out of a final state."""
        return stable_uid("workitem", self.run_id, f"{self.queued_at:.6f}")


class AgentWork:
    """Makes a workitem of each run and moves it along with the run; `turn` is called again and again.

    The lock (Transaction UID) of such a workitem follows from its UID: nobody else may change it, whatever they give,
    since its performer is the platform.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        runs: RunStore,
        archive: Archive,
        store: WorkitemStore,
        ae_title: str,
    ) -> None:
        self._engine = engine
        self._runs = runs
        self._archive = archive
        self._store = store
        self._ae_title = ae_title
        self._since: float | None = None

    def turn(self) -> None:
        """Take up runs that are new and bring the others up to date."""
        self._take_up()
        for uid, run_id in self._store.open_of_platform():
            for run in self._runs.many([run_id]):
                self._follow(uid, run)

    def _take_up(self) -> None:
        if self._since is None:
            # What ran before there was a worklist is not taken up: it is nobody's work any more.
            self._since = self._store.newest_of_platform() or time.time()
        columns = select(agent_run.c.run_id, agent_run.c.queued_at)
        newer = columns.where(agent_run.c.queued_at >= self._since - _OVERLAP_S).order_by(agent_run.c.queued_at)
        with self._engine.connect() as connection:
            queued = [_Queued(run_id=row.run_id, queued_at=row.queued_at) for row in connection.execute(newer)]
        known = self._store.known(one.uid for one in queued)
        for one in [q for q in queued if q.uid not in known][:_MOST_AT_ONCE]:
            for run in self._runs.many([one.run_id]):
                self._create(one, run)
            self._since = max(self._since, one.queued_at)

    def _create(self, queued: _Queued, run: AgentRun) -> None:
        try:
            study = self._archive.study(run.study_instance_uid)
            dataset = self._dataset(queued, run, study)
            self._store.create(queued.uid, dataset, performer=PLATFORM, run_id=run.run_id)
        except NotFound:
            return  # the study was deleted; its runs are nobody's work any more
        except Conflict:
            return  # another process was faster

    def _follow(self, uid: str, run: AgentRun) -> None:
        """Idempotent, and safe beside another process that does the same: a refusal says that it was faster."""
        lock = stable_uid("workitem-lock", uid)
        now = self._store.get(uid)
        try:
            if run.state is not RunState.QUEUED and now.state is State.SCHEDULED:
                self._store.change_state(uid, State.IN_PROGRESS, lock, by=PLATFORM)
                now = self._store.get(uid)
            if now.state is not State.IN_PROGRESS:
                return
            changes = self._progress(run, now.dataset)
            if changes:
                self._store.update(uid, changes, lock, by=PLATFORM)
            if run.state in _ENDED:
                self._store.change_state(uid, _ENDED[run.state], lock, by=PLATFORM)
        except Refused:
            return

    def _dataset(self, queued: _Queued, run: AgentRun, study: StudyRecord) -> Json:
        start = datetime.fromtimestamp(queued.queued_at, UTC)
        patient = study.patient
        names = dict(zip(("Alphabetic", "Ideographic", "Phonetic"), patient.name.split("="), strict=False))
        born = patient.birth_date.strftime("%Y%m%d") if patient.birth_date else ""
        request = {
            "00080050": _value("SH", study.accession_number),
            rules.STUDY_UID: _value("UI", run.study_instance_uid),
        }
        return {
            rules.STATE: _value("CS", State.SCHEDULED.value),
            rules.PRIORITY: _value("CS", "MEDIUM"),
            rules.LABEL: _value("LO", self._title(run)),
            rules.WORKLIST_LABEL: _value("LO", WORKLIST),
            rules.START_AT: _value("DT", rules.dicom_moment(start)),
            rules.INPUT_READINESS: _value("CS", "READY"),
            rules.STUDY_UID: _value("UI", run.study_instance_uid),
            "00100010": {"vr": "PN", "Value": [{k: v for k, v in names.items() if v}]}
            if patient.name
            else {"vr": "PN"},
            rules.PATIENT_ID: _value("LO", patient.patient_id),
            "00100021": _value("LO", patient.issuer),
            "00100030": _value("DA", born),
            "00100040": _value("CS", patient.sex),
            "0040A370": {"vr": "SQ", "Value": [request]},
            "00404018": {"vr": "SQ", "Value": [self._code(run)]},
            "00404025": {"vr": "SQ", "Value": [self._station()]},
            "00404021": {
                "vr": "SQ",
                "Value": [_input(run.study_instance_uid, uid) for uid in run.task.series_instance_uids],
            },
        }

    def _progress(self, run: AgentRun, dataset: Json) -> Json:
        """What has changed since it was last told; empty when nothing has."""
        done = f"{100 * run.fraction:.0f}"
        progress: Json = {"00741004": {"vr": "DS", "Value": [float(done)]}}
        if run.step:
            progress["00741006"] = _value("ST", run.step)
        if run.state is RunState.FAILED:
            progress[rules.DISCONTINUATION_REASON] = {"vr": "SQ", "Value": [rules.UNSPECIFIED_REASON]}
            if run.reason:
                progress[rules.REASON_FOR_CANCELLATION] = _value("LT", run.reason)
        changes: Json = {}
        if rules.first_item(dataset, rules.PROGRESS) != progress:
            changes[rules.PROGRESS] = {"vr": "SQ", "Value": [progress]}
        if run.state in (RunState.DONE, RunState.ABSTAINED) and rules.first_item(dataset, rules.PERFORMED) is None:
            changes[rules.PERFORMED] = {"vr": "SQ", "Value": [self._performed(run)]}
        return changes

    def _performed(self, run: AgentRun) -> Json:
        ended = datetime.now(UTC)
        began = ended - timedelta(seconds=sum(seconds for _, seconds in run.seconds))
        performed: Json = {
            "00404028": {"vr": "SQ", "Value": [self._station()]},
            "00404019": {"vr": "SQ", "Value": [self._code(run)]},
            "00404050": _value("DT", rules.dicom_moment(began)),
            "00404051": _value("DT", rules.dicom_moment(ended)),
            rules.OUTPUT: {"vr": "SQ"},
        }
        if run.series_instance_uid:
            performed[rules.STUDY_UID] = _value("UI", run.study_instance_uid)
        if run.state is RunState.ABSTAINED and run.reason:
            performed["00400280"] = _value("ST", f"Abstained: {run.reason}")
        return performed

    def _title(self, run: AgentRun) -> str:
        return f"{run.task.agent_title} {run.task.agent_version}"[:64]

    def _code(self, run: AgentRun) -> Json:
        return _code(run.task.agent_id[:16], "99POLYCLINIC", self._title(run))

    def _station(self) -> Json:
        return _code(self._ae_title, "99POLYCLINIC", self._ae_title)


def _input(study_instance_uid: str, series_instance_uid: str) -> Json:
    """One input series, by UID; its instances are asked for by QIDO-RS."""
    return {
        "0040E020": _value("CS", "DICOM"),
        rules.STUDY_UID: _value("UI", study_instance_uid),
        "0020000E": _value("UI", series_instance_uid),
    }


def _code(value: str, scheme: str, meaning: str) -> Json:
    return {"00080100": _value("SH", value), "00080102": _value("SH", scheme), "00080104": _value("LO", meaning[:64])}


def _value(vr: str, value: str) -> Json:
    return {"vr": vr, "Value": [value]} if value else {"vr": vr}
