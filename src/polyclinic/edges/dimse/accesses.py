"""What DICOM peers do, as audit entries (DICOM PS3.15 A.5): summaries, so that the hot path stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from polyclinic.core.audit import AgentKind, AuditEntry, AuditOutcome
from polyclinic.departments.access.audit_window import LIST_WINDOW_S, Recorder
from polyclinic.edges.dimse.conversation import Request
from polyclinic.edges.dimse.identifier import BadIdentifier, read_identifier

_MOST_STUDIES = 100


class Accesses:
    """Notes what one association does; without a recorder it notes nothing.

    A C-STORE is noted once a study at the end of the association; a search once in ten minutes with a count; a
    retrieval before the first instance leaves, once a minute and study.
    """

    def __init__(self, recorder: Recorder | None, host: str) -> None:
        self._recorder = recorder
        self._host = host
        self.peer = ""

    def rejected(self, reason: str) -> None:
        """The peer was not let in."""
        if self._recorder is not None:
            entry = self._entry("dimse.refused", outcome=AuditOutcome.DENIED, detail={"reason": reason})
            self._recorder.refuse(entry, key=("dimse.refused", self._host, reason))

    def stored(self, studies: Collection[str], stored: int, refused: int) -> None:
        """The association has ended; `stored` and `refused` count its instances of all studies."""
        if self._recorder is None or not (stored or refused):
            return
        detail = {"instances": str(stored), "refused": str(refused), "studies": str(len(studies))}
        for study in sorted(studies) or [""]:
            self._recorder.later(self._entry("dimse.store", study=study, detail=detail))

    def searches(self, request: Request) -> None:
        """The peer searches; the terms, which are about patients, are not noted."""
        if self._recorder is not None:
            entry = self._entry("dimse.find", detail={"sop_class": request.context.abstract_syntax})
            key = ("dimse.find", self.peer, self._host, request.context.abstract_syntax)
            self._recorder.observe(entry, key=key, window_s=LIST_WINDOW_S)

    def retrieves(self, action: str, request: Request, destination: str = "") -> None:
        """The peer retrieves, or has sent to `destination`; raises when that cannot be noted."""
        if self._recorder is None or request.dataset is None:
            return
        try:
            keys = read_identifier(request.dataset, request.context.transfer_syntax).keys
        except BadIdentifier:
            return  # it will be refused
        patient = keys.get("PatientID", "")
        detail = {"destination": destination} if destination else {}
        for study in keys.get("StudyInstanceUID", "").replace(",", "\\").split("\\")[:_MOST_STUDIES]:
            entry = self._entry(action, study=study, patient="" if study else patient, detail=detail)
            self._recorder.observe(entry, key=(action, self.peer, self._host, destination, study or patient))

    def _entry(
        self,
        action: str,
        *,
        study: str = "",
        patient: str = "",
        outcome: AuditOutcome = AuditOutcome.ALLOWED,
        detail: Mapping[str, str] | None = None,
    ) -> AuditEntry:
        return AuditEntry(
            at=datetime.now(UTC),
            action=action,
            outcome=outcome,
            agent_kind=AgentKind.PEER,
            agent_id=self.peer,
            address=self._host,
            study_instance_uid=study,
            patient_id=patient,
            detail=detail or {},
        )
