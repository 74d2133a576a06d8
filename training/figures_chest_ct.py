"""Pictures of docs/agents/chest_ct.md: lungs and marks drawn on the images they were found in.

    python training/figures_chest_ct.py FOLDER_WITH_DATA docs/images

The data folder holds ct/lidc-0063, ct/covid-thin and ct/lidc_nodules.json.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from polyclinic.agentkit.case import SilentTools
from polyclinic.agentkit.outcome import Assessed
from polyclinic.app.dicom_folder import read_folder
from polyclinic.core import codes
from polyclinic.core.units import PRINTED
from polyclinic.dicom.volume import Volume, read_volume
from polyclinic.edges.inference.shelf import ModelShelf
from polyclinic_agents.chest_ct import agent

ROOT = Path(__file__).resolve().parents[1]
READER, RIGHT, LEFT, MARK = (255, 200, 0), (80, 80, 255), (80, 220, 80), (0, 255, 255)


def window(hu: np.ndarray) -> np.ndarray:
    """Lung window (width 1600, centre -550) as an 8-bit colour image."""
    gray = np.clip((hu.astype(np.float32) + 1350) / 1600 * 255, 0, 255).astype(np.uint8)
    return cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)


def lungs_picture(volume: Volume, outcome: Assessed, count: int = 8, edge: int = 160) -> np.ndarray:
    voxels = outcome.masks[0].voxels
    used = np.flatnonzero(voxels.any(axis=(1, 2)))
    tiles = []
    for index in np.linspace(used[0] + 0.06 * len(used), used[-1] - 0.06 * len(used), count).astype(int):
        image = window(volume.hu[index])
        for label, colour in ((1, RIGHT), (2, LEFT)):
            mask = (voxels[index] == label).astype(np.uint8)
            contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(image, contours, -1, colour, 2)
        tiles.append(cv2.resize(image, (edge, edge), interpolation=cv2.INTER_AREA))
    return np.vstack([np.hstack(tiles[: count // 2]), np.hstack(tiles[count // 2 :])])


def nodule_picture(volume: Volume, outcome: Assessed, readers: list[dict]) -> np.ndarray:
    tiles = []
    for finding in (one for one in outcome.findings if one.code.same_as(codes.PULMONARY_NODULE)):
        index, row, column = volume.geometry.to_index(finding.region.centre_mm)
        main = next(c for c in finding.region.contours if c.image == finding.evidence.images[0])
        index = round(float(volume.geometry.to_index(main.points_mm[0])[0]))
        top, left, scale = max(0, int(row) - 24), max(0, int(column) - 24), 3
        patch = volume.hu[index, top : top + 48, left : left + 48]
        image = window(cv2.resize(patch, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC))
        z_mm = volume.geometry.to_patient([index, 0, 0])[2]
        for contour in (
            c for n in readers for a in n["annotations"] for c in a["contours"] if abs(c["z_mm"] - z_mm) < 1
        ):
            points = (np.asarray(contour["column_row"]) - [left, top] + 0.5) * scale
            cv2.polylines(image, [points.astype(np.int32)], True, READER, 1, cv2.LINE_AA)
        points = (volume.geometry.to_index(main.points_mm)[:, [2, 1]] - [left, top] + 0.5) * scale
        cv2.polylines(image, [points.astype(np.int32)], True, MARK, 1, cv2.LINE_AA)
        size = finding.measurement(codes.LONG_AXIS).value, finding.measurement(codes.SHORT_AXIS).value
        text = f"{finding.confidence:.2f}  {size[0]:.1f} x {size[1]:.1f} mm"
        cv2.putText(image, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(image)
    while len(tiles) % 5:
        tiles.append(np.zeros_like(tiles[0]))
    return np.vstack([np.hstack(tiles[at : at + 5]) for at in range(0, len(tiles), 5)])


def organ_picture(volume: Volume, outcome: Assessed, edge: int = 300) -> np.ndarray:
    """Outlines of everything that is no nodule, each on its first image, in a window that shows it."""
    tiles = []
    for finding in outcome.findings:
        if finding.region is None or finding.code.same_as(codes.PULMONARY_NODULE) or not finding.region.contours:
            continue
        first = finding.region.contours[0]
        index = round(float(volume.geometry.to_index(first.points_mm[0])[0]))
        low, width = (-1350, 1600) if finding.code.same_as(codes.LUNG_OPACITY) else (-160, 400)
        if finding.code.same_as(codes.BONE_DENSITY):
            low, width = -350, 1500
        gray = np.clip((volume.hu[index].astype(np.float32) - low) / width * 255, 0, 255).astype(np.uint8)
        image = cv2.resize(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), (edge, edge), interpolation=cv2.INTER_AREA)
        scale = edge / volume.hu.shape[1]
        for contour in (c for c in finding.region.contours if c.image == first.image):
            points = (volume.geometry.to_index(contour.points_mm)[:, [2, 1]] + 0.5) * scale
            cv2.polylines(image, [points.astype(np.int32)], True, MARK, 1, cv2.LINE_AA)
        value = finding.measurements[0]
        text = f"{finding.code.display}: {value.value:g} {PRINTED[value.unit]}"
        cv2.putText(image, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(image)
    while len(tiles) % 4:
        tiles.append(np.zeros_like(tiles[0]))
    return np.vstack([np.hstack(tiles[at : at + 4]) for at in range(0, len(tiles), 4)])


def main(data: Path, images: Path) -> None:
    weights = agent._manifest().weights[agent.NETWORK]
    tools = SilentTools({agent.NETWORK: ModelShelf(ROOT / "models").model(weights)})
    truth = json.loads((data / "ct" / "lidc_nodules.json").read_text())["LIDC-IDRI-0063"]["nodules"]
    for name, readers in (("lidc-0063", truth), ("covid-thin", [])):
        case = read_folder(data / "ct" / name).studies[0].case()
        start = time.perf_counter()
        outcome = agent.run(case, tools)
        print(name, f"{time.perf_counter() - start:.1f} s", type(outcome).__name__)
        assert isinstance(outcome, Assessed)
        volume = read_volume(case.series[0].datasets)
        cv2.imwrite(str(images / f"chest_ct_{name}_lungs.png"), lungs_picture(volume, outcome))
        cv2.imwrite(str(images / f"chest_ct_{name}_nodules.png"), nodule_picture(volume, outcome, readers))
        cv2.imwrite(str(images / f"chest_ct_{name}_organs.png"), organ_picture(volume, outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
