"""The charts of one log: signals, codes, and its path on the map."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

from ops.drawing.charts import SOFT
from ops.drawing.scene import INK, LAYER_FILLS
from ops.pages.log_view import LogView
from storage.trajectory_table import Command, MapLayer, read_table

_EVENT = "#f2b84b"
_LINES = ("#0072b2", "#d55e00", "#00795c")


def signals_figure(view: LogView) -> Figure:
    """Speed, acceleration, yaw rate and command over time, with the events shaded."""
    figure = Figure(figsize=(9.0, 5.2))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": [1.2, 1, 1, 0.7]})
    time_s, command = view.seconds, view.column("command")
    axes[0].plot(
        time_s, np.hypot(view.column("vx_mps"), view.column("vy_mps")), color=_LINES[0], lw=1.6
    )
    axes[0].set_ylabel("speed, m/s")
    axes[0].set_ylim(bottom=0)
    for name, text, colour in (
        ("ax_mps2", "longitudinal", _LINES[0]),
        ("ay_mps2", "lateral", _LINES[1]),
    ):
        axes[1].plot(time_s, view.column(name), color=colour, lw=1.3, label=text)
    axes[1].set_ylabel("acc., m/s²")
    low, high = axes[1].get_ylim()
    axes[1].set_ylim(low, high + 0.3 * (high - low))  # room for the legend above the curves
    axes[1].legend(fontsize=8, frameon=False, loc="upper right", ncols=2)
    axes[2].plot(time_s, np.degrees(view.column("yaw_rate_radps")), color=_LINES[2], lw=1.4)
    axes[2].set_ylabel("yaw rate, °/s")
    axes[3].step(time_s, command, color=INK, lw=1.4, where="post")
    axes[3].set(
        yticks=range(len(Command)),
        yticklabels=[item.name.lower() for item in Command],
        ylim=(-0.5, len(Command) - 0.5),
        xlabel="time, s",
    )
    active = np.array([bool(tags) for tags in view.rows["tags"].to_pylist()])
    for panel in axes:
        panel.yaxis.grid(True, color=SOFT, lw=0.5)
        panel.tick_params(labelsize=8, length=0)
        panel.fill_between(
            time_s,
            0,
            1,
            where=active,
            color=_EVENT,
            alpha=0.25,
            lw=0,
            step="mid",
            transform=panel.get_xaxis_transform(),
        )
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    return figure


def codes_figure(view: LogView) -> Figure:
    """The codes of the first transition of each frame as colours over time."""
    assert view.codes is not None and view.code_layout is not None
    figure = Figure(figsize=(9.0, 1.5))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    tokens, codes = view.code_layout.tokens, view.code_layout.codes
    first = view.codes[:, :tokens].T
    axes.imshow(
        np.ma.masked_less(first, 0),
        aspect="auto",
        cmap=_code_colours(codes),
        vmin=-0.5,
        vmax=codes - 0.5,
        interpolation="none",
        extent=(-0.5, first.shape[1] - 0.5, tokens - 0.5, -0.5),
    )
    if first.shape[1] <= 60:
        for token, step in zip(*np.nonzero(first >= 0), strict=True):
            axes.text(
                step,
                token,
                str(first[token, step]),
                ha="center",
                va="center",
                fontsize=6.5,
                color=INK,
            )
    labels = [f"token {token}" for token in range(tokens)]
    axes.set(yticks=range(tokens), yticklabels=labels, xlabel="frame")
    axes.tick_params(labelsize=8, length=0)
    return figure


def _code_colours(codes: int) -> Colormap:
    """One colour a code: distinct ones for up to 20 codes, neighbouring ones for more."""
    if codes <= 20:
        return ListedColormap(matplotlib.colormaps["tab20"].colors[:codes])  # type: ignore[attr-defined]
    return matplotlib.colormaps["nipy_spectral"].resampled(codes)


def road_figure(view: LogView) -> Figure:
    """The path of the log on the map in world axes, with frame numbers and events."""
    figure = Figure(figsize=(9.0, 6.0), facecolor="white")
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    x, y = view.column("x_m"), view.column("y_m")
    origin = np.array([x.mean(), y.mean()])
    _draw_map(axes, view, origin)
    axes.plot(x - origin[0], y - origin[1], color="#d55e00", lw=2.2)
    active = np.array([bool(tags) for tags in view.rows["tags"].to_pylist()], bool)
    axes.plot(
        (x - origin[0])[active],
        (y - origin[1])[active],
        ls="none",
        marker="o",
        ms=5,
        color=_EVENT,
        mec=INK,
        mew=0.5,
        label="event",
    )
    for at in np.unique(np.linspace(0, len(x) - 1, 8).round().astype(int)):
        axes.annotate(
            str(view.column("frame_index")[at]),
            (x[at] - origin[0], y[at] - origin[1]),
            (5, 5),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    margin = 25.0
    span = max(np.ptp(x), np.ptp(y) * 1.5, 40.0) / 2 + margin
    axes.set(
        aspect="equal",
        facecolor="#f6f5f1",
        xlabel="metres east of the mean position",
        ylabel="metres north",
        xlim=(x.min() + x.max() - 2 * origin[0]) / 2 + np.array([-span, span]),
        ylim=(y.min() + y.max() - 2 * origin[1]) / 2 + np.array([-span, span]) / 1.5,
    )
    if active.any():
        axes.legend(frameon=False, fontsize=8)
    axes.tick_params(labelsize=8)
    return figure


def _draw_map(axes: Axes, view: LogView, origin: np.ndarray) -> None:
    table = (
        read_table(view.lake.log("trajectories", view.log_id), "map")
        .select(["layer", "polygon_xy"])
        .to_pylist()
    )
    for layer, fill in LAYER_FILLS:
        rings = [
            np.reshape(item["polygon_xy"], (-1, 2)) - origin
            for item in table
            if item["layer"] == layer
        ]
        axes.add_collection(
            PolyCollection(
                rings,
                facecolors=fill,
                edgecolors="#aab3bd" if layer == MapLayer.CROSSWALK else fill,
                linewidths=0.5,
            )
        )
    lanes = [
        np.reshape(item["polygon_xy"], (-1, 2)) - origin
        for item in table
        if item["layer"] == MapLayer.LANE
    ]
    axes.add_collection(
        LineCollection(
            [ring[np.r_[0 : len(ring), 0]] for ring in lanes], colors="white", linewidths=0.7
        )
    )
