"""Frontal chest radiograph of an adult: pneumonia-type opacity and a tuberculosis screening score, or an abstention."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from pydicom.dataset import Dataset

from polyclinic.agentkit.case import Case, CaseSeries, Model, Tools
from polyclinic.agentkit.manifest import Manifest, read_manifest
from polyclinic.agentkit.outcome import Abstained, Assessed, Fact, KeyImage, Outcome
from polyclinic.core.codes import Code
from polyclinic.core.findings import Evidence, Finding
from polyclinic.core.ids import stable_id
from polyclinic_agents.chest_xray import quality
from polyclinic_agents.chest_xray.concepts import CHEST, OPACITY, TUBERCULOSIS_PATTERN
from polyclinic_agents.chest_xray.crop import coarse, prepare, view_box
from polyclinic_agents.chest_xray.fields import Box, Fields, GreyArray, find_fields
from polyclinic_agents.chest_xray.heat import Peak, find_peak
from polyclinic_agents.chest_xray.plate import MODALITIES, Plate, Unsuitable, check_header, read_plate

SIDE = 256
"""Side of the networks' input."""
SHARP_SIDE = 256
"""Shortest image side from which opacity is judged; smaller copies only get the tuberculosis score."""
INPUT, PROBABILITY, CAM = "image", "probability", "cam"
MAX_IMAGES = 8
NOT_ASSESSED = (
    "cardiothoracic ratio and heart size",
    "nodules and masses",
    "pneumothorax",
    "pleural effusion",
    "mediastinum and hila",
    "bones",
    "tubes, lines and devices",
    "COVID-19 (the data at hand cannot support it)",
    "comparison with priors",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing a network is asked. Thresholds come from cross-validation, see the card."""

    weights: str
    code: Code
    threshold: float
    limits: tuple[str, ...]


OPACITY_QUESTION = Question(
    weights="opacity",
    code=OPACITY,
    threshold=0.509,
    limits=(
        "Research stage; the score is no diagnosis of pneumonia.",
        "At this threshold sensitivity was 0.70 and specificity 0.68 on the test films that it judged.",
        "Learned from JPEG copies with text-mined, noisy labels of one hospital.",
        "Atelectasis, oedema, effusion and scars look alike to it.",
    ),
)
TUBERCULOSIS_QUESTION = Question(
    weights="tuberculosis",
    code=TUBERCULOSIS_PATTERN,
    threshold=0.295,
    limits=(
        "Research score, learned from 662 copies of 96 x 96 pixels of one hospital; not for diagnosis.",
        "At this threshold sensitivity was 0.90 and specificity 0.56 in cross-validation; no other site was tested.",
        "Image borders alone told its training films apart as well, so the score is no evidence of tuberculosis.",
        "Its threshold must be set again on the site's own labelled films.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a network says of one film."""

    question: Question
    probability: float
    peak: Peak

    @property
    def positive(self) -> bool:
        """Whether a Finding is proposed."""
        return self.probability >= self.question.threshold

    @property
    def score(self) -> str:
        """The probability beside the threshold, as a reader needs it; the report says the same words."""
        stage = _manifest().stage
        return f"{self.probability:.3f} (marked from {self.question.threshold:.3f}, {stage} stage)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """What a network sees and which part of the image that is."""

    pixels: GreyArray
    """Shape (SIDE, SIDE), 0..1."""
    box: Box


def opacity_view(image: GreyArray, fields: Fields) -> View:
    """Input of the opacity network."""
    box = view_box(fields.box)
    return View(pixels=prepare(image, box, SIDE), box=box)


def tuberculosis_view(image: GreyArray) -> View:
    """Input of the tuberculosis network: by way of the same small copy that it was trained on."""
    small = coarse(image)
    box = view_box(find_fields(small).box)
    return View(pixels=prepare(small, box, SIDE), box=box)


def ask(model: Model, view: View) -> tuple[float, GreyArray]:
    """Calibrated probability and class activation map (h, w) of one view."""
    answer = model.run({INPUT: np.ascontiguousarray(view.pixels[None, None])})
    return float(answer[PROBABILITY][0]), answer[CAM][0]


def run(case: Case, tools: Tools) -> Outcome:
    """Judge the first frontal film of the study; PA before AP.

    Returns
    -------
    Assessed
        One Finding for each question answered with yes.
    Abstained
        When no image is a readable frontal chest radiograph of an adult; the reason is that of the first image.

    Raises
    ------
    polyclinic.core.errors.Unavailable
        ``inference.model-missing`` when weights are not installed.
    """
    manifest = _manifest()
    tools.progress("choose image", 0.0)
    refused: Abstained | None = None
    for series, dataset in _candidates(case):
        outcome = _Run(case, series, tools, manifest).outcome(dataset)
        if isinstance(outcome, Assessed):
            return outcome
        refused = refused or outcome
    return refused or Abstained(
        agent=manifest.source,
        reason_code="chest-xray.not-radiograph",
        reason="The study holds no CR or DX radiograph.",
    )


@cache
def _manifest() -> Manifest:
    return read_manifest(resources.files("polyclinic_agents.chest_xray"))


def _candidates(case: Case) -> list[tuple[CaseSeries, Dataset]]:
    """Radiographs of the study, PA first, then AP, then the rest, each in the order of the snapshot."""
    order = {"PA": 0, "AP": 1}
    found = [(s, d) for s in case.series if s.modality.upper() in MODALITIES for d in s.datasets]
    found.sort(key=lambda pair: order.get(str(pair[1].get("ViewPosition", "") or "").upper(), 2))
    return found[:MAX_IMAGES]


class _Run:
    """One image through all steps, with the time that each takes."""

    def __init__(self, case: Case, series: CaseSeries, tools: Tools, manifest: Manifest) -> None:
        self._case = case
        self._series_uid = series.series_instance_uid
        self._tools = tools
        self._manifest = manifest
        self._seconds: list[tuple[str, float]] = []

    def outcome(self, dataset: Dataset) -> Outcome:
        try:
            with self._step("read image", 0.05):
                check_header(dataset)
                plate = read_plate(dataset)
            with self._step("find lung fields", 0.3):
                fields = quality.check_pixels(plate)
        except Unsuitable as unsuitable:
            return Abstained(
                agent=self._manifest.source,
                reason_code=unsuitable.reason_code,
                reason=unsuitable.reason,
                series_instance_uid=self._series_uid,
            )
        return self._assessed(plate, fields)

    def _assessed(self, plate: Plate, fields: Fields) -> Assessed:
        sharp = min(plate.image.shape) >= SHARP_SIDE
        answers = []
        if sharp:
            with self._step("judge opacity", 0.5):
                answers.append(self._answer(OPACITY_QUESTION, opacity_view(plate.image, fields)))
        with self._step("judge tuberculosis", 0.75):
            answers.append(self._answer(TUBERCULOSIS_QUESTION, tuberculosis_view(plate.image)))
        limits = quality.limits(plate, fields)
        findings = tuple(self._finding(plate, answer, limits) for answer in answers if answer.positive)
        self._tools.progress("done", 1.0)
        return Assessed(
            agent=self._manifest.source,
            series_instance_uid=self._series_uid,
            findings=findings,
            key_images=tuple(KeyImage(image=plate.reference, reason=f.code.display, finding_id=f.id) for f in findings),
            facts=_facts(plate, fields, answers),
            normal=tuple(answer.question.code for answer in answers if not answer.positive),
            not_assessed=NOT_ASSESSED if sharp else (f"{OPACITY.display} (the image is too small)", *NOT_ASSESSED),
            seconds=tuple(self._seconds),
        )

    def _answer(self, question: Question, view: View) -> Answer:
        probability, cam = ask(self._tools.model(question.weights), view)
        return Answer(question=question, probability=probability, peak=find_peak(cam, view.box))

    def _finding(self, plate: Plate, answer: Answer, limits: tuple[str, ...]) -> Finding:
        # No Region: a projection has no place in patient space, and a point in the image plane with an invented
        # frame of reference would be withheld by the geometry check, rightly. The image itself is the evidence.
        # The site is the chest: "lung" without a side would be reported as both lungs, which the network does not say.
        code = answer.question.code
        return Finding(
            id=stable_id("finding", self._manifest.id, plate.reference.sop_instance_uid, code.code),
            study_instance_uid=self._case.study_instance_uid,
            code=code,
            source=self._manifest.source,
            body_site=CHEST,
            confidence=min(max(answer.probability, 0.0), 1.0),
            limits=(_place(plate, answer.peak), *answer.question.limits, *limits),
            evidence=Evidence(images=(plate.reference,)),
        )

    @contextmanager
    def _step(self, name: str, fraction: float) -> Iterator[None]:
        self._tools.progress(name, fraction)
        start = time.perf_counter()
        yield
        self._seconds.append((name, round(time.perf_counter() - start, 3)))


def _place(plate: Plate, peak: Peak) -> str:
    right = (peak.image_side == "left") == plate.right_is_left
    side = "right" if right else "left"
    return f"The network looked most at the {side} {peak.zone} zone; this is a coarse hint, not an outline."


def _facts(plate: Plate, fields: Fields, answers: list[Answer]) -> tuple[Fact, ...]:
    rows, columns = plate.image.shape
    said = [
        ("radiograph", plate.modality),
        ("view", plate.view or "not stated"),
        ("image size", f"{rows} x {columns}"),
        ("lung fields", "found" if fields.reliable else "not sure"),
    ]
    for answer in answers:
        said.append((answer.question.code.display, answer.score))
        place = f"row {answer.peak.row * rows:.0f}, column {answer.peak.column * columns:.0f}"
        said.append((f"heat map maximum, {answer.question.weights}", place))
    return tuple(Fact(name=name, value=value) for name, value in said)
