"""The rows of ACR Lung-RADS v2022: which lesion, in which situation, of which size, is which category."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from polyclinic.core.guidelines.nodule import ANY_SIZE, Band, NoduleKind, Threshold
from polyclinic.core.guidelines.source import Checked, Provenance, Source

CITATION = "ACR Lung-RADS v2022 (American College of Radiology, November 2022)"


class Category(StrEnum):
    INCOMPLETE = "0"
    NEGATIVE = "1"
    BENIGN = "2"
    PROBABLY_BENIGN = "3"
    SUSPICIOUS = "4A"
    VERY_SUSPICIOUS = "4B"
    SUSPICIOUS_FEATURES = "4X"

    @property
    def rank(self) -> int:
        """Order of suspicion, for the rule that the most suspicious lesion decides the exam; 0 stands outside it."""
        return list(Category).index(self)


class Situation(StrEnum):
    """What is known of a nodule's past, as far as the table tells cases apart."""

    BASELINE = "baseline"
    NEW = "new"
    GROWING = "growing"
    SLOWLY_GROWING = "slowly growing"
    ENLARGED = "larger without growth by definition"
    STABLE = "stable or decreased, no earlier category"
    FOLLOWED = "stable or decreased, earlier category known"
    COMPONENT = "solid component new or growing"


class BenignFeature(StrEnum):
    COMPLETE_CALCIFICATION = "complete calcification"
    CENTRAL_CALCIFICATION = "central calcification"
    POPCORN_CALCIFICATION = "popcorn calcification"
    CONCENTRIC_CALCIFICATION = "concentric-ring calcification"
    FAT = "fat"


class AirwayLevel(StrEnum):
    SUBSEGMENTAL = "subsegmental"
    SEGMENTAL_OR_MORE_PROXIMAL = "segmental or more proximal"


class AirwayChange(StrEnum):
    BASELINE = "baseline"
    NEW = "new"
    STABLE = "stable"
    GROWING = "growing"


class CystFinding(StrEnum):
    THIN_WALLED = "unilocular, thin uniform wall (< 2 mm)"
    THICK_WALLED_GROWING_CYST = "thick wall, cystic component growing"
    THICK_WALLED = "thick wall"
    MULTILOCULAR_BASELINE = "multilocular at baseline"
    BECAME_MULTILOCULAR = "became multilocular"
    THICK_WALLED_GROWING_WALL = "thick wall growing in thickness or nodularity"
    MULTILOCULAR_GROWING = "multilocular and growing"
    MULTILOCULAR_DENSER = "multilocular with more loculation or new or increased opacity"


class Incomplete(StrEnum):
    """Why an exam has no final category yet."""

    PRIOR_BEING_LOCATED = "earlier chest CT is being located"
    NOT_EVALUABLE = "part or all of the lungs cannot be evaluated"
    INFLAMMATORY_OR_INFECTIOUS = "findings suggest inflammation or infection"


def _table(category: str) -> Source:
    return Source(citation=CITATION, place=f"assessment table, category {category}")


def _note(number: str) -> Source:
    return Source(citation=CITATION, place=f"note {number}")


T4 = Threshold(mm=4, mm3=34)
T6 = Threshold(mm=6, mm3=113)
T8 = Threshold(mm=8, mm3=268)
T10 = Threshold(mm=10, mm3=524)
T15 = Threshold(mm=15, mm3=1767)
T30 = Threshold(mm=30, mm3=14137)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoduleRow:
    """One row for nodules in the lung; bands are of mean diameter or volume.

    `benign_feature` and `lymph_node_like` rows stand before all others; among the others exactly one fits any nodule.
    """

    id: str
    category: Category
    source: Source
    kinds: tuple[NoduleKind, ...]
    situations: tuple[Situation, ...] = tuple(Situation)
    size: Band = ANY_SIZE
    component: Band = ANY_SIZE
    benign_feature: bool = False
    lymph_node_like: bool = False
    earlier: tuple[Category, ...] = ()
    follow_up_months_from: int = 0
    follow_up_months_below: int | None = None
    proven_benign: bool | None = None

    @property
    def overrides(self) -> bool:
        """Whether the row stands before the size rows."""
        return self.benign_feature or self.lymph_node_like


