"""Charts as inline SVG: score intervals, paired differences, code usage, training curves.

Text stays text in the SVG, so it uses the page's font, is searchable, and stays sharp on a small
screen.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from xml.sax.saxutils import escape

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ops.drawing.scene import INK, PATH_STYLES
from ops.evaluation.intervals import Interval

SOFT = "#c9d0d8"
REFERENCE = "#8b95a1"  # planners without a colour of their own
CURVES = ("#0072b2", "#d55e00", "#00795c", "#b0529a", "#b87a00", "#3a9bd1")


def planner_colour(planner: str) -> str:
    """Colour of a planner in all charts and pictures; an image ablation has the colour of its
    planner.
    """
    name = planner
    for suffix in ("_blank", "_shuffled"):
        name = name.removesuffix(suffix)
    return PATH_STYLES.get(name, (REFERENCE, "-"))[0]


def interval_chart(
    rows: Sequence[tuple[str, Interval]],
    *,
    names: Callable[[str], str],
    label: str,
    limit: float = 100.0,
) -> str:
    """One row per planner from the top: a bar to the mean, and the interval as a whisker."""
    figure, axes = _figure(7.2, 0.36 * len(rows) + 0.75)
    for place, (planner, item) in enumerate(rows):
        colour = planner_colour(planner)
        axes.barh(place, item.mean, height=0.62, color=colour, alpha=0.28, lw=0)
        axes.plot(
            [item.low, item.high], [place, place], color=colour, lw=2.2, solid_capstyle="butt"
        )
        axes.plot(item.mean, place, "o", color=colour, ms=5.5, mec="white", mew=0.8)
        axes.text(
            max(item.high, item.mean) + 0.012 * limit,
            place,
            f"{item.mean:.1f}",
            va="center",
            fontsize=9,
            color=INK,
        )
    axes.set(
        yticks=range(len(rows)),
        yticklabels=[_literal(names(planner)) for planner, _ in rows],
        xlim=(0, limit * 1.08),
    )
    axes.set_xlabel(label, fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.xaxis.grid(True, color=SOFT, lw=0.6)
    return svg(figure)


def difference_chart(rows: Sequence[tuple[str, str, Interval]], *, label: str) -> str:
    """Paired differences (planner, name, interval) around zero; grey where the interval contains
    zero.
    """
    figure, axes = _figure(7.2, 0.36 * len(rows) + 0.75)
    axes.axvline(0.0, color=INK, lw=1.0)
    for place, (planner, _, item) in enumerate(rows):
        clear = item.low > 0 or item.high < 0
        colour = planner_colour(planner) if clear else REFERENCE
        axes.plot(
            [item.low, item.high],
            [place, place],
            color=colour,
            lw=2.6 if clear else 1.8,
            solid_capstyle="butt",
        )
        axes.plot(item.mean, place, "o", color=colour, ms=6, mec="white", mew=0.8)
        axes.annotate(
            f"{item.mean:+.1f}".replace("-", "−"),
            (item.mean, place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    axes.set(
        yticks=range(len(rows)),
        yticklabels=[_literal(name) for _, name, _ in rows],
        ylim=(len(rows) - 0.5, -0.8),
    )
    axes.set_xlabel(label, fontsize=9, color=INK)
    axes.xaxis.grid(True, color=SOFT, lw=0.6)
    return svg(figure)


def code_chart(shares_4C: np.ndarray) -> str:
    """Usage of each code, one histogram per token; the dashed line is uniform usage."""
    tokens, codes = shares_4C.shape
    figure = Figure(figsize=(7.2, 1.9))
    for token in range(tokens):
        axes = _dress(
            figure.add_subplot(1, tokens, token + 1, sharey=figure.axes[0] if token else None)
        )
        axes.bar(range(codes), 100.0 * shares_4C[token], color="#0072b2", alpha=0.8, width=0.8)
        axes.axhline(100.0 / codes, color=INK, lw=0.8, ls=(0, (4, 3)))
        axes.set_title(f"token {token}", fontsize=9, color=INK)
        axes.set_xlabel("code", fontsize=8)
        axes.tick_params(labelleft=token == 0, labelsize=8)
        if token == 0:
            axes.set_ylabel("share, %", fontsize=8)
    return svg(figure)


def curves_chart(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], columns: int = 3
) -> str:
    """Training curves, one small plot per panel: {title: {line: (steps, values)}}.

    Written as SVG directly: a training has dozens of these plots, and matplotlib takes 0.25 s for
    each.
    """
    width, height = 274, 168
    body = [
        _panel(
            title, lines, width * (place % columns), height * (place // columns), width - 24, height
        )
        for place, (title, lines) in enumerate(panels.items())
    ]
    total = height * -(-len(panels) // columns)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * width} {total}" '
        f'font-family="system-ui, sans-serif" font-size="10" fill="{INK}">{"".join(body)}</svg>'
    )


def svg(figure: Figure) -> str:
    """The figure as one <svg> element without XML declaration, scaling with its container."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "latentvla"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _literal(text: str) -> str:
    """A name for matplotlib, which would read what stands between two "$" as a formula."""
    return text.replace("$", r"\$")


def _panel(
    title: str,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    x: float,
    y: float,
    width: float,
    height: float,
) -> str:
    """One plot with its title, about three grid lines, and the first and the last step."""
    steps, values = (np.concatenate([line[axis] for line in lines.values()]) for axis in (0, 1))
    ticks = _ticks(float(values.min()), float(values.max()))
    low, high = min(ticks[0], values.min()), max(ticks[-1], values.max())
    left, top, right, bottom = x + 44, y + 26, x + width, y + height - 24

    def across(step: np.ndarray | float) -> np.ndarray:
        return left + (right - left) * (np.asarray(step) - steps.min()) / max(np.ptp(steps), 1e-12)

    def up(value: np.ndarray | float) -> np.ndarray:
        return bottom - (bottom - top) * (np.asarray(value) - low) / max(high - low, 1e-12)

    out = [f'<text x="{x:.0f}" y="{y + 13:.0f}" font-size="11.5">{escape(title)}</text>']
    for tick, level in zip(ticks, up(np.array(ticks)), strict=True):
        out += [
            f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{level:.1f}" y2="{level:.1f}" '
            f'stroke="{SOFT}" stroke-width="0.7"/>',
            f'<text x="{left - 5:.1f}" y="{level + 3.5:.1f}" text-anchor="end">{tick:.4g}</text>',
        ]
    for step, anchor in ((steps.min(), "start"), (steps.max(), "end")):
        out.append(
            f'<text x="{across(step):.1f}" y="{bottom + 14:.1f}" text-anchor="{anchor}">'
            f"{step:.0f}</text>"
        )
    for place, (name, line) in enumerate(lines.items()):
        colour = CURVES[place % len(CURVES)]
        points = " ".join(
            f"{a:.1f},{b:.1f}" for a, b in zip(across(line[0]), up(line[1]), strict=True)
        )
        out.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        )
        if len(lines) > 1:
            out.append(
                f'<text x="{right:.1f}" y="{top + 9 + 13 * place:.1f}" text-anchor="end" '
                f'fill="{colour}">{escape(name)}</text>'
            )
    return "".join(out)


def _ticks(low: float, high: float) -> list[float]:
    """One to four round numbers within a range."""
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):
        return [low]
    unit = 10.0 ** np.floor(np.log10(span))
    step = next(
        unit * factor for factor in (0.2, 0.5, 1.0, 2.0, 5.0) if span / (unit * factor) <= 3.2
    )
    return [
        float(tick)
        for tick in np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
    ]


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
