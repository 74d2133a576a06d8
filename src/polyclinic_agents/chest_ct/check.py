"""What one check of the scan takes and gives: an organ looked at after the lungs were found.

A check is a module with one `Check`; `agent.CHECKS` lists them in the order of the report. It either measures, or says
in `Checked.not_assessed` what it could not look at and why. One that raises `NotSeen` costs its own organ only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from polyclinic.agentkit.outcome import Fact, KeyImage, Mask
from polyclinic.core.codes import Code
from polyclinic.core.findings import Finding
from polyclinic_agents.chest_ct.lungs import Lungs
from polyclinic_agents.chest_ct.origin import Origin
from polyclinic_agents.chest_ct.scan import Scan


class NotSeen(Exception):
    """The organ cannot be judged on this scan; `reason` completes the phrase "aorta: ..."."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chest:
    """What every check may look at."""

    scan: Scan
    lungs: Lungs
    origin: Origin
    context: dict[str, str]
    """Clinical context of the case: ``sex``, ``age_years``, ``indication`` where known."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checked:
    """What a check saw."""

    findings: tuple[Finding, ...] = ()
    masks: tuple[Mask, ...] = ()
    key_images: tuple[KeyImage, ...] = ()
    facts: tuple[Fact, ...] = ()
    normal: tuple[Code, ...] = ()
    """What was looked for and not found."""
    not_assessed: tuple[str, ...] = ()
    """Parts of the organ that could not be judged, one phrase each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One organ."""

    organ: str
    """As the report names it, e.g. ``"thoracic spine"``; also the name of the step."""
    look: Callable[[Chest], Checked]
    """Raises `NotSeen`."""
