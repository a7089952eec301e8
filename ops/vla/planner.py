"""The VLA behind the interface of ops/planners/planner.py.

Legend: N rows; a plan is (8, 3): x, y, heading in m, m, rad in the ego frame at 0.5 s steps.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.vlm import ActionVlm
from ops.planners.checkpoint import count_parameters, load_planner
from ops.planners.propose import plan_rows
from ops.planners.recipe import planner_arrays, read_recipe
from ops.vla.vlm import VlmRows, open_vlm, run_vlm
from storage.dataset import FrameSet


@dataclass(frozen=True, slots=True)
class VlaPlanner:
    """The VLM and the planner that reads its hidden states; `image_hw` is the VLM's image size."""

    vlm: ActionVlm
    model: Any
    image_hw: tuple[int, int]
    parameters: int
    batch: int = 32

    def plan(self, rows: FrameSet) -> np.ndarray:
        """Plans (N, 8, 3), each in the ego frame of its row."""
        plans = [
            self._plan(rows.take(np.arange(first, min(first + self.batch, len(rows)))))
            for first in range(0, len(rows), self.batch)
        ]
        return np.concatenate(plans) if plans else np.zeros((0, 8, 3))

    def _plan(self, rows: FrameSet) -> np.ndarray:
        outputs = run_vlm(self.vlm, VlmRows.of(rows, self.image_hw), self.batch)
        arrays = planner_arrays(rows, self.model.planner.config)
        return plan_rows(self.model, replace(arrays, visual=outputs.visual, action=outputs.action))


def open_vla(vla: Path, *, planner: Path | None = None, vlm: Path | None = None) -> VlaPlanner:
    """The VLA of a finished `vla`; the folders `planner` and `vlm` replace the artefact's own.

    Raises ArtifactError if the artefact is missing or unfinished.
    """
    model = load_planner(planner or vla / "planner", "fused_planner")
    opened_vlm = open_vlm(vlm or vla / "vlm")
    parameters = count_parameters(opened_vlm) + count_parameters(model)
    return VlaPlanner(opened_vlm, model, read_recipe(vla)[1], parameters)
