"""Bundles of type transaction and batch (FHIR R4 http 3.1.0.11): many interactions in one request."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from polyclinic.core.errors import PolyclinicError, Rejected
from polyclinic.core.people import Person
from polyclinic.edges.fhir_http import patient_json
from polyclinic.edges.fhir_http.negotiation import etag_of, version_of_etag
from polyclinic.edges.fhir_http.outcomes import Faulty, outcome_of, status_of
from polyclinic.edges.fhir_http.parameters import PARAMETERS
from polyclinic.edges.fhir_http.query import parse_search
from polyclinic.edges.fhir_http.writes import OpenUnit, Unit, Writer, Written
from polyclinic.fhir.check import faults_of
from polyclinic.fhir.json_text import Json

MAX_ENTRIES = 1000
_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "GET": 3, "HEAD": 3}
_WRITTEN_FIRST = ("Patient", "ServiceRequest", "Device", "Endpoint", "ImagingStudy", "Observation", "DiagnosticReport")
_ADDRESS = re.compile(
    r"(?P<type>[A-Z][A-Za-z]{1,63})(?:/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/(?P<version>[A-Za-z0-9\-.]{1,64}))?)?"
)
Searched = Callable[[Unit, str, Sequence[tuple[str, str]]], Json]
"""Answers a search inside a unit as a searchset Bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    number: int
    method: str
    type: str
    id: str
    version: str
    query: str
    resource: Json
    full_url: str
    if_match: str
    if_none_exist: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundles:
    """Carries out bundles for one person."""

    open_unit: OpenUnit
    searched: Searched
    person: Person
    strict: bool

    def carry_out(self, bundle: Json) -> Json:
        """The response Bundle, entries in the order of the request.

        Raises
        ------
        PolyclinicError
            Of a transaction, whatever the first entry that fails raises; nothing of it stays then.
        """
        faults = [f for f in faults_of(bundle, "Bundle") if not f.unknown or self.strict]
        # The resources of a batch answer for themselves
        if bundle.get("type") == "batch":
            faults = [f for f in faults if ".resource" not in f.path]
        if faults:
            raise Faulty(faults)
        entries = bundle.get("entry", [])
        if bundle["type"] not in ("transaction", "batch"):
            raise Rejected("fhir.bad-bundle", "A Bundle sent here is of type transaction or batch")
        if len(entries) > MAX_ENTRIES:
            raise Rejected("fhir.bad-bundle", f"A Bundle has at most {MAX_ENTRIES} entries; send several")
        if bundle["type"] == "batch":
            return _response("batch-response", [self._alone(n, entry) for n, entry in enumerate(entries)])
        return _response("transaction-response", self._together([_read(n, e) for n, e in enumerate(entries)]))

    def _alone(self, number: int, raw: Json) -> Json:
        try:
            entry = _read(number, raw)
            with self.open_unit(self.person) as unit:
                return self._do(unit, entry, "")
        except PolyclinicError as error:
            return {"response": {"status": str(status_of(error)), "outcome": outcome_of(error)}}

    def _together(self, entries: Sequence[_Entry]) -> list[Json]:
        _refuse_twice(entries)
        answers: dict[int, Json] = {}
        with self.open_unit(self.person) as unit:
            named, ids = self._named(unit, entries)
            for entry in sorted(entries, key=_turn):
                try:
                    resource = _renamed(entry.resource, named, lambda query: self._conditional(unit, query))
                    answers[entry.number] = self._do(unit, replace(entry, resource=resource), ids.get(entry.number, ""))
                except PolyclinicError as error:
                    error.add_note(f"Bundle.entry[{entry.number}]")
                    raise
        return [answers[entry.number] for entry in entries]

    def _named(self, unit: Unit, entries: Sequence[_Entry]) -> tuple[dict[str, str], dict[int, str]]:
        """What each fullUrl will be called, and the ids to give, by entry."""
        named: dict[str, str] = {}
        ids: dict[int, str] = {}
        writer = Writer(unit=unit, person=self.person, strict=self.strict)
        for entry in entries:
            if entry.method == "POST":
                found = writer.existing(entry.type, entry.if_none_exist) if entry.if_none_exist else None
                if found is not None:
                    made = found["id"]
                elif entry.type == "Patient":
                    writer.check("Patient", entry.resource)
                    key = unit.library.ids.own(patient_json.key_of_patient(entry.resource))
                    made = unit.resources.ids_of([key])[key]
                else:
                    made = ids[entry.number] = str(uuid.uuid4())
                named[entry.full_url] = f"{entry.type}/{made}"
            elif entry.method == "PUT":
                named[entry.full_url] = f"{entry.type}/{entry.id}"
        named.pop("", None)
        return named, ids

    def _conditional(self, unit: Unit, reference: str) -> str:
        """The resource that a conditional reference (``Patient?identifier=...``) means."""
        resource_type, _, query = reference.partition("?")
        if resource_type not in PARAMETERS:
            raise Rejected("fhir.bad-bundle", "A conditional reference names no type that is here")
        found = Writer(unit=unit, person=self.person).existing(resource_type, query)
        if found is None:
            raise Rejected("fhir.several-match", "A conditional reference finds nothing; create what it means first")
        return f"{resource_type}/{found['id']}"

    def _do(self, unit: Unit, entry: _Entry, new_id: str) -> Json:
        writer = Writer(unit=unit, person=self.person, strict=self.strict)
        if entry.method == "POST":
            made = writer.create(entry.type, entry.resource, if_none_exist=entry.if_none_exist, new_id=new_id)
            return _answer(made)
        if entry.method == "PUT":
            version = version_of_etag(entry.if_match) if entry.if_match else ""
            return _answer(writer.update(entry.type, entry.id, entry.resource, if_match=version))
        if entry.id:
            library = unit.library
            found = (
                library.version(entry.type, entry.id, entry.version)
                if entry.version
                else library.read(entry.type, entry.id)
            )
            return {"resource": found, "response": {"status": "200", "etag": etag_of(found["meta"]["versionId"])}}
        pairs = parse_qsl(entry.query, keep_blank_values=True)
        parse_search(entry.type, pairs, strict=self.strict)
        return {"resource": self.searched(unit, entry.type, pairs), "response": {"status": "200"}}


