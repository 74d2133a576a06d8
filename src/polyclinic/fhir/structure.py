"""The elements of the FHIR R4 (4.0.1) types that Polyclinic reads and writes, as data.

One line is one type: ``name:Type``, followed by ``*`` where it may repeat and ``!`` where it must be there;
``value[A,B]`` is a choice of ``valueA`` and ``valueB``. Elements that every resource or every element has are added
by `elements`. A test compares the tables with an independent implementation of R4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

FHIR_VERSION = "4.0.1"

_TYPES = """
Meta versionId:id lastUpdated:instant source:uri profile:canonical* security:Coding* tag:Coding*
Narrative status:code! div:xhtml!
Identifier use:code type:CodeableConcept system:uri value:string period:Period assigner:Reference
HumanName use:code text:string family:string given:string* prefix:string* suffix:string* period:Period
Address use:code type:code text:string line:string* city:string district:string state:string postalCode:string
 country:string period:Period
ContactPoint system:code value:string use:code rank:positiveInt period:Period
Attachment contentType:code language:code data:base64Binary url:url size:unsignedInt hash:base64Binary title:string
 creation:dateTime
Coding system:uri version:string code:code display:string userSelected:boolean
CodeableConcept coding:Coding* text:string
Reference reference:string type:uri identifier:Identifier display:string
Period start:dateTime end:dateTime
Quantity value:decimal comparator:code unit:string system:uri code:code
Duration value:decimal comparator:code unit:string system:uri code:code
Range low:Quantity high:Quantity
Ratio numerator:Quantity denominator:Quantity
SampledData origin:Quantity! period:decimal! factor:decimal lowerLimit:decimal upperLimit:decimal
 dimensions:positiveInt! data:string
Annotation author[Reference,String] time:dateTime text:markdown!
Signature type:Coding*! when:instant! who:Reference! onBehalfOf:Reference targetFormat:code sigFormat:code
 data:base64Binary
Timing event:dateTime* repeat:Timing.repeat code:CodeableConcept
Timing.repeat bounds[Duration,Range,Period] count:positiveInt countMax:positiveInt duration:decimal
 durationMax:decimal durationUnit:code frequency:positiveInt frequencyMax:positiveInt period:decimal
 periodMax:decimal periodUnit:code dayOfWeek:code* timeOfDay:time* when:code* offset:unsignedInt
Patient identifier:Identifier* active:boolean name:HumanName* telecom:ContactPoint* gender:code birthDate:date
 deceased[Boolean,DateTime] address:Address* maritalStatus:CodeableConcept multipleBirth[Boolean,Integer]
 photo:Attachment* contact:Patient.contact* communication:Patient.communication* generalPractitioner:Reference*
 managingOrganization:Reference link:Patient.link*
Patient.contact relationship:CodeableConcept* name:HumanName telecom:ContactPoint* address:Address gender:code
 organization:Reference period:Period
Patient.communication language:CodeableConcept! preferred:boolean
Patient.link other:Reference! type:code!
ServiceRequest identifier:Identifier* instantiatesCanonical:canonical* instantiatesUri:uri* basedOn:Reference*
 replaces:Reference* requisition:Identifier status:code! intent:code! category:CodeableConcept* priority:code
 doNotPerform:boolean code:CodeableConcept orderDetail:CodeableConcept* quantity[Quantity,Ratio,Range]
 subject:Reference! encounter:Reference occurrence[DateTime,Period,Timing] asNeeded[Boolean,CodeableConcept]
 authoredOn:dateTime requester:Reference performerType:CodeableConcept performer:Reference*
 locationCode:CodeableConcept* locationReference:Reference* reasonCode:CodeableConcept* reasonReference:Reference*
 insurance:Reference* supportingInfo:Reference* specimen:Reference* bodySite:CodeableConcept* note:Annotation*
 patientInstruction:string relevantHistory:Reference*
ImagingStudy identifier:Identifier* status:code! modality:Coding* subject:Reference! encounter:Reference
 started:dateTime basedOn:Reference* referrer:Reference interpreter:Reference* endpoint:Reference*
 numberOfSeries:unsignedInt numberOfInstances:unsignedInt procedureReference:Reference
 procedureCode:CodeableConcept* location:Reference reasonCode:CodeableConcept* reasonReference:Reference*
 note:Annotation* description:string series:ImagingStudy.series*
