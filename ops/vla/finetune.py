"""Make the `vla` artefact: the VLM, fine-tuned on the codes, and a planner that reads the hidden
states of the frozen VLM.

Two baselines are trained on the same rows with the same seed: the planner alone and the ego-status
MLP. All training uses the train split; the val split is only for the report. With
`RowChoice.vlm_share` below 1 the VLM is trained on some logs and the planners on the others.

    out/vlm/              Qwen2.5-VL in the Hugging Face layout, with tokenizer and image processor,
                          and in adapters/ the adapters (LoRA), where they were trained
    out/planner/          the planner that reads the VLM (config.json, model.safetensors)
    out/planner_alone/    the same planner without the VLM
    out/ego_status_mlp/   the ego-status MLP
    out/teacher/          the teacher's targets for the student, and the scored proposals
    out/history/          metrics of each training run, JSON lines
    out/config.json, out/report.json
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.vlm import ActionVlm
from ops.planners import baselines
from ops.planners.checkpoint import count_parameters, load_planner
from ops.planners.config import PlannerRecipe, RowChoice
from ops.planners.measure import PlannerFigures, measure_planners
from ops.planners.propose import plan_rows
from ops.planners.recipe import fitted_to_rows, fused_parts, planner_arrays, planner_job
from ops.planners.scored_proposals import ScorePlans, score_proposals
from ops.planners.training_arrays import (
    TrainingArrays,
    evenly_spaced,
    plannable_rows,
    planner_frames,
)
from ops.training.config import ComputeConfig, FitConfig
from ops.training.runs import Clock, TrainingJob, TrainingRuns
from ops.vla.blind_codes import blind_code_logits, frequency_logits, labelled_rows
from ops.vla.code_accuracy import CodeAccuracy, code_accuracy
from ops.vla.config import VlaConfig
from ops.vla.teacher import TeacherTargets
from ops.vla.vlm import (
    VlmOutputs,
    VlmRows,
    VlmTraining,
    open_vlm,
    require_front_hw,
    run_vlm,
    run_vlm_in_processes,
    vlm_loop,
)
from storage.dataset import FrameSet
from storage.errors import ArtifactError

TRAININGS = ("vlm", "ego_status_mlp", "planner_alone", "planner")


@dataclass(frozen=True, slots=True)
class VlaReport:
    """Figures of the `vla` artefact, measured on the val split."""

    vlm_rows: int  # training rows of the VLM
    train_rows: int  # training rows of the planners
    val_rows: int
    codes: CodeAccuracy  # of the VLM's code distributions against the relabeled codes
    # cross-entropies in nats on the same rows: of the blind baseline and of the code frequencies
    # (ops/vla/blind_codes.py), and of the VLM with the images of other rows
    blind_cross_entropy_nats: float
    frequency_cross_entropy_nats: float
    shuffled_cross_entropy_nats: float
    planners: tuple[PlannerFigures, ...]  # the human, the rules, the baselines and the VLA
    # "pdm_score", or "displacement" without a map
    scored_by: str
    vlm_parameters: int
    seconds: tuple[tuple[str, float], ...]  # wall time of each part


def finetune(
    train: FrameSet,
    val: FrameSet,
    out: Path,
    config: VlaConfig,
    *,
    num_codes: int,
    score_plans: ScorePlans | None,
    compute: ComputeConfig,
    runs: Path,
    name: str,
    seed: int,
) -> VlaReport:
    """Fill `out` with the VLA and its baselines.

    `train` and `val` are all relabeled rows of their splits, with images at `config.image_hw`;
    `num_codes` is the size of their codebook. `name` names the training runs; it must contain a
    hash of everything that determines the result, because a killed run of the same name is resumed.
    `score_plans` gives the PDM sub-scores of proposals; it is None without a map: the score heads
    are then not trained, and the report has displacement errors alone. Raises ArtifactError if no
    row has codes or a complete future, also among the held-out rows, or as vlm_logs() does.
    """
    if config.vlm.front_hw is not None:
        require_front_hw(config.vlm.front_hw, config.image_hw)
    measured_rows = _measured_rows(val, config)
    torch.set_num_threads(compute.threads)
    training, clock = TrainingRuns(compute, runs, name, seed), Clock()
    frames, flipped = planner_frames(train, config.recipe.rows)
    scored = score_proposals(
        train, frames, flipped, score_plans, config.recipe.proposal_scoring, seed
    )
    arrays = planner_arrays(frames, config.recipe.planner, scored)
    arrays.save(training.arrays("planner"))
    clock.lap("scored proposals")
    vlm_rows, of_vlm = vlm_job(train, out, config, num_codes, training)
    ego, alone = _ego_and_alone(config, frames)
    training.launch_all([of_vlm, alone.job(out, training), ego.job(out, training)])
    clock.lap("vlm, planner_alone, ego_status_mlp")

    vlm_outputs = run_vlm_in_processes(out / "vlm", VlmRows.of(frames), training.compute)
    arrays = replace(arrays, visual=vlm_outputs.visual, action=vlm_outputs.action)
    arrays.save(training.arrays("planner"))
    clock.lap("vlm outputs")
    fused = _fused(config, alone, vlm_outputs.visual.shape[-1])
    training.launch_all([fused.job(out, training)])
    clock.lap("planner")

    models = {
        planner.part: load_planner(out / planner.part, planner.kind)
        for planner in (ego, alone, fused)
    }
    TeacherTargets.predict(models["planner"], vlm_outputs, frames, flipped).save(out / "teacher")
    if scored is not None:
        scored.save(out / "teacher")
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1))

    vlm = open_vlm(out / "vlm")
    measured = val.take(measured_rows)
    vlm_on_val = run_vlm(vlm, VlmRows.of(measured))
    codes = _accuracy(vlm_on_val.code_logits, measured, train)
    blind, frequencies, shuffled = vlm_floors(
        vlm, measured, train, config.recipe.rows, num_codes, seed
    )
    planners = _measure(measured, vlm, vlm_on_val, models, config, score_plans)
    clock.lap("measure")
    report = VlaReport(
        vlm_rows,
        len(frames),
        len(measured),
        codes,
        blind.cross_entropy_nats,
        frequencies.cross_entropy_nats,
        shuffled.cross_entropy_nats,
        planners,
        "displacement" if scored is None else "pdm_score",
        count_parameters(vlm),
        clock.laps,
    )
    (out / "report.json").write_text(json.dumps(asdict(report), indent=1))
    training.finish(TRAININGS, out / "history")
    return report


@dataclass(frozen=True, slots=True)
class _Planner:
    """One of the three planners: its name, kind, configurations and recipe."""

    part: str
    kind: str
    parts: dict[str, Any]
    recipe: PlannerRecipe
    fit: FitConfig | None = None  # None: the recipe's

    def job(self, out: Path, training: TrainingRuns) -> TrainingJob:
        """Its training job, which writes to a folder of its name in `out`."""
        return planner_job(
            self.part, self.kind, self.parts, out / self.part, self.recipe, training, self.fit
        )


def vlm_job(
    train: FrameSet, out: Path, config: VlaConfig, num_codes: int, training: TrainingRuns
) -> tuple[int, TrainingJob]:
    """Number of training rows of the VLM, and its training job."""
    rows = labelled_rows(train, config.recipe.rows)
    if not len(rows):
        raise ArtifactError(
            "there are no rows to train the VLM on",
            expected="rows with codes and an image",
            found=f"none among {len(train)} rows",
            do="make the codes: latentvla run --until relabeled",
        )
    TrainingArrays(
        train.motion_status[rows],
        train.future[rows],
        train.images[rows],
        train.camera[rows],
        codes=train.codes[rows],
        codes_valid=train.codes_valid[rows],
    ).save(training.arrays("vlm"))
    vlm = replace(config.vlm, codes=num_codes, slots=train.codes.shape[1])
    job = VlmTraining(training.arrays("vlm"), out / "vlm", vlm, config.vlm_fit, training.seed)
    return len(rows), TrainingJob("vlm", vlm_loop, job)


def _ego_and_alone(config: VlaConfig, frames: FrameSet) -> tuple[_Planner, _Planner]:
    """The ego-status MLP and the planner alone, with constants from the training rows."""
    planner = fitted_to_rows(config.recipe.planner, frames)
    ego_mlp = replace(config.ego_mlp, offset_scale=planner.offset_scale)
    return (
        _Planner("ego_status_mlp", "ego_mlp", {"ego_mlp": ego_mlp}, config.recipe, config.ego_fit),
        _Planner("planner_alone", "planner", {"planner": planner}, config.recipe),
    )


def _fused(config: VlaConfig, alone: _Planner, vlm_width: int) -> _Planner:
    """The planner alone plus cross-attention to the VLM's pooled hidden states."""
    return _Planner(
        "planner",
        "fused_planner",
        fused_parts(alone.parts["planner"], config.fusion, vlm_width),
        config.recipe,
    )


