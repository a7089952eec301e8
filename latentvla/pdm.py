"""The PDM score as a library: NAVSIM PDMS (v1.1) and EPDMS (v2.2), batched over plans.

    prepared = prepare(scene_from_tables(trajectories, agents, lights, map_table, frame_index))
    scores = score(prepared, plans, version="v2")

docs/metrics.md defines every sub-score.
"""

import latentvla  # noqa: F401  # makes the packages of a wheel importable
from ops.pdm.config import METRIC_NAMES, VERSIONS, Version
from ops.pdm.prepared import PreparedScene, prepare
from ops.pdm.rules.quirks import DEVKIT, Quirks
from ops.pdm.scene.from_tables import (
    LogScenes,
    scene_frames,
    scene_from_tables,
    scenes_from_tables,
)
from ops.pdm.scene.scene import Scene
from ops.pdm.score import PdmScores, pdm_closed_plan, score
from ops.pdm.score_file import PlanMean, means_of, score_plans

__all__ = [
    "DEVKIT",
    "METRIC_NAMES",
    "VERSIONS",
    "LogScenes",
    "PdmScores",
    "PlanMean",
    "PreparedScene",
    "Quirks",
    "Scene",
    "Version",
    "means_of",
    "pdm_closed_plan",
    "prepare",
    "scene_frames",
    "scene_from_tables",
    "scenes_from_tables",
    "score",
    "score_plans",
]
