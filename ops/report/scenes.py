"""Which scenes the report shows, and their pictures: the student's best and worst. Not the drawing
of one scene.

Of each log at most one scene is shown, so that one hard junction does not fill the page.
"""

from collections.abc import Mapping

import numpy as np

from ops.drawing.names import label
from ops.drawing.page import Badge, Block, Gallery, Paragraph, Picture, Section, figure_image
from ops.drawing.scene import scene_figure, scene_legend
from ops.drawing.scene_view import SceneView, read_scene_view
from ops.evaluation.summarize import ScoreCube, score_cube
from ops.report.config import SceneChoice
from ops.report.results import EvaluationResults
from storage.lake import Lake

_FAILURES = (
    ("nc", "at-fault collision"),
    ("dac", "leaves the drivable area"),
    ("ttc", "time to collision too short"),
    ("comfort", "uncomfortable"),
    ("ddc", "against the driving direction"),
)
# PDMS above which a scene is shown as a good one, below which its badge warns
WELL, BADLY = 0.8, 0.5


def scene_sections(
    lake: Lake, found: EvaluationResults, choice: SceneChoice
) -> tuple[list[Section | str], int]:
    """The sections 'worst' and 'best' and how many scenes they show; a sentence where nothing can
    be shown.
    """
    judged = (
        choice.judged
        if choice.judged in found.planners
        else next((name for name in found.planners if name not in choice.paths), found.planners[0])
    )
    cube = score_cube(found.scores)
    worst, best = choose_scenes(cube, judged, choice.worst, choice.best)
    if not len(worst):
        return [f"Scenes: no scene of {label(judged)} has a score"], 0
    plans = _plans_of(found)
    drawn = [judged, *(name for name in choice.paths if name in cube.planners and name != judged)]
    lead = (
        f"Above, the front camera with the plan of the {label(judged)} on the ground; below, the scene from above, "
        "driving to the right. Dots are half seconds; the line ahead of a road user ends where it will be in one "
        "second."
    )
    sections: list[Section | str] = []
    for anchor, title, rows in (
        ("worst", f"Where the {label(judged)} does worst", worst),
        ("best", f"Where the {label(judged)} does best", best),
    ):
        pictures = [
            scene_picture(
                read_scene_view(lake, str(cube.log_id[row]), int(cube.frame_index[row])),
                {name: plans[cube.log_id[row], cube.frame_index[row], name] for name in drawn},
                cube,
                int(row),
                judged,
                choice,
            )
            for row in rows
        ]
        blocks: list[Block] = [scene_legend(drawn), Gallery(pictures)]
        if not pictures:
            blocks = [Paragraph(f"No scene has a PDMS above {100 * WELL:.0f}.")]
        sections.append(Section(anchor, title, blocks, lead if anchor == "worst" else ""))
    return sections, len(worst) + len(best)


def choose_scenes(
    cube: ScoreCube, judged: str, worst: int, best: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scenes (row numbers of the cube) with the lowest and the highest score of a planner, at most
    one a log in each list.

    Equal scores are common: among the worst the larger displacement error goes first, among the
    best a rare event and then the larger gain over the mean of the other planners, since a good
    score on an empty road shows nothing.
    """
    score, known = cube.measure("pdms")
    ade, _ = cube.measure("ade_m")
    at = cube.planners.index(judged)
    others = np.where(known, score, 0.0).sum(axis=1) - score[:, at]
    gain = score[:, at] - others / np.maximum(known.sum(axis=1) - 1, 1)
    rows = np.flatnonzero(known[:, at])
    done = rows[score[rows, at] > WELL]
    low = rows[np.lexsort((-ade[rows, at], np.round(score[rows, at], 3)))]
    high = done[
        np.lexsort(
            (-gain[done], -cube.subsets["rare"][done].astype(int), -np.round(score[done, at], 1))
        )
    ]
    return _one_a_log(low, cube.log_id)[:worst], _one_a_log(high, cube.log_id)[:best]


def scene_picture(
    view: SceneView,
    paths: Mapping[str, np.ndarray],
    cube: ScoreCube,
    row: int,
    judged: str,
    choice: SceneChoice,
) -> Picture:
    """The picture of one scene with what was judged in it."""
    figure = scene_figure(view, paths, reach_m=choice.reach_m)
    at = cube.planners.index(judged)
    value = {
        name: cube.measure(name)[0][row, at]
        for name in ("pdms", "nc", "dac", "ddc", "ttc", "ep", "comfort", "ade_m")
    }
    tone = "good" if value["pdms"] > WELL else "bad" if value["pdms"] < BADLY else ""
    badges = [Badge(f"PDMS {100 * value['pdms']:.0f}", tone)]
    badges += [Badge(text, "bad") for name, text in _FAILURES if value[name] < 1.0]
    if value["ep"] < 0.6 and value["nc"] * value["dac"] > 0:
        badges.append(Badge(f"slow: progress {100 * value['ep']:.0f} %", "bad"))
    badges += [
        Badge(tag.replace("_", " "), "event")
        for tag in cube.table["tags"][row * len(cube.planners)].as_py()
    ]
    rest = ", ".join(
        f"{label(name)} {100 * cube.measure('pdms')[0][row, cube.planners.index(name)]:.0f}"
        for name in paths
        if name != judged
    )
    caption = (
        f"{view.speed_mps:.1f} m/s, command {view.command.name.lower()}; {label(judged)} {value['ade_m']:.2f} m "
        f"from the human on average. PDMS of the others here: {rest}."
    )
    return Picture(
        figure_image(figure, f"log {view.log_id}, frame {view.frame_index}", choice.dpi),
        f"{view.log_id}, frame {view.frame_index}",
        badges,
        caption,
    )


def _plans_of(found: EvaluationResults) -> dict[tuple[str, int, str], np.ndarray]:
    flat = (
        found.plans["plan_xyyaw"]
        .combine_chunks()
        .flatten()
        .to_numpy()
        .reshape(len(found.plans), -1, 3)
    )
    keys = zip(
        found.plans["log_id"].to_pylist(),
        found.plans["frame_index"].to_pylist(),
        found.plans["planner"].to_pylist(),
        strict=True,
    )
    return dict(zip(keys, flat, strict=True))


def _one_a_log(rows: np.ndarray, log_id: np.ndarray) -> np.ndarray:
    first = np.unique(log_id[rows].astype(str), return_index=True)[1]
    return rows[np.sort(first)]
