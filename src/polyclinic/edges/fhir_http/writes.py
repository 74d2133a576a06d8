"""Create and update: patients and orders go into the record, everything else is kept as it came.

FHIR R4 http 3.1.0.4 (update), 3.1.0.8 (create), 3.1.0.8.1 (conditional create), 3.1.0.5 (managing contention).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from polyclinic.core.errors import Conflict, NotFound, Rejected
from polyclinic.core.people import Person
from polyclinic.departments.records.patients import PatientKey
from polyclinic.departments.records.ports import OrderQuery, Record
from polyclinic.departments.records.resource_store import ResourceStore
from polyclinic.edges.fhir_http import order_json, patient_json
from polyclinic.edges.fhir_http.foreign_source import ForeignSource, index_entries, kept_json
from polyclinic.edges.fhir_http.matching import references_of
from polyclinic.edges.fhir_http.outcomes import Faulty
from polyclinic.edges.fhir_http.query import parse_search
from polyclinic.edges.fhir_http.search import Library
from polyclinic.fhir.check import faults_of
from polyclinic.fhir.json_text import Json, write_json
from polyclinic.fhir.terms import issuer_of_system

SOURCE = "FHIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a resource that was sent."""

    resource: Json
    created: bool
    kept: bool = True
    """False where a conditional create found it there already."""
    remarks: tuple[str, ...] = ()
    """What was left out, one sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One transaction: the stores and the library that see and make its changes together."""

    record: Record
    resources: ResourceStore
    library: Library


