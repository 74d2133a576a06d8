"""What all nodule guidelines share: attenuation kind, size by diameter or by volume, bands, rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.errors import Rejected


class NoduleKind(StrEnum):
    SOLID = "solid"
    PART_SOLID = "part-solid"
    GROUND_GLASS = "ground-glass"


_KIND_OF_CODE = (
    (codes.SOLID, NoduleKind.SOLID),
    (codes.PART_SOLID, NoduleKind.PART_SOLID),
    (codes.GROUND_GLASS, NoduleKind.GROUND_GLASS),
)


def kind_of(code: Code) -> NoduleKind | None:
    """The kind that a coded nodule attenuation means; None for codes no guideline classifies, e.g. calcified."""
    return next((kind for known, kind in _KIND_OF_CODE if known.same_as(code)), None)


def invalid(what: str) -> Rejected:
    """The error for an input that no guideline can judge."""
    return Rejected("guideline.input", what)


def round_half_up(value: float, step: str) -> float:
    """`value` to the nearest multiple of a power of ten, halves away from zero as people round.

    Parameters
    ----------
    value
        Finite number. Its shortest decimal form is rounded: 6.65 becomes 6.7 although the binary number is less.
    step
        ``"1"``, ``"0.1"`` and so on.
    """
    return float(Decimal(repr(value)).quantize(Decimal(step), rounding=ROUND_HALF_UP))


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """One border of a size class: a mean diameter and the volume that the guideline prints beside it."""

    mm: float
    mm3: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A size by mean diameter or by volume; exactly one of them, so that two measurements never disagree.

    Raises
    ------
    Rejected
        ``guideline.input`` when none or both are given, or the number is negative or not finite.
    """

    diameter_mm: float | None = None
    volume_mm3: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.diameter_mm, self.volume_mm3) if value is not None]
        if len(given) != 1:
            raise invalid("Give a size either by mean diameter or by volume, not both and not neither.")
        if not (math.isfinite(given[0]) and given[0] >= 0):
            raise invalid("A size must be a finite number and not negative.")

    @classmethod
    def measured(cls, *, diameter_mm: float | None, volume_mm3: float | None) -> Size:
        """A size as it was measured: above zero, which a rounded size need not be."""
        if 0 in (diameter_mm, volume_mm3):
            raise invalid("A measured size must be above zero.")
        return cls(diameter_mm=diameter_mm, volume_mm3=volume_mm3)

    def rounded(self, *, mm: str, mm3: str | None) -> Size:
        """The size as the guideline reports it; a volume stays as it is when `mm3` is None."""
        if self.diameter_mm is not None:
            return Size(diameter_mm=round_half_up(self.diameter_mm, mm))
        if mm3 is None or self.volume_mm3 is None:
            return self
        return Size(volume_mm3=round_half_up(self.volume_mm3, mm3))

    def compared_with(self, border: Threshold) -> float:
        """Negative below the border, zero on it, positive above it."""
        if self.diameter_mm is not None:
            return self.diameter_mm - border.mm
        assert self.volume_mm3 is not None
        return self.volume_mm3 - border.mm3


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Sizes between two borders; a missing border means no limit on that side."""

    low: Threshold | None = None
    high: Threshold | None = None
    low_belongs: bool = True
    high_belongs: bool = False

    def contains(self, size: Size) -> bool:
        """Whether the size lies in the band."""
        if self.low is not None:
            above = size.compared_with(self.low)
            if above < 0 or (above == 0 and not self.low_belongs):
                return False
        if self.high is not None:
            above = size.compared_with(self.high)
            if above > 0 or (above == 0 and not self.high_belongs):
                return False
        return True

    def __str__(self) -> str:
        parts = []
        if self.low is not None:
            sign = "≥" if self.low_belongs else ">"
            parts.append(f"{sign} {self.low.mm:g} mm ({sign} {self.low.mm3:g} mm³)")
        if self.high is not None:
            sign = "≤" if self.high_belongs else "<"
            parts.append(f"{sign} {self.high.mm:g} mm ({sign} {self.high.mm3:g} mm³)")
        return " and ".join(parts) or "any size"


ANY_SIZE = Band()
