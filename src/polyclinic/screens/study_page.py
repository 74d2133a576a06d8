"""The study page: one study with its series, runs, findings, priors and signature."""

from __future__ import annotations

from typing import Any

from polyclinic.core.errors import NotFound
from polyclinic.core.plain import to_plain
from polyclinic.departments.archive.contracts import IdentityStep
from polyclinic.departments.archive.ports import Archive
from polyclinic.departments.reading.contracts import Language, Signature
from polyclinic.departments.reading.runs import RunStore
from polyclinic.departments.reading.store import ReadingStore
from polyclinic.departments.reading.views import finding_view, run_view
from polyclinic.screens.worklist import WorklistScreen


class StudyScreen:
    """Reads only; may be called from any thread."""

    def __init__(self, *, worklist: WorklistScreen, archive: Archive, reading: ReadingStore, runs: RunStore) -> None:
        self._worklist = worklist
        self._archive = archive
        self._reading = reading
        self._runs = runs

    def study(self, study_instance_uid: str, language: Language) -> dict[str, Any]:
        """Everything the page shows at once. Raises `NotFound` (``archive.no-study``)."""
        row = self._worklist.row(study_instance_uid)
        try:
            status = self._reading.status(study_instance_uid)
            revision, evidence = status.revision, status.evidence
        except NotFound:
            revision, evidence = 0, ""
        signatures = self._reading.signatures(study_instance_uid)
        return {
            "row": row,
            "revision": revision,
            "evidence": evidence,
            "series": [_series(s) for s in self._archive.series(study_instance_uid)],
            "runs": [run_view(run, language) for run in self._runs.of_revision(study_instance_uid, revision)],
            "findings": [finding_view(item, language) for item in self._reading.findings(study_instance_uid, revision)],
            "identity_history": [_correction(step) for step in self._archive.identity_history(study_instance_uid)],
            "priors": [_prior(prior) for prior in self._archive.priors(study_instance_uid)],
            "signature": _signature(signatures[revision]) if revision in signatures else None,
            # Images that come after a signature make a new revision; what was signed before stays readable.
            "signed_revisions": [{"revision": n, **_signature(signed)} for n, signed in signatures.items()],
        }


def _signature(signed: Signature) -> dict[str, Any]:
    return {"person_name": signed.person_name, "at": to_plain(signed.at), "sha256": signed.sha256}


def _correction(step: IdentityStep) -> dict[str, Any]:
    """A signed report keeps what was signed; this says what was corrected since, and what it was."""
    return {
        "at": to_plain(step.at),
        "source": step.source,
        "before": to_plain(step.before),
        "after": to_plain(step.after),
    }


def _series(series: Any) -> dict[str, Any]:
    keys = ("series_instance_uid", "modality", "series_number", "description", "body_part", "instance_count", "derived")
    return {key: getattr(series, key) for key in keys}


def _prior(prior: Any) -> dict[str, Any]:
    keys = ("study_instance_uid", "study_date", "description", "modalities")
    return {key: to_plain(getattr(prior, key)) for key in keys}
