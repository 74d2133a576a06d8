"""Fonts and safe text: anything a header may hold becomes paragraph markup that shows it and nothing more."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

import reportlab.platypus.paragraph as typesetting
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFError, TTFont

from polyclinic.core.errors import Rejected

LATIN, LATIN_BOLD = "Helvetica", "Helvetica-Bold"
_CID_FONT = "STSong-Light"
_MISSING = "\u3013"
"""Geta mark, what typesetters put where a character is not at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lettering:
    """The font for everything that the standard Latin fonts do not hold."""

    east_asian: str
    glyphs: frozenset[int] | None
    """Characters of an embedded font; None for the standard CID font, which holds the Basic Multilingual Plane."""

    def markup(self, text: str, *, bold: bool = False, limit: int = 4000) -> str:
        """Paragraph markup that prints `text` as it is.

        Markup characters are escaped, control characters become spaces, what no font holds becomes a geta mark,
        and text above `limit` characters is cut with an ellipsis.
        """
        shown = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)
        if len(shown) > limit:
            shown = shown[: limit - 1] + "…"
        pieces = []
        for latin, run in groupby(shown, key=_is_latin):
            letters = "".join(run)
            if latin:
                font = LATIN_BOLD if bold else LATIN
            else:
                font = self.east_asian
                missing = _MISSING if self._has(_MISSING) else "?"
                letters = "".join(c if self._has(c) else missing for c in letters)
            pieces.append(f'<font name="{font}">{escape(letters)}</font>')
        return "".join(pieces)

    def _has(self, character: str) -> bool:
        return ord(character) in self.glyphs if self.glyphs is not None else ord(character) <= 0xFFFF


def lettering(font_file: Path | None = None) -> Lettering:
    """The fonts of a report.

    Parameters
    ----------
    font_file
        TrueType font with Chinese characters to embed. None uses the standard CID font STSong-Light, which is
        not embedded: the reader's machine supplies it, as PDF readers in East Asia and poppler with its data do.

    Raises
    ------
    Rejected
        ``report-pdf.font`` when the file is no TrueType font that can be embedded.
    """
    _forbid_punctuation_at_line_start()
    if font_file is None:
        if _CID_FONT not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(UnicodeCIDFont(_CID_FONT))
        return Lettering(east_asian=_CID_FONT, glyphs=None)
    name = f"Polyclinic-{font_file.stem}"
    try:
        font = TTFont(name, str(font_file))
    except (TTFError, OSError) as error:
        raise Rejected(
            "report-pdf.font", "The report font cannot be embedded; give a TrueType file (.ttf or .ttc)"
        ) from error
    pdfmetrics.registerFont(font)
    return Lettering(east_asian=name, glyphs=frozenset(font.face.charToGlyph))


def _forbid_punctuation_at_line_start() -> None:
    """Chinese punctuation hangs in the margin rather than starting a line (GB/T 15834 5.1).

    reportlab knows the Japanese marks only and keeps its table in a module global; adding to it twice adds nothing.
    """
    known = typesetting.ALL_CANNOT_START
    typesetting.ALL_CANNOT_START = known + "".join(mark for mark in "，：；！？％＞" if mark not in known)


def _is_latin(character: str) -> bool:
    try:
        character.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True
