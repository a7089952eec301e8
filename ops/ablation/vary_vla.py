"""Train the VLA's planner again with one part of the VLA changed, for the ablation.

Everything else comes from the finished VLA of the same seed: recipe, output constants and, unless
it is the changed part, the VLM. The planner is trained on the VLM's hidden states as in
ops/vla/finetune.py, with the same rows, seeds and calls: without a change the result is the VLA's
own planner, bit for bit.

    out/vlm/          the VLM, if it differs from that of the VLA
    out/planner/      the planner
    out/history/      one JSON-lines file of metrics per training run
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from models.vlm import ActionVlm
from ops.ablation.train_fused import PART, train_fused
from ops.planners.scored_proposals import ScorePlans
from ops.training.config import ComputeConfig
from ops.training.runs import TrainingRuns
from ops.vla.config import VlaConfig
from ops.vla.planner import VlaPlanner, open_vla
from ops.vla.planner_rows import planner_rows
from ops.vla.vlm import VlmRows, open_vlm, run_vlm_in_processes
from storage.dataset import FrameSet


def vary_vla(
    train: FrameSet,
    vla: Path,
    out: Path,
    config: VlaConfig,
    *,
    score_plans: ScorePlans | None,
    compute: ComputeConfig,
    runs: Path,
    name: str,
    seed: int,
) -> Any:
    """Train the planner of a changed VLA, write it to `out` and return it; `vla` is the unchanged
    VLA of the same seed and rows.

    Two parts of `config` may differ from the configuration of `vla`: `fusion`, and `vlm_fit` with
    zero steps, which leaves the VLM untrained on codes (randomly initialised, or with its published
    weights). The other arguments are those of ops.vla.finetune.finetune. Raises ArtifactError if
    `vla` is missing or unfinished.
    """
    torch.set_num_threads(compute.threads)
    training = TrainingRuns(compute, runs, name, seed)
    rows = planner_rows(train, vla, score_plans, seed)
    if config.vlm_fit.steps == 0:
        trained = open_vlm(vla / "vlm")
        untrained = replace(config.vlm, codes=trained.processor.codes, slots=trained.slots)
        torch.manual_seed(seed)
        ActionVlm.build(untrained).save(out / "vlm")
    vlm_outputs = run_vlm_in_processes(_vlm_folder(out, vla), VlmRows.of(rows.frames), compute)
    arrays = replace(rows.arrays, visual=vlm_outputs.visual, action=vlm_outputs.action)
    return train_fused(arrays, rows.recipe, config.fusion, training, out)


def open_varied(folder: Path, vla: Path) -> VlaPlanner:
    """Open the planner of a changed VLA in `folder`, with its own VLM or that of the unchanged VLA.
    Raises ArtifactError if one of them is missing.
    """
    return open_vla(vla, planner=folder / PART, vlm=_vlm_folder(folder, vla))


def _vlm_folder(folder: Path, vla: Path) -> Path:
    return folder / "vlm" if (folder / "vlm").exists() else vla / "vlm"
