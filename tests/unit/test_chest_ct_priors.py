"""Comparison with an earlier chest CT: phantoms of one person at two times, and earlier studies that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from polyclinic.agentkit.case import Case, CasePrior, CaseSeries, SilentTools
from polyclinic.agentkit.outcome import Assessed
from polyclinic.agentkit.phantom import ChestPhantom, Kernel, NoduleSpec, make_chest_phantom, to_datasets
from polyclinic.core import codes
from polyclinic.core.findings import Finding, Measurement, Region, Source, SourceKind
from polyclinic.core.guidelines.volume_doubling import volume_doubling_days
from polyclinic.dicom.volume import read_volume
from polyclinic.edges.inference.shelf import ModelShelf
from polyclinic_agents.chest_ct import agent, priors
from polyclinic_agents.chest_ct.earlier import Now
from polyclinic_agents.chest_ct.lungs import find_lungs
from polyclinic_agents.chest_ct.matching import Change, Seen, change_of, doubling_days, gate_mm, pair
from polyclinic_agents.chest_ct.nodules import find_nodules, proposed
from polyclinic_agents.chest_ct.registration import Registration, register
from polyclinic_agents.chest_ct.scan import turn

ROOT = Path(__file__).resolve().parents[2]
SHIFT_MM = (20.0, -15.0, 40.0)
"""Between the coordinates of the two studies: the patient never lies twice at the same place."""
DAYS = 90
PLACES = {
    "grown": (-75.09, 29.29, -4.68),
    "stable": (-101.02, 35.22, -1.22),
    "new": (98.43, 13.04, -87.69),
    "decreased": (-49.48, 46.78, 46.89),
    "gone": (-104.29, -29.25, -56.81),
}
NOW_MM = {"grown": 10.0, "stable": 12.0, "new": 8.0, "decreased": 10.0}
BEFORE_MM = {"grown": 7.0, "stable": 12.0, "decreased": 12.5, "gone": 9.0}
OTHER_SCANNER = {
    "slices": 111, "slice_spacing_mm": 2.7, "slice_thickness_mm": 2.7, "rows": 280, "columns": 280,
    "spacing_mm": (1.28, 1.28), "kernel": Kernel.SHARP, "noise_hu": 20.0,
}  # fmt: skip


def specs(sizes: dict[str, float]) -> tuple[NoduleSpec, ...]:
    return tuple(NoduleSpec(diameter_mm=mm, centre_mm=PLACES[name]) for name, mm in sizes.items())


def images(spec: ChestPhantom) -> tuple[Dataset, ...]:
    return tuple(to_datasets(make_chest_phantom(spec)))


@cache
def now_images() -> tuple[Dataset, ...]:
    return images(ChestPhantom.small(seed=3, nodules=specs(NOW_MM)))


@cache
def before_images() -> tuple[Dataset, ...]:
    """Another time, scanner, kernel, noise and place on the table."""
    taken = datetime(2025, 10, 17)  # noqa: DTZ001 - DICOM dates carry no zone
    made = images(ChestPhantom.small(seed=3, nodules=specs(BEFORE_MM), acquired_at=taken, **OTHER_SCANNER))
    for ds in made:
        ds.ImagePositionPatient = [float(a) + b for a, b in zip(ds.ImagePositionPatient, SHIFT_MM, strict=True)]
    return made


def series(datasets: Sequence[Dataset]) -> tuple[CaseSeries, ...]:
    uid = str(datasets[0].SeriesInstanceUID)
    return (CaseSeries(series_instance_uid=uid, modality="CT", description="", datasets=datasets),)


def prior(datasets: Sequence[Dataset], **changes: object) -> CasePrior:
    uid = str(datasets[0].StudyInstanceUID)
    made = CasePrior(study_instance_uid=uid, study_date=date(2025, 10, 17), series=series(datasets))
    return replace(made, **changes)  # type: ignore[arg-type]


def case(*earlier: CasePrior) -> Case:
    uid = str(now_images()[0].StudyInstanceUID)
    return Case(study_instance_uid=uid, revision=1, series=series(now_images()), priors=earlier)


@cache
def tools() -> SilentTools:
    weights = agent._manifest().weights[agent.NETWORK]
    return SilentTools({agent.NETWORK: ModelShelf(ROOT / "models", threads=2).model(weights)})


def signed(name: str) -> Finding:
    """What a reader signed on the earlier study."""
    x, y, z = np.add(PLACES[name], SHIFT_MM)
    return Finding(
        id=f"signed-{name}",
        study_instance_uid="2.25.1",
        code=codes.PULMONARY_NODULE,
        source=Source(kind=SourceKind.AGENT, id="chest_ct", version="0.0.1"),
        region=Region(frame_of_reference_uid="2.25.2", centre_mm=(float(x) + 1.0, float(y), float(z))),
        measurements=(Measurement(code=codes.MEAN_DIAMETER, value=BEFORE_MM[name], unit="mm", method="m"),),
    )


@cache
def judged() -> Assessed:
    earlier = prior(before_images(), signed=True, findings=(signed("stable"), signed("gone")))
    outcome = agent.run(case(earlier), tools())
    assert isinstance(outcome, Assessed)
    return outcome


def at(name: str, findings: Sequence[Finding] | None = None) -> Finding:
    """The nodule marked there."""
    marked = [f for f in findings or judged().findings if f.code.same_as(codes.PULMONARY_NODULE) and f.region]
    found = min(marked, key=lambda f: float(np.linalg.norm(np.subtract(f.region.centre_mm, PLACES[name]))))
    assert np.linalg.norm(np.subtract(found.region.centre_mm, PLACES[name])) < 3.0
    return found


def value(finding: Finding, code: codes.Code) -> float:
    measurement = finding.measurement(code)
    assert measurement is not None, code.display
    return measurement.value


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("grown", codes.NODULE_GROWN),
        ("stable", codes.NODULE_STABLE),
        ("new", codes.NODULE_NEW),
        ("decreased", codes.NODULE_DECREASED),
    ],
)
def test_each_nodule_has_the_change_that_was_planted(name: str, change: codes.Code) -> None:
    finding = at(name)
    said = finding.attribute(codes.NODULE_CHANGE)
    assert said is not None
    assert said.same_as(change)
    assert (finding.measurement(codes.PRIOR_MEAN_DIAMETER) is None) is (name == "new")
    if name != "new":
        assert value(finding, codes.PRIOR_MEAN_DIAMETER) == pytest.approx(BEFORE_MM[name], abs=0.7)
        assert value(finding, codes.PRIOR_INTERVAL) == DAYS


def test_doubling_time_is_that_of_the_planted_volumes() -> None:
    truth = volume_doubling_days(first_mm3=7.0**3, second_mm3=10.0**3, interval_days=DAYS)
    assert value(at("grown"), codes.DOUBLING_TIME) == pytest.approx(truth, rel=0.1)
    assert value(at("grown"), codes.VOLUME_CHANGE) == pytest.approx(100 * ((10 / 7) ** 3 - 1), rel=0.15)
    for name in ("stable", "decreased"):
        assert at(name).measurement(codes.DOUBLING_TIME) is None, "no doubling time out of noise"


def test_signed_findings_are_cited_and_one_that_is_gone_is_said() -> None:
    assert at("stable").evidence.prior_finding_ids == ("signed-stable",)
    assert at("grown").evidence.prior_finding_ids == ()
    (gone,) = (f for f in judged().findings if f.code.same_as(codes.RESOLVED_NODULE))
    assert np.linalg.norm(np.subtract(gone.region.centre_mm, PLACES["gone"])) < 4.0
    assert gone.evidence.prior_finding_ids == ("signed-gone",)
    assert gone.laterality.same_as(codes.RIGHT)
    outputs = {(one.system, one.code) for one in agent._manifest().outputs}
    assert {(f.code.system, f.code.code) for f in judged().findings} <= outputs


def test_the_run_says_with_what_and_how_well_it_compared() -> None:
    facts = {fact.name: fact.value for fact in judged().facts}
    assert (facts["compared with"], facts["comparison interval"]) == ("2025-10-17", f"{DAYS} d")
    assert float(facts["comparison residual"].removesuffix(" mm")) < 2.0
    assert float(facts["comparison agreement"]) > 0.85
    assert agent.NOT_COMPARED not in judged().not_assessed


@cache
def now() -> Now:
    scan = turn(read_volume(now_images()))
    lungs = find_lungs(scan)
    assert lungs is not None
    network = tools().model(agent.NETWORK)
    every = find_nodules(scan, lungs.labels, contrast_agent=False, network=network)
    return Now(scan=scan, lungs=lungs, every=every, shown=proposed(every), network=network)


def not_compared(*earlier: CasePrior) -> str:
    made, facts = priors.compare(case(*earlier), date(2026, 1, 15), now())
    assert made is None
    assert {fact.name for fact in facts} == {"not compared"}
    return facts[0].value


def test_without_a_signed_report_likely_marks_that_are_gone_are_found() -> None:
    made, _facts = priors.compare(case(prior(before_images())), date(2026, 1, 15), now())
    assert made is not None
    (gone,) = made.gone
    assert np.linalg.norm(now().scan.to_patient(gone.index) - np.asarray(PLACES["gone"])) < 4.0
    assert gone.before.mean_mm == pytest.approx(BEFORE_MM["gone"], abs=0.7)


def test_another_person_is_refused() -> None:
    other = images(ChestPhantom.small(seed=4, nodules=()))
    assert "vessels of the lungs do not match" in not_compared(prior(other))


def test_an_earlier_study_that_shows_part_of_the_lungs_is_refused() -> None:
    assert "cut off at the bottom" in not_compared(prior(before_images()[:80]))


class Broken(Sequence[Dataset]):
    """An archive that loses its bytes under the reader."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> Dataset:  # type: ignore[override]
        raise OSError("disk")


