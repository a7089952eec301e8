"""Run a trained planner network on many rows."""

import numpy as np
import torch
from torch import nn

from ops.planners.kinds import kind_of
from ops.planners.training_arrays import TrainingArrays


@torch.no_grad()
def plan_rows(model: nn.Module, arrays: TrainingArrays, batch: int = 64) -> np.ndarray:
    """The chosen plan of each row, (N, 8, 3) float64: m, m, rad in the ego frame at 0.5 s steps.

    `arrays` holds the inputs of the network's kind, with images at the planner's size; `batch` is
    the number of rows of one forward pass.
    """
    kind, device = kind_of(model), next(model.parameters()).device

    def take(name: str, rows: slice) -> torch.Tensor:
        values = torch.from_numpy(np.ascontiguousarray(getattr(arrays, name)[rows])).to(device)
        return values.float() if values.is_floating_point() else values

    plans = [np.zeros((0, 8, 3))]
    for first in range(0, len(arrays), batch):
        rows = slice(first, first + batch)
        chosen = kind.plan(model, *(take(name, rows) for name in kind.inputs))
        plans.append(chosen.cpu().numpy().astype(np.float64))
    return np.concatenate(plans)