@dataclass(frozen=True, slots=True, kw_only=True)
class AirwayRow:
    id: str
    category: Category
    source: Source
    level: AirwayLevel
    changes: tuple[AirwayChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CystRow:
    id: str
    category: Category | None
    """None: the guideline does not classify it."""
    source: Source
    finding: CystFinding


@dataclass(frozen=True, slots=True, kw_only=True)
class IncompleteRow:
    id: str
    reason: Incomplete
    source: Source
    category: Category = field(default=Category.INCOMPLETE)


_S, _P, _G = ((kind,) for kind in NoduleKind)
_ALL = tuple(NoduleKind)
_C = Category
_AT = Situation
_FIRST_SIZE = (_AT.BASELINE, _AT.STABLE, _AT.ENLARGED)
"""Situations read with the baseline sizes: first detection, and note 5 for what changed class without growing."""
_BY_SIZE = (*_FIRST_SIZE, _AT.GROWING)
"""A part-solid nodule whose solid component did not change is read by its size, note 5."""


def _row(
    row_id: str,
    category: Category,
    source: Source,
    kinds: tuple[NoduleKind, ...],
    situations: tuple[Situation, ...],
    *,
    size: Band = ANY_SIZE,
    component: Band = ANY_SIZE,
) -> NoduleRow:
    return NoduleRow(
        id=row_id,
        category=category,
        source=source,
        kinds=kinds,
        situations=situations,
        size=size,
        component=component,
    )


def _followed(
    row_id: str,
    earlier: Category,
    category: Category,
    source: Source,
    *,
    kinds: tuple[NoduleKind, ...] = _ALL,
    months_from: int = 0,
    months_below: int | None = None,
    proven_benign: bool | None = None,
) -> NoduleRow:
    return NoduleRow(
        id=row_id,
        category=category,
        source=source,
        kinds=kinds,
        situations=(_AT.FOLLOWED,),
        earlier=(earlier,),
        follow_up_months_from=months_from,
        follow_up_months_below=months_below,
        proven_benign=proven_benign,
    )


_LT4, _LT6, _LT8, _LT30 = Band(high=T4), Band(high=T6), Band(high=T8), Band(high=T30)
_GE4, _GE6, _GE8, _GE15, _GE30 = Band(low=T4), Band(low=T6), Band(low=T8), Band(low=T15), Band(low=T30)
_4TO6, _6TO8, _8TO15 = Band(low=T4, high=T6), Band(low=T6, high=T8), Band(low=T8, high=T15)

_SOLID_ROWS = (
    _row("solid-baseline-lt6", _C.BENIGN, _table("2"), _S, _FIRST_SIZE, size=_LT6),
    _row("solid-baseline-6to8", _C.PROBABLY_BENIGN, _table("3"), _S, _FIRST_SIZE, size=_6TO8),
    _row("solid-baseline-8to15", _C.SUSPICIOUS, _table("4A"), _S, _FIRST_SIZE, size=_8TO15),
    _row("solid-baseline-ge15", _C.VERY_SUSPICIOUS, _table("4B"), _S, _FIRST_SIZE, size=_GE15),
    _row("solid-new-lt4", _C.BENIGN, _table("2"), _S, (_AT.NEW,), size=_LT4),
    _row("solid-new-4to6", _C.PROBABLY_BENIGN, _table("3"), _S, (_AT.NEW,), size=_4TO6),
    _row("solid-new-6to8", _C.SUSPICIOUS, _table("4A"), _S, (_AT.NEW,), size=_6TO8),
    _row("solid-growing-lt8", _C.SUSPICIOUS, _table("4A"), _S, (_AT.GROWING,), size=_LT8),
    _row("solid-new-or-growing-ge8", _C.VERY_SUSPICIOUS, _table("4B"), _S, (_AT.NEW, _AT.GROWING), size=_GE8),
    _row("solid-slowly-growing", _C.VERY_SUSPICIOUS, _table("4B and note 8"), _S, (_AT.SLOWLY_GROWING,)),
)

_PART_SOLID_ROWS = (
    _row("part-solid-lt6", _C.BENIGN, _table("2"), _P, _BY_SIZE, size=_LT6),
    _row("part-solid-ge6-component-lt6", _C.PROBABLY_BENIGN, _table("3"), _P, _BY_SIZE, size=_GE6, component=_LT6),
    _row("part-solid-ge6-component-6to8", _C.SUSPICIOUS, _table("4A"), _P, _BY_SIZE, size=_GE6, component=_6TO8),
    _row("part-solid-component-ge8", _C.VERY_SUSPICIOUS, _table("4B"), _P, _BY_SIZE, size=_GE6, component=_GE8),
    _row("part-solid-new-lt6", _C.PROBABLY_BENIGN, _table("3"), _P, (_AT.NEW,), size=_LT6, component=_LT4),
    _row("part-solid-new-component-lt4", _C.SUSPICIOUS, _table("4A"), _P, (_AT.NEW,), size=_GE6, component=_LT4),
    _row("part-solid-component-growing-lt4", _C.SUSPICIOUS, _table("4A"), _P, (_AT.COMPONENT,), component=_LT4),
    _row(
        "part-solid-component-new-or-growing-ge4",
        _C.VERY_SUSPICIOUS,
        _table("4B"),
        _P,
        (_AT.NEW, _AT.COMPONENT),
        component=_GE4,
    ),
    _row("part-solid-slowly-growing", _C.VERY_SUSPICIOUS, _table("4B and note 8"), _P, (_AT.SLOWLY_GROWING,)),
)

_GROUND_GLASS_ROWS = (
    _row(
        "ground-glass-lt30",
        _C.BENIGN,
        _table("2"),
        _G,
        (_AT.BASELINE, _AT.NEW, _AT.GROWING, _AT.ENLARGED),
        size=_LT30,
    ),
    _row("ground-glass-stable-or-slow", _C.BENIGN, _table("2 and note 7"), _G, (_AT.STABLE, _AT.SLOWLY_GROWING)),
    _row("ground-glass-ge30", _C.PROBABLY_BENIGN, _table("3"), _G, (_AT.BASELINE, _AT.NEW), size=_GE30),
    _row("ground-glass-grown-ge30", _C.PROBABLY_BENIGN, _note("5"), _G, (_AT.GROWING, _AT.ENLARGED), size=_GE30),
    _followed("ground-glass-followed-2", _C.BENIGN, _C.BENIGN, _table("2"), kinds=_G),
    _followed("ground-glass-followed-3", _C.PROBABLY_BENIGN, _C.BENIGN, _table("2"), kinds=_G),
)

_DENSE = (*_S, *_P)
FOLLOWED_ROWS: tuple[NoduleRow, ...] = (
    _followed("followed-2", _C.BENIGN, _C.BENIGN, _note("5"), kinds=_DENSE),
    _followed("followed-3-early", _C.PROBABLY_BENIGN, _C.PROBABLY_BENIGN, _table("2"), kinds=_DENSE, months_below=6),
    _followed("followed-3-at-6-months", _C.PROBABLY_BENIGN, _C.BENIGN, _table("2"), kinds=_DENSE, months_from=6),
    _followed("followed-4A-early", _C.SUSPICIOUS, _C.SUSPICIOUS, _table("3"), months_below=3),
    _followed("followed-4A-at-3-months", _C.SUSPICIOUS, _C.PROBABLY_BENIGN, _table("3"), months_from=3),
    _followed("followed-4B", _C.VERY_SUSPICIOUS, _C.VERY_SUSPICIOUS, _table("2"), proven_benign=False),
    _followed("followed-4B-proven-benign", _C.VERY_SUSPICIOUS, _C.BENIGN, _table("2"), proven_benign=True),
)

NODULE_ROWS: tuple[NoduleRow, ...] = (
    NoduleRow(id="benign-feature", category=_C.NEGATIVE, source=_table("1"), kinds=_ALL, benign_feature=True),
    NoduleRow(
        id="juxtapleural-lt10",
        category=_C.BENIGN,
        source=_table("2"),
        kinds=_S,
        situations=(_AT.BASELINE, _AT.NEW, _AT.STABLE),
        size=Band(high=T10),
        lymph_node_like=True,
    ),
    *_SOLID_ROWS,
    *_PART_SOLID_ROWS,
    *_GROUND_GLASS_ROWS,
    *FOLLOWED_ROWS,
)


def _airway(row_id: str, category: Category, source: Source, level: AirwayLevel, *changes: AirwayChange) -> AirwayRow:
    return AirwayRow(id=row_id, category=category, source=source, level=level, changes=changes)


_NEAR, _FAR, _WAS = AirwayLevel.SEGMENTAL_OR_MORE_PROXIMAL, AirwayLevel.SUBSEGMENTAL, AirwayChange
AIRWAY_ROWS: tuple[AirwayRow, ...] = (
    _airway("airway-subsegmental", _C.BENIGN, _table("2"), _FAR, _WAS.BASELINE, _WAS.NEW, _WAS.STABLE),
    _airway("airway-proximal-baseline", _C.SUSPICIOUS, _table("4A"), _NEAR, _WAS.BASELINE),
    _airway("airway-proximal-new", _C.SUSPICIOUS, _note("11a"), _NEAR, _WAS.NEW),
    _airway("airway-proximal-persists", _C.VERY_SUSPICIOUS, _table("4B"), _NEAR, _WAS.STABLE, _WAS.GROWING),
)

_CYST = CystFinding
CYST_ROWS: tuple[CystRow, ...] = tuple(
    CystRow(id=row_id, category=category, source=source, finding=finding)
    for row_id, category, source, finding in (
        ("cyst-thin-walled", None, _note("12a"), _CYST.THIN_WALLED),
        ("cyst-thick-growing-cyst", _C.PROBABLY_BENIGN, _table("3"), _CYST.THICK_WALLED_GROWING_CYST),
        ("cyst-thick", _C.SUSPICIOUS, _table("4A"), _CYST.THICK_WALLED),
        ("cyst-multilocular-baseline", _C.SUSPICIOUS, _table("4A"), _CYST.MULTILOCULAR_BASELINE),
        ("cyst-became-multilocular", _C.SUSPICIOUS, _table("4A"), _CYST.BECAME_MULTILOCULAR),
        ("cyst-thick-growing-wall", _C.VERY_SUSPICIOUS, _table("4B"), _CYST.THICK_WALLED_GROWING_WALL),
        ("cyst-multilocular-growing", _C.VERY_SUSPICIOUS, _table("4B"), _CYST.MULTILOCULAR_GROWING),
        ("cyst-multilocular-denser", _C.VERY_SUSPICIOUS, _table("4B"), _CYST.MULTILOCULAR_DENSER),
    )
)

INCOMPLETE_ROWS: tuple[IncompleteRow, ...] = (
    IncompleteRow(id="prior-being-located", reason=Incomplete.PRIOR_BEING_LOCATED, source=_table("0")),
    IncompleteRow(id="not-evaluable", reason=Incomplete.NOT_EVALUABLE, source=_table("0")),
    IncompleteRow(
        id="inflammatory-or-infectious", reason=Incomplete.INFLAMMATORY_OR_INFECTIOUS, source=_table("0 and note 10a")
    ),
)

FEATURE_SOURCE = _table("4X and note 14")
NO_NODULE_SOURCE = _table("1")
MOST_SUSPICIOUS_SOURCE = _note("1")
GROWTH_SOURCE = _note("6")
MEASURING_SOURCE = _note("4")

PROVENANCE = Provenance(
    title="ACR Lung-RADS v2022",
    citation=(
        "American College of Radiology, Lung-RADS v2022, November 2022; explained in Christensen J et al., J Am Coll "
        "Radiol 2024;21:473-488, doi:10.1016/j.jacr.2023.09.009."
    ),
    checked=(
        Checked(
            what="every size, airway, cyst and stepped row of the table, in mm and mm³",
            against=(
                "RadElement set RDES267 “Lung-RADS categorization”, element RDE1702, published by the ACR itself as "
                "a common data element (set 2023-07-26, element 2024-05-31)"
            ),
        ),
        Checked(
            what="notes 1, 4, 5, 6, 10 and 11a: most suspicious nodule, 0.1 mm, size thresholds, growth, infection, "
            "airway",
            against=(
                "“Lung-RADS”, yingbo777.com, and ECR educational posters on Lung-RADS v2022 (European Society of "
                "Radiology, EPOS), which repeat the notes"
            ),
        ),
        Checked(
            what="notes 7, 8 and 14, and the management of 4A, 4B and 4X",
            against=(
                "“Seven takeaways from Lung-RADS 2022” (Diagnostic Imaging) and three independent open-source "
                "implementations that cite the notes by number and agree"
            ),
        ),
        Checked(
            what="note 12a: thin-walled cysts are not classified",
            against="“Lung-RADS for cyst” (board-review note quoting v2022) and one implementation",
        ),
        Checked(
            what="the ACR’s PDF and the article by Christensen et al.", against="**not read**: no copy was at hand"
        ),
    ),
    readings=(
        "A new part-solid nodule under 6 mm is category 3 while its solid component is under 4 mm, 4B from 4 mm: the "
        "4B row names no total size.",
        "A new part-solid nodule from 6 mm has a new solid component: 4A below 4 mm, 4B from 4 mm.",
        "A ground-glass nodule that grows to 30 mm or more is category 3 by note 5; the table names only baseline "
        "and new.",
        "A part-solid nodule that grows without change of its solid component is read by its size (note 5).",
        "A stable nodule without earlier category is read by the baseline sizes, as at first detection.",
        "A stable nodule of earlier category 2 stays 2; earlier 3 before 6 months and 4A before 3 months keep their "
        "category; 4B stays 4B until work-up proves it benign.",
        "A slowly growing solid or part-solid nodule is 4B at any size; note 8 says that it may be.",
        "A new nodule in a segmental or more proximal airway is 4A by note 11a; the table names only baseline.",
        "Juxtapleural: under 10 mm as in the data element; one secondary source prints “10 mm or less”.",
    ),
    left_out=(
        "Growth by volume (note 6 prints “> 2 mm³” beside 1.5 mm): the reproductions do not say of what, so only the "
        "diameter rule is encoded.",
        "Risk of malignancy and population prevalence per category: figures differ between versions in the copies "
        "read.",
        "Note 11b and 11c (multiple tubular or air-containing airway abnormality, which may be 0 or 2): a reader’s "
        "judgement, no rule to compute.",
        "Notes 12g and 12h (fluid-containing and multiple cysts are not classified): found in one implementation only.",
        "A growing subsegmental airway nodule: the table has no row; it stays without category.",
    ),
)
