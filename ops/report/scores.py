"""The report's score sections: key figures, PDMS and EPDMS tables, rare events, unscored scenes."""

from markupsafe import Markup

from ops.drawing.charts import interval_chart, planner_colour
from ops.drawing.names import GROUPS, grouped, label
from ops.drawing.page import Block, Cell, Chart, Paragraph, Row, Section, Table, Tile
from ops.evaluation.intervals import percent
from ops.evaluation.score_table import epdms_title
from ops.report.cells import bounds, group_rows, metres_cell, score_cell, sub_score_cell
from ops.report.results import EvaluationResults

Groups = list[tuple[str, list[str]]]
_PARTS = (
    ("nc", "NC"),
    ("dac", "DAC"),
    ("ttc", "TTC"),
    ("ep", "EP"),
    ("comfort", "C"),
    ("ddc", "DDC"),
)
_PARTS_V2 = (
    ("nc_v2", "NC"),
    ("dac_v2", "DAC"),
    ("ddc_v2", "DDC"),
    ("tlc_v2", "TLC"),
    ("ep_v2", "EP"),
    ("ttc_v2", "TTC"),
    ("lk_v2", "LK"),
    ("hc_v2", "HC"),
    ("ec_v2", "EC"),
)
_DISTANCES = (("ade_m", 2), ("fde_m", 2), ("lateral_m", 2), ("progress_m", 1))  # measure, digits
_MOST_UNSCORED = 200  # rows of the table of unscored scenes
_BLIND = GROUPS[0][1]


def tiles(results: EvaluationResults) -> list[Tile]:
    """The key figures at the top: PDMS of four planners, and the student's latency."""
    blind = [(item.mean, name) for name in _BLIND if (item := results.mean(name))]
    names = ["student", "vla", *([max(blind)[1]] if blind else []), "human"]
    out = [
        Tile(
            "best blind planner" if name in _BLIND else label(name),
            f"{item.mean:.1f}",
            f"PDMS {bounds(item)}" + (f", {label(name)}" if name in _BLIND else ""),
            planner_colour(name),
        )
        for name in names
        if (item := percent(results.mean(name)))
    ]
    p50_ms = {row["planner"]: row["p50_ms"] for row in results.latency.to_pylist()}
    student_ms, vla_ms = p50_ms.get("student"), p50_ms.get("vla")
    if student_ms:
        speedup = f"; {vla_ms / student_ms:.0f} times faster than the VLA" if vla_ms else ""
        value, detail = f"{student_ms:.1f} ms", f"p50 per plan{speedup}"
        out.append(Tile("student latency", value, detail, planner_colour("student")))
    return out


def score_section(results: EvaluationResults) -> Section:
    """PDMS with sub-scores, displacement errors, and EPDMS of all planners."""
    groups = grouped(results.planners)
    items = [(name, percent(results.mean(name))) for _, names in groups for name in names]
    chart = interval_chart(
        [(name, item) for name, item in items if item],
        names=label,
        label="PDMS, %: mean and 95 % interval over logs",
    )
    blocks: list[Block] = [
        _pdms_table(results, groups),
        Chart(Markup(chart)),
        Paragraph(heading="Displacement from the human"),
        _displacement_table(results, groups),
    ]
    if any(results.mean(planner, "epdms") for planner in results.planners):
        heading = Paragraph(heading=f"{_epdms_title(results)}: version 2 of the score")
        blocks += [heading, _epdms_table(results, groups)]
    lead = (
        f"{results.metric_version} on the {results.split} split: {results.n_scored} of "
        f"{results.n_expected} scenes of {results.n_logs} logs scored for every planner. Each plan "
        "is simulated for 4 s in the recorded traffic. Intervals cover the sampling of logs, not "
        "seed variance."
    )
    return Section("scores", "Scores", blocks, lead)


