"""Draws scene.png of the README: front camera and bird's-eye view of one scene of a lake.

    python docs/images/scene.py lake/synthetic

The scene is one of the test logs of the synthetic world with seed 0.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

sys.path.insert(0, str(Path(__file__).parents[2]))

from ops.drawing.names import label
from ops.drawing.scene import INK, PATH_STYLES, draw_bev, draw_camera
from ops.drawing.scene_view import read_scene_view
from storage.lake import Lake
from storage.metrics_table import read_metrics

LOG, FRAME = "A-test-0018", 17
PLANNERS = ("student", "human", "constant_velocity")  # the first is the filled ribbon
OUT = Path(__file__).parent / "scene.png"


def draw(lake: Lake, log_id: str = LOG, frame_index: int = FRAME) -> Figure:
    """The figure: camera with the student's plan, and the scene from above with all three paths."""
    view = read_scene_view(lake, log_id, frame_index)
    paths = {name: _plan(lake, name, log_id, frame_index) for name in PLANNERS}
    figure = Figure(figsize=(10.6, 3.35), facecolor="white")
    draw_camera(
        figure.add_axes((0.002, 0.105, 0.5, 0.89)),
        view,
        {name: paths[name] for name in PLANNERS[:2]},
    )
    draw_bev(
        figure.add_axes((0.507, 0.105, 0.489, 0.89)),
        view,
        dict(reversed(paths.items())),
        reach_m=38.0,
    )
    handles = [
        Line2D(
            [], [], color=PATH_STYLES[name][0], ls=PATH_STYLES[name][1], lw=2.5, label=label(name)
        )
        for name in PLANNERS
    ]
    figure.legend(
        handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=11, labelcolor=INK
    )
    return figure


def _plan(lake: Lake, planner: str, log_id: str, frame_index: int) -> np.ndarray:
    plans = read_metrics(lake.asset("evaluation"), "plans")
    row = plans.filter(
        (pc.field("log_id") == log_id)
        & (pc.field("frame_index") == frame_index)
        & (pc.field("planner") == planner)
    )
    return np.reshape(row["plan_xyyaw"][0].as_py(), (-1, 3))


if __name__ == "__main__":
    draw(Lake(Path(sys.argv[1]))).savefig(OUT, dpi=110)
    print(OUT)
