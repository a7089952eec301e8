"""Plans of a trained planner for many rows. Not its training, not the reading of a lake."""

import numpy as np
import torch

from models.planners.ego_mlp import EgoMlp
from models.planners.fusion import FusedPlannerNet
from models.planners.student import StudentNet
from ops.planners.checkpoint import AnyPlanner
from ops.planners.training_arrays import TrainingArrays


@torch.no_grad()
def plan_rows(model: AnyPlanner, arrays: TrainingArrays, batch: int = 64) -> np.ndarray:
    """The chosen plan of each row, (N, 8, 3) float64, from images at the planner's size; for the
    VLA from its hidden states too.
    """
    if isinstance(model, EgoMlp):
        return (
            model(torch.from_numpy(np.ascontiguousarray(arrays.status))).numpy().astype(np.float64)
        )
    device = next(model.parameters()).device

    def take(name: str, rows: slice) -> torch.Tensor:
        values = torch.from_numpy(np.ascontiguousarray(getattr(arrays, name)[rows])).to(device)
        return values.float() if values.is_floating_point() else values

    plans = [np.zeros((0, 8, 3))]
    for first in range(0, len(arrays), batch):
        rows = slice(first, first + batch)
        inputs = [take(name, rows) for name in ("images", "camera", "status")]
        if isinstance(model, StudentNet):
            chosen = model.plan(*inputs)
        elif isinstance(model, FusedPlannerNet):
            chosen = model.planner.choose(
                *model(*inputs, take("visual", rows), take("action", rows))
            )
        else:
            chosen = model.choose(*model(*inputs))
        plans.append(chosen.cpu().numpy().astype(np.float64))
    return np.concatenate(plans)
