"""The VLA as a planner: the VLM and the planner that reads its hidden states."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.vlm import ActionVlm
from ops.planners.checkpoint import count_parameters, host, load_planner
from ops.planners.propose import plan_rows
from ops.planners.recipe import planner_arrays, read_recipe
from ops.vla.vlm import open_vlm, run_vlm
from storage.camera import fit_images
from storage.dataset import FrameSet


@dataclass(frozen=True, slots=True)
class VlaPlanner:
    """The VLM and the planner that reads its hidden states; `image_hw` is what the VLM sees."""

    vlm: ActionVlm
    model: Any
    image_hw: tuple[int, int]
    parameters: int
    batch: int = 32

    def plan(self, rows: FrameSet) -> np.ndarray:
        out = [
            self._plan(rows.take(np.arange(first, min(first + self.batch, len(rows)))))
            for first in range(0, len(rows), self.batch)
        ]
        return np.concatenate(out) if out else np.zeros((0, 8, 3))

    def _plan(self, rows: FrameSet) -> np.ndarray:
        said = run_vlm(self.vlm, fit_images(rows.images, self.image_hw), rows.status, self.batch)
        arrays = planner_arrays(rows, host(self.model).config)
        return plan_rows(self.model, replace(arrays, visual=said.visual, action=said.action))


def open_vla(vla: Path, *, planner: Path | None = None, vlm: Path | None = None) -> VlaPlanner:
    """The VLA of a finished artefact; `planner` and `vlm` are folders to take instead of its own."""
    model, read = (
        load_planner(planner or vla / "planner", "fused_planner"),
        open_vlm(vlm or vla / "vlm"),
    )
    return VlaPlanner(
        read, model, read_recipe(vla)[1], count_parameters(read) + count_parameters(model)
    )
