"""The reader's desk: the report as it stands, the reader's own findings, the signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from polyclinic.core.codes import Code
from polyclinic.core.errors import Conflict, NotFound
from polyclinic.core.findings import ImageReference
from polyclinic.core.people import Person
from polyclinic.departments.reading.contracts import (
    AgentRun,
    DecidedFinding,
    Language,
    Report,
    RunState,
    RunSummary,
    StudyState,
    StudyStatus,
)
from polyclinic.departments.reading.draft import content_sha256, draft_report
from polyclinic.departments.reading.own_findings import Line, middle, own_nodule
from polyclinic.departments.reading.ports import Journeys, StudyFacts
from polyclinic.departments.reading.runs import RunStore
from polyclinic.departments.reading.store import ReadingStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownReport:
    """A report as a reader sees it. `translation_of` is the language that was signed, when this is another one."""

    report: Report
    sha256: str
    translation_of: Language | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Desk:
    """Every method may be called from any thread."""

    store: ReadingStore
    runs: RunStore
    facts: StudyFacts
    journeys: Journeys

    def report(self, study_instance_uid: str, language: Language, revision: int | None = None) -> ShownReport:
        """The report of a revision, or of the newest: signed as it was signed, else drafted from what counts now.

        Raises
        ------
        polyclinic.core.errors.NotFound
            ``reading.no-study``, or ``reading.no-revision`` for another one that was never signed.
        """
        newest = self.store.status(study_instance_uid).revision
        if revision is not None and revision != newest and revision not in self.store.signatures(study_instance_uid):
            raise NotFound("reading.no-revision", "This revision was never signed; read the newest report")
        revision = newest if revision is None else revision
        signed = self.store.signed_report(study_instance_uid, revision)
        if signed is None:
            found = self.store.findings(study_instance_uid, revision)
            report, sha256 = self._compose(study_instance_uid, revision, language, found)
            return ShownReport(report=report, sha256=sha256)
        report, found = signed
        if report.language is language:
            return ShownReport(report=report, sha256=content_sha256(report, found))
        translated, sha256 = self._compose(study_instance_uid, revision, language, found)
        translated = replace(translated, signature=report.signature)
        return ShownReport(report=translated, sha256=sha256, translation_of=report.language)

    def sign(self, study_instance_uid: str, language: Language, expected_sha256: str, person: Person) -> ShownReport:
        """Sign the report as the reader saw it and send it on its way.

        Raises
        ------
        polyclinic.core.errors.Conflict
            See `ReadingStore.sign`.
        """
        revision = self.store.status(study_instance_uid).revision
        report = self.store.sign(
            study_instance_uid,
            revision,
            person=person,
            at=datetime.now(UTC),
            expected_sha256=expected_sha256,
            compose=lambda found: self._compose(study_instance_uid, revision, language, found),
        )
        self.journeys.deliver(study_instance_uid, revision)
        return ShownReport(report=report, sha256=expected_sha256)

    def pdf(self, study_instance_uid: str, language: Language, revision: int | None = None) -> bytes:
        """The report printed; a translation of a signed one is printed as the draft that it is."""
        shown = self.report(study_instance_uid, language, revision)
        report = replace(shown.report, signature=None) if shown.translation_of else shown.report
        return self.facts.pdf(report)

    def add_nodule(
        self,
        study_instance_uid: str,
        *,
        image: ImageReference,
        long_axis: Line,
        short_axis: Line | None,
        attenuation: Code | None,
        note: str,
        person: Person,
    ) -> DecidedFinding:
        """Keep a nodule that the reader measured.

        Raises
        ------
        polyclinic.core.errors.Rejected
            ``reading.bad-ruler`` or ``reading.no-plane``.
        polyclinic.core.errors.Conflict
            ``reading.signed``.
        """
        revision = self.store.status(study_instance_uid).revision
        finding = own_nodule(
            study_instance_uid=study_instance_uid,
            plane=self.facts.plane(study_instance_uid, image),
            long_axis=long_axis,
            short_axis=short_axis,
            attenuation=attenuation,
            note=note,
            person=person,
            site=self.facts.site_at(study_instance_uid, revision, middle(long_axis)),
        )
        return self.store.add_own(finding, at=datetime.now(UTC))

    def retry(self, study_instance_uid: str, run_id: str) -> AgentRun:
        """Queue a failed run once more and take up the study's path again.

        Raises
        ------
        polyclinic.core.errors.Conflict
            ``reading.run-not-failed``, or ``reading.signed`` when its findings would come too late.
        """
        status = self.store.status(study_instance_uid)
        self.runs.of_study(study_instance_uid, status.revision, run_id)
        if status.state in (StudyState.SIGNED, StudyState.DELIVERED):
            raise Conflict("reading.signed", "The report is signed; what comes later needs an addendum")
        run = self.runs.retry(run_id, now=datetime.now(UTC).timestamp())
        self.journeys.read_again(study_instance_uid, status.revision)
        return run

    def take_up(self, study_instance_uid: str) -> StudyStatus:
        """Try again what stopped a study: its way to the draft, or making objects of its signed report.

        Raises
        ------
        polyclinic.core.errors.Conflict
            ``reading.nothing-failed``.
        """
        status = self.store.status(study_instance_uid)
        unmade = [revision for uid, revision in self.store.signed_without_objects() if uid == study_instance_uid]
        for revision in unmade:
            self.journeys.deliver(study_instance_uid, revision)
        if status.state is StudyState.FAILED and status.revision > 0:
            for run in self.runs.of_revision(study_instance_uid, status.revision):
                if run.state is RunState.FAILED:
                    self.runs.retry(run.run_id, now=datetime.now(UTC).timestamp())
            self.journeys.read_again(study_instance_uid, status.revision)
        elif not unmade:
            raise Conflict("reading.nothing-failed", "Nothing of this study failed as a whole; read it again")
        return self.store.status(study_instance_uid)

    def _compose(
        self, study_instance_uid: str, revision: int, language: Language, found: Sequence[DecidedFinding]
    ) -> tuple[Report, str]:
        background = self.facts.background(study_instance_uid, revision)
        report = draft_report(
            study_instance_uid=study_instance_uid,
            revision=revision,
            language=language,
            findings=[item.finding for item in found],
            runs=[_summary(run) for run in self.runs.of_revision(study_instance_uid, revision) if run.ended],
            prior_dates=background.prior_dates,
            instance_numbers=background.instance_numbers,
            age_years=background.age_years,
            signed_before=[s for n, s in self.store.signatures(study_instance_uid).items() if n < revision],
        )
        return report, content_sha256(report, found)


def _summary(run: AgentRun) -> RunSummary:
    return RunSummary(
        agent_id=run.task.agent_id,
        agent_version=run.task.agent_version,
        agent_title=run.task.agent_title,
        facts=run.facts,
        normal=run.normal,
        not_assessed=run.not_assessed,
        abstained=run.reason if run.state is RunState.ABSTAINED else "",
        failed=run.reason if run.state is RunState.FAILED else "",
    )
