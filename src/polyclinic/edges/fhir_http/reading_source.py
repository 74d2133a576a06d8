"""Findings as Observations and reports as DiagnosticReports, from the reading room; study by study, newest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Engine, select

from polyclinic.core.errors import NotFound
from polyclinic.departments.reading.contracts import DecidedFinding, Language, Report
from polyclinic.departments.reading.desk import Desk
from polyclinic.departments.reading.tables import proposal, signature
from polyclinic.edges.fhir_http.order_source import OrderSource
from polyclinic.edges.fhir_http.query import Search, reference_ids
from polyclinic.edges.fhir_http.report_json import report_json
from polyclinic.edges.fhir_http.sources import Item, Position, ids_asked, stretches
from polyclinic.edges.fhir_http.studies import Studies, WalkedStudy, da_of, study_columns
from polyclinic.edges.fhir_http.study_json import started_of
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.observations import FindingFacts, observation


class FindingSource:
    """Source of Observations: the findings of each study's newest revision."""

    def __init__(self, engine: Engine, studies: Studies, desk: Desk) -> None:
        self._engine = engine
        self._studies = studies
        self._desk = desk

    def read(self, resource_id: str) -> Json:
        """See `Source.read`."""
        for uid in self._studies_of([resource_id]):
            for made in self._of_study(self._studies.one(uid)):
                if made["id"] == resource_id:
                    return made
        raise NotFound("reading.no-finding", "There is no such Observation; search for those of the study")

    def versions(self, resource_id: str) -> Sequence[Json]:
        """See `Source.versions`. Decisions are counted; what was signed before is in the report's history."""
        return (self.read(resource_id),)

    def scan(self, search: Search, after: Position | None) -> Iterator[Item]:
        """See `Source.scan`."""
        where = narrowed(search, self._studies, "date")
        if (ids := ids_asked(search)) is not None:
            where.append(study_columns.study_instance_uid.in_(self._studies_of(sorted(ids))))
        for walked, start in resumed(self._studies, where, after):
            found = self._of_study(walked)
            for number, resource in enumerate(found[start:], start=start + 1):
                yield Item(position=(*walked.position, number), resource=resource)

    def count(self) -> int | None:
        """See `Source.count`."""
        return None

    def _studies_of(self, finding_ids: Sequence[str]) -> list[str]:
        query = select(proposal.c.study_instance_uid).where(proposal.c.finding_id.in_(list(finding_ids))).distinct()
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def _of_study(self, walked: WalkedStudy) -> list[Json]:
        uid = walked.study.study_instance_uid
        revision = self._desk.store.status(uid).revision
        signed = revision in self._desk.store.signatures(uid)
        effective = started_of(walked.study.study_date, walked.study.study_time)
        made = {}
        for item in self._desk.store.findings(uid, revision):
            facts = FindingFacts(
                version=2 * item.version + signed + 1,
                patient_id=walked.patient_id,
                effective=effective,
                changed_at=item.decided_at,
                signed=signed,
                decided_by=item.decided_by or "",
                reason=item.reason,
            )
            made[item.finding.id] = observation(item.finding, facts)
        return list(made.values())


class ReportSource:
    """Source of DiagnosticReports: one a study. Once signed, the newest signed revision is the one that holds."""

    def __init__(self, engine: Engine, studies: Studies, desk: Desk, orders: OrderSource) -> None:
        self._engine = engine
        self._studies = studies
        self._desk = desk
        self._orders = orders

    def read(self, resource_id: str) -> Json:
        """See `Source.read`."""
        return self._current(self._studies.one(resource_id))

    def versions(self, resource_id: str) -> Sequence[Json]:
        """See `Source.versions`: every signed revision, or the draft while none is signed."""
        walked = self._studies.one(resource_id)
        signed = list(self._desk.store.signatures(resource_id))
        if not signed:
            return (self._current(walked),)
        return tuple(self._signed(walked, signed, revision) for revision in reversed(signed))

    def scan(self, search: Search, after: Position | None) -> Iterator[Item]:
        """See `Source.scan`."""
        where = narrowed(search, self._studies, "date")
        if (ids := ids_asked(search)) is not None:
            where.append(study_columns.study_instance_uid.in_(sorted(ids)))
        if (findings := reference_ids(search.criteria, "Observation")) is not None:
            named = select(proposal.c.study_instance_uid).where(proposal.c.finding_id.in_(sorted(findings)))
            where.append(study_columns.study_instance_uid.in_(named))
        if stretches(search, "issued"):
            where.append(study_columns.study_instance_uid.in_(select(signature.c.study_instance_uid)))
        for walked, start in resumed(self._studies, where, after):
            if start == 0:
                yield Item(position=(*walked.position, 1), resource=self._current(walked))

    def count(self) -> int | None:
        """See `Source.count`."""
        return None

    def _current(self, walked: WalkedStudy) -> Json:
        uid = walked.study.study_instance_uid
        signed = list(self._desk.store.signatures(uid))
        if signed:
            return self._signed(walked, signed, signed[-1])
        shown = self._desk.report(uid, Language.ENGLISH)
        found = self._desk.store.findings(uid, shown.report.revision)
        return self._json(walked, shown.report, found, 0, f"{shown.report.revision}-draft-{shown.sha256[:16]}")

    def _signed(self, walked: WalkedStudy, signed: Sequence[int], revision: int) -> Json:
        kept = self._desk.store.signed_report(walked.study.study_instance_uid, revision)
        if kept is None:  # signatures are never taken back
            raise NotFound("reading.no-revision", "This revision was never signed; read the newest report")
        report, found = kept
        return self._json(walked, report, found, signed.index(revision), str(revision))

    def _json(
        self, walked: WalkedStudy, report: Report, found: Sequence[DecidedFinding], earlier: int, version: str
    ) -> Json:
        study = walked.study
        return report_json(
            report,
            patient_id=walked.patient_id,
            effective=started_of(study.study_date, study.study_time),
            earlier_signatures=earlier,
            result_ids=[item.finding.id for item in found if item.finding.state.counts],
            order_ids=self._orders.of_studies([study])[study.study_instance_uid],
            version=version,
        )


def narrowed(search: Search, studies: Studies, date_parameter: str) -> list[ColumnElement[bool]]:
    """Conditions on the studies whose resources may fit."""
    where: list[ColumnElement[bool]] = [*studies.of_patient(search), *studies.of_study(search)]
    for stretch in stretches(search, date_parameter):
        where.append(study_columns.study_date >= da_of(stretch.low_us, -1))
        where.append(study_columns.study_date <= da_of(stretch.high_us, 1))
    return where


def resumed(
    studies: Studies, where: Sequence[ColumnElement[bool]], after: Position | None
) -> Iterator[tuple[WalkedStudy, int]]:
    """Studies from the one a position lies in, each with how many of its resources lie before the position."""
    if after is not None:
        here = [*where, study_columns.study_instance_uid == after[1]]
        for walked in studies.walk(here, None, read_only=True):
            yield walked, int(after[2])
    for walked in studies.walk(where, after, read_only=True):
        yield walked, 0