ImagingStudy.series uid:id! number:unsignedInt modality:Coding! description:string numberOfInstances:unsignedInt
 endpoint:Reference* bodySite:Coding laterality:Coding specimen:Reference* started:dateTime
 performer:ImagingStudy.series.performer* instance:ImagingStudy.series.instance*
ImagingStudy.series.performer function:CodeableConcept actor:Reference!
ImagingStudy.series.instance uid:id! sopClass:Coding! number:unsignedInt title:string
Observation identifier:Identifier* basedOn:Reference* partOf:Reference* status:code! category:CodeableConcept*
 code:CodeableConcept! subject:Reference focus:Reference* encounter:Reference
 effective[DateTime,Period,Timing,Instant] issued:instant performer:Reference*
 value[Quantity,CodeableConcept,String,Boolean,Integer,Range,Ratio,SampledData,Time,DateTime,Period]
 dataAbsentReason:CodeableConcept interpretation:CodeableConcept* note:Annotation* bodySite:CodeableConcept
 method:CodeableConcept specimen:Reference device:Reference referenceRange:Observation.referenceRange*
 hasMember:Reference* derivedFrom:Reference* component:Observation.component*
Observation.referenceRange low:Quantity high:Quantity type:CodeableConcept appliesTo:CodeableConcept* age:Range
 text:string
Observation.component code:CodeableConcept!
 value[Quantity,CodeableConcept,String,Boolean,Integer,Range,Ratio,SampledData,Time,DateTime,Period]
 dataAbsentReason:CodeableConcept interpretation:CodeableConcept* referenceRange:Observation.referenceRange*
DiagnosticReport identifier:Identifier* basedOn:Reference* status:code! category:CodeableConcept*
 code:CodeableConcept! subject:Reference encounter:Reference effective[DateTime,Period] issued:instant
 performer:Reference* resultsInterpreter:Reference* specimen:Reference* result:Reference* imagingStudy:Reference*
 media:DiagnosticReport.media* conclusion:string conclusionCode:CodeableConcept* presentedForm:Attachment*
DiagnosticReport.media comment:string link:Reference!
Device identifier:Identifier* definition:Reference udiCarrier:Device.udiCarrier* status:code
 statusReason:CodeableConcept* distinctIdentifier:string manufacturer:string manufactureDate:dateTime
 expirationDate:dateTime lotNumber:string serialNumber:string deviceName:Device.deviceName* modelNumber:string
 partNumber:string type:CodeableConcept specialization:Device.specialization* version:Device.version*
 property:Device.property* patient:Reference owner:Reference contact:ContactPoint* location:Reference url:uri
 note:Annotation* safety:CodeableConcept* parent:Reference
Device.udiCarrier deviceIdentifier:string issuer:uri jurisdiction:uri carrierAIDC:base64Binary carrierHRF:string
 entryType:code
Device.deviceName name:string! type:code!
Device.specialization systemType:CodeableConcept! version:string
Device.version type:CodeableConcept component:Identifier value:string!
Device.property type:CodeableConcept! valueQuantity:Quantity* valueCode:CodeableConcept*
Endpoint identifier:Identifier* status:code! connectionType:Coding! name:string managingOrganization:Reference
 contact:ContactPoint* period:Period payloadType:CodeableConcept*! payloadMimeType:code* address:url! header:string*
Practitioner identifier:Identifier* active:boolean name:HumanName* telecom:ContactPoint* address:Address*
 gender:code birthDate:date photo:Attachment* qualification:Practitioner.qualification*
 communication:CodeableConcept*
Practitioner.qualification identifier:Identifier* code:CodeableConcept! period:Period issuer:Reference
Bundle identifier:Identifier type:code! timestamp:instant total:unsignedInt link:Bundle.link* entry:Bundle.entry*
 signature:Signature
Bundle.link relation:string! url:uri!
Bundle.entry link:Bundle.link* fullUrl:uri resource:Resource search:Bundle.entry.search
 request:Bundle.entry.request response:Bundle.entry.response
