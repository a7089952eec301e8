"""Run a trained planner over many rows. Not its training, not the reading of a lake."""

from dataclasses import fields

import numpy as np
import torch

from models.ego_mlp import EgoMlp
from models.fusion import FusedPlanner
from models.planner import Proposals
from models.student import StudentPlanner
from ops.load_planner import AnyPlanner, host
from ops.training_arrays import TrainingArrays


@torch.no_grad()
def propose(model: AnyPlanner, arrays: TrainingArrays, batch: int = 64) -> Proposals:
    """Proposals of N rows, on the CPU, from images at the planner's size; for the VLA from its hidden states too."""
    device = next(model.parameters()).device

    def take(name: str, rows: slice) -> torch.Tensor:
        values = torch.from_numpy(np.ascontiguousarray(getattr(arrays, name)[rows])).to(device)
        return values.float() if values.is_floating_point() else values

    parts = []
    for first in range(0, len(arrays), batch):
        rows = slice(first, first + batch)
        inputs = [take("images", rows), take("status", rows)]
        if isinstance(model, FusedPlanner):
            inputs += [take("visual", rows), take("action", rows)]
        said = model(*inputs)
        parts.append(said.found if isinstance(model, StudentPlanner) else said)
    return Proposals(*(torch.cat([getattr(part, item.name) for part in parts]).cpu() for item in fields(Proposals)))


@torch.no_grad()
def plan_rows(model: AnyPlanner, arrays: TrainingArrays, batch: int = 64) -> np.ndarray:
    """The chosen plan of each row, (N, 8, 3) float64."""
    if isinstance(model, EgoMlp):
        return model(torch.from_numpy(np.ascontiguousarray(arrays.status))).numpy().astype(np.float64)
    if not len(arrays):
        return np.zeros((0, 8, 3))
    return host(model).choose(propose(model, arrays, batch)).numpy().astype(np.float64)