def test_nothing_that_is_wrong_with_an_earlier_study_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for day in (date(2026, 1, 15), date(2027, 1, 1)):
        assert not_compared(prior(before_images(), study_date=day)) == f"{day}: it is not older than this study"
    assert "no axial CT series" in not_compared(prior(before_images(), series=()))
    broken = replace(series(before_images())[0], datasets=Broken())
    assert "could not be compared (OSError)" in not_compared(prior(before_images(), series=(broken,)))
    monkeypatch.setattr(priors, "LIMIT_S", -1.0)
    assert not_compared(prior(before_images())).endswith("comparing took too long")


def test_the_next_older_study_is_taken_when_the_newest_cannot_be_compared() -> None:
    older = prior(before_images(), study_date=date(2025, 1, 15))
    made, facts = priors.compare(case(prior(before_images()[:80]), older), date(2026, 1, 15), now())
    assert made is not None
    assert made.interval_days == 365
    assert [fact.name for fact in facts][:2] == ["not compared", "compared with"]


@cache
def breathed() -> Registration:
    """The same chest stretched towards the foot of the images, by 30 mm there."""
    scan = now().scan
    height = len(scan.hu)
    from_index = source_index(np.arange(height), height)
    low = np.clip(np.floor(from_index).astype(int), 0, height - 2)
    share = (from_index - low)[:, None, None]
    hu = (scan.hu[low] * (1 - share) + scan.hu[low + 1] * share).astype(np.int16)
    before = replace(scan, hu=hu)
    lungs = find_lungs(before)
    assert lungs is not None
    return register(scan, now().lungs, before, lungs)


