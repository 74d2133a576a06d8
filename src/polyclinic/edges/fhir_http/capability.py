"""The CapabilityStatement, made from the tables that drive the server (FHIR R4 CapabilityStatement)."""

from __future__ import annotations

from collections.abc import Sequence

from polyclinic.edges.fhir_http.parameters import INCLUDES, PARAMETERS, REVINCLUDES, SearchParameter
from polyclinic.fhir.json_text import Json
from polyclinic.fhir.structure import FHIR_VERSION, RESOURCES

CLAIMED = ("read", "vread", "history-instance", "search-type", "create", "update")
"""Interactions of every type; ``delete``, ``patch`` and ``history-type`` are not offered and answered with 405."""

RECORDED = frozenset({"Patient", "ServiceRequest"})
"""Types that the record keeps: their ids are the server's."""

_ABOUT = {
    "Patient": "Patients of the record, fed by HL7 v2 and FHIR alike, and those whom only images name. A link of type "
    "replaced-by or replaces merges two records. Identifier, names, gender, birthDate and link are kept.",
    "ServiceRequest": "Imaging orders of the record. They appear in the modality worklist when occurrenceDateTime and "
    "orderDetail (modality) are given.",
    "ImagingStudy": "Studies of the archive, without their instances: WADO-RS at the endpoint lists those.",
    "Observation": "Findings of agents and readers, read-only, and observations from other systems. A finding is "
    "preliminary until its report is signed, then final; a rejected one is cancelled.",
    "DiagnosticReport": "Reports of the reading room, read-only, and reports from other systems. Drafts are "
    "preliminary; a later signed revision is amended.",
    "Device": "Agents, read-only, one Device a version, with their safety stage; and devices from other systems.",
    "Endpoint": "The DICOMweb endpoint, read-only, and endpoints of other systems.",
}


def capability_statement(*, version: str, published: str, url: str, extra: Sequence[Json] = ()) -> Json:
    """The statement.

    Parameters
    ----------
    version
        Of the software.
    published
        Date of the statement, ISO 8601.
    url
        Base address of this service.
    extra
        ``rest.resource`` entries of types that other routes serve.
    """
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": published,
        "publisher": "Polyclinic",
        "kind": "instance",
        "software": {"name": "Polyclinic", "version": version},
        "implementation": {"description": "FHIR R4 of a Polyclinic node", "url": url},
        "fhirVersion": FHIR_VERSION,
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "documentation": "R4 (4.0.1) JSON only. Bundles hold at most 1000 entries; delete is not offered.",
                "security": {
                    "cors": False,
                    "description": "Bearer token, or the session of the page; who may read or write is decided by role",
                },
                "resource": [*(_resource(name) for name in RESOURCES), *extra],
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
            }
        ],
    }


def _resource(name: str) -> Json:
    return {
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        "documentation": _ABOUT[name],
        "interaction": [{"code": code} for code in CLAIMED],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": name not in RECORDED,
        "conditionalCreate": True,
        "conditionalRead": "not-match",
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "referencePolicy": ["literal", "logical", "local"],
        "searchInclude": list(INCLUDES[name]),
        "searchRevInclude": list(REVINCLUDES[name]),
        "searchParam": [_parameter(one) for one in PARAMETERS[name].values()],
    }


def _parameter(one: SearchParameter) -> Json:
    out = {"name": one.name, "type": one.kind.value, "documentation": one.text}
    return out | ({"definition": one.definition} if one.definition else {})
