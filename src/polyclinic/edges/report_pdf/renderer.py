"""Report -> PDF: A4, sober, the patient named on every page, the same bytes for the same report."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table

from polyclinic.core.errors import Rejected
from polyclinic.core.people import Patient
from polyclinic.departments.reading.contracts import Report
from polyclinic.edges.report_pdf.labels import LABELS
from polyclinic.edges.report_pdf.lettering import LATIN, LATIN_BOLD, Lettering, lettering

_INK, _QUIET, _RULE, _ALERT = HexColor("#1b1f24"), HexColor("#5b6670"), HexColor("#c3cad1"), HexColor("#9b1c1c")
_MARGIN = 18 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_TOP, _BOTTOM = A4[1] - 14 * mm, 11 * mm
_IMAGE_WIDTH = _WIDTH / 2 - 4 * mm
_NAME_LIMIT = 120
_FRAME_PADDING = 6
"""Points that reportlab keeps free inside its frame."""
_TEXT = ParagraphStyle("text", fontName=LATIN, fontSize=10, leading=14.5, textColor=_INK, splitLongWords=1)
_CJK_TEXT = ParagraphStyle("cjk", parent=_TEXT, wordWrap="CJK")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportImage:
    """A picture for the page, PNG or JPEG, with the line below it."""

    png: bytes
    caption: str


def render_report_pdf(
    report: Report,
    *,
    patient: Patient,
    study_date: date | None,
    accession_number: str,
    description: str,
    institution: str,
    images: Sequence[ReportImage] = (),
    research_notice: bool = True,
    font_file: Path | None = None,
) -> bytes:
    """PDF of `report` in its own language; unsigned reports are marked as drafts on every page.

    Parameters
    ----------
    patient
        Identity as printed; names may hold any characters, nothing in them is taken for markup.
    images
        Key images, two a row.
    research_notice
        Print that this is research software in the footer of every page.
    font_file
        TrueType font for Chinese to embed; see `polyclinic.edges.report_pdf.lettering.lettering`.

    Raises
    ------
    Rejected
        ``report-pdf.image`` when a picture cannot be read, ``report-pdf.font`` when the font cannot be embedded.
    """
    page = _Page(
        report=report,
        patient=patient,
        study_date=study_date,
        accession_number=accession_number,
        description=description,
        institution=institution,
        research_notice=research_notice,
        letters=lettering(font_file),
        labels=LABELS[report.language],
    )
    buffer = BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=_MARGIN - _FRAME_PADDING,
        rightMargin=_MARGIN - _FRAME_PADDING,
        topMargin=26 * mm,
        bottomMargin=20 * mm,
        title="Imaging report",
        author="Polyclinic",
        creator="Polyclinic",
        invariant=1,
        lang=report.language.value,
    )
    story = [*page.patient_block(), *page.sections(), *page.image_block(images), *page.signature_block()]
    document.build(story, canvasmaker=functools.partial(_NumberedCanvas, page=page))
    return buffer.getvalue()


def printed_name(name: str) -> str:
    """DICOM PN as people read it: ``"Wang^XiaoDong=王^小东"`` -> ``"Wang XiaoDong (王 小东)"``."""
    groups = [" ".join(part for part in group.split("^") if part.strip()) for group in name.split("=")]
    shown = [g for g in groups if g]
    return f"{shown[0]} ({', '.join(shown[1:])})" if len(shown) > 1 else "".join(shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    report: Report
    patient: Patient
    study_date: date | None
    accession_number: str
    description: str
    institution: str
    research_notice: bool
    letters: Lettering
    labels: Mapping[str, str]

    def paragraph(self, text: str, *, bold: bool = False, limit: int = 4000, **style: object) -> Paragraph:
        base = _TEXT if text.isascii() else _CJK_TEXT
        return Paragraph(self.letters.markup(text, bold=bold, limit=limit), ParagraphStyle("own", parent=base, **style))

    def patient_block(self) -> list[Flowable]:
        sex = self.labels.get(self.patient.sex, self.patient.sex) if self.patient.sex else ""
        rows = [
            ("patient", printed_name(self.patient.name), "study_date", _iso(self.study_date)),
            ("patient_id", self.patient.patient_id, "accession", self.accession_number),
            ("birth_date", _iso(self.patient.birth_date), "description", self.description),
            ("sex", sex, "revision", str(self.report.revision)),
        ]
        cells = [
            [
                self.paragraph(self.labels[left], fontSize=8, textColor=_QUIET, leading=11),
                self.paragraph(left_value or "-", bold=left == "patient", limit=_NAME_LIMIT, leading=12.5),
                self.paragraph(self.labels[right], fontSize=8, textColor=_QUIET, leading=11),
                self.paragraph(right_value or "-", limit=_NAME_LIMIT, leading=12.5),
            ]
            for left, left_value, right, right_value in rows
        ]
        table = Table(cells, colWidths=[23 * mm, _WIDTH / 2 - 23 * mm, 29 * mm, _WIDTH / 2 - 29 * mm])
        table.setStyle(
            [
                ("LINEABOVE", (0, 0), (-1, 0), 0.6, _RULE),
                ("LINEBELOW", (0, -1), (-1, -1), 0.6, _RULE),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("TOPPADDING", (0, 0), (-1, -1), 2.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ]
        )
        title = self.paragraph(self.labels["title"], bold=True, fontSize=16, leading=21, spaceAfter=6)
        return [title, table, Spacer(1, 4 * mm)]

    def sections(self) -> list[Flowable]:
        flowables: list[Flowable] = []
        for section in self.report.sections:
            strong = section.id == "impression"
            heading = self.paragraph(section.title, bold=True, fontSize=11, spaceBefore=8, spaceAfter=2)
            lines = [self.paragraph(s.text, bold=strong, spaceAfter=2.5) for s in section.sentences]
            # The heading stays with its first line; the rest may flow over the page.
            flowables += [KeepTogether([heading, *lines[:1]]), *lines[1:]]
        return flowables

    def image_block(self, images: Sequence[ReportImage]) -> list[Flowable]:
        if not images:
            return []
        cells = [[_picture(image), self.paragraph(image.caption, fontSize=8, leading=11)] for image in images]
        rows = [
            Table([cells[i : i + 2] + [""] * (2 - len(cells[i : i + 2]))], colWidths=[_WIDTH / 2] * 2)
            for i in range(0, len(cells), 2)
        ]
        for row in rows:
            row.setStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)])
        heading = self.paragraph(self.labels["key_images"], bold=True, fontSize=11, spaceBefore=10, spaceAfter=4)
        return [KeepTogether([heading, rows[0]]), *rows[1:]]

    def signature_block(self) -> list[Flowable]:
        signature = self.report.signature
        if signature is None:
            lines = [self.paragraph(self.labels["draft"], bold=True, textColor=_ALERT)]
            if self.report.undecided:
                lines.append(self.paragraph(self.labels["undecided"].format(count=self.report.undecided)))
        else:
            moment = signature.at.strftime("%Y-%m-%d %H:%M:%S %z").strip()
            name = printed_name(signature.person_name)[:_NAME_LIMIT]
            lines = [
                self.paragraph(self.labels["signed"].format(name=name), bold=True),
                self.paragraph(self.labels["signed_at"].format(time=moment)),
                self.paragraph(self.labels["sha256"].format(sha256=signature.sha256), fontSize=7.5, textColor=_QUIET),
            ]
        return [Spacer(1, 7 * mm), KeepTogether(lines)]

    def draw_frame(self, canvas: Canvas, number: int, count: int) -> None:
        """Header and footer: institution, patient and accession above; notice and page number below."""
        top, bottom = _TOP, _BOTTOM
        name = printed_name(self.patient.name)[:60]
        identity = "  ·  ".join(part[:60] for part in (name, self.patient.patient_id, self.accession_number) if part)
        self._line(canvas, self.institution[:80], _MARGIN, top, right=False)
        self._line(canvas, identity, A4[0] - _MARGIN, top, right=True)
        canvas.setStrokeColor(_RULE)
        canvas.setLineWidth(0.6)
        canvas.line(_MARGIN, top - 3 * mm, A4[0] - _MARGIN, top - 3 * mm)
        canvas.line(_MARGIN, bottom + 4.5 * mm, A4[0] - _MARGIN, bottom + 4.5 * mm)
        notice = self.labels["research"] if self.research_notice else ""
        if self.report.signature is None:
            self._watermark(canvas)
        self._line(canvas, notice, _MARGIN, bottom, right=False)
        self._line(canvas, self.labels["page"].format(page=number, pages=count), A4[0] - _MARGIN, bottom, right=True)

    def _watermark(self, canvas: Canvas) -> None:
        canvas.saveState()
        canvas.translate(A4[0] / 2, A4[1] / 2)
        canvas.rotate(55)
        canvas.setFillColor(_ALERT)
        canvas.setFillAlpha(0.09)
        text = self.labels["draft"]
        canvas.setFont(LATIN_BOLD if text.isascii() else self.letters.east_asian, 54)
        canvas.drawCentredString(0, -18, text)
        canvas.restoreState()

    def _line(self, canvas: Canvas, text: str, x: float, y: float, *, right: bool) -> None:
        style = ParagraphStyle(
            "frame", parent=_TEXT, fontSize=8, leading=10, textColor=_QUIET, alignment=2 if right else 0
        )
        paragraph = Paragraph(self.letters.markup(text or " ", limit=150), style)
        width = _WIDTH * 0.62 if right else _WIDTH * 0.36
        if not right and y < A4[1] / 2:
            width = _WIDTH * 0.75
        _, height = paragraph.wrap(width, 60)
        paragraph.drawOn(canvas, x - width if right else x, y - height + 10)


class _NumberedCanvas(Canvas):  # type: ignore[misc]  # reportlab carries no types
    """Canvas that draws the frames when the number of pages is known."""

    def __init__(self, *args: object, page: _Page, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._page = page
        self._states: list[dict[str, object]] = []

    def showPage(self) -> None:  # noqa: N802 - reportlab's name
        """Keep the page for later instead of writing it."""
        self._states.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Write every page with its frame."""
        for number, state in enumerate(self._states, start=1):
            self.__dict__.update(state)
            self._page.draw_frame(self, number, len(self._states))
            super().showPage()
        super().save()


def _picture(image: ReportImage) -> Image:
    try:
        width, height = ImageReader(BytesIO(image.png)).getSize()
    except (OSError, ValueError, SyntaxError) as error:
        raise Rejected("report-pdf.image", "A key image is no readable PNG or JPEG file") from error
    scale = min(_IMAGE_WIDTH / width, 64 * mm / height)
    picture = Image(BytesIO(image.png), width=width * scale, height=height * scale)
    picture.hAlign = "LEFT"
    return picture


def _iso(day: date | None) -> str:
    return day.isoformat() if day else ""
