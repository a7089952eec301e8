"""The PDM score: NAVSIM PDMS (v1.1) and EPDMS (v2.2) in array code, batched over scenes and
proposals. No devkit needed.
"""

from ops.pdm.pipeline import VERSIONS, Version
from ops.pdm.prepared import PreparedScene, prepare
from ops.pdm.rules.quirks import DEVKIT, Quirks
from ops.pdm.scene.from_tables import LogScenes, scene_frames, scene_from_tables, scenes_from_tables
from ops.pdm.scene.scene import Scene
from ops.pdm.score import METRIC_NAMES, PdmScores, pdm_closed_plan, score, score_many

__all__ = [
    "DEVKIT",
    "METRIC_NAMES",
    "VERSIONS",
    "LogScenes",
    "PdmScores",
    "PreparedScene",
    "Quirks",
    "Scene",
    "Version",
    "pdm_closed_plan",
    "prepare",
    "scene_frames",
    "scene_from_tables",
    "scenes_from_tables",
    "score",
    "score_many",
]
