"""Configurations of decoding, extraction and the zero-shot logs."""

from dataclasses import dataclass, field

from ops.synthesize.config import TownBConfig


@dataclass(frozen=True, slots=True)
class FrameConfig:
    """Which images of a log are stored, at which size, and what counts as a fault."""

    cameras: tuple[str, ...] = ()  # names; empty: the front camera only
    max_width: int | None = None  # pixels; wider images are shrunk by area; None: as recorded
    moving_mps: float = 1.0  # above this ego speed two equal images in a row mean a frozen camera
    black_below: float = 8.0  # mean brightness (0..255) under which an image counts as black
    max_gap_factor: float = 1.5  # a spacing above this multiple of the median counts as a gap


@dataclass(frozen=True, slots=True)
class ExtractConfig:
    """Rules of interpolation, the shortest usable log, and the extent of the map."""

    map_margin_m: float = 150.0  # map objects farther than this from the log's path are left out
    max_gap_s: float = 1.1  # no pose is interpolated between frames farther apart than this
    edge_tolerance_s: float = 0.02  # a step this far outside the log is valid (clock jitter)
    min_span_s: float = 5.5  # one window: 1.5 s of history and 4 s of future


@dataclass(frozen=True, slots=True)
class ZeroShotLogsConfig:
    """Which logs the zero-shot evaluation uses, and how they are read."""

    town: TownBConfig = field(default_factory=TownBConfig)
    # folder of real nuScenes data, whose test split is evaluated; "": town B
    nuscenes: str = ""
    frames: FrameConfig = field(default_factory=FrameConfig)
    trajectories: ExtractConfig = field(default_factory=ExtractConfig)