Bundle.entry.search mode:code score:decimal
Bundle.entry.request method:code! url:uri! ifNoneMatch:string ifModifiedSince:instant ifMatch:string
 ifNoneExist:string
Bundle.entry.response status:string! location:uri etag:string lastModified:instant outcome:Resource
"""

RESOURCES = (
    "Patient",
    "ServiceRequest",
    "ImagingStudy",
    "Observation",
    "DiagnosticReport",
    "Device",
    "Endpoint",
)
"""Resource types that can be read and searched."""

_RESOURCE_ELEMENTS = (
    "id:id meta:Meta implicitRules:uri language:code text:Narrative contained:Resource* extension:Extension* "
    "modifierExtension:Extension*"
)
_BUNDLE_ELEMENTS = "id:id meta:Meta implicitRules:uri language:code"
_ELEMENT_ELEMENTS = "id:string extension:Extension*"

_EVENT_STATUS = "registered preliminary final amended corrected cancelled entered-in-error unknown"
_CODES = {
    "Patient.gender": "male female other unknown",
    "Practitioner.gender": "male female other unknown",
    "Patient.contact.gender": "male female other unknown",
    "Patient.link.type": "replaced-by replaces refer seealso",
    "HumanName.use": "usual official temp nickname anonymous old maiden",
    "Identifier.use": "usual official temp secondary old",
    "Quantity.comparator": "< <= >= >",
    "Narrative.status": "generated extensions additional empty",
    "ServiceRequest.status": "draft active on-hold revoked completed entered-in-error unknown",
    "ServiceRequest.intent": (
        "proposal plan directive order original-order reflex-order filler-order instance-order option"
    ),
    "ServiceRequest.priority": "routine urgent asap stat",
    "ImagingStudy.status": "registered available cancelled entered-in-error unknown",
    "Observation.status": _EVENT_STATUS,
    "DiagnosticReport.status": f"partial appended {_EVENT_STATUS}",
    "Device.status": "active inactive entered-in-error unknown",
    "Device.deviceName.type": (
        "udi-label-name user-friendly-name patient-reported-name manufacturer-name model-name other"
    ),
    "Endpoint.status": "active suspended error off entered-in-error test",
    "Bundle.type": (
        "document message transaction transaction-response batch batch-response history searchset collection"
    ),
    "Bundle.entry.request.method": "GET HEAD POST PUT DELETE PATCH",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """What may stand under one JSON key."""

    type: str
    many: bool = False
    required: bool = False
    choice: str = ""
    """The common stem where only one of several keys may be there, e.g. ``value``."""
    codes: frozenset[str] = frozenset()
    """Allowed codes where R4 binds them as required; empty for any."""


@cache
def _lines() -> dict[str, str]:
    joined = _TYPES.strip().replace("\n ", " ")
    return {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in joined.split("\n")}


@cache
def elements(type_name: str) -> dict[str, Element] | None:
    """Elements of a complex type by JSON key; None for a type that is not in the tables."""
    line = _lines().get(type_name)
    if line is None:
        return None
    if type_name == "Bundle":
        common = _BUNDLE_ELEMENTS
    elif type_name in (*RESOURCES, "Practitioner"):
        common = _RESOURCE_ELEMENTS
    elif type_name == "Timing" or ("." in type_name and type_name != "Timing.repeat"):
        common = f"{_ELEMENT_ELEMENTS} modifierExtension:Extension*"
    else:
        common = _ELEMENT_ELEMENTS
    found: dict[str, Element] = {}
    for word in f"{common} {line}".split():
        if "[" in word:
            stem, _, kinds = word.rstrip("]").partition("[")
            for kind in kinds.split(","):
                found[stem + kind] = Element(type=_type_of_choice(kind), choice=stem)
            continue
        name, _, kind = word.partition(":")
        codes = frozenset(_CODES.get(f"{type_name}.{name}", "").split())
        found[name] = Element(type=kind.rstrip("*!"), many="*" in kind, required=kind.endswith("!"), codes=codes)
    return found


def _type_of_choice(kind: str) -> str:
    return kind if kind in _lines() else kind[0].lower() + kind[1:]


def complex_types() -> tuple[str, ...]:
    """Every type of the tables."""
    return tuple(_lines())
