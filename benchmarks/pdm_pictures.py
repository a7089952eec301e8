"""Draws the pictures of docs/metrics.md: a passing and a failing case of every sub-score.

The scenes are roads of the tests; a picture shows ego boxes over time on the map with the other
road users, or the acceleration over time.

    python -m benchmarks.pdm_pictures docs/images
"""

import argparse
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from ops.pdm.config import Version
from ops.pdm.prepared import prepare
from ops.pdm.rules.comfort import MAX_LON_ACC, MIN_LON_ACC, extended_comfort
from ops.pdm.rules.geometry import ego_box
from ops.pdm.rules.vehicle import STEP_S, State
from ops.pdm.scene.scene import Scene
from ops.pdm.score import PdmScores, score
from ops.pdm.traffic.traffic import Traffic
from storage.trajectory_table import MapLayer
from tests.worlds.tiny_pdm import Road, Track, road_scene, straight

_STEPS_PER_BOX = 5  # one box every 0.5 s
_FILLS = {
    MapLayer.ROADBLOCK: "#e3e7ec",
    MapLayer.CARPARK_AREA: "#d9e2ea",
    MapLayer.INTERSECTION: "#d3d9e0",
}
_PASSED, _FAILED, _OTHER, _RED = "#00795c", "#d7263d", "#6f8fb5", "#f3b0b7"

Case = tuple[Road, np.ndarray, str]  # road, plan, what happens


