"""The oracle of the ablation: a planner that is given the recorded codes of a row, the ceiling of
what codes could give.

It is the fused planner of the VLA with the recorded codes in place of the VLM's hidden states.
Rows, recipe, scored proposals and seed are those of the finished VLA of the same seed. The codes
are computed from later frames, so the oracle cannot drive a car.

    out/planner/      the planner
    out/history/      one JSON-lines file of metrics of its training

Legend: N rows, S code slots, K codes, C = K + S channels.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.planners.config import FusionConfig
from models.planners.fusion import FusedPlannerNet
from ops.ablation.recorded_codes import one_hot_codes
from ops.ablation.train_fused import PART, train_fused
from ops.planners.checkpoint import count_parameters, load_planner
from ops.planners.propose import plan_rows
from ops.planners.recipe import planner_arrays
from ops.planners.scored_proposals import ScorePlans
from ops.planners.training_arrays import TrainingArrays
from ops.training.config import ComputeConfig
from ops.training.runs import TrainingRuns
from ops.vla.planner_rows import planner_rows
from storage.dataset import FrameSet
from storage.errors import ArtifactError

TOKENS = 4  # pooled tokens of each stream; the horizons in docs/ablations.md were measured with 4


@dataclass(frozen=True, slots=True)
class OraclePlanner:
    """The planner that reads the recorded codes of its rows."""

    model: FusedPlannerNet
    num_codes: int
    parameters: int

    def plan(self, rows: FrameSet) -> np.ndarray:
        """Plans (N, 8, 3), each in the ego frame of its row. Raises ArtifactError if the rows have
        no codes, or codes of another codebook.
        """
        slots = self.model.fusion_config.vlm_width - self.num_codes
        if len(rows) and rows.codes.shape[1] != slots:
            raise ArtifactError(
                "the rows have other codes than those the oracle was trained on",
                expected=f"{slots} codes a row",
                found=rows.codes.shape[1],
                do="relabel the rows: latentvla run --until relabeled",
            )
        arrays = planner_arrays(rows, self.model.planner.config)
        return plan_rows(self.model, with_recorded_codes(arrays, rows, self.num_codes))


def train_oracle(
    train: FrameSet,
    vla: Path,
    out: Path,
    fusion: FusionConfig,
    *,
    num_codes: int,
    score_plans: ScorePlans | None,
    compute: ComputeConfig,
    runs: Path,
    name: str,
    seed: int,
) -> Any:
    """Train the oracle, write it to `out` and return it; `vla` is the finished VLA of the same seed
    and rows, `fusion` from oracle_fusion().

    `num_codes` is the size of the codebook that labelled `train`; the other arguments are those of
    ops.vla.finetune.finetune. Raises ArtifactError if `vla` is missing or unfinished, or if the
    rows have no codes.
    """
    torch.set_num_threads(compute.threads)
    training = TrainingRuns(compute, runs, name, seed)
    rows = planner_rows(train, vla, score_plans, seed)
    arrays = with_recorded_codes(rows.arrays, rows.frames, num_codes)
    return train_fused(arrays, rows.recipe, fusion, training, out)


def open_oracle(folder: Path, num_codes: int) -> OraclePlanner:
    """Open the oracle in `folder`, trained on a codebook of this size. Raises ArtifactError if it
    is missing.
    """
    model = load_planner(folder / PART, "fused_planner")
    return OraclePlanner(model, num_codes, count_parameters(model))


def oracle_fusion(fusion: FusionConfig) -> FusionConfig:
    """The VLA's fusion with the oracle's number of pooled tokens."""
    return replace(fusion, tokens=TOKENS)


def with_recorded_codes(arrays: TrainingArrays, rows: FrameSet, num_codes: int) -> TrainingArrays:
    """The arrays of `rows` with their recorded codes in place of the VLM's hidden states.

    `action` (N, S, C) is a one-hot vector of the code, zero where the code is not valid, and one of
    the slot; `visual` (N, 1, C) is zero. Raises ArtifactError if the rows have no codes, or a code
    that the codebook does not have.
    """
    codes, slots = one_hot_codes(rows, num_codes), rows.codes.shape[1]
    action = np.zeros((len(rows), slots, num_codes + slots), dtype=np.float16)
    action[..., :num_codes] = codes
    action[..., num_codes:] = np.eye(slots)
    visual = np.zeros((len(rows), 1, num_codes + slots), dtype=np.float16)
    return replace(arrays, visual=visual, action=action)
