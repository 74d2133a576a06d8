"""The tables of a record as rows of text; terminal, report and card show the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polyclinic.agentkit.assessment.proportions import wilson

Plain = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables_of(dataset: Plain) -> tuple[TextTable, ...]:
    """Every table that a dataset of a record has something for."""
    made = (
        _froc(dataset),
        _subgroups(dataset),
        _scan_level(dataset),
        _calibration(dataset),
        _masks(dataset),
        _agreement(dataset),
        _hits(dataset),
    )
    return tuple(table for table in made if table is not None and table.rows)


def one_line(dataset: Plain) -> str:
    """How many scans and nodules, how many abstentions, time."""
    figures = dataset["figures"]
    froc = figures["froc"]
    nodules = f", {froc['nodules']} nodules that count" if froc else ""
    return (
        f"{figures['scans']} scans{nodules}; abstained from {figures['abstained']}; "
        f"median {figures['seconds_median']:.1f} s a scan, longest {figures['seconds_longest']:.1f} s"
    )


def _froc(dataset: Plain) -> TextTable | None:
    froc = dataset["figures"]["froc"]
    if froc is None or froc["patients"] < 2:
        return None
    rows = [
        (_rate(point["rate"]), _share(point["sensitivity"], point["interval"]), _text(point["threshold"], 2))
        for point in froc["points"]
    ]
    rows.append(("CPM", _share(froc["cpm"], froc["cpm_interval"]), ""))
    note = (
        f"All marks shown: sensitivity {froc['most_sensitivity']:.3f} at {froc['most_false_per_scan']:.2f} false "
        f"positives per scan, held beyond that rate. Intervals: {froc['resamples']} draws "
        f"of {froc['patients']} patients, seed {froc['seed']}."
    )
    return TextTable(
        title="Nodules, free response",
        header=("False positives per scan", "Sensitivity (95 %)", "Confidence from"),
        rows=tuple(rows),
        note=note,
    )


def _rate(value: float) -> str:
    return {0.125: "1/8", 0.25: "1/4", 0.5: "1/2"}.get(value, f"{value:g}")


def _subgroups(dataset: Plain) -> TextTable | None:
    froc = dataset["figures"]["froc"]
    if froc is None or froc["patients"] < 2:
        return None
    rows = [
        (
            row["attribute"],
            row["group"],
            f"{row['found']['hits']} of {row['found']['count']}",
            _proportion(row["found"]),
            _p_value(row["p_adjusted"]),
        )
        for row in dataset["figures"]["subgroups"]
    ]
    return TextTable(
        title="Nodules found with all marks shown, by subgroup",
        header=("By", "Group", "Found", "Share (95 % Wilson)", "p, Holm"),
        rows=tuple(rows),
        note="p: Fisher's exact test of the group against all others, corrected over the whole table.",
    )


def _scan_level(dataset: Plain) -> TextTable | None:
    table, area = dataset["figures"]["scan_level"], dataset["figures"]["scan_auc"]
    if table is None:
        return None
    ill, well = table["true_positive"], table["true_negative"]
    rows = (
        ("Sensitivity at confidence 0.5", _counted(ill, ill + table["false_negative"])),
        ("Specificity at confidence 0.5", _counted(well, well + table["false_positive"])),
        ("AUC by the best mark (DeLong)", _share(area["value"], area["interval"])),
    )
    return TextTable(title="Scans with a nodule against scans without", header=("", "Value (95 %)"), rows=rows)


def _calibration(dataset: Plain) -> TextTable | None:
    found = dataset["figures"]["marks"]
    if found is None or dataset["figures"]["scans"] < 2:
        return None
    rows = [
        (
            f"{row['low']:.1f} to {row['high']:.1f}",
            f"{row['mean_probability']:.2f}",
            _proportion(row["observed"]),
            str(row["observed"]["count"]),
        )
        for row in found["bins"]
    ]
    return TextTable(
        title="Confidence of marks against what they were",
        header=("Confidence", "Mean", "Share on a nodule (95 %)", "Marks"),
        rows=tuple(rows),
        note=f"Brier score {found['brier']:.3f}, expected calibration error {found['expected_error']:.3f}.",
    )


def _masks(dataset: Plain) -> TextTable:
    rows = [
        (
            row["structure"],
            f"{row['dice_mean']:.3f} ({row['dice_least']:.3f})",
            f"{row['mean_distance_mm']:.2f}",
            f"{row['distance_95_mm']:.2f}",
            str(row["count"]),
        )
        for row in dataset["figures"]["masks"]
    ]
    header = ("Structure", "Dice, mean (least)", "Mean surface distance, mm", "95 % surface distance, mm", "Scans")
    note = (
        "Distances are between the outlines, holes of each slice filled; the phantom leaves bronchi out of the lungs."
    )
    return TextTable(title="Masks", header=header, rows=tuple(rows), note=note)


def _agreement(dataset: Plain) -> TextTable:
    rows = []
    for row in dataset["figures"]["agreement"]:
        found = row["agreement"]
        if found is None:
            rows.append((f"{row['quantity']}, {row['unit']}", "too few", "", "", "", str(row["not_measured"])))
            continue
        low, high = found["limits"]["low"], found["limits"]["high"]
        bias = _share(found["bias"], found["bias_interval"], 1)
        rows.append(
            (
                f"{row['quantity']}, {row['unit']}",
                bias,
                f"{low:.1f} to {high:.1f}",
                f"{found['largest']:.1f}",
                str(found["count"]),
                str(row["not_measured"]),
            )
        )
    return TextTable(
        title="Measurements, agent minus truth (Bland-Altman)",
        header=("Quantity", "Bias (95 %)", "Limits of agreement", "Largest", "Pairs", "Not measured"),
        rows=tuple(rows),
        note="Nodule sizes: those planted free in the lung, of nodules that were found.",
    )


def _hits(dataset: Plain) -> TextTable | None:
    """Nodule by nodule, where scans are few enough to be read."""
    own = [case for case in dataset["cases"] if case["nodules"]]
    if len(own) > 3:
        return None
    rows = []
    for case in own:
        for number, nodule in enumerate(case["nodules"], 1):
            found = nodule["confidence"] is not None
            rows.append(
                (
                    case["name"],
                    f"nodule {number}, {nodule['diameter_mm']:.1f} mm",
                    str(nodule["readers"] or "not stated"),
                    "yes" if found else "no",
                    _text(nodule["nearest_mm"], 1),
                    _text(nodule["confidence"], 2),
                )
            )
        false = ", ".join(f"{value:.2f}" for value in sorted(case["false_confidences"], reverse=True)) or "none"
        rows.append((case["name"], "marks on nothing", "", str(len(case["false_confidences"])), "", false))
    header = ("Scan", "What", "Readers", "Marked", "Nearest mark, mm", "Confidence")
    return TextTable(title="Nodule by nodule", header=header, rows=tuple(rows))


def _share(value: float | None, interval: Plain, digits: int = 3) -> str:
    if value is None:
        return "none"
    return f"{value:.{digits}f} ({_text(interval['low'], digits)} to {_text(interval['high'], digits)})"


def _proportion(row: Plain) -> str:
    return _counted(int(row["hits"]), int(row["count"]), with_count=False)


def _counted(hits: int, count: int, *, with_count: bool = True) -> str:
    own = wilson(hits, count)
    share = f"{hits / count:.2f}" if count else "none"
    text = f"{share} ({own.low:.2f} to {own.high:.2f})"
    return f"{text}, {hits} of {count}" if with_count else text


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _text(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
