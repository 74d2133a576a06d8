"""docs/guidelines.md from the tables, so that the page never says what the code does not do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from polyclinic.core.guidelines import (
    brock,
    cac_drs,
    fleischner_2017,
    lung_rads_v2022,
    lung_rads_v2022_rows,
    reference_limits,
    volume_doubling,
)
from polyclinic.core.guidelines.lung_rads_v2022_rows import NoduleRow, Situation
from polyclinic.core.guidelines.nodule import ANY_SIZE, Band
from polyclinic.core.guidelines.source import Advice, Provenance
from polyclinic.core.units import PRINTED

_HEAD = """# Guidelines

Made from the tables in `src/polyclinic/core/guidelines` by `polyclinic.core.guidelines.document.page`; a test compares.
Each result keeps the id of its row and the citation as a `Rule` in the finding's evidence. The wording of advice is
ours; where a guideline leaves two readings, the one chosen is named. These tables support a physician's decision and
do not replace the publications.
"""


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _bullets(items: Iterable[str]) -> str:
    return "".join(f"- {item}\n" for item in items)


def _provenance(it: Provenance) -> str:
    checks = _table(("what", "verified against"), ((check.what, check.against) for check in it.checked))
    return (
        f"**Source.** {it.citation}\n\n**Verified.**\n\n{checks}\n**Readings chosen.**\n\n{_bullets(it.readings)}\n"
        f"**Left out and why.**\n\n{_bullets(it.left_out)}"
    )


def _advice(advices: Iterable[Advice]) -> str:
    unique = {advice.code: advice for advice in advices}
    return _table(
        ("advice", "English", "中文"), ((f"`{one.code}`", one.english, one.chinese) for one in unique.values())
    )


def _band(band: Band) -> str:
    return "any" if band == ANY_SIZE else str(band)


def _past(row: NoduleRow) -> str:
    if set(row.situations) == set(Situation):
        return "any"
    past = ", ".join(row.situations)
    if row.earlier:
        past += f" ({'/'.join(row.earlier)})"
    if row.follow_up_months_from:
        past += f", at the {row.follow_up_months_from}-month follow-up or later"
    if row.follow_up_months_below is not None:
        past += f", before {row.follow_up_months_below} months"
    if row.proven_benign is not None:
        past += ", proven benign" if row.proven_benign else ", not proven benign"
    return past


def _lesion(row: NoduleRow) -> str:
    if row.benign_feature:
        return "benign calcification or fat"
    if row.lymph_node_like:
        return "solid, juxtapleural, smooth, oval, lentiform or triangular"
    return ", ".join(row.kinds)


def _lung_rads() -> str:
    rows = lung_rads_v2022_rows
    nodules = _table(
        ("row", "nodule", "past", "size", "solid component", "category", "place"),
        (
            (f"`{r.id}`", _lesion(r), _past(r), _band(r.size), _band(r.component), r.category, r.source.place)
            for r in rows.NODULE_ROWS
        ),
    )
    others = _table(
        ("row", "finding", "category", "place"),
        (
            *((f"`{a.id}`", f"airway, {a.level}: {', '.join(a.changes)}", a.category, a.source.place)
              for a in rows.AIRWAY_ROWS),
            *((f"`{c.id}`", f"cyst: {c.finding}", c.category or "not classified", c.source.place)
              for c in rows.CYST_ROWS),
            *((f"`{i.id}`", f"exam: {i.reason}", i.category, i.source.place) for i in rows.INCOMPLETE_ROWS),
            ("`suspicious-features`", "category 3 or 4 with features suspicious of cancer", "4X",
             rows.FEATURE_SOURCE.place),
            ("`no-nodule`", "no nodule", "1", rows.NO_NODULE_SOURCE.place),
            ("`most-suspicious`", "exam: that of the most suspicious lesion", "", rows.MOST_SUSPICIOUS_SOURCE.place),
        ),
    )  # fmt: skip
    advice = _advice(
        (*lung_rads_v2022.ADVICE.values(), *lung_rads_v2022.INCOMPLETE_ADVICE.values(), lung_rads_v2022.NOT_CLASSIFIED)
    )
    measuring = (
        f"Axes and mean diameter to 0.1 mm, volume to 1 mm³ ({rows.MEASURING_SOURCE.place}). Growth: mean diameter up "
        f"by more than {lung_rads_v2022.GROWTH_MM} mm within {lung_rads_v2022.GROWTH_INTERVAL_MONTHS} months "
        f"({rows.GROWTH_SOURCE.place}). S is added to any category for another significant finding.\n"
    )
    return f"{measuring}\n{nodules}\n{others}\n{advice}"


def _fleischner() -> str:
    it = fleischner_2017
    rows = _table(
        ("row", "nodule", "number", "risk", "size", "advice", "place"),
        (
            (
                f"`{r.id}`",
                "typical intrapulmonary lymph node" if r.lymph_node else ", ".join(r.kinds),
                "any" if len(r.multiple) > 1 else ("several" if r.multiple[0] else "one"),
                "any" if len(r.risks) > 1 else r.risks[0],
                _band(r.size),
                f"`{r.advice.code}`",
                r.source.place,
            )
            for r in it.ROWS
        ),
    )
    excluded = f"Does not apply: {'; '.join(it.Exclusion)}. Mean diameter to 1 mm ({it.MEASURING}).\n"
    return f"{excluded}\n{rows}\n{_advice((*(row.advice for row in it.ROWS), it.NOT_APPLICABLE))}"


def _brock() -> str:
    rows = [(one.name, f"{one.value:g}", one.multiplies) for one in brock.COEFFICIENTS]
    table = _table(("term", "coefficient", "times"), [*rows, ("constant", f"{brock.MODEL_CONSTANT:g}", "1")])
    return f"Probability = 1 / (1 + e^-x), x the sum of coefficient times value ({brock.SOURCE.place}).\n\n{table}"


def _scores(row: cac_drs.Row) -> str:
    if row.grade == 0:
        return "0"
    low = f"≥ {row.at_least:g}" if row.at_least else "> 0"
    return low if math.isinf(row.below) else f"{low} and < {row.below:g}"


def _cac_drs() -> str:
    rows = _table(
        ("class", "Agatston", "by eye", "risk", "风险", "place"),
        (
            (f"A{r.grade} / V{r.grade}", _scores(r), r.visual, r.risk, r.risk.chinese, r.source.place)
            for r in cac_drs.ROWS
        ),
    )
    return f"Modifier N: how many of {', '.join(cac_drs.VESSELS)} hold calcium.\n\n{rows}"


def _limits() -> str:
    signs = {("above", True): "≥", ("above", False): ">", ("below", True): "≤", ("below", False): "<"}
    return _table(
        ("row", "quantity", "sex", "beyond", "what it meant", "含义", "source"),
        (
            (
                f"`{r.id}`", r.quantity, r.sex or "any",
                f"{signs[r.side.value, r.inclusive]} {r.limit:g} {PRINTED[reference_limits.UNITS[r.quantity]]}".strip(),
                r.meaning.english, r.meaning.chinese, r.source,
            )
            for r in reference_limits.ROWS
        ),
    )  # fmt: skip


def page() -> str:
    """The whole of docs/guidelines.md."""
    parts = (
        (lung_rads_v2022_rows.PROVENANCE, _lung_rads()),
        (fleischner_2017.PROVENANCE, _fleischner()),
        (brock.PROVENANCE, _brock()),
        (volume_doubling.PROVENANCE, "Days = interval × ln 2 / ln(second volume / first volume).\n"),
        (cac_drs.PROVENANCE, _cac_drs()),
        (reference_limits.PROVENANCE, _limits()),
    )
    return _HEAD + "".join(f"\n## {it.title}\n\n{body}\n{_provenance(it)}" for it, body in parts)
