"""Run trained planner networks on many rows."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from ops.planners.kinds import kind_of
from ops.planners.training_arrays import TrainingArrays


def plan_rows(model: nn.Module, arrays: TrainingArrays, batch: int = 64) -> np.ndarray:
    """The chosen plan of each row, (N, 8, 3) float64: m, m, rad in the ego frame at 0.5 s steps.

    `arrays` holds the inputs of the network's kind, with images at the planner's size; `batch` is
    the number of rows of one forward pass.
    """
    kind, device = kind_of(model), next(model.parameters()).device
    return plan_in_batches(partial(kind.plan, model), kind.inputs, arrays, device, batch)


@torch.no_grad()
def plan_in_batches(
    plan: Callable[..., torch.Tensor],
    inputs: Sequence[str],
    arrays: TrainingArrays,
    device: torch.device,
    batch: int = 64,
) -> np.ndarray:
    """The plans (N, 8, 3) float64 that `plan` returns for batches of the arrays named `inputs`."""

    def take(name: str, rows: slice) -> torch.Tensor:
        values = torch.from_numpy(np.ascontiguousarray(getattr(arrays, name)[rows])).to(device)
        return values.float() if values.is_floating_point() else values

    plans = [np.zeros((0, 8, 3))]
    for first in range(0, len(arrays), batch):
        rows = slice(first, first + batch)
        chosen = plan(*(take(name, rows) for name in inputs))
        plans.append(chosen.cpu().numpy().astype(np.float64))
    return np.concatenate(plans)
