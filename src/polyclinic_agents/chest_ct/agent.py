"""Chest CT: lungs, densitometry and nodules of one study, or an abstention with its reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources

from polyclinic.agentkit.case import Case, Model, Tools
from polyclinic.agentkit.manifest import Manifest, read_manifest
from polyclinic.agentkit.outcome import Abstained, Assessed, Fact, Outcome
from polyclinic.core import codes
from polyclinic.core.errors import Rejected
from polyclinic.dicom.volume import Volume, read_volume
from polyclinic_agents.chest_ct import aorta, followup, heart, liver, opacities, priors, proposals, spine
from polyclinic_agents.chest_ct.check import Check, Checked, Chest, NotSeen
from polyclinic_agents.chest_ct.densitometry import OPAQUE_SHARE, Density, densities, density_limits
from polyclinic_agents.chest_ct.earlier import Now
from polyclinic_agents.chest_ct.lungs import LEFT, RIGHT, Lungs, find_lungs
from polyclinic_agents.chest_ct.nodules import find_nodules, proposed
from polyclinic_agents.chest_ct.origin import Origin
from polyclinic_agents.chest_ct.scan import Scan, turn
from polyclinic_agents.chest_ct.series_choice import THICK_MM, Choice, choose
from polyclinic_agents.chest_ct.suitability import Unsuitable, check_lungs, check_volume, lung_limits

NETWORK = "nodule_patch"
NOT_ASSESSED = (
    "airways",
    "pleura",
    "mediastinum and hila",
    "heart and great vessels other than calcium and the calibre of the aorta",
    "bones other than the attenuation of the spine",
    "chest wall",
    "upper abdomen other than the attenuation of the liver",
)
NOT_COMPARED = "comparison with priors"
MAX_TRIES = 3

CHECKS: tuple[Check, ...] = (opacities.CHECK, heart.CHECK, aorta.CHECK, spine.CHECK, liver.CHECK)
"""What is looked at beside lungs and nodules, in the order of the report."""


def run(case: Case, tools: Tools) -> Outcome:
    """Judge the best series of the study.

    Returns
    -------
    Assessed
        With nodules ordered by confidence, densitometry and lung volumes.
    Abstained
        When no series is a chest CT that can be judged; the reason is that of the best one.

    Raises
    ------
    polyclinic.core.errors.Unavailable
        ``inference.model-missing`` when the weights cannot be loaded; nothing is judged without them.
    """
    manifest = _manifest()
    network = tools.model(NETWORK)
    tools.progress("choose series", 0.0)
    choices, passed = choose(case)
    if not choices:
        reason = "No axial CT series of this study can be judged" + (f" ({passed})" if passed else "") + "."
        return Abstained(agent=manifest.source, reason_code="chest-ct.no-axial-ct", reason=reason)
    first: Abstained | None = None
    for choice in choices[:MAX_TRIES]:
        outcome = _Run(case, choice, tools, manifest, network).outcome()
        if isinstance(outcome, Assessed):
            return outcome
        first = first or outcome
    assert first is not None
    return first


@cache
def _manifest() -> Manifest:
    return read_manifest(resources.files("polyclinic_agents.chest_ct"))


class _Run:
    """One series through all steps, with the time that each takes."""

    def __init__(self, case: Case, choice: Choice, tools: Tools, manifest: Manifest, network: Model) -> None:
        self._choice = choice
        self._context = case.context
        self._case = case
        self._tools = tools
        self._manifest = manifest
        self._network = network
        self._seconds: list[tuple[str, float]] = []
        self._origin = Origin(
            study_instance_uid=case.study_instance_uid,
            series_instance_uid=choice.series.series_instance_uid,
            source=manifest.source,
        )

    def outcome(self) -> Outcome:
        facts: tuple[Fact, ...] = ()
        try:
            with self._step("read volume", 0.02):
                volume = read_volume(self._choice.series.datasets)
            facts = _facts(self._choice, volume)
            check_volume(volume)
            scan = turn(volume)
            with self._step("segment lungs", 0.2):
                lungs = find_lungs(scan)
            lungs = check_lungs(scan, lungs)
        except Unsuitable as unsuitable:
            return self._abstained(unsuitable.reason_code, unsuitable.reason, facts)
        except Rejected as rejected:
            return self._abstained("chest-ct.unreadable-series", f"{rejected.message}.", facts)
        return self._assessed(scan, lungs, facts)

    def _abstained(self, reason_code: str, reason: str, facts: tuple[Fact, ...]) -> Abstained:
        return Abstained(
            agent=self._manifest.source,
            reason_code=reason_code,
            reason=reason,
            series_instance_uid=self._origin.series_instance_uid,
            facts=facts,
        )

    def _assessed(self, scan: Scan, lungs: Lungs, facts: tuple[Fact, ...]) -> Assessed:
        with self._step("measure density", 0.4):
            density = densities(scan, lungs.labels)
        whole = density[0]
        thick = (scan.volume.facts.slice_thickness_mm or scan.spacing_mm[0]) > THICK_MM or scan.spacing_mm[0] > THICK_MM
        with self._step("find nodules", 0.5):
            contrast = bool(scan.volume.facts.contrast_agent)
            every = () if thick else find_nodules(scan, lungs.labels, contrast_agent=contrast, network=self._network)
            shown = proposed(every)
        compared: priors.Comparison | None = None
        comparison_facts: tuple[Fact, ...] = ()
        if self._case.priors and not thick:
            now = Now(scan=scan, lungs=lungs, every=every, shown=shown, network=self._network)
            with self._step("compare with priors", 0.6):
                compared, comparison_facts = priors.compare(self._case, self._choice.study_date, now)
        with self._step("write findings", 0.65):
            limits = lung_limits(scan, lungs)
            nodules = proposals.nodule_findings(scan, lungs, shown, self._origin, _nodule_limits(scan, lungs))
            nodules = followup.with_changes(nodules, compared, scan) if compared else nodules
            findings = (
                *nodules,
                *(followup.gone_findings(compared, scan, self._origin) if compared else ()),
                proposals.density_finding(
                    scan, whole, self._origin, density_limits(scan, whole, lungs.opaque_share) + limits
                ),
                *proposals.volume_findings(lungs, self._origin, limits),
            )
            masks = proposals.masks(scan, lungs, shown, nodules)
        others = self._others(Chest(scan=scan, lungs=lungs, origin=self._origin, context=dict(self._context)))
        self._tools.progress("done", 1.0)
        return Assessed(
            agent=self._manifest.source,
            series_instance_uid=self._origin.series_instance_uid,
            findings=(*findings, *others.findings),
            masks=(*masks, *others.masks),
            key_images=(*proposals.key_images(nodules), *others.key_images),
            facts=(*facts, *comparison_facts, *_results(density, lungs, len(every), len(shown)), *others.facts),
            normal=(*(() if nodules or thick else (codes.PULMONARY_NODULE,)), *others.normal),
            not_assessed=(
                *(("lung nodules (slices thicker than 5 mm)",) if thick else ()),
                *others.not_assessed,
                *NOT_ASSESSED,
                *(() if compared else (NOT_COMPARED,)),
            ),
            seconds=tuple(self._seconds),
        )

    def _others(self, chest: Chest) -> Checked:
        """Every check of `CHECKS`; one that cannot see its organ says so and costs nothing else."""
        seen: list[Checked] = []
        for number, check in enumerate(CHECKS):
            with self._step(check.organ, 0.7 + 0.25 * number / len(CHECKS)):
                try:
                    seen.append(check.look(chest))
                except NotSeen as unseen:
                    seen.append(Checked(not_assessed=(f"{check.organ} ({unseen.reason})",)))
        return Checked(
            findings=tuple(finding for one in seen for finding in one.findings),
            masks=tuple(mask for one in seen for mask in one.masks),
            key_images=tuple(
                image for one in seen for image in (*one.key_images, *proposals.organ_key_images(one.findings))
            ),
            facts=tuple(fact for one in seen for fact in one.facts),
            normal=tuple(code for one in seen for code in one.normal),
            not_assessed=tuple(phrase for one in seen for phrase in one.not_assessed),
        )

    @contextmanager
    def _step(self, name: str, fraction: float) -> Iterator[None]:
        self._tools.progress(name, fraction)
        start = time.perf_counter()
        yield
        self._seconds.append((name, round(time.perf_counter() - start, 3)))


def _nodule_limits(scan: Scan, lungs: Lungs) -> tuple[str, ...]:
    limits = []
    if max(scan.volume.facts.slice_thickness_mm or 0.0, scan.spacing_mm[0]) > 3.0:
        limits.append("Slices thicker than 3 mm hide small nodules and blur their size.")
    if lungs.opaque_share > OPAQUE_SHARE:
        limits.append("Extensive opacities: marks inside them may be parts of the opacity, and nodules may be hidden.")
    return tuple(limits)


def _facts(choice: Choice, volume: Volume) -> tuple[Fact, ...]:
    facts = volume.facts
    rows = (
        ("series", choice.reason),
        ("slices", str(volume.hu.shape[0])),
        ("slice thickness", f"{facts.slice_thickness_mm:g} mm" if facts.slice_thickness_mm else "not stated"),
        ("slice spacing", f"{facts.slice_spacing_mm:.3g} mm"),
        ("pixel spacing", f"{volume.geometry.spacing_mm[1]:.3g} mm"),
        ("kernel", facts.kernel or "not stated"),
        ("contrast agent", facts.contrast_agent or "not stated"),
        ("tube voltage", f"{facts.kvp:g} kV" if facts.kvp else "not stated"),
        ("scanner", " ".join(part for part in (facts.manufacturer, facts.model) if part) or "not stated"),
        *((f"problem: {problem.kind.value}", problem.text) for problem in volume.problems),
    )
    return tuple(Fact(name=name, value=value) for name, value in rows)


def _results(density: dict[int, Density], lungs: Lungs, candidates: int, shown: int) -> tuple[Fact, ...]:
    rows = [
        (f"LAA-950 {side} lung", f"{density[label].laa_950_percent:.2f} %")
        for label, side in ((RIGHT, "right"), (LEFT, "left"))
        if label in density
    ]
    rows.append(("dense share of the lungs", f"{100 * lungs.opaque_share:.1f} %"))
    rows.append(("airway volume", f"{lungs.airway_ml:.0f} mL"))
    rows.append(("nodule candidates", f"{shown} proposed of {candidates} measured"))
    return tuple(Fact(name=name, value=value) for name, value in rows)
