"""The printed report: complete, marked, safe against hostile text, and the same bytes every time."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
import reportlab
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from polyclinic.core.errors import Rejected
from polyclinic.core.people import Patient
from polyclinic.departments.reading.contracts import Language, Report, Section, Sentence, Signature
from polyclinic.edges.report_pdf import ReportImage, key_image_png, render_report_pdf
from polyclinic.edges.report_pdf.labels import LABELS
from polyclinic.edges.report_pdf.lettering import lettering
from polyclinic.edges.report_pdf.renderer import printed_name

PATIENT = Patient(patient_id="P-1", name="Wang^XiaoDong=王^小东", birth_date=date(1960, 1, 2), sex="M", issuer="SITE")
SIGNATURE = Signature(
    person_id="p", person_name="Li^Min", at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), sha256="ab" * 32
)
PIXELS = np.full((40, 60), -800, np.int16)


def report(language: Language = Language.ENGLISH, text: str = "Right lung: solid nodule.", lines: int = 1) -> Report:
    return Report(
        study_instance_uid="2.25.9",
        revision=3,
        language=language,
        sections=(Section(id="findings", title="Findings", sentences=(Sentence(text=text),) * lines),),
        undecided=2,
    )


def render(made: Report, patient: Patient = PATIENT, **changes: object) -> bytes:
    details = {
        "study_date": date(2026, 1, 1),
        "accession_number": "ACC-1",
        "description": "CT chest",
        "institution": "Demo hospital",
        **changes,
    }
    return render_report_pdf(made, patient=patient, **details)


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)


def test_page_holds_identity_text_and_draft_mark() -> None:
    text = text_of(render(report()))
    for expected in (
        "Imaging report", "Wang XiaoDong (王 小东)", "P-1", "1960-01-02", "male", "2026-01-01", "ACC-1", "CT chest",
        "Demo hospital", "Right lung: solid nodule.", "DRAFT - not signed", "Findings that await review: 2.",
        "Research software, not a medical device.", "Page 1 of 1",
    ):  # fmt: skip
        assert expected in text, expected


def test_signed_report_names_who_when_and_what() -> None:
    text = text_of(render(replace(report(), signature=SIGNATURE, undecided=0)))
    assert "Signed by Li Min" in text
    assert "2026-01-02 03:04:05 +0000" in text
    assert "ab" * 32 in text
    assert "DRAFT" not in text


def test_every_page_names_the_patient_and_its_number() -> None:
    pages = PdfReader(io.BytesIO(render(report(lines=120)))).pages
    assert len(pages) > 2
    for number, page in enumerate(pages, start=1):
        text = page.extract_text()
        assert "Wang XiaoDong" in text
        assert "ACC-1" in text
        assert f"Page {number} of {len(pages)}" in text
        assert "DRAFT - not signed" in text


def test_chinese_page_is_chinese() -> None:
    text = text_of(render(report(Language.CHINESE, "右肺：实性结节1，大小约8.1 × 6.5 mm。")))
    for expected in (
        "影像检查报告",
        "右肺：实性结节1，大小约8.1 × 6.5 mm。",
        "草稿 - 未签名",
        "研究用软件，非医疗器械。",
    ):
        assert expected in text


def test_no_chinese_line_starts_with_punctuation() -> None:
    for width in range(30, 70):
        made = report(Language.CHINESE, "肺" * width + "大小约8.1 mm，位于右肺；" * 3)
        lines = [line.strip() for line in text_of(render(made)).splitlines()]
        assert not [line for line in lines if line[:1] and line[0] in "，；。"], width


HOSTILE = [
    "<b>bold</b>",
    "<img src='http://example.org/x.png'/>",
    "&lt;script&gt; & <font color=red>",
    "</para><para>",
    "line\nbreak\x00\x07\x1b\u202e\u2028end",
    "W" * 5000,
    "王" * 3000,
    "\U00020bb7\U0001f600",
    "\ud800 lone surrogate",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_strings_are_printed_never_obeyed(hostile: str) -> None:
    patient = replace(PATIENT, name=hostile, patient_id=hostile[:64], sex=hostile[:3])
    pdf = render(report(text=hostile), patient, accession_number=hostile, description=hostile, institution=hostile)
    reader = PdfReader(io.BytesIO(pdf))
    assert len(reader.pages) < 12
    if hostile.startswith("<b>"):
        assert "<b>bold</b>" in text_of(pdf)
    assert not any(page.get("/Annots") for page in reader.pages), "no links, no actions"


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=60))
def test_any_text_can_be_a_name(name: str) -> None:
    assert render(report(text=name), replace(PATIENT, name=name)).startswith(b"%PDF-")


def test_equal_reports_give_equal_bytes() -> None:
    images = [ReportImage(png=key_image_png(PIXELS), caption="one")]
    assert render(report(), images=images) == render(report(), images=images)


def test_key_images_are_placed_and_bad_ones_refused() -> None:
    images = [ReportImage(png=key_image_png(PIXELS + 100 * n), caption=f"Image {n} 图像") for n in range(3)]
    pdf = render(report(), images=images)
    assert sum(len(page.images) for page in PdfReader(io.BytesIO(pdf)).pages) == 3
    assert "Image 2 图像" in text_of(pdf)
    with pytest.raises(Rejected, match=r"report-pdf\.image"):
        render(report(), images=[ReportImage(png=b"no picture", caption="")])


def test_a_truetype_font_is_embedded_and_other_files_are_refused(tmp_path: Path) -> None:
    font = Path(reportlab.__file__).parent / "fonts" / "Vera.ttf"
    pdf = render(report(text="Ωmega 王"), font_file=font)
    assert b"/FontFile2" in pdf
    assert "Ωmega ?" in text_of(pdf), "Vera has an Omega and neither this character nor a geta mark"
    wrong = tmp_path / "font.ttf"
    wrong.write_bytes(b"not a font")
    with pytest.raises(Rejected, match=r"report-pdf\.font"):
        lettering(wrong)


def test_names_are_printed_as_people_read_them() -> None:
    assert printed_name("Wang^XiaoDong=王^小东") == "Wang XiaoDong (王 小东)"
    assert printed_name("Doe^Jane^^Dr") == "Doe Jane Dr"
    assert printed_name("=王^小东") == "王 小东"
    assert printed_name("") == ""


def test_both_languages_label_the_same_things() -> None:
    assert len({frozenset(labels) for labels in LABELS.values()}) == 1
    assert LABELS.keys() == set(Language)


def decode(png: bytes) -> np.ndarray:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def test_key_image_windows_and_outlines_where_asked() -> None:
    plane = np.full((64, 64), -1000, np.int16)
    plane[20:40, 24:44] = 100
    outline = [(23.5, 19.5), (43.5, 19.5), (43.5, 39.5), (23.5, 39.5)]
    picture = decode(key_image_png(plane, [outline], window_centre_hu=-600, window_width_hu=1500, longest_side_px=512))
    assert picture.shape == (512, 512, 3)
    grey = picture.max(axis=2) - picture.min(axis=2)
    rows, columns = np.nonzero(grey > 60)
    # Eight picture pixels a voxel: the outline runs along the edge of the bright square, at voxel edge 20 * 8.
    assert abs(rows.min() - 160) <= 3
    assert abs(rows.max() - 320) <= 3
    assert abs(columns.min() - 192) <= 3
    assert abs(columns.max() - 352) <= 3
    assert picture[240, 272].tolist() == [246, 246, 246]
    assert picture[20, 20].tolist() == [59, 59, 59]


def test_key_image_crop_moves_the_outline_with_it() -> None:
    plane = np.full((64, 64), -1000, np.int16)
    picture = decode(key_image_png(plane, [[(30, 30), (34, 30), (32, 34)]], crop=(24, 40, -5, 400)))
    height, width = struct.unpack(">II", key_image_png(plane, crop=(24, 40, -5, 400))[16:24])[::-1]
    assert (height, width) == (128, 512)
    coloured = np.nonzero((picture.max(axis=2) - picture.min(axis=2)) > 60)
    assert abs(coloured[0].mean() / 8 + 24 - 31.5) < 1.5
    assert abs(coloured[1].mean() / 8 - 32) < 1.5


def test_key_image_refuses_what_it_cannot_draw() -> None:
    for bad in (
        {"crop": (50, 40, 0, 10)},
        {"crop": (100, 120, 0, 10)},
        {"window_width_hu": 0.0},
    ):
        with pytest.raises(Rejected, match=r"report-pdf\.key-image"):
            key_image_png(PIXELS, **bad)
