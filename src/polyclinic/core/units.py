"""UCUM units that measurements use (https://ucum.org), with the text a reader sees."""

from __future__ import annotations

MILLIMETRE = "mm"
CUBIC_MILLIMETRE = "mm3"
MILLILITRE = "mL"
PERCENT = "%"
HOUNSFIELD = "[hnsf'U]"
NO_UNIT = "1"
DAY = "d"

PRINTED: dict[str, str] = {
    MILLIMETRE: "mm",
    CUBIC_MILLIMETRE: "mm³",
    MILLILITRE: "mL",
    PERCENT: "%",
    HOUNSFIELD: "HU",
    NO_UNIT: "",
    DAY: "d",
}
"""UCUM code -> printed form. A unit that is not listed here may not be used in a Finding."""
