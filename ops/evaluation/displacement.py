"""Displacement errors of plans against the recorded future: ADE, FDE, lateral error.

Legend: N rows, P planners, 8 steps of 0.5 s, 3 = x, y, heading in the ego frame of the row.
"""

from dataclasses import dataclass

import numpy as np

from storage.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Displacement:
    """Errors of P plans for each of N rows, metres; zero where the human's future is missing and
    `valid` is False.
    """

    ade_m: np.ndarray  # (N, P) mean distance over the valid steps
    fde_m: np.ndarray  # (N, P) distance at the last step
    # (N, P) mean absolute distance perpendicular to the human's heading
    lateral_m: np.ndarray
    ade_valid: np.ndarray  # (N,) bool: at least one step of the human's future is recorded
    fde_valid: np.ndarray  # (N,) bool: its last step is recorded


def displacement(
    plans_NP83: np.ndarray, future_N83: np.ndarray, valid_N8: np.ndarray
) -> Displacement:
    """Average and final displacement error of plans (N, P, 8, 3) against the human's future (N, 8,
    3), in metres.

    Steps where `valid` (N, 8) is False are in no mean. Raises ConfigError if the shapes do not
    match.
    """
    if plans_NP83.ndim != 4 or (plans_NP83.shape[0], *plans_NP83.shape[2:]) != future_N83.shape:
        raise ConfigError(
            "plans and human futures do not belong together",
            expected=f"(N, P, 8, 3) and {future_N83.shape}",
            found=plans_NP83.shape,
            do="give the plans of exactly these rows",
        )
    offset_NP82 = plans_NP83[..., :2].astype(np.float64) - future_N83[:, None, :, :2]
    heading_N18 = future_N83[:, None, :, 2].astype(np.float64)
    across_NP8 = np.abs(
        offset_NP82[..., 1] * np.cos(heading_N18) - offset_NP82[..., 0] * np.sin(heading_N18)
    )
    distance_NP8 = np.hypot(offset_NP82[..., 0], offset_NP82[..., 1])
    weight_N18 = valid_N8[:, None, :].astype(np.float64)
    steps_N1 = np.maximum(weight_N18.sum(axis=2), 1.0)
    return Displacement(
        ade_m=(distance_NP8 * weight_N18).sum(axis=2) / steps_N1,
        fde_m=distance_NP8[:, :, -1] * weight_N18[:, :, -1],
        lateral_m=(across_NP8 * weight_N18).sum(axis=2) / steps_N1,
        ade_valid=valid_N8.any(axis=1),
        fde_valid=valid_N8[:, -1].astype(bool),
    )
