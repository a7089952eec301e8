"""The report's sections that are made from an evaluation's tables: scores, events, sight, latency.
Not pictures, and not the other town: draw_zero_shot.py.
"""

from collections.abc import Callable

import numpy as np
from markupsafe import Markup

from ops.drawing.charts import difference_chart, interval_chart, planner_colour
from ops.drawing.names import GROUPS, OURS, grouped, label
from ops.drawing.page import Block, Cell, Chart, Paragraph, Row, Section, Table, Tile
from ops.evaluation.intervals import Interval
from ops.report.results import EvaluationResults, percent

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
# measure, digits
_DISTANCES = (("ade_m", 2), ("fde_m", 2), ("lateral_m", 2), ("progress_m", 1))


def score_section(found: EvaluationResults) -> Section:
    """The tables of all planners and the chart beside them."""
    groups = grouped(found.planners)
    means = [
        item.mean
        for title, names in groups
        if title != "References"
        for name in names
        if (item := found.mean(name))
    ]
    best = max(means, default=0.0)

    def line(name: str) -> list[Cell]:
        pdms = found.mean(name)
        return [
            _score(pdms, strong=bool(pdms and pdms.mean == best)),
            *(_part(found.mean(name, part)) for part, _ in _PARTS),
            Cell(f"{pdms.n if pdms else 0} / {found.n_expected}"),
        ]

    key = (
        "Means over scenes times 100; brackets are 95 % intervals from drawing whole logs again and again. NC no "
        "at-fault collision, DAC drivable area, TTC time to collision, EP progress against PDM-Closed, C comfort, "
        "DDC driving direction (weight 0). In each scene PDMS = NC × DAC × (5 TTC + 5 EP + 2 C) / 12. Orange cells "
        "lose points; the bold score is the best apart from the references."
    )
    bars = [
        (name, item) for _, names in groups for name in names if (item := percent(found.mean(name)))
    ]
    chart = Markup(
        interval_chart(bars, names=label, label="PDMS: mean, and 95 % interval over logs")
    )
    blocks: list[Block] = [
        Table(
            ["planner", "PDMS", *(short for _, short in _PARTS), "scenes"],
            group_rows(groups, line),
            key,
        ),
        Chart(chart),
        Paragraph(heading="Distance to the human"),
        Table(
            ["planner", "ADE m", "FDE m", "lateral m", "progress m"],
            group_rows(
                groups,
                lambda name: [
                    _plain(found.mean(name, measure), digits) for measure, digits in _DISTANCES
                ],
            ),
            "ADE: mean distance to the human's path over 4 s, FDE: at 4 s, lateral: its part at right angles to the "
            "human's heading. Progress is that of the simulated plan along the route, in metres.",
        ),
    ]
    if any(found.mean(planner, "epdms") for planner in found.planners):
        blocks += [
            Paragraph(heading="The second version of the score"),
            Table(
                ["planner", "EPDMS", *(short for _, short in _PARTS_V2)],
                group_rows(
                    groups,
                    lambda name: [
                        _score(found.mean(name, "epdms")),
                        *(_part(found.mean(name, part)) for part, _ in _PARTS_V2),
                    ],
                ),
                "EPDMS = NC × DAC × DDC × TLC × (5 EP + 5 TTC + 2 LK + 2 HC + 2 EC) / 16 with the human filter: TLC "
                "traffic lights, LK lane keeping, HC comfort with history, EC comfort against the plan half a second "
                "before. It is another metric than PDMS; the two are never compared.",
            ),
        ]
    lead = (
        f"{found.metric_version} on the {found.split} split: {found.n_scored} of {found.n_expected} scenes of "
        f"{found.n_logs} logs scored for every planner. A scene is judged by simulating the plan for 4 s among the "
        "recorded traffic."
    )
    return Section("scores", "Scores", blocks, lead)


