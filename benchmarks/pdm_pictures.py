"""Draws the pictures of docs/metrics.md: a passing and a failing case of every sub-score, on the
road of the tests.

    python -m benchmarks.pdm_pictures docs/images
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.pdm_picture import draw_comfort, draw_plan
from ops.pdm.config import Version
from ops.pdm.prepared import prepare
from ops.pdm.rules.comfort import extended_comfort
from ops.pdm.rules.vehicle import STEP_S, State
from ops.pdm.score import score
from tests.worlds.tiny_pdm import Road, Track, road_scene, straight

Case = tuple[Road, np.ndarray, str]  # road, plan, what happens


def main(folder: Path) -> None:
    """Write metrics_<sub-score>.png for every sub-score into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    leader = Road(agents=(Track(26.0, 0.0, speed_mps=3.5),))
    cases: dict[str, tuple[Version, Case, Case]] = {
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
    for name, (version, good, bad) in cases.items():
        figure, axes = plt.subplots(1, 2, figsize=(9.0, 1.7), dpi=90)
        for panel, (road, plan, note) in zip(axes, (good, bad), strict=True):
            prepared = prepare(road_scene(road))
            found = score(prepared, plan, version=version, human_penalty_filter=False)
            draw_plan(
                panel,
                prepared.scene,
                prepared.reference(version).traffic,
                found,
                0,
                name=name,
                note=note,
            )
        _save(figure, folder / f"metrics_{name}.png")
    _comfort(folder / "metrics_comfort.png")
    _two_frames(folder / "metrics_ec.png")


def _to_other_lane() -> np.ndarray:
    """A plan into the lane for oncoming traffic."""
    plan = straight(8.0)
    plan[0, :, 1] = np.interp(np.arange(1, 9), [1, 5], [0.4, 6.4])
    plan[0, :5, 2] = 0.35
    return plan


def _comfort(file: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 2.0), dpi=90)
    for panel, speed, note in zip(axes, (8.0, 0.0), ("keeps 8 m/s", "stops at once"), strict=True):
        found = score(prepare(road_scene(Road())), straight(speed))
        draw_comfort(panel, found, 0, name="comfort", note=f"C, {note}")
    _save(figure, file)


def _two_frames(file: Path) -> None:
    prepared = prepare(road_scene(Road()))
    states = score(
        prepared, np.concatenate([straight(8.0), straight(7.8), straight(2.0)]), version="v2"
    ).states
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 2.0), dpi=90)
    time_s = np.arange(states.shape[1]) * STEP_S
    for panel, other in zip(axes, (1, 2), strict=True):
        passed, rms = extended_comfort(states[other], states[0], 0.5)
        panel.plot(time_s, states[0, :, State.AX], color="#6b7280", label="plan 0.5 s before")
        colour = "#00795c" if passed else "#d7263d"
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("docs/images"), help="where the pictures go"
    )
    main(parser.parse_args().folder)
