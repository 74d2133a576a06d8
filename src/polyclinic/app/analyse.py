"""`polyclinic analyse`: the agents on a folder, without a server or a database.

For each study: a table, ``findings.json``, and what other systems read: SEG, SR, key object, PDF. Nothing is signed:
every finding is proposed, the PDF says draft and the structured report is unverified.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from rich.console import Console
from rich.markup import escape

from polyclinic.agentkit.case import MAX_PRIORS, Case, CasePrior, Model
from polyclinic.agentkit.manifest import InstalledAgent, installed_agents
from polyclinic.agentkit.outcome import Abstained, Assessed, Outcome
from polyclinic.app.console import print_outcome, progress_bar
from polyclinic.app.dicom_folder import FolderStudy, read_folder
from polyclinic.app.findings_document import findings_document, write_findings
from polyclinic.app.report_pictures import report_pictures
from polyclinic.app.settings import load_settings
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import Finding
from polyclinic.core.people import Patient
from polyclinic.departments.reading.contracts import Language, ObjectKind, Report, RunSummary
from polyclinic.departments.reading.draft import content_sha256, describing_sentences, draft_report
from polyclinic.dicom.part10 import to_part10
from polyclinic.edges.inference import ModelShelf
from polyclinic.edges.report_pdf import render_report_pdf
from polyclinic.journeys.derivation import Reported, derive, images_of, key_images


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTools:
    """Tools of one run: progress to a bar, models from the shelf."""

    agent: InstalledAgent
    shelf: ModelShelf
    on_progress: Callable[[str, float], None]

    def progress(self, step: str, fraction: float) -> None:
        """See `polyclinic.agentkit.case.Tools`."""
        self.on_progress(step, fraction)

    def model(self, name: str) -> Model:
        """See `polyclinic.agentkit.case.Tools`."""
        weights = self.agent.manifest.weights.get(name)
        if weights is None:
            raise Rejected("agent.unlisted-model", f"{self.agent.manifest.id} asks for {name}, which it does not list")
        return self.shelf.model(weights)


def analyse_folder(
    folder: Path,
    out: Path,
    *,
    language: str,
    agent_ids: Sequence[str] = (),
    console: Console,
    prior: Path | None = None,
) -> tuple[Outcome, ...]:
    """Analyse every study below `folder` and write the results below `out`.

    The newest studies below `prior` are given to the agents to compare with; they are taken to be of the same person.
    With one study the files lie in `out` itself, with several in a folder for each study.

    Raises
    ------
    Rejected
        ``folder.missing``, ``folder.no-dicom``, ``analyse.no-agent`` or ``analyse.no-output``.
    """
    agents = _chosen(agent_ids)
    with progress_bar(console) as progress:
        reading = progress.add_task("read headers", total=None)
        contents = read_folder(folder, lambda count: progress.update(reading, completed=count))
        progress.update(reading, total=1, completed=1)
    for problem in contents.problems[:20]:
        console.print(f"[yellow]left out {escape(problem.name)}: {escape(problem.reason)}[/]", soft_wrap=True)
    if len(contents.problems) > 20:
        console.print(f"[yellow]and {len(contents.problems) - 20} more files[/]")
    priors = _priors(prior)
    outcomes: list[Outcome] = []
    for study in contents.studies:
        target = out if len(contents.studies) == 1 else out / study.study_instance_uid
        outcomes += _analyse_study(study, target, agents, _Told(language=Language(language), priors=priors), console)
    return tuple(outcomes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What the user asked for beside the folder."""

    language: Language
    priors: tuple[CasePrior, ...]


def _priors(folder: Path | None) -> tuple[CasePrior, ...]:
    """The newest studies of the folder; those without date last."""
    studies = read_folder(folder).studies if folder else ()
    newest = sorted(studies, key=lambda study: study.study_date or dt.date.min, reverse=True)
    return tuple(study.prior() for study in newest[:MAX_PRIORS])


def _chosen(agent_ids: Sequence[str]) -> dict[str, InstalledAgent]:
    installed = installed_agents()
    if unknown := set(agent_ids) - installed.keys():
        known = ", ".join(sorted(installed)) or "none"
        raise Rejected("analyse.no-agent", f"No agent {min(unknown)} is installed; installed are: {known}")
    return {name: agent for name, agent in sorted(installed.items()) if not agent_ids or name in agent_ids}


