"""Configuration of the study's towns, apart from that of the trainings: another training makes no
log again.

Imports no torch.
"""

from dataclasses import dataclass

from ops.ingest.config import ExtractConfig, FrameConfig
from ops.synthesize.config import WorldConfig


@dataclass(frozen=True, slots=True)
class TownsConfig:
    """The logs of all towns and how they are read."""

    seeds: tuple[int, ...]  # one synthetic town each; the logs are spread evenly over them
    labelled_logs: int
    unlabelled_logs: int
    val_logs: int
    test_logs: int
    world: WorldConfig  # its seed and numbers of logs are replaced
    frames: FrameConfig
    trajectories: ExtractConfig
