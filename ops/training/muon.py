"""Muon: momentum whose update of a matrix is made orthogonal, so that it moves all directions
equally (Jordan et al. 2024, "Muon: an optimizer for hidden layers").

torch.optim.Muon does the same in bfloat16, which takes 15 to 20 times as long on a processor
without bfloat16 products; here matrices of one shape are orthogonalised together, in float32.

Legend: M matrices of one shape, R x C their rows and columns.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

_QUINTIC = (3.4445, -4.7750, 2.0315)  # coefficients of the Newton-Schulz iteration
_ITERATIONS = 5
_MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay, for matrices alone.

    An update has the root mean square of one of AdamW, 0.2 times the learning rate (Liu et al.
    2025, "Muon is scalable for LLM training", section 2.2).
    """

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for shape, matrices in by_shape.items():
                updates_MRC = orthogonal(torch.stack([self._momentum(item) for item in matrices]))
                scale = 0.2 * math.sqrt(max(shape))
                for matrix, update_RC in zip(matrices, updates_MRC, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(update_RC.to(matrix.dtype), alpha=-group["lr"] * scale)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As the base class, which would round the momentum to the parameters' dtype."""
        super().load_state_dict(state_dict)
        matrices = [matrix for group in self.param_groups for matrix in group["params"]]
        for number, saved in state_dict["state"].items():
            matrix = matrices[number]
            self.state[matrix]["momentum"] = saved["momentum"].to(matrix.device).clone()

    def _momentum(self, matrix: torch.Tensor) -> torch.Tensor:
        """The Nesterov momentum of a matrix (R, C), float32."""
        assert matrix.grad is not None
        state, gradient_RC = self.state[matrix], matrix.grad.float()
        if not state:
            state["momentum"] = torch.zeros_like(gradient_RC)
        state["momentum"].lerp_(gradient_RC, 1 - _MOMENTUM)
        return gradient_RC.lerp(state["momentum"], _MOMENTUM)


def orthogonal(matrices_MRC: torch.Tensor) -> torch.Tensor:
    """Matrices (M, R, C) with the same singular vectors and singular values near 1 (0.7 to 1.2), by
    five Newton-Schulz iterations.
    """
    tall = matrices_MRC.shape[1] > matrices_MRC.shape[2]
    x = matrices_MRC.transpose(1, 2) if tall else matrices_MRC
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    first, third, fifth = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(
            x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first
        )
    return x.transpose(1, 2) if tall else x
