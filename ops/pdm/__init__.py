"""The PDM score: NAVSIM PDMS (v1.1) and EPDMS (v2.2) in array code, batched over scenes and proposals. No devkit needed."""

from ops.pdm.pipeline import VERSIONS, Version
from ops.pdm.prepared import PreparedScene, prepare
from ops.pdm.scene import Scene
from ops.pdm.score import METRIC_NAMES, PdmScores, pdm_closed_plan, score, score_many

__all__ = ["METRIC_NAMES", "VERSIONS", "PdmScores", "PreparedScene", "Scene", "Version", "pdm_closed_plan", "prepare", "score",
           "score_many"]
