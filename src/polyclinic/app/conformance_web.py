"""Conformance statements of DICOMweb, FHIR and HL7 v2, from routes and tables of their services."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi.routing import iter_route_contexts

import polyclinic
from polyclinic.app.conformance import Section, Statement, table
from polyclinic.app.settings import Settings
from polyclinic.departments.archive.search import Level, keys_of
from polyclinic.edges.dicomweb.negotiation import DICOM, LOSSY, MEDIA_TYPES, OCTETS
from polyclinic.edges.fhir_http.capability import capability_statement
from polyclinic.edges.hl7v2 import adt, orders
from polyclinic.edges.hl7v2.acknowledge import MEANINGS, VERSIONS
from polyclinic.edges.hl7v2.charsets import KNOWN as HL7_CHARACTER_SETS
from polyclinic.edges.hl7v2.inbound import ORDER_MESSAGES

_PREFIX = "/dicom-web"
_MADE_BY = "from the tables that drive the service; do not edit. Research software, not a medical device."


def dicomweb_routes() -> Iterator[tuple[str, str, str]]:
    """Method, path and what it does, of a whole node that is built in a folder of its own."""
    from polyclinic.app.wiring import build, build_app  # noqa: PLC0415 - builds everything, which only this needs

    with tempfile.TemporaryDirectory(prefix="polyclinic-conformance-") as folder:
        services = build(Settings(data=Path(folder) / "data"))
        try:
            for route in iter_route_contexts(build_app(services, ready=lambda: True).routes):
                path = route.path or ""
                if path.startswith(_PREFIX):
                    for method in sorted(set(route.methods or ()) - {"HEAD", "OPTIONS"}):
                        yield method, path.removeprefix(_PREFIX), _service_of(method, path)
        finally:
            services.close()


def _service_of(method: str, path: str) -> str:
    if "/workitems" in path or "/subscribers" in path:
        return "UPS-RS (PS3.18 11)"
    if method == "POST":
        return "STOW-RS (PS3.18 10.5)"
    if method == "DELETE":
        return "Delete, of our own making: PS3.18 leaves it to the origin server"
    tail = path.rsplit("/", 1)[-1]
    return "QIDO-RS (PS3.18 10.6)" if tail in ("studies", "series", "instances") else "WADO-RS (PS3.18 10.4)"


def dicomweb_statement() -> Statement:
    """Services, media types and search keys of DICOMweb."""
    keys = [(str(level), key) for level in (Level.STUDY, Level.SERIES, Level.IMAGE) for key in sorted(keys_of(level))]
    media = [(uid, name, "Yes" if uid in LOSSY else "No") for uid, name in sorted(MEDIA_TYPES.items())]
    return Statement(
        title="DICOMweb conformance statement of Polyclinic",
        text=(f"Written by `polyclinic conformance dicomweb` {_MADE_BY}", f"Version {polyclinic.__version__}."),
        sections=(
            Section(
                title="Services",
                text=(f"Origin server only. Paths stand below `{_PREFIX}`. A session or a bearer token is needed.",),
                tables=(table(("Method", "Path", "Service"), sorted(dicomweb_routes())),),
            ),
            Section(
                title="Media types",
                text=(
                    f"Instances are sent as `{DICOM}`, frames as `{OCTETS}` or in the media type of the transfer "
                    "syntax they are kept in.",
                ),
                tables=(table(("Transfer syntax", "Media type of a frame", "Lossy"), media),),
            ),
            Section(title="Search keys", tables=(table(("Level", "Attribute"), keys),)),
        ),
    )


def fhir_capability() -> dict[str, Any]:
    """The CapabilityStatement that the node serves, for an address that is left open."""
    return dict(capability_statement(version=polyclinic.__version__, published="2026-11-22", url="/fhir"))


def fhir_statement() -> Statement:
    """Types, interactions and search parameters of the CapabilityStatement."""
    capability = fhir_capability()
    (rest,) = capability["rest"]
    sections = []
    for resource in rest["resource"]:
        sections.append(
            Section(
                title=resource["type"],
                text=(
                    resource.get("documentation", ""),
                    "Interactions: " + ", ".join(one["code"] for one in resource["interaction"]) + ".",
                ),
                tables=(
                    table(
                        ("Search parameter", "Type", "Meaning"),
                        [
                            (one["name"], one["type"], one.get("documentation", ""))
                            for one in resource.get("searchParam", ())
                        ],
                    ),
                ),
            )
        )
    return Statement(
        title="FHIR conformance statement of Polyclinic",
        text=(
            f"Written by `polyclinic conformance fhir` {_MADE_BY}",
            f"FHIR {capability['fhirVersion']}, formats {', '.join(capability['format'])}. The node serves the same as "
            "CapabilityStatement at `/fhir/metadata`.",
            rest.get("documentation", ""),
            "Of the whole system: " + ", ".join(one["code"] for one in rest["interaction"]) + ".",
        ),
        sections=tuple(sections),
    )


def hl7_statement() -> Statement:
    """Messages, codes and errors of HL7 v2."""
    taken = [(f"ADT^{event}", "patient is kept or changed") for event in sorted(adt.UPDATES)]
    taken += [(f"ADT^{event}", "two patients are one from now on") for event in sorted(adt.MERGES)]
    taken += [(name, "imaging order is kept or changed") for name in map("^".join, ORDER_MESSAGES)]
    controls = [
        (code, "" if status is None else str(status), "Yes" if code in orders.CREATING else "No")
        for code, status in orders.CONTROLS.items()
    ]
    return Statement(
        title="HL7 v2 conformance statement of Polyclinic",
        text=(
            f"Written by `polyclinic conformance hl7` {_MADE_BY}",
            f"MLLP, original acknowledgment mode, versions {', '.join(VERSIONS)}. AA is answered once the effect is "
            "durable.",
        ),
        sections=(
            Section(title="Messages taken", tables=(table(("Message", "What it does"), taken),)),
            Section(
                title="Order control (ORC-1)",
                text=("Without a status of its own, ORC-5 says it.",),
                tables=(table(("Code", "Status of the order", "May create one"), controls),),
            ),
            Section(
                title="Errors (ERR-3, HL7 table 0357)",
                tables=(table(("Code", "Meaning"), [(str(code), text) for code, text in MEANINGS.items()]),),
            ),
            Section(
                title="Character sets (MSH-18, HL7 table 0211)",
                tables=(table(("Value",), [(name,) for name in HL7_CHARACTER_SETS]),),
            ),
        ),
    )
