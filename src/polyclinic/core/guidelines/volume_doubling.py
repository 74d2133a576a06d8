"""Volume doubling time of a nodule, by exponential growth between two measurements (Schwartz 1961)."""

from __future__ import annotations

import math

from polyclinic.core.guidelines.nodule import invalid
from polyclinic.core.guidelines.source import Checked, Provenance, Source

ID = "volume-doubling-time"
SOURCE = Source(citation="Schwartz M, Cancer 1961;14:1272-1294", place="exponential growth")


def volume_doubling_days(*, first_mm3: float, second_mm3: float, interval_days: float) -> float:
    """Days in which the volume doubles at the rate seen between two exams.

    Parameters
    ----------
    first_mm3, second_mm3
        Volumes on the earlier and the later exam, in mm³, above zero.
    interval_days
        Days between them, above zero.

    Returns
    -------
    float
        Positive when growing; infinite when unchanged; negative when shrinking, its size then being the halving time.

    Raises
    ------
    Rejected
        ``guideline.input`` when a number is not finite and above zero.
    """
    if not all(math.isfinite(value) and value > 0 for value in (first_mm3, second_mm3, interval_days)):
        raise invalid("Volumes and interval are finite numbers above zero.")
    growth = math.log(second_mm3) - math.log(first_mm3)
    return interval_days * math.log(2) / growth if growth else math.inf


def volume_doubling_days_by_diameter(*, first_mm: float, second_mm: float, interval_days: float) -> float:
    """The same for a nodule taken as a sphere, from its mean diameters in mm: volume grows with the cube."""
    if not all(math.isfinite(value) and value > 0 for value in (first_mm, second_mm)):
        raise invalid("Diameters are finite numbers above zero.")
    by_volume = volume_doubling_days(first_mm3=first_mm, second_mm3=second_mm, interval_days=interval_days)
    return by_volume / 3


PROVENANCE = Provenance(
    title="Volume doubling time",
    citation="Schwartz M. A biomathematical approach to clinical tumor growth. Cancer 1961;14:1272-1294.",
    checked=(
        Checked(
            what="formula: interval x ln 2 / ln(second volume / first volume)",
            against=(
                "“How to calculate the doubling time of a solitary pulmonary nodule?” (Hong Kong Respiratory "
                "Medicine, 2006) and “Lung Nodule Growth Rate and Doubling Time Calculator” (onlycalculators.com), "
                "which calls it modified Schwartz"
            ),
        ),
        Checked(
            what="worked example: 113.1 to 268.1 mm³ (6 to 8 mm) in 90 days is 72 days",
            against="the same calculator page (tested)",
        ),
        Checked(what="the article by Schwartz", against="**not read**: no copy was at hand"),
    ),
    readings=("A shrinking nodule gives a negative time, an unchanged one an infinite time.",),
    left_out=(
        "Classes by doubling time (such as 400 and 600 days) and 25 % volume change: guidelines of the BTS and "
        "NELSON, whose primary text was not read.",
    ),
)