def _measured_rows(val: FrameSet, config: VlaConfig) -> np.ndarray:
    """Numbers of the held-out rows that the report is about. Raises ArtifactError if there is
    none.
    """
    rows = evenly_spaced(plannable_rows(val), config.val_rows)
    if not len(rows):
        raise ArtifactError(
            "there are no held-out rows to measure the VLA on",
            expected="rows of val logs with an image and 4 s of recorded future",
            found=f"none among {len(val)} rows",
            do="add val logs, or release those that are set aside: latentvla logs",
        )
    return rows


def _accuracy(logits: np.ndarray, rows: FrameSet, train: FrameSet) -> CodeAccuracy:
    return code_accuracy(logits, rows.codes, rows.codes_valid, train.codes, train.codes_valid)


def vlm_floors(
    vlm: ActionVlm, rows: FrameSet, train: FrameSet, choice: RowChoice, num_codes: int, seed: int
) -> tuple[CodeAccuracy, CodeAccuracy, CodeAccuracy]:
    """The code accuracy without the right images: of the blind baseline, of the code frequencies,
    and of the VLM with the images of other rows.
    """
    blind_logits = blind_code_logits(train, rows, choice, num_codes, seed)
    labelled = labelled_rows(train, choice)
    frequencies_SK = frequency_logits(train.codes[labelled], train.codes_valid[labelled], num_codes)
    others = np.random.default_rng((seed, 311)).permutation(len(rows))
    shuffled = run_vlm(vlm, VlmRows.of(rows).with_images_of(others))
    return (
        _accuracy(blind_logits, rows, train),
        _accuracy(np.broadcast_to(frequencies_SK, blind_logits.shape), rows, train),
        _accuracy(shuffled.code_logits, rows, train),
    )


def _measure(
    rows: FrameSet,
    vlm: ActionVlm,
    vlm_outputs: VlmOutputs,
    models: dict[str, Any],
    config: VlaConfig,
    score_plans: ScorePlans | None,
) -> tuple[PlannerFigures, ...]:
    arrays = replace(
        planner_arrays(rows, config.recipe.planner),
        visual=vlm_outputs.visual,
        action=vlm_outputs.action,
    )
    rules = (
        baselines.human,
        baselines.stopped,
        baselines.constant_velocity,
        baselines.constant_turn_rate,
    )
    plans = {rule.__name__: rule(rows) for rule in rules}
    names = {"planner": "vla"}
    plans |= {names.get(part, part): plan_rows(model, arrays) for part, model in models.items()}
    parameters = {names.get(part, part): count_parameters(model) for part, model in models.items()}
    parameters["vla"] += count_parameters(vlm)
    return measure_planners(rows, plans, parameters, score_plans)
