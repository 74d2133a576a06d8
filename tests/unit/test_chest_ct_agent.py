"""The chest CT agent on whole studies: phantom, real scans, and what it must refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from polyclinic.agentkit.case import Case, CaseSeries, SilentTools
from polyclinic.agentkit.outcome import Abstained, Assessed, Outcome
from polyclinic.agentkit.phantom import ChestPhantom, PhantomStudy, make_chest_phantom, to_datasets
from polyclinic.app.dicom_folder import read_folder
from polyclinic.core import codes
from polyclinic.edges.inference.shelf import ModelShelf
from polyclinic_agents.chest_ct import agent
from polyclinic_agents.chest_ct.nodules import MAX_PROPOSED

ROOT = Path(__file__).resolve().parents[2]


@cache
def tools() -> SilentTools:
    weights = agent._manifest().weights[agent.NETWORK]
    return SilentTools({agent.NETWORK: ModelShelf(ROOT / "models", threads=2).model(weights)})


@cache
def phantom() -> tuple[PhantomStudy, tuple[Dataset, ...]]:
    study = make_chest_phantom(ChestPhantom.small(seed=3))
    return study, tuple(to_datasets(study))


def case_of(datasets: list[Dataset] | tuple[Dataset, ...], modality: str = "CT") -> Case:
    series = CaseSeries(
        series_instance_uid=str(datasets[0].SeriesInstanceUID), modality=modality, description="", datasets=datasets
    )
    return Case(study_instance_uid=str(datasets[0].StudyInstanceUID), revision=1, series=(series,))


@cache
def judged() -> Assessed:
    outcome = agent.run(case_of(phantom()[1]), tools())
    assert isinstance(outcome, Assessed)
    return outcome


def nodules(outcome: Outcome) -> list:
    assert isinstance(outcome, Assessed)
    return [finding for finding in outcome.findings if finding.code.same_as(codes.PULMONARY_NODULE)]


def test_the_planted_nodules_are_found_where_and_as_large_as_they_are() -> None:
    study, _ = phantom()
    found = nodules(judged())
    for truth in study.nodules:
        away = [np.linalg.norm(np.subtract(one.region.centre_mm, truth.centre_mm)) for one in found]
        best = found[int(np.argmin(away))]
        assert min(away) < 3.0
        assert best.measurement(codes.MEAN_DIAMETER).value == pytest.approx(truth.mean_diameter_mm, abs=2.0)
        assert best.laterality.same_as(codes.LEFT if truth.side == "left" else codes.RIGHT)


def test_lungs_are_those_of_the_phantom() -> None:
    study, _ = phantom()
    lungs = next(mask for mask in judged().masks if mask.id == "lungs")
    for label in (1, 2):
        own, true = lungs.voxels == label, study.lung_labels == label
        dice = 2 * np.count_nonzero(own & true) / (np.count_nonzero(own) + np.count_nonzero(true))
        assert dice > 0.94


def test_findings_masks_and_contours_belong_together() -> None:
    outcome = judged()
    uids = {str(ds.SOPInstanceUID) for ds in phantom()[1]}
    mask = next(mask for mask in outcome.masks if mask.id == "nodules")
    allowed = {(one.system, one.code) for one in agent._manifest().outputs}
    confidences = [one.confidence for one in nodules(outcome)]
    assert confidences == sorted(confidences, reverse=True)
    assert {(one.code.system, one.code.code) for one in outcome.findings} <= allowed
    for finding, label in zip(nodules(outcome), mask.labels, strict=True):
        assert (label.finding_id, label.number) == (finding.id, finding.region.segment)
        place = np.argwhere(mask.voxels == label.number).mean(axis=0)
        assert np.linalg.norm(mask.geometry.to_patient(place) - finding.region.centre_mm) < 2.5
        assert finding.evidence.images[0].sop_instance_uid in uids
        low, high = (np.asarray(corner) for corner in finding.region.bounds_mm)
        for contour in finding.region.contours:
            points = np.asarray(contour.points_mm)
            assert len(points) >= 3
            assert np.all(points > low - 2.0)
            assert np.all(points < high + 2.0)
            index = mask.geometry.to_index(points[0])[0]
            assert mask.images[round(index)] == contour.image


def test_the_order_of_instances_and_a_second_run_change_nothing() -> None:
    again = agent.run(case_of(phantom()[1][::-1]), tools())
    assert isinstance(again, Assessed)
    assert again.findings == judged().findings
    assert all(np.array_equal(a.voxels, b.voxels) for a, b in zip(again.masks, judged().masks, strict=True))


def test_steps_are_timed_and_gaps_are_declared() -> None:
    outcome = judged()
    assert [name for name, _ in outcome.seconds][:2] == ["read volume", "segment lungs"]
    assert any(phrase.startswith("bones") for phrase in outcome.not_assessed)


def refused(datasets: list[Dataset] | tuple[Dataset, ...], modality: str = "CT") -> Abstained:
    outcome = agent.run(case_of(datasets, modality), tools())
    assert isinstance(outcome, Abstained)
    assert outcome.reason.endswith(".")
    return outcome


def changed(datasets: tuple[Dataset, ...], values: Mapping[str, object]) -> list[Dataset]:
    made = []
    for ds in datasets:
        other = Dataset()
        other.update(ds)
        other.file_meta = ds.file_meta
        for name, value in values.items():
            if name in other:
                delattr(other, name)  # elements are shared with the original, which must not change
            setattr(other, name, value)
        made.append(other)
    return made


def test_another_modality_or_a_localizer_is_refused() -> None:
    datasets = phantom()[1]
    assert refused(datasets[:20], "MR").reason_code == "chest-ct.no-axial-ct"
    localizer = changed(datasets[:20], {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    assert refused(localizer).reason_code == "chest-ct.no-axial-ct"
    sagittal = changed(datasets[:20], {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]})
    assert refused(sagittal).reason_code == "chest-ct.no-axial-ct"
    assert refused(datasets[:3]).reason_code == "chest-ct.no-axial-ct"


def test_cut_off_lungs_are_refused() -> None:
    study, datasets = phantom()
    in_order = sorted(datasets, key=lambda ds: float(ds.ImagePositionPatient[2]))
    used = np.flatnonzero(study.lung_labels.any(axis=(1, 2)))
    middle = int(used.mean())
    assert refused(in_order[: middle + 5]).reason_code == "chest-ct.incomplete-lungs"
    assert "top" in refused(in_order[: middle + 5]).reason
    assert "bottom" in refused(in_order[middle - 5 :]).reason
    assert refused(in_order[middle : middle + 16]).reason_code == "chest-ct.incomplete-lungs"


def test_a_body_without_lungs_and_many_missing_slices_are_refused() -> None:
    datasets = phantom()[1]
    in_order = sorted(datasets, key=lambda ds: float(ds.ImagePositionPatient[2]))
    tissue = np.full((datasets[0].Rows, datasets[0].Columns), 1064, dtype=np.uint16).tobytes()
    assert refused(changed(datasets, {"PixelData": tissue})).reason_code == "chest-ct.no-lungs"
    assert refused(in_order[:40] + in_order[48:]).reason_code == "chest-ct.missing-slices"


def case_from(folder: Path) -> Case:
    return read_folder(folder).studies[0].case()


@pytest.mark.data
def test_nodules_that_readers_drew_are_marked(shared_data: Path) -> None:
    outcome = agent.run(case_from(shared_data / "ct" / "lidc-0063"), tools())
    assert isinstance(outcome, Assessed)
    found = nodules(outcome)
    geometry = outcome.masks[0].geometry
    truth = json.loads((shared_data / "ct" / "lidc_nodules.json").read_text())["LIDC-IDRI-0063"]["nodules"]
    for nodule in (one for one in truth if one["readers"] >= 2):
        read = [one["centroid_column_row_z"] for one in nodule["annotations"]]
        column, row, z = np.mean(read, axis=0)
        in_plane = geometry.to_patient([0, row, column])
        away = [np.linalg.norm(np.subtract(one.region.centre_mm, (in_plane[0], in_plane[1], z))) for one in found]
        assert min(away) < 5.0
        diameters = [one["largest_axial_diameter_mm"] for one in nodule["annotations"]]
        long_axis = found[int(np.argmin(away))].measurement(codes.LONG_AXIS).value
        assert long_axis == pytest.approx(np.mean(diameters), rel=0.25)
    assert len(found) <= 10


@pytest.mark.data
def test_both_lungs_full_of_opacities_are_outlined_and_marks_bounded(shared_data: Path) -> None:
    outcome = agent.run(case_from(shared_data / "ct" / "covid-thin"), tools())
    assert isinstance(outcome, Assessed)
    volumes = [
        one.measurement(codes.VOLUME).value for one in outcome.findings if one.code.same_as(codes.LUNG_VOLUME_FINDING)
    ]
    assert volumes[0] == pytest.approx(2950, rel=0.1)
    assert 1200 < volumes[1] < 1700
    assert 1300 < volumes[2] < 1800
    assert len(nodules(outcome)) <= MAX_PROPOSED
    assert all(any("opacities" in limit for limit in one.limits) for one in nodules(outcome))


@pytest.mark.data
def test_sixteen_slices_are_incomplete(shared_data: Path) -> None:
    outcome = agent.run(case_from(shared_data / "ct" / "lidc-0001-partial"), tools())
    assert isinstance(outcome, Abstained)
    assert outcome.reason_code == "chest-ct.incomplete-lungs"
