"""Readers of annotated collections: each layout as it is published, and what must be refused."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from polyclinic.agentkit.assessment.annotations import (
    Nodule,
    agreed,
    read_lidc_json,
    read_luna16,
    read_luna16_candidates,
    read_pn9,
)
from polyclinic.agentkit.assessment.lidc_xml import nodules_of, read_lidc_xml
from polyclinic.agentkit.assessment.marks import Mark, match
from polyclinic.agentkit.assessment.metaimage import datasets, read_metaimage
from polyclinic.core.errors import Rejected
from polyclinic.dicom.geometry import VolumeGeometry
from polyclinic.dicom.volume import read_volume

GEOMETRY = VolumeGeometry(
    frame_of_reference_uid="1.2", shape=(40, 64, 64), origin_mm=(-20.0, -10.0, 100.0), slice_direction=(0.0, 0.0, 1.0),
    row_direction=(0.0, 1.0, 0.0), column_direction=(1.0, 0.0, 0.0), spacing_mm=(2.5, 0.5, 0.5),
)  # fmt: skip


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_luna16_lists(tmp_path: Path) -> None:
    head = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
    targets = written(
        tmp_path / "annotations.csv", f"{head}1.2.3,-128.7,-175.3,-298.4,5.65\n1.2.3,103.8,-211.9,-227.1,4.2\n"
    )
    others = written(tmp_path / "annotations_excluded.csv", f"{head}1.2.3,10,20,30,-1\n1.2.4,1,2,3,7.5\n")
    found = read_luna16(targets, others)
    assert found["1.2.3"][0] == Nodule(centre_mm=(-128.7, -175.3, -298.4), diameter_mm=5.65)
    assert [(one.counts, one.diameter_mm) for one in found["1.2.3"]] == [(True, 5.65), (True, 4.2), (False, 10.0)]
    assert not found["1.2.4"][0].counts
    listed = written(
        tmp_path / "candidates.csv", "seriesuid,coordX,coordY,coordZ,class\n1.2.3,68.4,-74.4,-288.7,0\n1.2.3,1,2,3,1\n"
    )
    assert [one.nodule for one in read_luna16_candidates(listed)["1.2.3"]] == [False, True]


@pytest.mark.parametrize(
    "text",
    ["seriesuid,coordX\n1,2\n", "seriesuid,coordX,coordY,coordZ,diameter_mm\n1,nan,2,3,4\n",
     "seriesuid,coordX,coordY,coordZ,diameter_mm\n1,2,3\n", "seriesuid,coordX,coordY,coordZ,diameter_mm\n1,1,2,3,-4\n"],
)  # fmt: skip
def test_broken_lists_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Rejected) as refused:
        read_luna16(written(tmp_path / "a.csv", text))
    assert refused.value.code == "assessment.annotations"


def test_pn9_places_are_voxels_until_the_image_is_known(tmp_path: Path) -> None:
    columns = (
        "pid,nodule_class,xmin,xmax,ymin,ymax,zmin,zmax,nodule_id,center_x,center_y,center_z,diameter,x_size,y_size"
    )
    row = "7,3-10SN,8,12,18,22,2,6,0,10,20,4,6.5,4,4"
    found = read_pn9(written(tmp_path / "anno.csv", f"{columns}\n{row}\n"))["7"][0].placed(GEOMETRY)
    assert found.centre_mm == pytest.approx((-20 + 10 * 0.5, -10 + 20 * 0.5, 100 + 4 * 2.5))
    assert (found.diameter_mm, found.groups["class"]) == (6.5, "3-10SN")


def roi(z_mm: float, points: list[tuple[int, int]], inclusion: str = "TRUE") -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    uid = "<imageSOP_UID>1.2.3.4</imageSOP_UID>"
    return f"<roi><imageZposition>{z_mm}</imageZposition>{uid}<inclusion>{inclusion}</inclusion>{edges}</roi>"


def nodule(*rois: str, texture: int = 5) -> str:
    marks = f"<characteristics><texture>{texture}</texture></characteristics>"
    return f"<unblindedReadNodule><noduleID>n</noduleID>{marks}{''.join(rois)}</unblindedReadNodule>"


def message(*sessions: str) -> str:
    header = "<ResponseHeader><SeriesInstanceUid>1.2.3</SeriesInstanceUid></ResponseHeader>"
    body = "".join(f"<readingSession>{session}</readingSession>" for session in sessions)
    return f'<?xml version="1.0"?><LidcReadMessage xmlns="http://www.nih.gov">{header}{body}</LidcReadMessage>'


def square(column: int, row: int, half: int) -> list[tuple[int, int]]:
    left, right, top, bottom = column - half, column + half, row - half, row + half
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def test_lidc_readers_are_joined_and_counted(tmp_path: Path) -> None:
    first = nodule(roi(110.0, square(20, 30, 8)), roi(112.5, square(20, 30, 4)), texture=1)
    second = nodule(roi(110.0, square(21, 30, 8)), roi(110.0, square(20, 30, 2), "FALSE"))
    small = nodule(roi(150.0, [(50, 50)]))
    path = written(tmp_path / "1.xml", message(first + small, second, small, ""))
    reading = read_lidc_xml(path)
    assert reading.series_instance_uid == "1.2.3"
    assert [len(session) for session in reading.sessions] == [2, 1, 1, 0]
    assert reading.sessions[0][1].is_small
    big, tiny = nodules_of(reading, GEOMETRY, readers=2)
    diagonal_mm = 16 * 2**0.5 * 0.5 - 0.5
    assert big.counts
    assert (big.readers, tiny.readers) == (2, 2)
    assert big.diameter_mm == pytest.approx(diagonal_mm, abs=0.01)
    assert big.centre_mm == pytest.approx((-20 + 20.5 * 0.5, -10 + 30 * 0.5, 110.25), abs=0.01)
    assert not tiny.counts, "a nodule below 3 mm is no target"
    assert not nodules_of(reading, GEOMETRY, readers=3)[0].counts


def test_hostile_xml_is_refused(tmp_path: Path) -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>'
    for text in (bomb, "<a>", "<a/>", message(nodule(roi(1.0, []))), message("").replace("1.2.3", "")):
        with pytest.raises(Rejected) as refused:
            read_lidc_xml(written(tmp_path / "x.xml", text))
        assert refused.value.code == "assessment.annotations"


def test_one_reader_gives_one_drawing_to_a_nodule() -> None:
    at = [Nodule(centre_mm=(float(x), 0.0, 0.0), diameter_mm=10.0) for x in (0, 3, 1)]
    joined = agreed([[at[0], at[1]], [at[2]]], readers=2)
    assert [(one.readers, one.counts) for one in joined] == [(2, True), (1, False)]
    assert joined[0].centre_mm == (0.5, 0.0, 0.0)


def test_lidc_json_skips_other_series(tmp_path: Path) -> None:
    drawn = {"centroid_column_row_z": [20, 40, 120.0], "largest_axial_diameter_mm": 9.0, "attributes": {"texture": 3}}
    text = json.dumps(
        {"p": {"series_instance_uid": "1.2.3", "nodules": [{"readers": 2, "annotations": [drawn, drawn]}]}}
    )
    path = written(tmp_path / "n.json", text)
    found = read_lidc_json(path, {"1.2.3": GEOMETRY}, readers=2)["1.2.3"][0]
    assert found.centre_mm == pytest.approx((-10.0, 10.0, 120.0))
    assert (found.counts, found.groups["kind"]) == (True, "part-solid")
    assert read_lidc_json(path, {"9.9": GEOMETRY}, readers=2) == {}
    with pytest.raises(Rejected):
        read_lidc_json(written(tmp_path / "m.json", '{"p": {}}'), {}, readers=1)


def test_marks_belong_to_the_nearest_nodule_whose_radius_they_lie_in() -> None:
    nodules = [
        Nodule(centre_mm=(0.0, 0.0, 0.0), diameter_mm=10.0),
        Nodule(centre_mm=(8.0, 0.0, 0.0), diameter_mm=10.0),
        Nodule(centre_mm=(50.0, 0.0, 0.0), diameter_mm=6.0, counts=False),
    ]
    places = ((4.5, 0.9), (1.0, 0.8), (2.0, 0.95), (52.0, 0.5), (53.5, 0.4))
    marks = [Mark(centre_mm=(x, 0.0, 0.0), confidence=confidence) for x, confidence in places]
    found = match(nodules, marks)
    assert found.found == {1: 0, 0: 2}, "the second mark on the first nodule is less sure than the third"
    assert (found.ignored, found.false) == ((1, 3), (4,))
    assert found.nearest_mm == (1.0, 3.5, 2.0)
    assert match(nodules, []).nearest_mm[0] == float("inf")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("packed", [False, True])
def test_metaimage_lies_where_it_says(tmp_path: Path, packed: bool) -> None:
    values = np.arange(6 * 5 * 4, dtype="<i2").reshape(6, 5, 4) - 900
    data = zlib.compress(values.tobytes()) if packed else values.tobytes()
    (tmp_path / "scan.zraw").write_bytes(data)
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = {packed}\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -10 -20 -300\n"
        "ElementSpacing = 0.7 0.8 1.25\nDimSize = 4 5 6\nElementType = MET_SHORT\nElementDataFile = scan.zraw\n"
    )
    image = read_metaimage(written(tmp_path / "scan.mhd", header))
    volume = read_volume(list(datasets(image, "p")))
    assert np.array_equal(volume.hu, values)
    assert volume.geometry.to_patient((2, 3, 1)) == pytest.approx((-10 + 0.7, -20 + 3 * 0.8, -300 + 2 * 1.25))
    local = header.replace("scan.zraw", "LOCAL").encode() + data
    (tmp_path / "one.mha").write_bytes(local)
    assert np.array_equal(read_metaimage(tmp_path / "one.mha").hu, values)
    for wrong in (
        header.replace("4 5 6", "4 5 7"),
        header.replace("MET_SHORT", "MET_X"),
        header.replace("0.8", "-1"),
        "",
    ):
        with pytest.raises(Rejected):
            read_metaimage(written(tmp_path / "bad.mhd", wrong))


def test_a_header_may_not_name_files_elsewhere(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(2))
    header = "DimSize = 1 1 1\nElementSpacing = 1 1 1\nElementType = MET_SHORT\nElementDataFile = ../secret.raw\n"
    with pytest.raises(Rejected):
        read_metaimage(written(inner / "a.mhd", header))
