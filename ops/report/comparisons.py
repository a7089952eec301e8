"""The report's comparisons of planners: paired differences, image ablation, latency."""

from markupsafe import Markup

from ops.drawing.charts import difference_chart
from ops.drawing.page import Cell, Chart, Paragraph, Row, Section, Table
from ops.evaluation.intervals import Interval, percent
from ops.report.cells import (
    difference_cell,
    pair_cell,
    pair_label,
    planner_row,
    score_cell,
    signed,
    verdict_cell,
)
from ops.report.results import EvaluationResults


def differences_section(results: EvaluationResults) -> Section:
    """Paired differences of planners and their controls in PDMS and ADE."""
    columns = (results.differences[name].to_pylist() for name in ("planner", "control"))
    bars: list[tuple[str, str, Interval]] = []
    rows: list[tuple[str, str, Interval, Interval | None, Interval | None]] = []
    for planner, control in dict.fromkeys(zip(*columns, strict=True)):
        item = percent(results.difference(planner, control))
        if item is None:
            continue
        bars.append((planner, pair_label(planner, control), item))
        rare = percent(results.difference(planner, control, subset="rare"))
        rows.append((planner, control, item, rare, results.difference(planner, control, "ade_m")))
    if not rows:
        text = "No planner of this evaluation was evaluated together with its control."
        return Section("differences", "Differences", [Paragraph(text)])
    chart = Chart(
        Markup(difference_chart(bars, label="difference in PDMS on the same scenes")),
        "To the right of zero the first planner is better. Grey: the 95 % interval over logs "
        "contains zero.",
    )
    return Section(
        "differences",
        "Differences",
        [chart, _differences_table(rows)],
        "Paired: each difference is computed per scene on the same scenes, so the difficulty of a "
        "scene cancels. Intervals cover the sampling of logs, not seed variance.",
    )


def _differences_table(
    rows: list[tuple[str, str, Interval, Interval | None, Interval | None]],
) -> Table:
    """Rows (planner, control, PDMS, PDMS on rare events, ADE), the PDMS in %."""
    with_rare = any(rare is not None for *_, rare, _ in rows)
    head = ["PDMS", *(["PDMS, rare events"] if with_rare else []), "ADE, m"]
    return Table(
        ["planner − control", "verdict", *head],
        [
            Row(
                [
                    pair_cell(planner, control),
                    verdict_cell(pdms.low, pdms.high),
                    difference_cell(pdms),
                    *([difference_cell(rare)] if with_rare else []),
                    Cell(signed(ade.mean, 2)) if ade else Cell("–"),
                ]
            )
            for planner, control, pdms, rare, ade in rows
        ],
        "'Better' and 'worse': the 95 % interval of the PDMS difference excludes zero. ADE below "
        "zero: the first planner is closer to the human.",
    )


def image_ablation_section(results: EvaluationResults) -> Section | None:
    """PDMS of the same planners with black images and with images of other logs; None if no planner
    was evaluated so.
    """
    ablated = [name for name in results.planners if f"{name}_blank" in results.planners]
    if not ablated:
        return None
    rows = [
        planner_row(
            name,
            [
                score_cell(results.mean(name)),
                score_cell(results.mean(f"{name}_blank")),
                score_cell(results.mean(f"{name}_shuffled")),
                difference_cell(percent(results.difference(name, f"{name}_blank"))),
            ],
        )
        for name in ablated
    ]
    table = Table(
        ["planner", "real images", "black images", "images of other logs", "real − black"],
        rows,
        "PDMS in %. A planner whose PDMS does not drop without its images drives by ego status and "
        "command alone.",
    )
    return Section("images", "Image ablation", [table])


def latency_section(results: EvaluationResults) -> Section | None:
    """Latency of one plan and size of each network; None if nothing was timed."""
    if not len(results.latency):
        return None
    timings = {row["planner"]: row for row in results.latency.to_pylist()}
    vla_ms = timings.get("vla", {}).get("p50_ms")
    rows = []
    for name, row in timings.items():
        p50_ms, p95_ms = (row[key] for key in ("p50_ms", "p95_ms"))
        cells = [
            *(Cell(f"{value:.2f}" if value is not None else "–") for value in (p50_ms, p95_ms)),
            Cell(f"{vla_ms / p50_ms:.1f} ×" if vla_ms and p50_ms else "–"),
            Cell(f"{row['parameters']:,}"),
            Cell(str(row["calls"])),
            Cell(row["device"]),
            Cell(str(row["threads"])),
        ]
        rows.append(planner_row(name, cells))
    table = Table(
        [
            "planner",
            "p50, ms",
            "p95, ms",
            "speedup over VLA",
            "parameters",
            "timed calls",
            "device",
            "threads",
        ],
        rows,
        "Batch size 1, from the image array to the eight poses, all planners in one run on one "
        "machine, after a warm-up. The student runs in ONNX Runtime, as in a vehicle; the other "
        "networks run in PyTorch.",
    )
    return Section("latency", "Latency and size", [table])