def _pdms_table(results: EvaluationResults, groups: Groups) -> Table:
    means = [
        item.mean
        for title, names in groups
        if title != "References"
        for name in names
        if (item := results.mean(name))
    ]
    best = max(means, default=0.0)

    def cells(name: str) -> list[Cell]:
        pdms = results.mean(name)
        return [
            score_cell(pdms, strong=bool(pdms and pdms.mean == best)),
            *(sub_score_cell(results.mean(name, part)) for part, _ in _PARTS),
            Cell(f"{pdms.n if pdms else 0} / {results.n_expected}"),
        ]

    return Table(
        ["planner", "PDMS", *(short for _, short in _PARTS), "scenes"],
        group_rows(groups, cells),
        "Means over scenes in %; in brackets the 95 % interval, bootstrapped over logs. NC no "
        "at-fault collision, DAC drivable area compliance, TTC time to collision, EP ego progress "
        "relative to PDM-Closed, C comfort, DDC driving direction compliance (weight 0). Per scene "
        "PDMS = NC × DAC × (5 TTC + 5 EP + 2 C) / 12. The more orange a cell, the lower the "
        "sub-score; bold: the best planner except the references.",
    )


def _displacement_table(results: EvaluationResults, groups: Groups) -> Table:
    def cells(name: str) -> list[Cell]:
        return [metres_cell(results.mean(name, measure), digits) for measure, digits in _DISTANCES]

    return Table(
        ["planner", "ADE, m", "FDE, m", "lateral, m", "progress, m"],
        group_rows(groups, cells),
        "ADE: mean distance to the human's path over 4 s; FDE: distance at 4 s; lateral: mean "
        "distance perpendicular to the human's heading. Progress of the simulated plan along the "
        "route.",
    )


def _epdms_table(results: EvaluationResults, groups: Groups) -> Table:
    def cells(name: str) -> list[Cell]:
        parts = [sub_score_cell(results.mean(name, part)) for part, _ in _PARTS_V2]
        return [score_cell(results.mean(name, "epdms")), *parts]

    return Table(
        ["planner", _epdms_title(results), *(short for _, short in _PARTS_V2)],
        group_rows(groups, cells),
        "EPDMS = NC × DAC × DDC × TLC × (5 EP + 5 TTC + 2 LK + 2 HC + 2 EC) / 16, in %, with the "
        "human filter: TLC traffic light compliance, LK lane keeping, HC history comfort, EC "
        "extended comfort (against the plan 0.5 s earlier). A scene without such a plan has no EC, "
        "and its EPDMS is ... × (5 EP + 5 TTC + 2 LK + 2 HC) / 14. EPDMS and PDMS are different "
        "metrics and not comparable.",
    )


def _epdms_title(results: EvaluationResults) -> str:
    return epdms_title(results.score_tables["all"].means)


def rare_section(results: EvaluationResults) -> Section | None:
    """PDMS on scenes with and without rare events, and per event; None if there is no event."""
    subsets = sorted(name for name in results.score_tables if name.startswith("tag:"))
    if not subsets:
        return None
    columns = ["ordinary", "rare", *subsets]
    count = {
        subset: item.n
        for subset in columns
        if (item := results.mean(results.planners[0], subset=subset))
    }
    head = [
        "planner",
        *(
            f"{subset.removeprefix('tag:').replace('_', ' ')} ({count.get(subset, 0)})"
            for subset in columns
        ),
    ]

    def cells(name: str) -> list[Cell]:
        return [
            sub_score_cell(
                results.mean(name, subset=subset), interval=subset in ("ordinary", "rare")
            )
            for subset in columns
        ]

    share = count.get("rare", 0) / max(count.get("rare", 0) + count.get("ordinary", 0), 1)
    return Section(
        "rare",
        "Rare events",
        [
            Table(
                head,
                group_rows(grouped(results.planners), cells),
                "PDMS in %; number of scenes in brackets.",
            )
        ],
        f"{100 * share:.0f} % of the scored scenes have an event, such as a cut-in or a jaywalker, "
        "within their 4 s.",
    )


def unscored_section(results: EvaluationResults) -> Section | None:
    """Scenes without a score, with the reason; None if there are none."""
    if not results.unscored:
        return None
    rows = [
        Row(
            [
                Cell(f"{log} / {frame}"),
                Cell(label(planner) if planner else "all planners", left=True),
                Cell(reason, left=True),
            ]
        )
        for log, frame, planner, reason in results.unscored[:_MOST_UNSCORED]
    ]
    n_more = len(results.unscored) - len(rows)
    more = f"{n_more} more are in summary.json." if n_more else ""
    table = Table(["scene", "planner", "reason"], rows, more)
    return Section("unscored", "Scenes without a score", [table])
