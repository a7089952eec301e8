"""The configuration of every asset at one scale. pipelines/presets.py names the scales."""

from dataclasses import dataclass, field
from typing import Any

from ops.evaluation.config import EvaluationConfig
from ops.ingest.config import ExtractConfig, FrameConfig
from ops.latent_actions.config import CodebookConfig, RelabelConfig
from ops.quality.config import QualityConfig
from ops.report.config import ReportConfig
from ops.student.config import StudentConfig
from ops.study.config import StudySize
from ops.synthesize.config import WorldConfig
from ops.training.config import ComputeConfig
from ops.vla.config import VlaConfig
from storage.versions import Joined

TRAINED_ASSETS = ("codebook", "vla", "student")  # on the hardware of `Preset.compute`


@dataclass(frozen=True, slots=True)
class Preset:
    """The configuration of every asset; the fields are named after the assets."""

    scale: str = field(metadata={"how": True})  # its name
    seed: int = 0  # of the run; each asset derives its own generators from it
    # for work that is done log by log
    processes: int = field(default=2, metadata={"how": True})
    # new logs since the last codebook that start retraining
    retrain_after_logs: int = field(default=20, metadata={"how": True})
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    world: WorldConfig | None = None  # None: real logs only
    frames: FrameConfig = field(default_factory=FrameConfig)
    trajectories: ExtractConfig = field(default_factory=ExtractConfig)
    codebook: CodebookConfig = field(default_factory=CodebookConfig)
    relabeled: RelabelConfig = field(default_factory=RelabelConfig)
    vla: VlaConfig = field(default_factory=VlaConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)  # rules of the data checks
    study: StudySize = field(default_factory=StudySize)  # of `latentvla study`, which is no asset


def config_of(preset: Preset, asset: str) -> Any:
    """What decides an asset beside its inputs, its code and the seed: its own configuration and,
    where networks are trained, the hardware. None for an asset without a configuration.
    """
    config = getattr(preset, asset, None)
    return Joined(config, {"compute": preset.compute}) if asset in TRAINED_ASSETS else config