def verdict_section(found: EvaluationResults) -> Section:
    """What can be said of the planners that were learnt, with paired differences."""
    pairs = dict.fromkeys(
        zip(
            found.differences["planner"].to_pylist(),
            found.differences["control"].to_pylist(),
            strict=True,
        )
    )
    bars: list[tuple[str, str, Interval]] = []
    rows: list[Row] = []
    any_rare = False
    for planner, control in pairs:
        item = percent(found.difference(planner, control))
        if item is None:
            continue
        bars.append((planner, f"{label(planner)} − {label(control)}", item))
        rare = percent(found.difference(planner, control, subset="rare"))
        any_rare = any_rare or rare is not None
        ade = found.difference(planner, control, "ade_m")
        rows.append(
            Row(
                [
                    Cell(f"{label(planner)} − {label(control)}", dot=planner_colour(planner)),
                    verdict(item.low, item.high),
                    _signed(item),
                    _signed(rare),
                    Cell(signed(ade.mean, 2)) if ade else Cell("–"),
                ]
            )
        )
    if not rows:
        return Section(
            "findings",
            "EvaluationResults",
            [Paragraph("No planner of this evaluation has its control beside it.")],
        )
    chart = Chart(
        Markup(difference_chart(bars, label="difference in PDMS on the same scenes")),
        "Right of the line the first planner is better. Grey: the 95 % interval over logs holds zero.",
    )
    if not any_rare:
        rows = [Row([*row.cells[:3], *row.cells[4:]]) for row in rows]
    table = Table(
        [
            "planner − control",
            "verdict",
            "PDMS",
            *(["PDMS on rare events"] if any_rare else []),
            "ADE m",
        ],
        rows,
        "'Better' and 'worse' mean that the 95 % interval of the PDMS difference leaves zero out. An ADE below "
        "zero: the first planner lies nearer to the human.",
    )
    return Section(
        "findings",
        "Differences",
        [chart, table],
        "Taken scene by scene on the same scenes, so that easy and hard ones cancel out.",
    )


def rare_section(found: EvaluationResults) -> Section | None:
    """Scores apart on the scenes with a rare event; None if there is none."""
    subsets = sorted(
        {name for name in found.summary["subset"].to_pylist() if name.startswith("tag:")}
    )
    if not subsets:
        return None
    columns = ["ordinary", "rare", *subsets]
    count = {
        subset: item.n
        for subset in columns
        if (item := found.mean(found.planners[0], subset=subset))
    }
    head = [
        "planner",
        *(
            f"{subset.removeprefix('tag:').replace('_', ' ')} ({count.get(subset, 0)})"
            for subset in columns
        ),
    ]
    rows = group_rows(
        grouped(found.planners),
        lambda name: [
            _part(found.mean(name, subset=subset), interval=subset in ("ordinary", "rare"))
            for subset in columns
        ],
    )
    share = count.get("rare", 0) / max(count.get("rare", 0) + count.get("ordinary", 0), 1)
    return Section(
        "rare",
        "Rare events",
        [Table(head, rows, "PDMS; in brackets after each head the number of scenes.")],
        f"{100 * share:.0f} % of the scored scenes hold an event such as a cut-in or a jaywalker within the "
        "4 s that are judged. Here a planner must look.",
    )


def sight_section(found: EvaluationResults) -> Section | None:
    """The same planners with blank and with shuffled images; None if that was not tried."""
    own = [name for name in found.planners if f"{name}_blank" in found.planners]
    if not own:
        return None
    rows = []
    for name in own:
        seeing, blank, shuffled = (
            found.mean(item) for item in (name, f"{name}_blank", f"{name}_shuffled")
        )
        drop = percent(found.difference(name, f"{name}_blank"))
        rows.append(
            Row(
                [
                    Cell(label(name), dot=planner_colour(name)),
                    _score(seeing),
                    _score(blank),
                    _score(shuffled),
                    _signed(drop),
                ],
                ours=name in OURS,
            )
        )
    return Section(
        "sight",
        "Does it look?",
        [
            Table(
                ["planner", "own images", "black images", "images of other scenes", "own − black"],
                rows,
                "PDMS. A planner that scores as well without its images drives by its speed and its command alone.",
            )
        ],
    )


def latency_section(found: EvaluationResults) -> Section | None:
    """Time of one plan and size of each network; None if nothing was timed."""
    if not len(found.latency):
        return None
    items = {row["planner"]: row for row in found.latency.to_pylist()}
    slow = items.get("vla", {}).get("p50_ms")
    rows = []
    for name, row in items.items():
        gain = f"{slow / row['p50_ms']:.1f} ×" if slow and row["p50_ms"] else "–"
        rows.append(
            Row(
                [
                    Cell(label(name), dot=planner_colour(name)),
                    *(
                        Cell(f"{row[key]:.2f}" if row[key] is not None else "–")
                        for key in ("p50_ms", "p95_ms")
                    ),
                    Cell(gain),
                    Cell(f"{row['parameters']:,}"),
                    Cell(str(row["calls"])),
                    Cell(row["device"]),
                    Cell(str(row["threads"])),
                ],
                ours=name in OURS,
            )
        )
    return Section(
        "latency",
        "Latency and size",
        [
            Table(
                [
                    "planner",
                    "p50 ms",
                    "p95 ms",
                    "speed against VLA",
                    "parameters",
                    "timed calls",
                    "device",
                    "threads",
                ],
                rows,
                "One plan at a time from the image array to the eight poses, all in one run on one machine, after a warm-up. "
                "The student runs in ONNX Runtime, as it would in a car; the other networks run in PyTorch.",
            )
        ],
    )


