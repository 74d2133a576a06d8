"""By which index a search enters: the one that leads to the fewest studies, found by counting a few entries of each.

What an index leads to is checked in full on each row afterwards, on columns that no index is used for: so a way in may
lead to more studies than match, never to fewer, and the database cannot choose another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, literal, or_, select

from polyclinic.core.names import fold_name
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.matching import HIGHEST, bytewise, is_universal, values_of, wildcard
from polyclinic.departments.archive.name_groups import GROUPS, group, has_groups

FEW = 5000
"""So many studies are sorted sooner than an index is walked for those among them that match."""
_MOST_COMBINATIONS = 200
_study = schema.study.c


class Kind(IntEnum):
    """Ways in, those that usually lead to fewest first."""

    UID = 1
    ACCESSION = 2
    PATIENT = 3
    MODALITY = 4
    DATE = 5
    NAME = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A stretch of an index."""

    condition: ColumnElement[bool]
    order: ColumnElement[Any]
    """What the entries of the stretch are sorted by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """A way in: one or several stretches of an index, no study in two of them."""

    kind: Kind
    branches: tuple[Branch, ...]

    @property
    def condition(self) -> ColumnElement[bool]:
        """Where the way in leads."""
        return or_(*(branch.condition for branch in self.branches))


def entrances(connection: Connection, matches: dict[str, str]) -> list[Entrance]:
    """Every way in that the keys of a search give."""
    given = {keyword: value for keyword, value in matches.items() if not is_universal(value)}
    found = [
        *_exact(given, "StudyInstanceUID", Kind.UID, _study.study_instance_uid),
        *_exact(given, "AccessionNumber", Kind.ACCESSION, _study.accession_number),
        *_exact(given, "PatientID", Kind.PATIENT, _study.patient_id),
    ]
    dates = _dates(given.get("StudyDate", ""))
    if "ModalitiesInStudy" in given:
        found += _modalities(connection, given["ModalitiesInStudy"], dates)
    if dates is not None:
        found.append(Entrance(kind=Kind.DATE, branches=(Branch(condition=dates, order=_study.study_date),)))
    if "PatientName" in given:
        found += _names(given["PatientName"])
    return found


def beginnings(text: str) -> list[Entrance]:
    """Ways to studies with a name group, patient ID or accession number that begins with a text, in any capitals."""
    found = []
    if stem := fold_name(text).rstrip("^ "):
        found.append(Entrance(kind=Kind.NAME, branches=_name_branches([1, 2, 3], stem, exact=False)))
    spellings = dict.fromkeys((text, text.upper(), text.lower()))
    for kind, column in ((Kind.PATIENT, _study.patient_id), (Kind.ACCESSION, _study.accession_number)):
        branches = (Branch(condition=_from(bytewise(column), one), order=column) for one in spellings)
        found.append(Entrance(kind=kind, branches=tuple(branches)))
    return found


def fewest(connection: Connection, ways: Sequence[Entrance]) -> tuple[Entrance, bool]:
    """The best of one or several ways in, and whether it leads to at most `FEW` studies."""
    counted = [(leads_to(connection, way), way.kind, way) for way in ways]
    count, _, way = min(counted, key=lambda one: one[:2])
    return way, count <= FEW


def leads_to(connection: Connection, way: Entrance, most: int = FEW) -> int:
    """Studies that a way leads to, counted up to one more than `most`."""
    if way.kind is Kind.UID:
        return 1
    left = most + 1
    for branch in way.branches:
        some = select(literal(1).label("one")).select_from(schema.study).where(branch.condition).limit(left).subquery()
        left -= int(connection.execute(select(func.count()).select_from(some)).scalar_one())
        if not left:
            break
    return most + 1 - left


def _exact(given: dict[str, str], keyword: str, kind: Kind, column: Any) -> list[Entrance]:
    value = given.get(keyword, "")
    if not value:
        return []
    if kind is Kind.UID:
        condition = column.in_(values_of(keyword, value))
    elif set(value) & set("*?"):
        stem = _stem(value)
        condition = _from(bytewise(column), stem)
        if not stem:
            return []
    else:
        condition = column == value
    return [Entrance(kind=kind, branches=(Branch(condition=condition, order=column),))]


def _dates(value: str) -> ColumnElement[bool] | None:
    if not value:
        return None
    first, dash, last = (part.strip() for part in value.partition("-"))
    if not dash:
        return _study.study_date == value
    bounds = [_study.study_date != "", *([_study.study_date >= first] if first else [])]
    return and_(*bounds, *([_study.study_date <= last + HIGHEST] if last else []))


def _modalities(connection: Connection, value: str, dates: ColumnElement[bool] | None) -> list[Entrance]:
    """A stretch for each combination of modalities that occurs with one that is wanted."""
    wanted = values_of("ModalitiesInStudy", value)
    fits = or_(*(wildcard(_COMBINATION, pattern) for one in wanted for pattern in (f"{one}\\*", f"*\\{one}\\*")))
    query = select(_COMBINATION).where(_COMBINATION.is_not(None), fits).limit(_MOST_COMBINATIONS + 1)
    combinations = list(connection.execute(query).scalars())
    if not combinations or len(combinations) > _MOST_COMBINATIONS:
        return [] if combinations else [_NOWHERE]
    also = () if dates is None else (dates,)
    stretches = (and_(_study.modalities == combination, *also) for combination in combinations)
    branches = tuple(Branch(condition=stretch, order=_study.study_date) for stretch in stretches)
    return [Entrance(kind=Kind.MODALITY, branches=branches)]


def _combinations() -> Any:
    """Each value of the column once, by one seek in its index for each."""
    known = select(func.min(_study.modalities).label("modalities")).cte("archive_modalities", recursive=True)
    following = select(func.min(_study.modalities)).where(_study.modalities > known.c.modalities).scalar_subquery()
    return known.union_all(select(following).where(known.c.modalities.is_not(None))).c.modalities


_COMBINATION: Any = _combinations()
_NOWHERE = Entrance(
    kind=Kind.MODALITY, branches=(Branch(condition=_study.modalities == "\\", order=_study.study_date),)
)  # no study has a modality that is wanted


def _names(value: str) -> list[Entrance]:
    """A stretch for each group of the name that may begin as the value does."""
    folded = fold_name(value)
    several = "=" in folded
    for number, pattern in enumerate(folded.split("=")[:GROUPS], 1):
        stem = _stem(pattern).rstrip("^ ")  # "Wang^*" finds a Wang without a given name too
        if stem:
            numbers = [number] if several else list(range(1, GROUPS + 1))
            return [Entrance(kind=Kind.NAME, branches=_name_branches(numbers, stem, exact=stem == pattern))]
    return []


def _name_branches(numbers: list[int], stem: str, *, exact: bool) -> tuple[Branch, ...]:
    branches: list[Branch] = []
    for number in numbers:
        this = group(_study.patient_name_folded, number)
        here = this == stem if exact else _from(this, stem)
        conditions = [here, *([has_groups(_study.patient_name_folded)] if number > 1 else [])]
        branches.append(Branch(condition=and_(*conditions, *(~before.condition for before in branches)), order=this))
    return tuple(branches)


def _stem(pattern: str) -> str:
    """What every match of a pattern begins with."""
    return pattern.split("*", 1)[0].split("?", 1)[0]


def _from(column: Any, stem: str) -> ColumnElement[bool]:
    return and_(column >= stem, column < stem + HIGHEST)
