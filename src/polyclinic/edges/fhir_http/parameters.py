"""The search parameters of each resource type, as data: what may be asked, and which elements answer.

FHIR R4 search 3.1.1. The capability statement, the parser and the matching all read these tables; a parameter that
does not stand here is refused (``Prefer: handling=strict``) or left out (lenient).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from polyclinic.fhir.structure import RESOURCES


class Kind(StrEnum):
    """Search parameter types of R4 that are offered."""

    TOKEN = "token"  # noqa: S105 - a kind of search parameter
    STRING = "string"
    DATE = "date"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameter:
    """One parameter of one resource type."""

    name: str
    kind: Kind
    paths: tuple[str, ...]
    """Elements that are compared, as dotted JSON names; arrays are walked."""
    text: str
    targets: tuple[str, ...] = ()
    """Resource types that a reference may point to."""
    definition: str = ""
    """Canonical of the R4 SearchParameter; empty for a parameter of our own."""


MODIFIERS = {
    Kind.TOKEN: frozenset({"missing", "not"}),
    Kind.STRING: frozenset({"missing", "exact", "contains"}),
    Kind.DATE: frozenset({"missing"}),
    Kind.REFERENCE: frozenset({"missing", "identifier"}),
}
"""A reference also takes a target type as modifier, and a chain to a parameter of Patient."""

_TABLE = """
* _id token id :: the logical id
* _lastUpdated date meta.lastUpdated :: when the resource last changed
Patient identifier token identifier :: medical record number within its issuer
Patient active token active :: false once the record is merged into another
Patient name string name :: the beginning of any part of any name, in any script
Patient family string name.family :: the beginning of a family name, in any script
Patient given string name.given :: the beginning of a given name, in any script
Patient birthdate date birthDate :: date of birth
Patient gender token gender :: male, female, other
Patient link reference link.other Patient :: the record that replaces this one, or is replaced by it
ServiceRequest identifier token identifier :: placer, filler or accession number
ServiceRequest patient reference subject Patient :: who is to be examined
ServiceRequest subject reference subject Patient :: who is to be examined
ServiceRequest status token status :: active, on-hold, completed, revoked
ServiceRequest intent token intent :: always order
ServiceRequest priority token priority :: routine, urgent, asap, stat
ServiceRequest code token code :: the procedure
ServiceRequest authored date authoredOn :: when it was ordered
ServiceRequest occurrence date occurrenceDateTime,occurrencePeriod :: when the first step is scheduled
ImagingStudy identifier token identifier :: Study Instance UID (urn:dicom:uid|urn:oid:...) or accession number
ImagingStudy patient reference subject Patient :: who was imaged
ImagingStudy subject reference subject Patient :: who was imaged
ImagingStudy status token status :: always available
ImagingStudy modality token modality,series.modality :: modalities of the series
ImagingStudy started date started :: when the study began
ImagingStudy series token series.uid :: Series Instance UID
ImagingStudy basedon reference basedOn ServiceRequest :: the order that was fulfilled
ImagingStudy endpoint reference endpoint Endpoint :: where the images can be fetched
Observation identifier token identifier :: identifiers of observations from other systems
Observation patient reference subject Patient :: whom it is about
Observation subject reference subject Patient :: whom it is about
Observation status token status :: preliminary, final, cancelled
Observation category token category :: imaging, laboratory
Observation code token code :: what was observed
Observation component-code token component.code :: what was measured
Observation combo-code token code,component.code :: what was observed or measured
Observation date date effectiveDateTime,effectivePeriod,effectiveInstant :: when it was so
Observation derived-from reference derivedFrom ImagingStudy,Observation :: the images it was seen on
Observation based-on reference basedOn ServiceRequest :: the order
Observation device reference device Device :: the agent that measured
DiagnosticReport identifier token identifier :: identifiers of reports
DiagnosticReport patient reference subject Patient :: whom it is about
DiagnosticReport subject reference subject Patient :: whom it is about
DiagnosticReport status token status :: preliminary, final, amended
DiagnosticReport category token category :: RAD for imaging
DiagnosticReport code token code :: what kind of report
DiagnosticReport date date effectiveDateTime,effectivePeriod :: when the study was made
DiagnosticReport issued date issued :: when it was signed
DiagnosticReport based-on reference basedOn ServiceRequest :: the order
DiagnosticReport result reference result Observation :: a finding that stands in it
DiagnosticReport imaging-study reference imagingStudy ImagingStudy :: the study that was read (not in R4's list)
Device identifier token identifier :: agent and version
Device device-name string deviceName.name,type.coding.display,type.text :: title of the agent
Device manufacturer string manufacturer :: who makes it
Device model string modelNumber :: id of the agent
Device status token status :: active, inactive
Device type token type :: what it is
Endpoint identifier token identifier :: business identifier
Endpoint name string name :: name
Endpoint status token status :: active
Endpoint connection-type token connectionType :: dicom-wado-rs
"""

_OF_OUR_OWN = frozenset({"imaging-study"})
_DEFINITIONS = {
    "Patient": {name: f"individual-{name}" for name in ("birthdate", "gender", "family", "given")},
    "ServiceRequest": {name: f"clinical-{name}" for name in ("patient", "code", "identifier")},
    "ImagingStudy": {name: f"clinical-{name}" for name in ("patient", "identifier")},
    "Observation": {name: f"clinical-{name}" for name in ("patient", "code", "date")},
    "DiagnosticReport": {name: f"clinical-{name}" for name in ("patient", "code", "identifier", "date")},
}
"""Parameters that R4 defines once for several types."""


def _definition(resource_type: str, name: str) -> str:
    if name in _OF_OUR_OWN:
        return ""
    shared = f"Resource-{name.removeprefix('_')}" if resource_type == "*" else f"{resource_type}-{name}"
    return f"http://hl7.org/fhir/SearchParameter/{_DEFINITIONS.get(resource_type, {}).get(name, shared)}"


def _read() -> dict[str, dict[str, SearchParameter]]:
    table: dict[str, dict[str, SearchParameter]] = {name: {} for name in RESOURCES}
    for line in _TABLE.strip().split("\n"):
        facts, _, text = line.partition(" :: ")
        resource_type, name, kind, paths, *targets = facts.split(" ")
        parameter = SearchParameter(
            name=name,
            kind=Kind(kind),
            paths=tuple(paths.split(",")),
            text=text,
            targets=tuple(targets[0].split(",")) if targets else (),
            definition=_definition(resource_type, name),
        )
        for target in RESOURCES if resource_type == "*" else (resource_type,):
            table[target][name] = parameter
    return table


PARAMETERS = _read()
"""By resource type and name."""

SORTS = {"ImagingStudy": ("_lastUpdated", "started")}
"""What a type may be sorted by, in either direction."""

INCLUDES = {
    name: tuple(f"{name}:{p.name}" for p in table.values() if p.kind is Kind.REFERENCE)
    for name, table in PARAMETERS.items()
}
"""``_include`` values: every reference that can be searched can be followed."""

REVINCLUDES = {
    name: tuple(
        f"{source}:{p.name}"
        for source, table in PARAMETERS.items()
        for p in table.values()
        if p.kind is Kind.REFERENCE and name in p.targets
    )
    for name in PARAMETERS
}
"""``_revinclude`` values: every reference to the type that can be searched."""

CONTROLS = frozenset(
    {
        "_count",
        "_sort",
        "_include",
        "_revinclude",
        "_summary",
        "_elements",
        "_format",
        "_pretty",
        "_total",
        "_page",
        "fhirVersion",
    }
)
"""Parameters that say what the answer looks like, not what is in it."""