OpenUnit = Callable[[Person], AbstractContextManager[Unit]]
"""Opens a transaction for somebody; what is done in it stays when it ends without an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Writes in one transaction for one person."""

    unit: Unit
    person: Person
    strict: bool = False

    def create(self, resource_type: str, resource: Json, *, if_none_exist: str = "", new_id: str = "") -> Written:
        """Create a resource, unless `if_none_exist` finds one.

        Parameters
        ----------
        new_id
            The id to give, where something refers to it already (Bundle); only for types that the record does not
            name by itself.

        Raises
        ------
        Rejected
            `Faulty`, or why it cannot be kept.
        Conflict
            ``fhir.duplicate`` where the record holds that identifier already.
        """
        if if_none_exist and (found := self.existing(resource_type, if_none_exist)) is not None:
            return Written(resource=found, created=False, kept=False)
        remarks = self.check(resource_type, resource)
        if resource_type == "Patient":
            key = self.unit.library.ids.own(patient_json.key_of_patient(resource))
            return self._patient(resource, key, expected=0, remarks=remarks)
        if resource_type == "ServiceRequest":
            return self._order(resource, new_id or str(uuid.uuid4()), expected=0, remarks=remarks)
        return self._foreign(resource_type, new_id or str(uuid.uuid4()), resource, expected=0, remarks=remarks)

    def update(self, resource_type: str, resource_id: str, resource: Json, *, if_match: str = "") -> Written:
        """Replace a resource; `if_match` is the version that the writer has seen.

        Raises
        ------
        Rejected
            ``fhir.version-moved`` when it is another one now, ``fhir.read-only`` for what Polyclinic makes itself,
            ``fhir.no-create-by-update`` for a patient or order that is not there.
        """
        remarks = self.check(resource_type, resource)
        if resource.get("id") != resource_id:
            raise Rejected("fhir.bad-request", "The resource must carry the id of its address; set it")
        now = self._version(resource_type, resource_id)
        if if_match and if_match != now:
            raise Rejected("fhir.version-moved", "The resource is not at this version now; read it, then change it")
        if resource_type == "Patient":
            return self._update_patient(resource, resource_id, now, remarks)
        if resource_type == "ServiceRequest":
            if not now:
                raise _no_create_by_update()
            return self._order(resource, resource_id, expected=int(now), remarks=remarks)
        if self._is_ours(resource_type, resource_id):
            raise _read_only()
        return self._foreign(resource_type, resource_id, resource, expected=int(now or 0), remarks=remarks)

    def check(self, resource_type: str, resource: Json) -> list[str]:
        """Raise `Faulty` unless the resource is as R4 describes it; what will not be kept, one sentence each."""
        faults = faults_of(resource, resource_type)
        serious = [fault for fault in faults if self.strict or not fault.unknown]
        if serious:
            raise Faulty(serious)
        if "modifierExtension" in resource or "implicitRules" in resource:
            raise Rejected(
                "fhir.modifier", "modifierExtension and implicitRules are not understood here; send it without them"
            )
        mapped = {"Patient": patient_json.KEPT, "ServiceRequest": order_json.KEPT}.get(resource_type)
        lost = sorted(name for name in resource if name not in mapped and not name.startswith("_")) if mapped else []
        if lost and self.strict:
            raise Rejected("fhir.not-kept", f"These elements are not kept: {', '.join(lost)[:200]}; leave them out")
        return [f"{name[:64]} is not kept" for name in lost]

    def existing(self, resource_type: str, query: str) -> Json | None:
        """The one resource that a conditional create finds. Raises `Rejected` (``fhir.several-match``)."""
        pairs = parse_qsl(query.lstrip("?"), keep_blank_values=True)
        search = replace(parse_search(resource_type, pairs, strict=True), count=2, summary="")
        if not search.criteria:
            raise Rejected("fhir.bad-request", "If-None-Exist must name at least one search parameter")
        found = self.unit.library.page(search).matches
        if len(found) > 1:
            raise Rejected("fhir.several-match", "Several resources fit the condition; name the one that is meant")
        return found[0] if found else None

    def _update_patient(self, resource: Json, resource_id: str, now: str, remarks: list[str]) -> Written:
        key = self.unit.resources.key_of(resource_id)
        if key is None or not now:
            raise _no_create_by_update()
        said = {self.unit.library.ids.own(_key(one)) for one in resource.get("identifier", [])}
        if key not in said:
            raise Rejected(
                "fhir.identifier-fixed",
                "The identifier of a patient cannot change; create the new one and link them with replaced-by",
            )
        return self._patient(resource, key, expected=int(now), remarks=remarks)

    def _patient(self, resource: Json, key: PatientKey, *, expected: int, remarks: list[str]) -> Written:
        record, at = self.unit.record, datetime.now(UTC)
        try:
            kept = record.patient(key)
        except NotFound:
            kept = None
        if kept is not None and expected == 0:
            raise Conflict(
                "fhir.duplicate", "A patient with this identifier is there; update it, or create with If-None-Exist"
            )
        after = patient_json.record_of_patient(resource, key, kept)
        record.put_patient(after, source=SOURCE, at=at, expected_version=expected)
        for link in resource.get("link", []):
            remarks += self._link(key, link, at)
        resource_id = self.unit.resources.ids_of([key])[key]
        made = self.unit.library.read("Patient", resource_id)
        return Written(resource=made, created=kept is None, remarks=tuple(remarks))

    def _link(self, key: PatientKey, link: Json, at: datetime) -> list[str]:
        if link["type"] not in ("replaced-by", "replaces"):
            return [f"A link of type {link['type']} is not kept"]
        other = self._patient_key(link["other"])
        prior, into = (key, other) if link["type"] == "replaced-by" else (other, key)
        self.unit.record.merge_patients(prior, into, source=SOURCE, at=at)
        return []

    def _order(self, resource: Json, order_id: str, *, expected: int, remarks: list[str]) -> Written:
        record = self.unit.record
        patient = record.surviving(self._patient_key(resource["subject"]))
        kept = record.order(order_id) if expected else None
        order = order_json.order_of(resource, order_id, patient, kept)
        if kept is None:
            self._refuse_duplicate(order_json.numbers_of(resource), patient)
        record.put_order(order, source=SOURCE, at=datetime.now(UTC), expected_version=expected)
        made = self.unit.library.read("ServiceRequest", order_id)
        return Written(resource=made, created=kept is None, remarks=tuple(remarks))

    def _refuse_duplicate(self, numbers: dict[str, str], patient: PatientKey) -> None:
        for name in ("placer_number", "filler_number", "accession_number"):
            if numbers[name]:
                query = OrderQuery(**{name: numbers[name]})  # type: ignore[arg-type]
                if any(order.patient == patient for order in self.unit.record.find_orders(query)):
                    raise Conflict(
                        "fhir.duplicate",
                        "An order of this patient has this number; update it, or create with If-None-Exist",
                    )

    def _foreign(
        self, resource_type: str, resource_id: str, resource: Json, *, expected: int, remarks: list[str]
    ) -> Written:
        subject = resource.get("subject")
        if isinstance(subject, dict) and isinstance(subject.get("reference"), str):
            self._patient_key(subject)
        body = {name: value for name, value in resource.items() if name not in ("id", "resourceType")}
        meta = {k: v for k, v in resource.get("meta", {}).items() if k not in ("versionId", "lastUpdated")}
        body.pop("meta", None)
        body |= {"meta": meta} if meta else {}
        kept = self.unit.resources.put(
            resource_type,
            resource_id,
            write_json(body).decode(),
            index_entries(resource),
            source=self.person.person_id,
            at=datetime.now(UTC),
            expected_version=expected,
        )
        return Written(resource=kept_json(kept), created=expected == 0, remarks=tuple(remarks))

    def _is_ours(self, resource_type: str, resource_id: str) -> bool:
        for source in self.unit.library.sources[resource_type]:
            if not isinstance(source, ForeignSource):
                try:
                    source.read(resource_id)
                except NotFound:
                    continue
                return True
        return False

    def _patient_key(self, reference: Json) -> PatientKey:
        """The identity that a reference means. Raises `Rejected` (``fhir.no-target``)."""
        for resource_type, resource_id in references_of(reference):
            key = self.unit.resources.key_of(resource_id) if resource_type == "Patient" else None
            if key is not None:
                return key
        if isinstance(reference.get("identifier"), dict) and reference["identifier"].get("value"):
            key = self.unit.library.ids.own(_key(reference["identifier"]))
            try:
                return self.unit.record.patient(key).key
            except NotFound as error:
                raise _no_target() from error
        raise _no_target()

    def _version(self, resource_type: str, resource_id: str) -> str:
        """The version that holds now; empty where there is no such resource."""
        try:
            return str(self.unit.library.read(resource_type, resource_id)["meta"]["versionId"])
        except NotFound:
            return ""


def _key(identifier: Json) -> PatientKey:
    return PatientKey(
        patient_id=str(identifier.get("value", "")).strip(),
        issuer=issuer_of_system(str(identifier.get("system", ""))),
    )


def _read_only() -> Rejected:
    return Rejected(
        "fhir.read-only",
        "Polyclinic makes this resource itself from images, findings and reports; change it where it is made",
    )


def _no_target() -> Rejected:
    return Rejected("fhir.no-target", "The reference names no Patient that is here; create the Patient first")


def _no_create_by_update() -> Rejected:
    return Rejected("fhir.no-create-by-update", "There is nothing to update at this address; create it with POST")
