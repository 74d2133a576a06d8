"""Nouns of the record that journeys and agents use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalContext:
    """What the record says about a study, frozen when its revision was gathered."""

    sex: str = ""
    """DICOM Patient's Sex: ``M``, ``F``, ``O`` or empty."""
    age_years: int | None = None
    """At the study date."""
    indication: str = ""
    requester: str = ""
    """DICOM PN of the ordering physician."""
    priority: str = ""
    """Of the order, FHIR R4 request-priority; empty without an order."""
    order_id: str = ""
    procedure: str = ""
    """What was ordered, in words."""
    prior_study_instance_uids: tuple[str, ...] = ()
    """Earlier studies of the same patient, newest first."""

    def for_agents(self) -> Mapping[str, str]:
        """The part an agent may see; what is not known is left out."""
        known = {
            "sex": self.sex,
            "age_years": "" if self.age_years is None else str(self.age_years),
            "indication": self.indication,
        }
        return {name: value for name, value in known.items() if value}
