"""The chest X-ray agent on drawn films: what it refuses, what it answers, and that exposure changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from polyclinic.agentkit.case import Case, CaseSeries, SilentTools
from polyclinic.agentkit.outcome import Abstained, Assessed, Outcome
from polyclinic.agentkit.outcome_files import files_of, outcome_from
from polyclinic.core.ids import stable_uid
from polyclinic.departments.reading.checks import check_outcome
from polyclinic_agents.chest_xray import quality
from polyclinic_agents.chest_xray.agent import INPUT, OPACITY_QUESTION, SIDE, _manifest, run
from polyclinic_agents.chest_xray.concepts import OPACITY, TUBERCULOSIS_PATTERN
from polyclinic_agents.chest_xray.crop import prepare, view_box
from polyclinic_agents.chest_xray.fields import WHOLE, Box, find_exposed, find_fields
from polyclinic_agents.chest_xray.heat import find_peak, overlay
from polyclinic_agents.chest_xray.plate import age_years, read_plate


def drawn(rows: int = 400, columns: int = 400) -> npt.NDArray[np.uint16]:
    """A body with two dark fields, a bright middle, air beside it and some grain; 12 bit, dense is bright."""
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    film = 2600.0 - 1200 * ((np.abs(x - 0.5) > 0.46) | (y < 0.04))
    for centre in (0.29, 0.71):
        inside = ((x - centre) / 0.155) ** 2 + ((y - 0.45) / 0.31) ** 2 < 1
        film -= 1500 * cv2.GaussianBlur(inside.astype(np.float64), (0, 0), rows / 80)
    film += 700 * np.exp(-(((x - 0.5) / 0.08) ** 2))
    film += np.random.default_rng(0).normal(0, 30, film.shape)
    return np.clip(film, 0, 4095).astype(np.uint16)


def film(pixels: npt.NDArray[np.uint16] | None = None, **attributes: object) -> Dataset:
    image = drawn() if pixels is None else pixels
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = DigitalXRayImageStorageForPresentation
    made.SOPInstanceUID = stable_uid("xray-test", "instance")
    made.SeriesInstanceUID, made.StudyInstanceUID = stable_uid("xray-test", "s"), stable_uid("xray-test", "st")
    made.Modality, made.BodyPartExamined, made.ViewPosition = "DX", "CHEST", "PA"
    made.PatientOrientation = ["L", "F"]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = image.shape
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.PixelData = image.tobytes()
    made["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is None:
            del made[keyword]
        else:
            setattr(made, keyword, value)
    return made


class Told:
    """A network that answers what it is told and keeps what it saw."""

    def __init__(self, probability: float, hot: tuple[int, int] = (7, 0)) -> None:
        self.probability, self.hot = probability, hot
        self.seen: list[npt.NDArray[np.float32]] = []

    def run(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
        self.seen.append(inputs[INPUT])
        cam = np.zeros((1, 8, 8), dtype=np.float32)
        cam[0][self.hot] = 3.0
        return {"probability": np.array([self.probability], dtype=np.float32), "cam": cam}


def judge(*films: Dataset, opacity: float = 0.9, tuberculosis: float = 0.05) -> Outcome:
    series = CaseSeries(
        series_instance_uid=str(films[0].SeriesInstanceUID),
        modality=str(films[0].Modality),
        description="",
        datasets=films,
    )
    case = Case(study_instance_uid=str(films[0].StudyInstanceUID), revision=1, series=(series,))
    return run(case, SilentTools({"opacity": Told(opacity), "tuberculosis": Told(tuberculosis)}))


def test_a_positive_answer_is_a_finding_that_the_checks_let_through() -> None:
    outcome = judge(film())
    assert isinstance(outcome, Assessed)
    (finding,) = outcome.findings
    assert finding.code.same_as(OPACITY)
    assert finding.confidence == pytest.approx(0.9)
    assert "right lower zone" in finding.limits[0]  # the hot cell is bottom left of the image, the patient's right
    assert any("noisy" in limit for limit in finding.limits)
    assert [code.code for code in outcome.normal] == [TUBERCULOSIS_PATTERN.code]
    assert any("cardiothoracic ratio" in item for item in outcome.not_assessed)
    kept, withheld = check_outcome(
        outcome, manifest=_manifest(), study_instance_uid=finding.study_instance_uid, extents={}
    )
    assert kept == (finding,)
    assert withheld == ()
    files = dict(files_of(outcome))
    assert outcome_from(files.__getitem__).findings == outcome.findings  # type: ignore[union-attr]


def test_a_negative_answer_is_said() -> None:
    outcome = judge(film(), opacity=0.01, tuberculosis=0.01)
    assert isinstance(outcome, Assessed)
    assert outcome.findings == ()
    assert {code.code for code in outcome.normal} == {OPACITY.code, TUBERCULOSIS_PATTERN.code}


def test_the_side_follows_patient_orientation() -> None:
    outcome = judge(film(PatientOrientation=["R", "F"]))
    assert isinstance(outcome, Assessed)
    assert "left lower zone" in outcome.findings[0].limits[0]


def test_small_copies_only_get_the_tuberculosis_score() -> None:
    outcome = judge(film(drawn(128, 128)), tuberculosis=0.99)
    assert isinstance(outcome, Assessed)
    assert [f.code.code for f in outcome.findings] == [TUBERCULOSIS_PATTERN.code]
    assert "too small" in outcome.not_assessed[0]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"Modality": "CT"}, "not-radiograph"),
        ({"BodyPartExamined": "HAND"}, "other-body-part"),
        ({"ViewPosition": "LL"}, "not-frontal"),
        ({"ViewPosition": None, "PatientOrientation": ["A", "F"]}, "not-frontal"),
        ({"PatientOrientation": ["F", "L"]}, "turned"),
        ({"PatientOrientation": ["L", "H"]}, "turned"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "for-processing"),
        ({"PatientAge": "009Y"}, "child"),
        ({"PatientAge": "011M"}, "child"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "inverted"),
        ({"PixelData": b"\0\0"}, "unreadable"),
    ],
)
def test_the_header_or_its_contradiction_makes_it_abstain(changed: dict[str, object], code: str) -> None:
    outcome = judge(film(**changed))
    assert isinstance(outcome, Abstained)
    assert outcome.reason_code == f"chest-xray.{code}"


def _lettered() -> npt.NDArray[np.uint16]:
    letters = np.zeros((400, 400), dtype=np.uint8)
    for line in range(60, 380, 22):
        cv2.putText(letters, "PATIENT NAME 1234 WARD 5", (30, line), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
    return np.where(letters > 0, 4095, drawn()).astype(np.uint16)


def _clipped() -> npt.NDArray[np.uint16]:
    return np.clip(drawn(), 2000, 4095).astype(np.uint16)


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (drawn()[:80, :80], "too-small"),
        (np.full((300, 300), 900, dtype=np.uint16), "no-contrast"),
        (np.random.default_rng(1).integers(0, 4095, (300, 300)).astype(np.uint16), "no-frontal-chest"),
        (np.ascontiguousarray(drawn()[240:]), "no-frontal-chest"),
        (_lettered(), "burned-in-text"),
        (_clipped(), "clipped"),
    ],
)
def test_the_pixels_make_it_abstain(image: npt.NDArray[np.uint16], code: str) -> None:
    outcome = judge(film(image))
    assert isinstance(outcome, Abstained)
    assert outcome.reason_code == f"chest-xray.{code}"


def test_a_study_without_radiographs_is_refused() -> None:
    outcome = run(Case(study_instance_uid="1.2", revision=1, series=()), SilentTools())
    assert isinstance(outcome, Abstained)
    assert outcome.reason_code == "chest-xray.not-radiograph"


def test_the_frontal_film_of_a_pair_is_judged() -> None:
    lateral = film(ViewPosition="LL", SOPInstanceUID="1.2.3")
    frontal = film()
    outcome = judge(lateral, frontal)
    assert isinstance(outcome, Assessed)
    assert outcome.findings[0].evidence.images[0].sop_instance_uid == str(frontal.SOPInstanceUID)


def test_monochrome1_padding_and_rescale_change_nothing() -> None:
    plain = read_plate(film()).image
    turned = read_plate(film((4095 - drawn()).astype(np.uint16), PhotometricInterpretation="MONOCHROME1")).image
    assert np.ptp(turned - plain) == 0
    padded = drawn()
    padded[:, :30] = 4095
    assert read_plate(film(padded, PixelPaddingValue=4095)).image[:, :30].max() < 1500
    scaled = read_plate(film(RescaleSlope="2", RescaleIntercept="-7")).image
    np.testing.assert_allclose(scaled, plain * 2 - 7)


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.1, 10), offset=st.floats(-2000, 2000))
def test_exposure_does_not_change_what_the_network_sees(gain: float, offset: float) -> None:
    image = drawn(160, 160).astype(np.float32)
    box = view_box(find_fields(image).box)
    again = image * np.float32(gain) + np.float32(offset)
    assert view_box(find_fields(again).box) == box
    assert np.abs(prepare(again, box, SIDE) - prepare(image, box, SIDE)).max() < 0.05


@settings(max_examples=20, deadline=None)
@given(top=st.integers(0, 60), bottom=st.integers(0, 60), left=st.integers(0, 60), right=st.integers(0, 60))
def test_black_margins_do_not_move_the_view(top: int, bottom: int, left: int, right: int) -> None:
    image = drawn(200, 200).astype(np.float32)
    box = view_box(find_fields(image).box)
    padded = np.pad(image, ((top, bottom), (left, right)))
    found = view_box(find_fields(padded).box)
    height, width = padded.shape
    assert found.top * height - top == pytest.approx(box.top * 200, abs=14)
    assert found.bottom * height - top == pytest.approx(box.bottom * 200, abs=14)
    assert found.left * width - left == pytest.approx(box.left * 200, abs=14)
    assert found.right * width - left == pytest.approx(box.right * 200, abs=14)


def test_fields_lie_where_they_were_drawn() -> None:
    fields = find_fields(drawn().astype(np.float32))
    assert fields.frontal
    assert fields.reliable
    y, x = np.mgrid[0:1:96j, 0:1:96j]
    for number, centre in ((1, 0.29), (2, 0.71)):
        truth = ((x - centre) / 0.155) ** 2 + ((y - 0.45) / 0.31) ** 2 < 1
        found = fields.labels == number
        assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.85


def test_boxes_nest() -> None:
    outer = Box(top=0.2, bottom=0.6, left=0.5, right=1.0)
    assert Box(top=0.5, bottom=1.0, left=0.0, right=0.5).within(outer) == Box(top=0.4, bottom=0.6, left=0.5, right=0.75)
    assert find_exposed(np.zeros((50, 50), dtype=np.float32)) == WHOLE


def test_the_peak_and_the_overlay_point_at_the_same_place() -> None:
    cam = np.full((5, 5), -1.0, dtype=np.float32)
    cam[0, 4] = 2.0
    view = Box(top=0.1, bottom=0.9, left=0.2, right=0.8)
    peak = find_peak(cam, view)
    assert (peak.zone, peak.image_side) == ("upper", "right")
    assert peak.row == pytest.approx(0.1 + 0.8 * 0.1)
    assert peak.column == pytest.approx(0.2 + 0.6 * 0.9)
    picture = overlay(np.zeros((100, 100), dtype=np.float32), cam, view, side=50).astype(int)
    assert picture[5, 45].sum() > 60
    assert picture[40, 10].sum() == 0


@pytest.mark.parametrize(("text", "years"), [("034Y", 34.0), ("006M", 0.5), ("", None), ("34", None), ("0x4Y", None)])
def test_age_strings(text: str, years: float | None) -> None:
    assert age_years(text) == (None if years is None else pytest.approx(years, abs=0.01))


def test_limits_name_what_is_unsure() -> None:
    plate = read_plate(film(ViewPosition="AP", BurnedInAnnotation="YES"))
    said = " ".join(quality.limits(plate, find_fields(plate.image)))
    assert "AP view" in said
    assert "burned" in said


def test_questions_and_manifest_name_the_same_weights_and_codes() -> None:
    manifest = _manifest()
    assert set(manifest.weights) == {"opacity", "tuberculosis"}
    assert {(o.system, o.code) for o in manifest.outputs} == {
        (c.system, c.code) for c in (OPACITY, TUBERCULOSIS_PATTERN)
    }
    assert 0 < OPACITY_QUESTION.threshold < 1
