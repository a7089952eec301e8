"""The report's scenes: the student's worst and best, at most one per log in each list."""

from collections.abc import Mapping

import numpy as np

from ops.drawing.names import label
from ops.drawing.page import Badge, Block, Gallery, Paragraph, Picture, Section, figure_image
from ops.drawing.scene import BEV_CAPTION, scene_figure, scene_legend
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
# PDMS above which a scene counts as good, and below which as bad
GOOD, BAD = 0.8, 0.5


def scene_sections(
    lake: Lake, results: EvaluationResults, choice: SceneChoice
) -> tuple[list[Section | str], int]:
    """The sections 'worst' and 'best' and the number of scenes in them; a sentence with the reason
    if no scene has a score.
    """
    planner = (
        choice.planner
        if choice.planner in results.planners
        else next(
            (name for name in results.planners if name not in choice.paths), results.planners[0]
        )
    )
    cube = score_cube(results.scores)
    worst, best = choose_scenes(cube, planner, choice.worst, choice.best)
    if not len(worst):
        return [f"Scenes: no scene of {label(planner)} has a score"], 0
    plans = _plans(results)
    drawn = [planner, *(name for name in choice.paths if name in cube.planners and name != planner)]
    lead = (
        f"Top: the front camera with the plan of the {label(planner)} projected onto the ground. "
        f"{BEV_CAPTION}"
    )
    sections: list[Section | str] = []
    for anchor, title, rows in (
        ("worst", f"Worst scenes of the {label(planner)}", worst),
        ("best", f"Best scenes of the {label(planner)}", best),
    ):
        pictures = [
            scene_picture(
                read_scene_view(lake, str(cube.log_id[row]), int(cube.frame_index[row])),
                {name: plans[cube.log_id[row], cube.frame_index[row], name] for name in drawn},
                cube,
                int(row),
                planner,
                choice,
            )
            for row in rows
        ]
        blocks: list[Block] = [scene_legend(drawn), Gallery(pictures)]
        if not pictures:
            blocks = [Paragraph(f"No scene has a PDMS above {100 * GOOD:.0f}.")]
        sections.append(Section(anchor, title, blocks, lead if anchor == "worst" else ""))
    return sections, len(worst) + len(best)


def choose_scenes(
    cube: ScoreCube, planner: str, worst: int, best: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scenes (row numbers of the cube) with the lowest and the highest PDMS of a planner, at most
    one per log in each list.

    Ties are common: the worst are then ordered by displacement error, the best by rare events
    first and then by the gain over the mean of the other planners, because a good score on an
    empty road is uninformative.
    """
    score, known = cube.measure("pdms")
    ade, _ = cube.measure("ade_m")
    at = cube.planners.index(planner)
    others = np.where(known, score, 0.0).sum(axis=1) - score[:, at]
    gain = score[:, at] - others / np.maximum(known.sum(axis=1) - 1, 1)
    rows = np.flatnonzero(known[:, at])
    good = rows[score[rows, at] > GOOD]
    lowest = rows[np.lexsort((-ade[rows, at], np.round(score[rows, at], 3)))]
    highest = good[
        np.lexsort(
            (-gain[good], -cube.subsets["rare"][good].astype(int), -np.round(score[good, at], 1))
        )
    ]
    return _first_per_log(lowest, cube.log_id)[:worst], _first_per_log(highest, cube.log_id)[:best]


def scene_picture(
    view: SceneView,
    paths: Mapping[str, np.ndarray],
    cube: ScoreCube,
    row: int,
    planner: str,
    choice: SceneChoice,
) -> Picture:
    """The picture of one scene with the scores and failures of the planner."""
    figure = scene_figure(view, paths, reach_m=choice.reach_m)
    at = cube.planners.index(planner)
    value = {
        name: cube.measure(name)[0][row, at]
        for name in ("pdms", "nc", "dac", "ddc", "ttc", "ep", "comfort", "ade_m")
    }
    tone = "good" if value["pdms"] > GOOD else "bad" if value["pdms"] < BAD else ""
    badges = [Badge(f"PDMS {100 * value['pdms']:.0f}", tone)]
    badges += [Badge(text, "bad") for name, text in _FAILURES if value[name] < 1.0]
    if value["ep"] < 0.6 and value["nc"] * value["dac"] > 0:
        badges.append(Badge(f"slow: progress {100 * value['ep']:.0f} %", "bad"))
    badges += [
        Badge(tag.replace("_", " "), "event")
        for tag in cube.table["tags"][row * len(cube.planners)].as_py()
    ]
    others = ", ".join(
        f"{label(name)} {100 * cube.measure('pdms')[0][row, cube.planners.index(name)]:.0f}"
        for name in paths
        if name != planner
    )
    caption = (
        f"{view.speed_mps:.1f} m/s, command {view.command.name.lower()}; ADE of the "
        f"{label(planner)} {value['ade_m']:.2f} m. PDMS of the other planners: {others}."
    )
    return Picture(
        figure_image(figure, f"log {view.log_id}, frame {view.frame_index}", choice.dpi),
        f"{view.log_id}, frame {view.frame_index}",
        badges,
        caption,
    )


def _plans(results: EvaluationResults) -> dict[tuple[str, int, str], np.ndarray]:
    """(log, frame, planner) -> plan (8, 3)."""
    poses_R83 = (
        results.plans["plan_xyyaw"]
        .combine_chunks()
        .flatten()
        .to_numpy()
        .reshape(len(results.plans), -1, 3)
    )
    keys = zip(
        results.plans["log_id"].to_pylist(),
        results.plans["frame_index"].to_pylist(),
        results.plans["planner"].to_pylist(),
        strict=True,
    )
    return dict(zip(keys, poses_R83, strict=True))


def _first_per_log(rows: np.ndarray, log_id: np.ndarray) -> np.ndarray:
    first = np.unique(log_id[rows].astype(str), return_index=True)[1]
    return rows[np.sort(first)]