def main(folder: Path) -> None:
    """Write metrics_<sub-score>.png for every sub-score into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (version, passing, failing) in _cases().items():
        figure, axes = plt.subplots(1, 2, figsize=(9.0, 1.7), dpi=90)
        for panel, (road, plan, note) in zip(axes, (passing, failing), strict=True):
            prepared = prepare(road_scene(road))
            scores = score(prepared, plan, version=version, human_penalty_filter=False)
            _draw_plan(
                panel,
                prepared.scene,
                prepared.reference(version).traffic,
                scores,
                0,
                name=name,
                note=note,
            )
        _save(figure, folder / f"metrics_{name}.png")
    _draw_comforts(folder / "metrics_comfort.png")
    _draw_two_frame_comfort(folder / "metrics_ec.png")


def _cases() -> dict[str, tuple[Version, Case, Case]]:
    """Version, passing case and failing case of every sub-score of one plan."""
    leader = Road(agents=(Track(26.0, 0.0, speed_mps=3.5),))
    return {
        "nc": (
            "v1",
            (leader, straight(5.0), "follows a slower car"),
            (leader, straight(10.0), "runs into it"),
        ),
        "dac": (
            "v1",
            (Road(), straight(8.0), "stays on the road"),
            (Road(), straight(8.0, y=-1.2), "two corners leave it"),
        ),
        "ddc": (
            "v1",
            (Road(), straight(8.0), "in a lane of the route"),
            (Road(), _to_other_lane(), "in the lane of oncoming traffic"),
        ),
        "tlc": (
            "v2",
            (Road(light_x=(24.0, 34.0)), straight(3.5), "stops short of the red connector"),
            (Road(light_x=(24.0, 34.0)), straight(8.0), "enters it"),
        ),
        "ttc": (
            "v1",
            (leader, straight(4.0), "keeps its distance"),
            (
                Road(agents=(Track(40.0, 0.0, speed_mps=1.0),)),
                straight(8.0),
                "less than 1 s from a slow car",
            ),
        ),
        "lk": (
            "v2",
            (Road(), straight(8.0, y=0.3), "0.3 m beside the centreline"),
            (Road(), straight(8.0, y=0.9), "0.9 m beside it for more than 2 s"),
        ),
        "ep": (
            "v1",
            (Road(), straight(13.0), "as far as PDM-Closed or farther"),
            (Road(), straight(4.0), "not as far"),
        ),
    }


def _to_other_lane() -> np.ndarray:
    """A plan into the lane for oncoming traffic."""
    plan = straight(8.0)
    plan[0, :, 1] = np.interp(np.arange(1, 9), [1, 5], [0.4, 6.4])
    plan[0, :5, 2] = 0.35
    return plan


def _draw_comforts(file: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 2.0), dpi=90)
    for panel, speed, note in zip(axes, (8.0, 0.0), ("keeps 8 m/s", "stops at once"), strict=True):
        scores = score(prepare(road_scene(Road())), straight(speed))
        _draw_comfort(panel, scores, 0, name="comfort", note=f"C, {note}")
    _save(figure, file)


def _draw_two_frame_comfort(file: Path) -> None:
    prepared = prepare(road_scene(Road()))
    states = score(
        prepared, np.concatenate([straight(8.0), straight(7.8), straight(2.0)]), version="v2"
    ).states
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 2.0), dpi=90)
    time_s = np.arange(states.shape[1]) * STEP_S
    for panel, other in zip(axes, (1, 2), strict=True):
        passed, rms = extended_comfort(states[other], states[0], 0.5)
        panel.plot(time_s, states[0, :, State.AX], color="#6b7280", label="plan 0.5 s before")
        colour = _PASSED if passed else _FAILED
        panel.plot(time_s[:-5] + 0.5, states[other, :-5, State.AX], color=colour, label="plan now")
        panel.set_title(
            f"EC = {passed:.0f}   RMS of the difference {rms[0]:.2f} m/s²", fontsize=8, loc="left"
        )
        panel.set(ylim=(-5.0, 1.0), xlabel="s", ylabel="m/s²")
        panel.legend(fontsize=6, loc="lower right")
        panel.tick_params(labelsize=7)
    _save(figure, file)


def _save(figure: plt.Figure, file: Path) -> None:
    figure.tight_layout()
    figure.savefig(file, pil_kwargs={"optimize": True})
    plt.close(figure)


def _draw_plan(
    axes: Axes, scene: Scene, traffic: Traffic, scores: PdmScores, row: int, *, name: str, note: str
) -> None:
    """Ego boxes of one plan every 0.5 s: green, or red if the sub-score `name` (a field of
    PdmScores) is below 1. The ego starts at the origin and faces along x.
    """
    value = float(getattr(scores, name)[row])
    colour = _PASSED if value == 1.0 else _FAILED
    _draw_map(axes, scene, traffic)
    states = scores.states[row]
    times = range(0, len(states), _STEPS_PER_BOX)
    for t in times:
        fade = 0.25 + 0.6 * t / len(states)
        present = traffic.present[t // traffic.stride]
        others = traffic.corners[t // traffic.stride][present]
        axes.add_collection(
            PolyCollection(others, facecolors=_OTHER, alpha=fade / 1.5, edgecolors="none")
        )
        ego = [ego_box(states[t])]
        axes.add_collection(
            PolyCollection(ego, facecolors="none", edgecolors=colour, alpha=fade, linewidths=1.1)
        )
    axes.plot(states[:, State.X], states[:, State.Y], color=colour, linewidth=0.8)
    axes.plot(*scene.centerline[:, :2].T, color="#7b8794", linewidth=0.6, linestyle=":")
    axes.set_title(f"{name.upper()} = {value:.2f}   {note}", fontsize=8, loc="left", color=colour)
    axes.set(xlim=(-6.0, 56.0), ylim=(-5.0, 9.5), aspect="equal", xticks=[], yticks=[])


def _draw_comfort(axes: Axes, scores: PdmScores, row: int, *, name: str, note: str) -> None:
    """Longitudinal acceleration of one plan over time with its bounds."""
    value = float(getattr(scores, name)[row])
    time_s = np.arange(scores.states.shape[1]) * STEP_S
    axes.axhspan(MIN_LON_ACC, MAX_LON_ACC, color="#e5f2ee")
    colour = _PASSED if value == 1.0 else _FAILED
    axes.plot(time_s, scores.states[row, :, State.AX], color=colour)
    axes.set_title(f"{note}: {value:.0f}", fontsize=8, loc="left", color=colour)
    axes.set(ylim=(-9.0, 6.0), xlabel="s", ylabel="m/s²")
    axes.tick_params(labelsize=7)


def _draw_map(axes: Axes, scene: Scene, traffic: Traffic) -> None:
    rings = [scene.map_xy[a:b] for a, b in pairwise(scene.map_start)]
    layers = list(zip(rings, scene.map_layer, strict=True))
    for layer, fill in _FILLS.items():
        filled = [ring for ring, kind in layers if kind == layer]
        axes.add_collection(PolyCollection(filled, facecolors=fill, edgecolors="none"))
    lanes = [ring for ring, kind in layers if kind == MapLayer.LANE]
    axes.add_collection(
        PolyCollection(lanes, facecolors="none", edgecolors="#aab4bf", linewidths=0.5)
    )
    red = [traffic.light_xy[a:b] for a, b in pairwise(traffic.light_start)]
    axes.add_collection(PolyCollection(red, facecolors=_RED, edgecolors="none", alpha=0.7))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("docs/images"), help="where the pictures go"
    )
    main(parser.parse_args().folder)
