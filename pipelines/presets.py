"""The one dial: a scale is a function that returns the whole configuration of a run. No value is changed anywhere else.

smoke      the whole chain in well under two minutes: tests, and a first look
embedded   the default: a world big enough to learn from, at most ten minutes on two cores
navsim     real OpenScene logs on eight GPUs, with the published weights in local folders
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import lru_cache
from typing import Any

from ops.decode import FrameConfig
from ops.distill import StudentConfig
from ops.draw import ReportConfig
from ops.evaluate import EvaluationConfig
from ops.extract import ExtractConfig
from ops.finetune import VlaConfig
from ops.launch import LaunchConfig
from ops.learn_actions import CodebookConfig
from ops.relabel import RelabelConfig
from ops.synthesize.world import WorldConfig
from storage.errors import unknown_name


@dataclass(frozen=True, slots=True)
class Preset:
    """The configuration of every link; the fields are named after the links."""

    scale: str
    seed: int = 0                           # of the run; each link derives its own generators from it
    processes: int = 2                      # for work that is done log by log
    retrain_after_logs: int = 20            # new logs since the last codebook that ask for retraining
    where: LaunchConfig = field(default_factory=LaunchConfig)
    world: WorldConfig | None = None        # None: real logs only
    frames: FrameConfig = field(default_factory=FrameConfig)
    trajectories: ExtractConfig = field(default_factory=ExtractConfig)
    codebook: CodebookConfig = field(default_factory=CodebookConfig)
    relabeled: RelabelConfig = field(default_factory=RelabelConfig)
    vla: VlaConfig = field(default_factory=VlaConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    report: ReportConfig = field(default_factory=ReportConfig)


@lru_cache
def preset(scale: str) -> Preset:
    """The configuration of a scale. Raises ConfigError, with the nearest name, if there is no such scale."""
    if scale not in PRESETS:
        raise unknown_name("scale", scale, PRESETS)
    return PRESETS[scale]()


def embedded() -> Preset:
    """The main job on a machine with two cores."""
    return Preset(scale="embedded", world=WorldConfig())


def smoke() -> Preset:
    """Every link does its real work on as little as possible."""
    return Preset(scale="smoke", retrain_after_logs=3, world=WorldConfig(train_logs=8, val_logs=2, test_logs=3))


def navsim() -> Preset:
    """Real logs on eight GPUs."""
    return Preset(scale="navsim", processes=16, retrain_after_logs=200, where=LaunchConfig(num_workers=8, use_gpu=True))


PRESETS: dict[str, Callable[[], Preset]] = {"smoke": smoke, "embedded": embedded, "navsim": navsim}


def as_plain(value: Any) -> Any:
    """A preset as nested dicts and lists, for printing."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


__all__ = ["PRESETS", "Preset", "as_plain", "preset", "replace"]