def unscored_section(found: EvaluationResults) -> Section | None:
    """Scenes without a score and why; None if there are none."""
    if not found.unscored:
        return None
    rows = [
        Row(
            [
                Cell(f"{log} / {frame}"),
                Cell(label(planner) if planner else "all planners", left=True),
                Cell(reason, left=True),
            ]
        )
        for log, frame, planner, reason in found.unscored[:200]
    ]
    more = (
        f"{len(found.unscored) - 200} more are in summary.json."
        if len(found.unscored) > 200
        else ""
    )
    return Section(
        "unscored",
        "Scenes that could not be scored",
        [Table(["scene", "planner", "reason"], rows, more)],
    )


def tiles(found: EvaluationResults) -> list[Tile]:
    """The numbers at the top."""
    blind = [(item.mean, name) for name in GROUPS[0][1] if (item := found.mean(name))]
    names = ["student", "vla", *([max(blind)[1]] if blind else []), "human"]
    out = [
        Tile(
            "best blind planner" if name in GROUPS[0][1] else label(name),
            f"{item.mean:.1f}",
            f"PDMS {_bounds(item)}" + (f", {label(name)}" if name in GROUPS[0][1] else ""),
            planner_colour(name),
        )
        for name in names
        if (item := percent(found.mean(name)))
    ]
    times = {row["planner"]: row["p50_ms"] for row in found.latency.to_pylist()}
    if times.get("student"):
        gain = (
            f"; {times['vla'] / times['student']:.0f} times faster than the VLA"
            if times.get("vla")
            else ""
        )
        out.append(
            Tile(
                "student latency",
                f"{times['student']:.1f} ms",
                f"p50 a plan{gain}",
                planner_colour("student"),
            )
        )
    return out


def verdict(low: float, high: float) -> Cell:
    """What an interval of a difference says in a word."""
    tone, word = (
        ("yes", "better")
        if low > 0
        else ("no", "worse")
        if high < 0
        else ("open", "no clear difference")
    )
    return Cell(word, tone=tone)


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, with a true minus."""
    # minus nothing is nothing
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def group_rows(groups: list[tuple[str, list[str]]], line: Callable[[str], list[Cell]]) -> list[Row]:
    """A heading for each group and below it one row a planner: its name and the cells of `line`."""
    return [
        row
        for title, names in groups
        for row in (
            Row([Cell(title)]),
            *(
                Row([Cell(label(name), dot=planner_colour(name)), *line(name)], ours=name in OURS)
                for name in names
            ),
        )
    ]


def _bounds(item: Interval, digits: int = 1) -> str:
    """The interval in brackets; nothing if it stands on one log, where it says nothing."""
    return f"[{item.low:.{digits}f}, {item.high:.{digits}f}]" if item.logs > 1 else ""


def _score(item: Interval | None, strong: bool = False) -> Cell:
    shown = percent(item)
    return Cell("–") if shown is None else Cell(f"{shown.mean:.1f}", _bounds(shown), strong=strong)


def _signed(item: Interval | None) -> Cell:
    if item is None:
        return Cell("–")
    return Cell(
        signed(item.mean), f"[{signed(item.low)}, {signed(item.high)}]" if item.logs > 1 else ""
    )


def _part(item: Interval | None, interval: bool = False) -> Cell:
    shown = percent(item)
    if shown is None:
        return Cell("–")
    return Cell(
        f"{shown.mean:.1f}",
        _bounds(shown) if interval else "",
        shade=float(np.clip(1.0 - shown.mean / 100.0, 0.0, 1.0)),
    )


def _plain(item: Interval | None, digits: int) -> Cell:
    return Cell("–" if item is None else f"{item.mean:.{digits}f}")
