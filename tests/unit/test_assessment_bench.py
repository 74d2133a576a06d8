"""The bench as a whole: manifests, leaks, the simulated split and its truth, records, and a quick run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from polyclinic.agentkit.assessment import bench, chest_phantoms
from polyclinic.agentkit.assessment.bench import judge
from polyclinic.agentkit.assessment.cases import OPACITY_VOLUME, CaseTruth
from polyclinic.agentkit.assessment.chest_phantoms import make, plans
from polyclinic.agentkit.assessment.dataset import (
    DatasetManifest,
    Lineage,
    Phantoms,
    TruthLayout,
    independence,
    listing_sha256,
    read_dataset,
    read_lineage,
)
from polyclinic.agentkit.assessment.record import read_record
from polyclinic.agentkit.assessment.tables import tables_of
from polyclinic.agentkit.manifest import installed_agents
from polyclinic.agentkit.outcome import Abstained
from polyclinic.app.assess import assess_and_write
from polyclinic.app.assess_card import block_of, card_block, write_card
from polyclinic.app.assess_data import open_data
from polyclinic.core.errors import Rejected

ROOT = Path(__file__).resolve().parents[2]
PHANTOMS = ROOT / "benchmarks" / "datasets" / "chest-ct-phantoms"
RECORD = ROOT / "docs" / "agents" / "chest_ct_assessment.json"
MANIFEST = """
name = "few"
version = "1"
provenance = "made for a test"
licence = "none"
collection = "Few"
proves = "that the reader reads what it is given"
listing_sha256 = "{sha}"
[images]
layout = "metaimage"
folder = "scans"
[truth]
kind = "readers"
layout = "luna16"
file = "annotations.csv"
[split.patients]
test = {test}
train = {train}
"""
HEADER = (
    "NDims = 3\nDimSize = 4 5 6\nElementSpacing = 0.7 0.8 1.25\nOffset = 0 0 0\nElementType = MET_SHORT\n"
    "ElementDataFile = LOCAL\n"
)


def few(folder: Path, test: str = '["1.2.3"]', train: str = '["1.2.4"]', sha: str = "") -> DatasetManifest:
    """Two scans of LUNA16's layout and a manifest."""
    scans = folder / "scans"
    scans.mkdir(exist_ok=True)
    for name in ("1.2.3", "1.2.4"):
        (scans / f"{name}.mha").write_bytes(HEADER.encode() + bytes(4 * 5 * 6 * 2))
    truth = folder / "annotations.csv"
    truth.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,1,2,3,4\n")
    sha = sha or listing_sha256(scans, [truth])
    (folder / "dataset.toml").write_text(MANIFEST.format(sha=sha, test=test, train=train))
    return read_dataset(folder)


def refused(code: str, call: object) -> str:
    with pytest.raises(Rejected) as found:
        call()  # type: ignore[operator]
    assert found.value.code == code
    return found.value.message


def test_a_folder_of_luna16_gives_its_scans_with_their_nodules(tmp_path: Path) -> None:
    data = open_data(few(tmp_path), tmp_path, None)
    (scan,) = list(data.cases())
    assert scan.nodules is not None
    assert scan.nodules[0].centre_mm == (1.0, 2.0, 3.0)
    assert (data.count, data.patients, len(scan.case.series[0].datasets)) == (1, ("1.2.3",), 6)
    assert "1.2.3" not in (scan.name + scan.patient), "records name no patient"


def test_other_data_than_the_manifest_was_written_for_are_refused(tmp_path: Path) -> None:
    manifest = few(tmp_path)
    (tmp_path / "annotations.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,1,2,3,9\n")
    refused("assessment.listing", lambda: open_data(manifest, tmp_path, None))
    absent = few(tmp_path, test='["1.2.3", "1.2.9"]')
    refused("assessment.patients", lambda: open_data(absent, tmp_path, None))
    outside = absent.model_copy(update={"truth": absent.truth.model_copy(update={"file": "../../etc"})})
    refused("assessment.dataset", lambda: open_data(outside, tmp_path, None))


@pytest.mark.parametrize("layout", ["lidc-json", "lidc-xml"])
def test_a_scan_that_nobody_read_is_not_one_without_nodules(tmp_path: Path, layout: str) -> None:
    manifest = few(tmp_path)
    readings = tmp_path / "readings"
    readings.mkdir()
    (readings / "n.json").write_text("{}")
    (readings / "cxr.xml").write_text("<IdriReadMessage/>")
    file = "readings" if layout == "lidc-xml" else "readings/n.json"
    truth = manifest.truth.model_copy(update={"layout": TruthLayout(layout), "file": file})
    sha = listing_sha256(tmp_path / "scans", [tmp_path / file])
    other = manifest.model_copy(update={"truth": truth, "listing_sha256": sha})
    refused("assessment.annotations", lambda: list(open_data(other, tmp_path, None).cases()))


def test_splits_are_disjoint_and_manifests_whole(tmp_path: Path) -> None:
    assert "two splits" in refused("assessment.dataset", lambda: few(tmp_path, train='["1.2.3"]'))
    assert "no patients" in refused("assessment.dataset", lambda: few(tmp_path, test="[]"))
    refused("assessment.dataset", lambda: few(tmp_path, sha="12"))
    refused("assessment.dataset", lambda: read_dataset(tmp_path / "nowhere"))


def test_a_patient_of_the_training_data_is_a_leak(tmp_path: Path) -> None:
    manifest = few(tmp_path)
    own = hashlib.sha256(b"1.2.3").hexdigest()
    lineage = Lineage(training_patients=[own])
    message = refused("assessment.leak", lambda: independence(manifest, ["1.2.3"], lineage))
    assert "1.2.3" not in message
    assert "no patient shared" in independence(manifest, ["1.2.4"], lineage).text
    shared = independence(manifest, ["1.2.3"], Lineage(development_patients=[own], collections=["Few"]))
    assert (shared.development, shared.same_collection) == (1, True)


