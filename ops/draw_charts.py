"""The report's charts as inline SVG: intervals of the planners, use of the codes, training curves. Not the page itself.

Text stays text in the SVG, so it takes the page's font, can be searched, and stays sharp on a small screen.
"""

import io
from collections.abc import Callable, Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ops.draw_scene import INK, PATH_STYLES
from ops.intervals import Interval

SOFT = "#c9d0d8"
REFERENCE = "#8b95a1"       # planners that are no model of ours


def planner_colour(planner: str) -> str:
    """Colour of a planner in every chart and picture; a planner with other images keeps the colour of its own."""
    name = planner
    for suffix in ("_blank", "_shuffled"):
        name = name.removesuffix(suffix)
    return PATH_STYLES.get(name, (REFERENCE, "-"))[0]


def interval_chart(rows: Sequence[tuple[str, Interval]], *, names: Callable[[str], str], label: str,
                   limit: float = 100.0) -> str:
    """One line a planner: a bar to the mean and the interval as a whisker, in the order given from the top."""
    figure, axes = _figure(7.2, 0.36 * len(rows) + 0.75)
    for place, (planner, item) in enumerate(rows):
        colour = planner_colour(planner)
        axes.barh(place, item.mean, height=0.62, color=colour, alpha=0.28, lw=0)
        axes.plot([item.low, item.high], [place, place], color=colour, lw=2.2, solid_capstyle="butt")
        axes.plot(item.mean, place, "o", color=colour, ms=5.5, mec="white", mew=0.8)
        axes.text(max(item.high, item.mean) + 0.012 * limit, place, f"{item.mean:.1f}", va="center",
                  fontsize=9, color=INK)
    axes.set(yticks=range(len(rows)), yticklabels=[names(planner) for planner, _ in rows], xlim=(0, limit * 1.08))
    axes.set_xlabel(label, fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.xaxis.grid(True, color=SOFT, lw=0.6)
    return svg(figure)


def difference_chart(rows: Sequence[tuple[str, str, Interval]], *, label: str) -> str:
    """Paired differences (planner, name, interval) around zero; an interval that holds zero is drawn pale."""
    figure, axes = _figure(7.2, 0.36 * len(rows) + 0.75)
    axes.axvline(0.0, color=INK, lw=1.0)
    for place, (planner, _, item) in enumerate(rows):
        clear = item.low > 0 or item.high < 0
        colour = planner_colour(planner) if clear else REFERENCE
        axes.plot([item.low, item.high], [place, place], color=colour, lw=2.6 if clear else 1.8, solid_capstyle="butt")
        axes.plot(item.mean, place, "o", color=colour, ms=6, mec="white", mew=0.8)
        axes.annotate(f"{item.mean:+.1f}".replace("-", "−"), (item.mean, place), (0, 6), textcoords="offset points",
                      ha="center",
                      fontsize=8.5, color=INK)
    axes.set(yticks=range(len(rows)), yticklabels=[name for _, name, _ in rows], ylim=(len(rows) - 0.5, -0.8))
    axes.set_xlabel(label, fontsize=9, color=INK)
    axes.xaxis.grid(True, color=SOFT, lw=0.6)
    return svg(figure)


def code_chart(shares_4C: np.ndarray) -> str:
    """Use of each code, one small histogram a token position; the dashed line is even use."""
    tokens, codes = shares_4C.shape
    figure = Figure(figsize=(7.2, 1.9))
    for token in range(tokens):
        axes = _dress(figure.add_subplot(1, tokens, token + 1, sharey=figure.axes[0] if token else None))
        axes.bar(range(codes), 100.0 * shares_4C[token], color="#0072b2", alpha=0.8, width=0.8)
        axes.axhline(100.0 / codes, color=INK, lw=0.8, ls=(0, (4, 3)))
        axes.set_title(f"token {token + 1}", fontsize=9, color=INK)
        axes.set_xlabel("code", fontsize=8)
        axes.tick_params(labelleft=token == 0, labelsize=8)
        if token == 0:
            axes.set_ylabel("% of rows", fontsize=8)
    return svg(figure)


def curves_chart(histories: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> str:
    """Training curves, one small plot a metric: {title: {line: (steps, values)}}."""
    columns = 3         # always, so that a model with few metrics does not get larger letters
    lines = -(-len(histories) // columns)
    figure = Figure(figsize=(2.75 * columns + 0.2, 2.0 * lines + 0.1))
    colours = ("#0072b2", "#d55e00", "#00795c", "#b0529a", "#b87a00", "#3a9bd1")
    for place, (title, series) in enumerate(histories.items()):
        axes = _dress(figure.add_subplot(lines, columns, place + 1))
        for (name, (steps, values)), colour in zip(series.items(), colours * 4, strict=False):
            axes.plot(steps, values, color=colour, lw=1.4, label=name, marker="o" if len(steps) < 4 else None, ms=3)
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        axes.tick_params(labelsize=8)
        axes.yaxis.grid(True, color=SOFT, lw=0.5)
        if len(series) > 1:
            axes.legend(fontsize=7, frameon=False)
    return svg(figure)


def svg(figure: Figure) -> str:
    """The figure as one <svg> element without the XML head, scaling with its container."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "latentvla"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg"):]


def _figure(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_in, height_in))
    return figure, _dress(figure.add_subplot())


def _dress(axes: Axes) -> Axes:
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.set_layout_engine("tight", pad=0.4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.set_axisbelow(True)
    return axes
