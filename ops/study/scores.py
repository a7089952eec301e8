"""Scores of the study's students on the scenes of one split, town by town.

    <study>/scores/<split>/<name>/scores.parquet

Legend: N scenes of a town, P students.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ops.evaluation.displacement import displacement
from ops.evaluation.evaluate import event_tags, strided_scenes
from ops.pdm.score_rows import TRAINING_COLUMNS, PlanScorer
from ops.planners.checkpoint import load_planner
from ops.planners.propose import plan_rows
from ops.planners.recipe import planner_arrays
from ops.planners.training_arrays import TrainingArrays
from ops.study.arms import ARMS, StudentKey
from ops.study.config import StudyConfig
from ops.study.teachers import vlm_folder, vlm_streams
from ops.study.towns import Town
from ops.vla.vlm import VlmOutputs, VlmRows, open_vlm, run_vlm
from storage.artifact import Lineage, write_artifact
from storage.dataset import FrameSet

SCORES = pa.schema(
    [
        pa.field("town", pa.int32(), False),  # its seed
        pa.field("log_id", pa.string(), False),
        pa.field("frame_index", pa.int32(), False),
        pa.field("event", pa.bool_(), False),
        pa.field("pdms", pa.float64(), True),  # 0 ... 1; null if the scene cannot be scored
        pa.field("ade_m", pa.float64(), False),
    ]
)
FILE = "scores.parquet"


class StudentScorer:
    """Scores students on the scenes of the configured split, which are read once."""

    def __init__(self, towns: Sequence[Town], config: StudyConfig, root: Path) -> None:
        self._config, self._root = config, root
        self._read: dict[tuple[int, int], VlmOutputs] = {}  # by teacher and town
        # in this process: without workers a scorer has nothing to close
        self._towns = [
            (town, *_scenes(town, config), PlanScorer(town.lake, processes=1)) for town in towns
        ]

    def score(self, students: Mapping[StudentKey, Lineage]) -> None:
        """Write the scores of trained students, each an artefact."""
        if not students:
            return
        nets = {
            key: load_planner(self._root / "students" / key.name, ARMS[key.arm].kind)
            for key in students
        }
        tables: dict[StudentKey, list[pa.Table]] = {key: [] for key in students}
        planner = next(iter(nets.values())).planner.config  # the images of all are alike
        for town, scenes, events, score_plans in self._towns:
            arrays = planner_arrays(scenes, planner)
            plans_NP83 = np.stack(
                [
                    plan_rows(net, self._with_readings(arrays, key, town, scenes))
                    for key, net in nets.items()
                ],
                axis=1,
            )
            pdms_NP = score_plans(scenes, plans_NP83)[..., TRAINING_COLUMNS.index("score")]
            ade_NP = displacement(plans_NP83, scenes.future, scenes.future_valid).ade_m
            for at, key in enumerate(students):
                tables[key].append(_table(town, scenes, events, pdms_NP[:, at], ade_NP[:, at]))
        for key, lineage in students.items():
            with write_artifact(scores_folder(self._root, self._config.split, key), lineage) as out:
                pq.write_table(pa.concat_tables(tables[key]), out / FILE, compression="zstd")

    def _with_readings(
        self, arrays: TrainingArrays, key: StudentKey, town: Town, scenes: FrameSet
    ) -> TrainingArrays:
        """The arrays, with what a student that reads its teacher's VLM reads of it."""
        if not ARMS[key.arm].reads:
            return arrays
        assert key.teacher is not None
        at = (key.teacher, town.seed)
        if at not in self._read:
            vlm = open_vlm(vlm_folder(self._root, key.teacher))
            self._read[at] = run_vlm(vlm, VlmRows.of(scenes))
        return replace(arrays, **vlm_streams(self._read[at], ARMS[key.arm].reads))


def scores_folder(root: Path, split: str, key: StudentKey) -> Path:
    """Folder of a student's scores."""
    return root / "scores" / split / key.name


def read_scores(root: Path, split: str, key: StudentKey) -> pa.Table:
    """The scores of a student (SCORES)."""
    return pq.read_table(scores_folder(root, split, key) / FILE, schema=SCORES)


def _scenes(town: Town, config: StudyConfig) -> tuple[FrameSet, np.ndarray]:
    rows = town.read(config.split, config.vla.image_hw)
    chosen = strided_scenes(rows, config.evaluation)
    tags = event_tags(rows, chosen, config.evaluation.event_horizon_s)
    return rows.take(chosen), np.array([bool(items) for items in tags], dtype=bool)


def _table(
    town: Town, scenes: FrameSet, events: np.ndarray, pdms: np.ndarray, ade_m: np.ndarray
) -> pa.Table:
    return pa.table(
        {
            "town": np.full(len(scenes), town.seed, dtype=np.int32),
            "log_id": [f"{town.seed}/{log}" for log in scenes.log_id],
            "frame_index": scenes.frame_index,
            "event": events,
            "pdms": pa.array(pdms.astype(np.float64), from_pandas=True),
            "ade_m": ade_m.astype(np.float64),
        },
        SCORES,
    )
