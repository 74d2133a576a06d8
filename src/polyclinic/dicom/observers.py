"""Who observed: device and person contexts of structured documents (DICOM PS3.16 TID 1001 to 1004)."""

from __future__ import annotations

from highdicom.sr import (
    DeviceObserverIdentifyingAttributes,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
)
from pydicom.sr.codedict import codes

from polyclinic.core.findings import Source
from polyclinic.core.ids import stable_uid
from polyclinic.dicom.derived import MANUFACTURER


def device_observer(agent: Source) -> ObserverContext:
    """The agent as device observer; its UID is the same wherever that version runs."""
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=stable_uid("device", agent.id, agent.version),
            name=agent.id,
            manufacturer_name=MANUFACTURER,
            model_name=f"{agent.id} {agent.version}".strip(),
        ),
    )


def person_observer(name: str, organisation: str) -> ObserverContext:
    """The physician as person observer; `name` is a DICOM PN."""
    return ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=PersonObserverIdentifyingAttributes(
            name=as_person_name(name), organization_name=organisation or None
        ),
    )


def as_person_name(name: str) -> str:
    """`name` as DICOM PN: a name without component separators becomes a family name (DICOM PS3.5 6.2.1)."""
    return name if "^" in name or "=" in name else f"{name}^"
