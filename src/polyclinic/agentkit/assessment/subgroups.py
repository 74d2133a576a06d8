"""Hit rates by subgroup, each group against the rest, with Holm's correction over every question asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from polyclinic.agentkit.assessment.proportions import Proportion, holm


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that was found or missed, with its group by each attribute, e.g. ``{"site": "pleura"}``."""

    found: bool
    groups: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupRow:
    attribute: str
    group: str
    found: Proportion
    p_value: float
    """Fisher's exact test against all other groups of the attribute; lesions count as independent."""
    p_adjusted: float
    """By Holm over all rows of the table; an attribute of two groups asks one question, its rows share it."""


def subgroup_table(items: Sequence[Item], order: Mapping[str, Sequence[str]]) -> tuple[SubgroupRow, ...]:
    """One row for each group of `order` that has an item, in that order."""
    rows: list[tuple[str, str, Proportion]] = []
    questions: dict[tuple[str, str], float] = {}
    for attribute, groups in order.items():
        present = [group for group in groups if any(item.groups.get(attribute) == group for item in items)]
        for group in present:
            inside = [item.found for item in items if item.groups.get(attribute) == group]
            outside = [item.found for item in items if item.groups.get(attribute, group) != group]
            rows.append((attribute, group, Proportion(hits=sum(inside), count=len(inside))))
            key = (attribute, group if len(present) > 2 else "")
            questions[key] = _fisher(inside, outside)
    adjusted = dict(zip(questions, holm(list(questions.values())), strict=True))
    return tuple(
        SubgroupRow(attribute=a, group=g, found=share, p_value=questions[key], p_adjusted=adjusted[key])
        for a, g, share in rows
        for key in ((a, g) if (a, g) in questions else (a, ""),)
    )


def _fisher(inside: Sequence[bool], outside: Sequence[bool]) -> float:
    if not inside or not outside:
        return 1.0
    table = [[sum(inside), len(inside) - sum(inside)], [sum(outside), len(outside) - sum(outside)]]
    return float(stats.fisher_exact(table)[1])