def source_index(index: np.ndarray, height: int) -> np.ndarray:
    """Where a slice of the stretched chest comes from; 30 mm are 10 slices."""
    return np.clip(index + 10.0 * (1 - index / (height - 1)) ** 2, 0, height - 1.001)


@pytest.mark.parametrize("name", ["new", "stable", "gone"])
def test_places_are_found_again_after_another_breath(name: str) -> None:
    scan = now().scan
    place_mm = np.asarray(PLACES[name])
    index = scan.from_patient(place_mm)
    height = len(scan.hu)
    stretched = np.interp(index[0], source_index(np.arange(height), height), np.arange(height))
    truth_mm = scan.to_patient([stretched, index[1], index[2]])
    assert np.linalg.norm(truth_mm - place_mm) > 3.0
    lung = int(now().lungs.labels[tuple(np.rint(index).astype(int))])
    there_mm, agreement = breathed().to_before(place_mm, lung, 8.0)
    assert agreement > 0.6
    assert np.linalg.norm(there_mm - truth_mm) < 3.0
    assert np.linalg.norm(breathed().to_now(truth_mm, lung) - place_mm) < 3.0
    assert breathed().residual_mm < 3.0


def seen(x: float, mean_mm: float, confidence: float = 0.9) -> Seen:
    return Seen(place_mm=np.asarray([x, 0.0, 0.0]), mean_mm=mean_mm, volume_mm3=None, confidence=confidence)


def test_pairs_are_one_to_one_and_within_reach() -> None:
    assert pair([seen(0, 8), seen(6, 8)], [seen(5, 8)], 2.0) == {1: 0}
    assert pair([seen(0, 8), seen(6, 8)], [seen(6, 8), seen(1, 8)], 2.0) == {0: 1, 1: 0}
    reach = gate_mm(1.0, 8.0)
    assert pair([seen(0, 8)], [seen(reach - 0.1, 8)], 1.0) == {0: 0}
    assert pair([seen(0, 8)], [seen(reach + 0.1, 8)], 1.0) == {}
    assert pair([seen(0, 20)], [seen(0, 4)], 1.0) == {}, "no nodule grows fivefold in diameter out of a speck"
    assert pair([seen(0, 10)], [seen(0, 5, confidence=0.1)], 1.0) == {}, "a bit of vessel is no earlier nodule"
    assert pair([], [seen(0, 5)], 1.0) == pair([seen(0, 5)], [], 1.0) == {}


@pytest.mark.parametrize(
    ("now_mm", "before_mm", "change"),
    [
        (7.5, 6.0, Change.STABLE),
        (7.6, 6.0, Change.GROWN),
        (7.54, 6.0, Change.STABLE),
        (6.0, 7.5, Change.STABLE),
        (6.0, 7.6, Change.DECREASED),
    ],
)
def test_growth_is_more_than_one_and_a_half_millimetres(now_mm: float, before_mm: float, change: Change) -> None:
    assert change_of(now_mm, before_mm) is change


def test_a_doubling_time_needs_a_change_and_an_interval() -> None:
    assert doubling_days(200.0, 100.0, 90) == pytest.approx(90.0)
    assert doubling_days(124.0, 100.0, 90) is None
    assert doubling_days(200.0, 100.0, 0) is None
    assert doubling_days(50.0, 100.0, 90) is None