def _analyse_study(
    study: FolderStudy, out: Path, agents: Mapping[str, InstalledAgent], told: _Told, console: Console
) -> tuple[Outcome, ...]:
    case = study.case(told.priors)
    fitting = {name: agent for name, agent in agents.items() if _fits(agent, case)}
    if not fitting:
        modalities = ", ".join(sorted({series.modality or "no modality" for series in case.series}))
        raise Rejected("analyse.no-agent", f"No installed agent is meant for this study ({modalities})")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Rejected("analyse.no-output", f"{out} cannot be made: {error.strerror}; give another folder") from error
    shelf = ModelShelf(load_settings().models)
    outcomes: list[Outcome] = []
    with progress_bar(console) as progress:
        for agent in fitting.values():
            task = progress.add_task(agent.manifest.title, total=1.0)

            def show(step: str, fraction: float, task: int = task, title: str = agent.manifest.id) -> None:
                progress.update(task, completed=fraction, description=f"{title}: {step}")  # type: ignore[arg-type]

            outcomes.append(agent.run(case, AgentTools(agent=agent, shelf=shelf, on_progress=show)))
            progress.update(task, completed=1.0, description=agent.manifest.title)
    for outcome in outcomes:
        print_outcome(console, outcome)
    write_findings(findings_document(study.study_instance_uid, tuple(outcomes)), out / "findings.json")
    console.print(f"{out / 'findings.json'}", soft_wrap=True)
    for path in _write_objects(study, out, tuple(outcomes), agents, told):
        console.print(f"{path}", soft_wrap=True)
    return tuple(outcomes)


def _fits(agent: InstalledAgent, case: Case) -> bool:
    inputs = agent.manifest.inputs
    return any(series.modality in inputs.modality for series in case.series)


def _write_objects(
    study: FolderStudy,
    out: Path,
    outcomes: tuple[Outcome, ...],
    agents: Mapping[str, InstalledAgent],
    told: _Told,
) -> list[Path]:
    assessed = tuple(outcome for outcome in outcomes if isinstance(outcome, Assessed))
    findings = tuple(finding for outcome in assessed for finding in outcome.findings)
    files = study.files
    wanted = {i.sop_instance_uid for o in assessed for mask in o.masks for i in mask.images}
    wanted |= {image.sop_instance_uid for image in images_of(findings)}
    wanted |= {key.image.sop_instance_uid for o in assessed for key in o.key_images}
    chosen = [uid for uid in files if uid in wanted] or list(files)[:1]
    sources = tuple(pydicom.dcmread(files[uid], stop_before_pixels=True) for uid in chosen)
    report = draft_report(
        study_instance_uid=study.study_instance_uid,
        revision=1,
        language=told.language,
        findings=findings,
        runs=[_summary(outcome, agents[outcome.agent.id].manifest.title) for outcome in outcomes],
        instance_numbers={str(s.SOPInstanceUID): int(s.InstanceNumber) for s in sources if s.get("InstanceNumber")},
        include_proposed=True,
        prior_dates=[one.study_date for one in told.priors if one.study_date is not None],
    )
    pdf = _pdf(report, sources[0], findings, assessed, lambda uid: pydicom.dcmread(files[uid]))
    reported = Reported(
        report=report,
        content_sha256=content_sha256(report, findings),
        made_at=dt.datetime.now(dt.UTC).replace(microsecond=0),
        findings=findings,
        outcomes=assessed,
        sources=sources,
    )
    (out / "report.pdf").write_bytes(pdf)
    written = [out / "report.pdf"]
    for kind, dataset in derive(reported, pdf):
        path = out / _name(kind, dataset)
        path.write_bytes(to_part10(dataset))
        written.append(path)
    return written


def _summary(outcome: Outcome, title: str) -> RunSummary:
    judged = outcome if isinstance(outcome, Assessed) else None
    return RunSummary(
        agent_id=outcome.agent.id,
        agent_version=outcome.agent.version,
        agent_title=title,
        facts=outcome.facts,
        normal=judged.normal if judged else (),
        not_assessed=judged.not_assessed if judged else (),
        abstained=outcome.reason if isinstance(outcome, Abstained) else "",
    )


def _pdf(
    report: Report,
    source: Dataset,
    findings: Sequence[Finding],
    outcomes: Sequence[Assessed],
    read: Callable[[str], Dataset],
) -> bytes:
    return render_report_pdf(
        report,
        patient=patient_of(source),
        study_date=_date(str(source.get("StudyDate", ""))),
        accession_number=str(source.get("AccessionNumber", "")),
        description=str(source.get("StudyDescription", "")),
        institution=str(source.get("InstitutionName", "")),
        images=report_pictures(findings, key_images(findings, outcomes), read, describing_sentences(report)),
    )


def patient_of(source: Dataset) -> Patient:
    """The patient whom a dataset names."""
    return Patient(
        patient_id=str(source.get("PatientID", "")),
        name=str(source.get("PatientName", "")),
        birth_date=_date(str(source.get("PatientBirthDate", ""))),
        sex=str(source.get("PatientSex", "")),
        issuer=str(source.get("IssuerOfPatientID", "")),
    )


def _date(value: str) -> dt.date | None:
    try:
        return dt.datetime.strptime(value, "%Y%m%d").replace(tzinfo=dt.UTC).date()
    except ValueError:
        return None


def _name(kind: ObjectKind, dataset: Dataset) -> str:
    if kind is ObjectKind.SEGMENTATION:
        return f"seg-{int(dataset.SeriesNumber)}.dcm"
    return {ObjectKind.STRUCTURED_REPORT: "sr.dcm", ObjectKind.KEY_OBJECT: "key-object.dcm"}.get(kind, "report-pdf.dcm")
