"""The scales: each is a function that returns the whole configuration of a run. No value is changed
anywhere else.

smoke      the whole pipeline in under 90 seconds, for tests and a first look
synthetic  the default: a synthetic world big enough to learn from, at most ten minutes on two cores
navsim     real OpenScene logs on eight GPUs, with the published weights in local folders
"""

import os
from collections.abc import Callable
from functools import lru_cache

from assets.chain.preset import Preset
from assets.chain.weights import DINOV2_VARIABLE, QWEN_VARIABLE
from models.ground_config import GroundConfig
from models.latent_action.config import LatentActionConfig, QuantizerConfig
from models.planners.config import PlannerConfig
from models.vlm_config import VlmConfig
from ops.evaluation.config import EvaluationConfig, IntervalConfig, OpenLoopConfig, ZeroShotConfig
from ops.ingest.config import FrameConfig, ZeroShotLogsConfig
from ops.latent_actions.config import CodebookConfig, RelabelConfig
from ops.pdm.config import ScenesConfig
from ops.planners.config import PlannerRecipe, ProposalScoringConfig, RowChoice
from ops.student.config import StudentConfig
from ops.study.config import StudySize
from ops.synthesize.config import TownBConfig, WorldConfig
from ops.training.config import ComputeConfig, FitConfig
from ops.vla.config import VlaConfig
from storage.errors import unknown_name


@lru_cache
def preset(scale: str) -> Preset:
    """The configuration of a scale. Raises ConfigError, with the nearest name, if there is no such
    scale.
    """
    if scale not in PRESETS:
        raise unknown_name("scale", scale, PRESETS)
    return PRESETS[scale]()


def synthetic() -> Preset:
    """The default, for a machine with two cores.

    Neighbouring frames of a log are so alike that a planner learns as much from every second one:
    the number of logs matters, not that of frames.
    """
    return Preset(
        scale="synthetic",
        world=WorldConfig(),
        vla=VlaConfig(
            vlm=VlmConfig(front_hw=(56, 112)),
            vlm_fit=FitConfig(steps=400, batch=16, learning_rate=1.5e-3, optimizer="muon"),
            recipe=PlannerRecipe(
                fit=FitConfig(steps=440, batch=32, learning_rate=2e-3, optimizer="muon"),
                rows=RowChoice(stride=2),
            ),
            ego_fit=FitConfig(steps=1500, batch=128, report_every=50),
        ),
        evaluation=EvaluationConfig(stride=2, zero_shot=ZeroShotConfig()),
    )


def smoke() -> Preset:
    """Every asset does its real work on few data and for few steps; the figures mean nothing."""
    return Preset(
        scale="smoke",
        retrain_after_logs=3,
        # one training at a time: a process takes longer to start than to train
        compute=ComputeConfig(at_once=1),
        # too short for events
        world=WorldConfig(train_logs=6, val_logs=1, test_logs=2, seconds=12.0, event_rate=0.0),
        codebook=CodebookConfig(
            model=LatentActionConfig(
                image_hw=(32, 48),
                environment_quantizer=QuantizerConfig(warmup_steps=8),
                ego_quantizer=QuantizerConfig(tokens=2, warmup_steps=20),
            ),
            environment=_few(16, 3e-3),
            ego=_few(40, 3e-3),
        ),
        vla=VlaConfig(
            vlm=VlmConfig(hidden=64, layers=2, vision_layers=1, vision_hidden=64),
            vlm_fit=_few(12, 1.5e-3, batch=8),
            recipe=PlannerRecipe(
                planner=PlannerConfig(
                    channels=(16, 32),
                    width=48,
                    blocks=1,
                    ground=GroundConfig(cell_m=1.5, channels=(16, 32), features=24),
                ),
                fit=_few(40),
                proposal_scoring=ProposalScoringConfig(
                    num_retrieved=4, num_perturbed=1, neighbor_window=20
                ),
            ),
            ego_fit=_few(150),
            val_rows=16,
        ),
        student=StudentConfig(int8=False, check_rows=16, val_rows=16, latency_calls=6),
        evaluation=EvaluationConfig(
            stride=3,
            interval=IntervalConfig(resamples=200),
            zero_shot=ZeroShotConfig(
                ZeroShotLogsConfig(TownBConfig(blocks=2, scenes=2, seconds=7.0, event_rate=0.0)),
                OpenLoopConfig(interval=IntervalConfig(resamples=200)),
            ),
        ),
        study=StudySize(
            town_seeds=(13, 31),
            labelled_logs=4,
            unlabelled_logs=4,
            val_logs=2,
            test_logs=2,
            teachers=2,
            students=1,
            members=2,
            vlm_fit=_few(12, 1.5e-3, batch=8),
            student_fit=_few(20),
        ),
    )


