"""Table cells and rows of the report: scores, intervals, differences, groups of planners."""

from collections.abc import Callable

import numpy as np

from ops.drawing.charts import planner_colour
from ops.drawing.names import OURS, label
from ops.drawing.page import Cell, Row
from ops.evaluation.intervals import Interval, percent


def group_rows(
    groups: list[tuple[str, list[str]]], cells: Callable[[str], list[Cell]]
) -> list[Row]:
    """A heading per group, and one row per planner: its name, then `cells` of it."""
    return [
        row
        for title, names in groups
        for row in (Row([Cell(title)]), *(planner_row(name, cells(name)) for name in names))
    ]


def planner_row(planner: str, cells: list[Cell]) -> Row:
    """A row with the name and the colour of a planner in front."""
    name = Cell(label(planner), dot=planner_colour(planner))
    return Row([name, *cells], ours=planner in OURS)


def pair_cell(planner: str, control: str) -> Cell:
    """The name of a paired difference, in the planner's colour."""
    return Cell(pair_label(planner, control), dot=planner_colour(planner))


def pair_label(planner: str, control: str) -> str:
    """The name of a paired difference."""
    return f"{label(planner)} − {label(control)}"


def verdict_cell(low: float, high: float) -> Cell:
    """Better or worse if the interval of a difference excludes zero."""
    if low > 0:
        return Cell("better", tone="yes")
    if high < 0:
        return Cell("worse", tone="no")
    return Cell("no clear difference", tone="open")


def score_cell(item: Interval | None, strong: bool = False) -> Cell:
    """A score in % with its interval."""
    shown = percent(item)
    return Cell("–") if shown is None else Cell(f"{shown.mean:.1f}", bounds(shown), strong=strong)


def sub_score_cell(item: Interval | None, interval: bool = False) -> Cell:
    """A score in %, the more orange the lower it is."""
    shown = percent(item)
    if shown is None:
        return Cell("–")
    return Cell(
        f"{shown.mean:.1f}",
        bounds(shown) if interval else "",
        shade=float(np.clip(1.0 - shown.mean / 100.0, 0.0, 1.0)),
    )


def difference_cell(item: Interval | None) -> Cell:
    """A difference of scores in % with its interval; `item` is already in %."""
    if item is None:
        return Cell("–")
    interval = f"[{signed(item.low)}, {signed(item.high)}]" if item.logs > 1 else ""
    return Cell(signed(item.mean), interval)


def metres_cell(item: Interval | None, digits: int) -> Cell:
    """A distance in metres."""
    return Cell("–" if item is None else f"{item.mean:.{digits}f}")


def bounds(item: Interval, digits: int = 1) -> str:
    """The interval in brackets; "" for a single log, where it carries no information."""
    return f"[{item.low:.{digits}f}, {item.high:.{digits}f}]" if item.logs > 1 else ""


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign and a typographic minus; never "-0"."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")
