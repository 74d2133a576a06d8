"""LUNA16 candidate patches and their split by blocks of candidate rows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

GAP_ROWS = 3000
"""Candidate rows left out on each side of a boundary. A scan has about 620, so neighbours never share a scan."""
FOLDS = 5
TEST_SHARE = 0.125


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patches:
    """Candidates in the order of LUNA16's ``candidates.csv``, in which the rows of one scan follow each other."""

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]
    """Shape (n, 50, 50); 0 is -1000 HU and 255 is 400 HU."""

    def at(self, chosen: npt.NDArray[np.bool_]) -> Patches:
        return Patches(rows=self.rows[chosen], labels=self.labels[chosen], pixels=self.pixels[chosen])


def read_patches(folder: Path) -> Patches:
    """Read ``labels.csv`` (candidate_row, label) and the JPEG named after each row."""
    with (folder / "labels.csv").open(newline="") as file:
        table = sorted((int(row["candidate_row"]), int(row["label"])) for row in csv.DictReader(file))
    pixels = np.stack([_read(folder / f"{row}.jpg") for row, _ in table])
    rows, labels = np.asarray(table).T
    return Patches(rows=rows, labels=labels, pixels=pixels)


def _read(path: Path) -> npt.NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit(f"{path.name} cannot be read; fetch the patches again")
    # A candidate at the border of its scan was cut off; its patch is filled up by repeating the border.
    rows, columns = 50 - image.shape[0], 50 - image.shape[1]
    if rows < 0 or columns < 0:
        raise SystemExit(f"{path.name} is larger than 50 x 50; this is not the patch set")
    padding = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
    return np.pad(image.astype(np.uint8), padding, mode="edge")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Blocks by number of patch: 0 to FOLDS-1 for cross-validation, FOLDS for the test, -1 for the gaps."""

    block: npt.NDArray[np.int64]

    def fold(self, number: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which patches train and which validate in fold `number`."""
        return (self.block >= 0) & (self.block < FOLDS) & (self.block != number), self.block == number

    @property
    def test(self) -> npt.NDArray[np.bool_]:
        return self.block == FOLDS


def split_by_blocks(rows: npt.NDArray[np.int64]) -> Split:
    """Contiguous blocks of about equal counts; the last TEST_SHARE of the rows are the test block."""
    n = len(rows)
    first_test = round(n * (1 - TEST_SHARE))
    edges = [round(first_test * k / FOLDS) for k in range(1, FOLDS)] + [first_test]
    block = np.searchsorted(np.asarray(edges), np.arange(n), side="right")
    for edge in edges:
        boundary = (rows[edge - 1] + rows[edge]) / 2
        block[np.abs(rows - boundary) < GAP_ROWS] = -1
    return Split(block=block)