def _read(number: int, raw: Json) -> _Entry:
    request = raw.get("request")
    if not isinstance(request, dict):
        raise _bad(number, "every entry needs a request")
    method, parts = str(request.get("method")), urlsplit(str(request.get("url", "")))
    match = _ADDRESS.fullmatch(parts.path.strip("/"))
    if method not in ("POST", "PUT", "GET"):
        raise Rejected("fhir.not-offered", f"Bundle.entry[{number}]: only POST, PUT and GET are offered")
    if match is None or match["type"] not in PARAMETERS:
        raise _bad(number, "its url names no resource type that is here")
    resource = raw.get("resource", {})
    if method != "GET" and not resource:
        raise _bad(number, "it needs a resource")
    if (method == "POST" and match["id"]) or (method == "PUT" and (not match["id"] or parts.query)):
        raise _bad(number, "POST goes to a type, PUT to an id")
    return _Entry(
        number=number,
        method=method,
        type=match["type"],
        id=match["id"] or "",
        version=match["version"] or "",
        query=parts.query,
        resource=resource,
        full_url=str(raw.get("fullUrl", "")),
        if_match=str(request.get("ifMatch", "")),
        if_none_exist=str(request.get("ifNoneExist", "")),
    )


def _bad(number: int, text: str) -> Rejected:
    return Rejected("fhir.bad-bundle", f"Bundle.entry[{number}]: {text}")


def _refuse_twice(entries: Sequence[_Entry]) -> None:
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        written = (entry.type, entry.id)
        if entry.method == "PUT" and written in seen:
            raise _bad(entry.number, "another entry writes the same resource")
        seen |= {written} if entry.method == "PUT" else set()


def _turn(entry: _Entry) -> tuple[int, int, int]:
    """DELETE, POST, PUT, GET; among those that write, what others refer to first."""
    return _ORDER[entry.method], _WRITTEN_FIRST.index(entry.type), entry.number


def _renamed(value: Any, named: dict[str, str], conditional: Callable[[str], str], key: str = "") -> Any:
    """The value with every reference to a fullUrl replaced by the address that it gets."""
    if isinstance(value, dict):
        return {name: _renamed(inner, named, conditional, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, named, conditional, key) for inner in value]
    if not isinstance(value, str):
        return value
    if value in named and key in ("reference", "url", "uri"):
        return named[value]
    if key == "reference" and "?" in value:
        return conditional(value)
    if key == "reference" and value.startswith("urn:uuid:"):
        raise Rejected("fhir.bad-bundle", "A reference names a urn:uuid that no entry of the Bundle has")
    return value


def _answer(written: Written) -> Json:
    resource = written.resource
    version = resource["meta"]["versionId"]
    response = {
        "status": "201" if written.created else "200",
        "location": f"{resource['resourceType']}/{resource['id']}/_history/{version}",
        "etag": etag_of(version),
    }
    if "lastUpdated" in resource["meta"]:
        response["lastModified"] = resource["meta"]["lastUpdated"]
    return {"resource": resource, "response": response}


def _response(kind: str, entries: list[Json]) -> Json:
    return {"resourceType": "Bundle", "type": kind, **({"entry": entries} if entries else {})}
