"""Pictures of what a sub-score saw: ego boxes over time on the map with the other boxes, and
comfort over time.

Not the pictures of the report: those are ops/drawing/scene.py.
"""

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from ops.pdm.rules.comfort import MAX_LON_ACC, MIN_LON_ACC
from ops.pdm.rules.geometry import ego_box
from ops.pdm.rules.vehicle import STEP_S, State
from ops.pdm.scene.scene import Scene
from ops.pdm.score import PdmScores
from ops.pdm.traffic.traffic import Traffic
from storage.trajectory_table import MapLayer

_STEPS_A_BOX = 5  # one box every 0.5 s
_FILLS = {
    MapLayer.ROADBLOCK: "#e3e7ec",
    MapLayer.CARPARK_AREA: "#d9e2ea",
    MapLayer.INTERSECTION: "#d3d9e0",
}
_GOOD, _BAD, _OTHER, _RED = "#00795c", "#d7263d", "#6f8fb5", "#f3b0b7"


def draw_plan(
    axes: Axes, scene: Scene, traffic: Traffic, scores: PdmScores, row: int, *, name: str, note: str
) -> None:
    """Ego boxes of one plan every 0.5 s, green, or red if the sub-score `name` (a field of
    PdmScores) is below 1.

    Shows the 62 m ahead of a world in which the ego stands at the origin and looks along x.
    """
    value = float(getattr(scores, name)[row])
    colour = _GOOD if value == 1.0 else _BAD
    _draw_map(axes, scene, traffic)
    states = scores.states[row]
    times = range(0, len(states), _STEPS_A_BOX)
    for t in times:
        fade = 0.25 + 0.6 * t / len(states)
        there = traffic.present[t // traffic.stride]
        others = traffic.corners[t // traffic.stride][there]
        axes.add_collection(
            PolyCollection(others, facecolors=_OTHER, alpha=fade / 1.5, edgecolors="none")
        )
        own = [ego_box(states[t])]
        axes.add_collection(
            PolyCollection(own, facecolors="none", edgecolors=colour, alpha=fade, linewidths=1.1)
        )
    axes.plot(states[:, State.X], states[:, State.Y], color=colour, linewidth=0.8)
    axes.plot(*scene.centerline[:, :2].T, color="#7b8794", linewidth=0.6, linestyle=":")
    axes.set_title(f"{name.upper()} = {value:.2f}   {note}", fontsize=8, loc="left", color=colour)
    axes.set(xlim=(-6.0, 56.0), ylim=(-5.0, 9.5), aspect="equal", xticks=[], yticks=[])


def draw_comfort(axes: Axes, scores: PdmScores, row: int, *, name: str, note: str) -> None:
    """Longitudinal acceleration of one plan over time with its bounds."""
    value = float(getattr(scores, name)[row])
    time_s = np.arange(scores.states.shape[1]) * STEP_S
    axes.axhspan(MIN_LON_ACC, MAX_LON_ACC, color="#e5f2ee")
    axes.plot(time_s, scores.states[row, :, State.AX], color=_GOOD if value == 1.0 else _BAD)
    axes.set_title(
        f"{note}: {value:.0f}", fontsize=8, loc="left", color=_GOOD if value == 1.0 else _BAD
    )
    axes.set(ylim=(-9.0, 6.0), xlabel="s", ylabel="m/s²")
    axes.tick_params(labelsize=7)


def _draw_map(axes: Axes, scene: Scene, traffic: Traffic) -> None:
    rings = [scene.map_xy[a:b] for a, b in pairwise(scene.map_start)]
    for layer, fill in _FILLS.items():
        chosen = [ring for ring, own in zip(rings, scene.map_layer, strict=True) if own == layer]
        axes.add_collection(PolyCollection(chosen, facecolors=fill, edgecolors="none"))
    lanes = [ring for ring, own in zip(rings, scene.map_layer, strict=True) if own == MapLayer.LANE]
    axes.add_collection(
        PolyCollection(lanes, facecolors="none", edgecolors="#aab4bf", linewidths=0.5)
    )
    red = [traffic.light_xy[a:b] for a, b in pairwise(traffic.light_start)]
    axes.add_collection(PolyCollection(red, facecolors=_RED, edgecolors="none", alpha=0.7))