def test_the_agent_says_whom_it_has_seen() -> None:
    lineage = read_lineage(installed_agents(only=("chest_ct",))["chest_ct"].folder)
    assert hashlib.sha256(b"LIDC-IDRI-0063").hexdigest() in lineage.development_patients
    assert "LUNA16" in lineage.collections


def test_the_split_is_fixed_and_apart_from_development() -> None:
    manifest = read_dataset(PHANTOMS)
    assert manifest.phantoms is not None
    assert chest_phantoms.plans_sha256(manifest.phantoms) == manifest.listing_sha256
    made = plans(manifest.phantoms)
    assert len({plan.seed for plan in made}) == len(made) == 57
    assert min(plan.seed for plan in made) >= 1000
    refused_seeds = manifest.model_dump()["phantoms"] | {"first_seed": 3}
    with pytest.raises(ValueError, match="first_seed"):
        Phantoms.model_validate(refused_seeds)
    other = manifest.phantoms.model_copy(update={"small": 1})
    assert chest_phantoms.plans_sha256(other) != manifest.listing_sha256


@cache
def scan() -> CaseTruth:
    return make(plans(Phantoms(first_seed=1000, small=1, large=0, opacities=0))[0])


def test_inserted_nodules_are_in_the_image_where_the_truth_says() -> None:
    truth = scan()
    assert truth.nodules is not None
    assert truth.lungs is not None
    sites = [one.groups["site"] for one in truth.nodules]
    assert sites == ["free in the lung"] * 3 + ["at the pleura", "at a vessel"]
    hu, geometry = truth.read_volume()
    for nodule in truth.nodules:
        index = tuple(np.rint(geometry.to_index(nodule.centre_mm)).astype(int))
        assert truth.lungs[index] > 0
        assert hu[index] > -720, "well above the lung's -865 HU"
        assert 4.0 <= nodule.diameter_mm <= 14.5
    again = make(plans(Phantoms(first_seed=1000, small=1, large=0, opacities=0))[0])
    assert again.nodules == truth.nodules
    assert np.array_equal(again.read_volume()[0], hu)


def test_an_opacity_has_its_volume_and_costs_no_mark() -> None:
    truth = make(plans(Phantoms(first_seed=1046, small=0, large=0, opacities=1))[0])
    assert truth.nodules is not None
    ball = truth.nodules[0]
    radius_mm = (ball.diameter_mm - 10.0) / 2
    whole_ml = 4 / 3 * np.pi * radius_mm**3 / 1000
    assert not ball.counts
    assert 0.4 * whole_ml < truth.quantities[OPACITY_VOLUME.name] <= 1.02 * whole_ml


def test_an_abstention_misses_every_nodule_and_measures_nothing() -> None:
    agent = installed_agents(only=("chest_ct",))["chest_ct"].manifest.source
    result = judge(scan(), Abstained(agent=agent, reason_code="chest-ct.no-lungs", reason="No."), 1.0)
    empty = replace(result, patient="other", nodules=(), abstained="", pairs=())
    figures = bench.figures([result, empty], resamples=20, seed=1)
    assert figures.froc is not None
    assert (figures.froc.cpm, figures.froc.nodules, figures.abstained) == (0.0, 5, 1)
    assert figures.scan_level is not None
    assert figures.scan_level.specificity.value == 1.0
    assert {row.not_measured for row in figures.agreement} == {1}


def test_a_quick_run_writes_record_and_report(tmp_path: Path) -> None:
    assess_and_write("chest_ct", [PHANTOMS], images=None, out=tmp_path, quick=True, card=None)
    record = read_record(tmp_path / "chest_ct_assessment.json")
    (dataset,) = record["datasets"]
    (case,) = dataset["cases"]
    assert (record["agent"]["id"], dataset["figures"]["scans"], len(case["nodules"])) == ("chest_ct", 1, 5)
    assert sum(nodule["confidence"] is not None for nodule in case["nodules"]) >= 3
    assert min(mask["dice"] for mask in case["masks"]) > 0.94
    page = (tmp_path / "chest_ct_assessment.html").read_text("utf-8")
    assert "Nodule by nodule" in page
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", ""), "nothing is fetched"
    path = tmp_path / "chest_ct_assessment.json"
    path.write_text(path.read_text("utf-8").replace('"abstained": 0', '"abstained": 1'))
    refused("assessment.record", lambda: read_record(path))


def test_a_quick_run_never_becomes_the_card() -> None:
    call = {"images": None, "out": Path("unused"), "quick": True, "card": ROOT / "docs" / "agents" / "chest_ct.md"}
    refused("assessment.quick-card", lambda: assess_and_write("chest_ct", [PHANTOMS], **call))


def test_the_card_is_what_the_record_says(tmp_path: Path) -> None:
    record = read_record(RECORD)
    text = (ROOT / "docs" / "agents" / "chest_ct.md").read_text("utf-8")
    assert block_of(text) == card_block(record)
    phantoms = next(one for one in record["datasets"] if one["name"] == "chest-ct-phantoms")
    assert phantoms["listing_sha256"] == read_dataset(PHANTOMS).listing_sha256, "made on the split as it is now"
    assert len(tables_of(phantoms)) >= 6
    changed = json.loads(json.dumps(record))
    changed["datasets"][0]["figures"]["froc"]["cpm"] = 0.123
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    write_card(changed, page)
    assert "| CPM | 0.123 (" in page.read_text("utf-8")
    page.write_text("no markers", "utf-8")
    refused("assessment.card", lambda: write_card(record, page))
