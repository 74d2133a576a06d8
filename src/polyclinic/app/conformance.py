"""Conformance statements, written by the tables that drive the services: ``polyclinic conformance``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import orjson

from polyclinic.core.plain import to_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A numbered part of a statement."""

    title: str
    text: tuple[str, ...] = ()
    """Paragraphs."""
    tables: tuple[Table, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A whole conformance statement."""

    title: str
    text: tuple[str, ...]
    sections: tuple[Section, ...]


class Standard(StrEnum):
    """What a statement is about."""

    DICOM = "dicom"
    DICOMWEB = "dicomweb"
    FHIR = "fhir"
    HL7 = "hl7"


class Format(StrEnum):
    MARKDOWN = "md"
    JSON = "json"


def statement(standard: Standard) -> Statement:
    """The statement of this version, from its own tables."""
    return _writers()[standard]()


def rendered(one: Statement, wanted: Format) -> str:
    """A statement as text that ends with a line feed."""
    if wanted is Format.JSON:
        return orjson.dumps(to_plain(one), option=orjson.OPT_INDENT_2).decode() + "\n"
    lines = [f"# {one.title}", "", *_paragraphs(one.text)]
    for number, section in enumerate(one.sections, start=1):
        lines += _section(section, str(number), 2)
    return "\n".join(lines).rstrip("\n") + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of texts."""
    return Table(header=tuple(header), rows=tuple(tuple(row) for row in rows))


def _section(section: Section, number: str, depth: int) -> list[str]:
    lines = [f"{'#' * depth} {number} {section.title}", "", *_paragraphs(section.text)]
    for one in section.tables:
        lines += [_row(one.header), _row(["---"] * len(one.header)), *map(_row, one.rows), ""]
    for place, inner in enumerate(section.sections, start=1):
        lines += _section(inner, f"{number}.{place}", depth + 1)
    return lines


def _paragraphs(text: Sequence[str]) -> list[str]:
    return [line for paragraph in text for line in (paragraph, "")]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _writers() -> dict[Standard, Callable[[], Statement]]:
    from polyclinic.app import conformance_dicom, conformance_web  # noqa: PLC0415 - they are written with this module

    return {
        Standard.DICOM: conformance_dicom.dicom_statement,
        Standard.DICOMWEB: conformance_web.dicomweb_statement,
        Standard.FHIR: conformance_web.fhir_statement,
        Standard.HL7: conformance_web.hl7_statement,
    }