def navsim() -> Preset:
    """Real logs on eight GPUs: codes of DINOv2 features, Qwen2.5-VL-3B with low-rank adapters.

    LATENTVLA_DINOV2 and LATENTVLA_QWEN name the two folders of weights. A run that needs one of
    them and does not find it ends with an error before any work. With LATENTVLA_NUSCENES, a
    folder of nuScenes, the evaluation also covers its val scenes, zero shot.
    """
    return Preset(
        scale="navsim",
        processes=16,
        retrain_after_logs=200,
        compute=ComputeConfig(num_workers=8, use_gpu=True, threads=4),
        frames=FrameConfig(max_width=640),
        codebook=CodebookConfig(
            model=LatentActionConfig(
                image_hw=(112, 196),
                observation="features",
                vision_model=os.environ.get(DINOV2_VARIABLE, ""),
                sweep=None,
            ),
            environment=FitConfig(steps=50_000, batch=256, learning_rate=1e-4, autocast="bfloat16"),
            ego=FitConfig(steps=100_000, batch=256, learning_rate=1e-4, autocast="bfloat16"),
        ),
        relabeled=RelabelConfig(device="cuda"),
        vla=VlaConfig(
            image_hw=(252, 448),
            vlm=VlmConfig(
                # "": wanted but not given, which require_weights() refuses
                pretrained=os.environ.get(QWEN_VARIABLE, ""),
                dtype="bfloat16",
                attention="sdpa",
                lora_rank=64,
                gradient_checkpointing=True,
            ),
            vlm_fit=FitConfig(steps=20_000, batch=128, learning_rate=1e-4, autocast="bfloat16"),
            recipe=PlannerRecipe(
                planner=PlannerConfig(
                    image_hw=(252, 448),
                    channels=(96, 192, 384),
                    width=256,
                    heads=8,
                    blocks=4,
                    proposals=32,
                    ground=GroundConfig(
                        cell_m=0.5, side_m=24.0, far_m=59.0, channels=(96, 192, 384), features=128
                    ),
                ),
                fit=FitConfig(steps=60_000, batch=256, learning_rate=3e-4, autocast="bfloat16"),
                proposal_scoring=ProposalScoringConfig(
                    num_retrieved=24, num_perturbed=7, neighbor_window=5000
                ),
                # many epochs: the VLM will know its rows by heart
                rows=RowChoice(vlm_share=0.5),
            ),
            ego_fit=FitConfig(steps=20_000, batch=1024),
        ),
        evaluation=EvaluationConfig(scenes=ScenesConfig(processes=16), zero_shot=_nuscenes()),
    )


def _nuscenes() -> ZeroShotConfig | None:
    folder = os.environ.get("LATENTVLA_NUSCENES", "")
    return (
        ZeroShotConfig(ZeroShotLogsConfig(nuscenes=folder, frames=FrameConfig(max_width=640)))
        if folder
        else None
    )


def _few(steps: int, learning_rate: float = 1e-3, batch: int = 16) -> FitConfig:
    return FitConfig(steps=steps, batch=batch, learning_rate=learning_rate, checkpoint_every=10)


PRESETS: dict[str, Callable[[], Preset]] = {
    "smoke": smoke,
    "synthetic": synthetic,
    "navsim": navsim,
}
