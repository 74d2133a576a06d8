"""Proposes one nodule in the middle of the series, unless the series description says to do worse.

``raise``, ``abstain``, ``outside`` do so always. What ends in ``-once`` (crash, hang, greedy, slow) does so the first
time only, remembered by a file in the folder that QUICK_AGENT_FOLDER names. ``broken`` fails until that folder has a
file ``mended``. Every run is noted in ``runs.txt`` there.
"""

import os
import time
from pathlib import Path

import numpy as np

from polyclinic.agentkit.outcome import Abstained, Assessed, Fact, KeyImage, Mask, MaskLabel
from polyclinic.core import codes
from polyclinic.core.findings import (
    Contour,
    Evidence,
    Finding,
    ImageReference,
    Measurement,
    Region,
    Source,
    SourceKind,
)
from polyclinic.core.ids import stable_id
from polyclinic.dicom.geometry import VolumeGeometry

SOURCE = Source(kind=SourceKind.AGENT, id="quick_agent", version="1.0.0")


def run(case, tools):
    folder = Path(os.environ["QUICK_AGENT_FOLDER"])
    series = case.series[0]
    with (folder / "runs.txt").open("a") as notes:
        notes.write(f"{series.series_instance_uid} {len(series.datasets)}\n")
    _misbehave(series.description, folder)
    if series.description == "abstain":
        return Abstained(agent=SOURCE, reason_code="quick.abstain", reason="This series is not for me")
    for number in range(4):
        tools.progress(f"look {number}", number / 4)
        time.sleep(0.03)
    return _assessed(case, series)


def _misbehave(description, folder):
    name, _, once = description.partition("-")
    if once:
        marker = folder / f"{description}.done"
        if marker.exists():
            return
        marker.touch()
    if name == "crash":
        os.abort()
    if name == "hang":
        time.sleep(3600)
    if name == "slow":
        time.sleep(2.5)
    if name == "greedy":
        taken = np.ones(900_000_000, dtype=np.uint8)
        time.sleep(3600)
        taken.sum()
    if name == "raise" or (name == "broken" and not (folder / "mended").exists()):
        raise ValueError("patient Doe^John must not be seen in a log")


def _assessed(case, series):
    datasets = sorted(series.datasets, key=lambda d: float(d.ImagePositionPatient[2]))
    middle = datasets[len(datasets) // 2]
    images = [
        ImageReference(
            series_instance_uid=series.series_instance_uid,
            sop_class_uid=str(d.SOPClassUID),
            sop_instance_uid=str(d.SOPInstanceUID),
        )
        for d in datasets
    ]
    x, y, z = (float(v) for v in middle.ImagePositionPatient)
    centre = (x + 8.0, y + 8.0, z if series.description != "outside" else z + 999.0)
    image = images[len(datasets) // 2]
    outline = tuple((centre[0] + dx, centre[1] + dy, z) for dx, dy in ((-3, 0), (0, -2), (3, 0), (0, 2)))
    finding_id = stable_id("quick", case.study_instance_uid, series.series_instance_uid)
    finding = Finding(
        id=finding_id,
        study_instance_uid=case.study_instance_uid,
        code=codes.PULMONARY_NODULE,
        source=SOURCE,
        body_site=codes.LEFT_LUNG,
        laterality=codes.LEFT,
        region=Region(
            frame_of_reference_uid=str(middle.FrameOfReferenceUID),
            centre_mm=centre,
            contours=(Contour(image=image, points_mm=outline),),
            mask="nodules",
            segment=1,
        ),
        measurements=(
            Measurement(code=codes.LONG_AXIS, value=6.0, unit="mm", method="test"),
            Measurement(code=codes.SHORT_AXIS, value=4.0, unit="mm", method="test"),
            Measurement(code=codes.MEAN_DIAMETER, value=5.0, unit="mm", method="test"),
            Measurement(code=codes.VOLUME, value=50.0, unit="mm3", method="test"),
        ),
        confidence=0.8,
        evidence=Evidence(images=(image,)),
    )
    voxels = np.zeros((len(datasets), 16, 16), dtype=np.uint8)
    voxels[len(datasets) // 2, 6:10, 6:10] = 1
    mask = Mask(
        id="nodules",
        title="Nodules",
        geometry=VolumeGeometry(
            frame_of_reference_uid=str(middle.FrameOfReferenceUID),
            shape=voxels.shape,
            origin_mm=tuple(float(v) for v in datasets[0].ImagePositionPatient),
            slice_direction=(0.0, 0.0, 1.0),
            row_direction=(0.0, 1.0, 0.0),
            column_direction=(1.0, 0.0, 0.0),
            spacing_mm=(2.0, 1.0, 1.0),
        ),
        voxels=voxels,
        labels=(MaskLabel(number=1, code=codes.PULMONARY_NODULE, title="Nodule 1", finding_id=finding_id),),
        images=tuple(images),
    )
    return Assessed(
        agent=SOURCE,
        series_instance_uid=series.series_instance_uid,
        findings=(finding,),
        masks=(mask,),
        key_images=(KeyImage(image=image, reason="nodule", finding_id=finding_id),),
        facts=(Fact(name="slices", value=str(len(datasets))),),
        normal=(codes.EMPHYSEMA,),
        not_assessed=("mediastinum",),
        seconds=(("look", 0.1),),
    )
