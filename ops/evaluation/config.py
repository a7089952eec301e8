"""Configuration of the evaluation: scenes, ablations with other images, paired differences,
confidence intervals.
"""

from dataclasses import dataclass, field

from ops.ingest.config import ZeroShotLogsConfig
from ops.pdm.config import ScenesConfig
from storage.trajectory_table import Category

# measures of the score table, in its order
SCORE_TABLE_MEASURES = (
    *("pdms", "nc", "dac", "ddc", "ttc", "ep", "comfort"),
    *("epdms", "ade_m", "fde_m"),
)


@dataclass(frozen=True, slots=True)
class IntervalConfig:
    """Bootstrap over logs."""

    resamples: int = 2000  # bootstrap draws of whole logs
    confidence: float = 0.95  # coverage of an interval
    seed: int = 0  # of the bootstrap draws


@dataclass(frozen=True, slots=True)
class OpenLoopConfig:
    """Open-loop measures: the ego box of nuScenes' vehicle as in the public planning code, and the
    classes that count as obstacles.
    """

    length_m: float = 4.084
    width_m: float = 1.85
    # box centre ahead of the rear axle: 0.94 to the lidar, 0.5 from there
    center_ahead_m: float = 1.44
    categories: tuple[int, ...] = (Category.VEHICLE, Category.PEDESTRIAN, Category.BICYCLE)
    # a row is `turning` if the human is this far to a side after 3 s
    turning_offset_m: float = 2.0
    time_tolerance_s: float = 0.1  # largest time between a step and the frame of its boxes
    interval: IntervalConfig = field(default_factory=IntervalConfig)


@dataclass(frozen=True, slots=True)
class ZeroShotConfig:
    """The zero-shot logs, and the open-loop measures on them."""

    logs: ZeroShotLogsConfig = field(default_factory=ZeroShotLogsConfig)
    open_loop: OpenLoopConfig = field(default_factory=OpenLoopConfig)


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """Which scenes and planners are scored, and how the means are computed."""

    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    stride: int = 1  # every n-th scene of a log; 1: all
    # a scene has the events that are active within this time from its frame
    event_horizon_s: float = 4.0
    # planners that also plan with black images and with images of other logs
    sight_ablations: tuple[str, ...] = ("planner_alone", "student_no_teacher", "vla", "student")
    controls: tuple[tuple[str, str], ...] = (  # (planner, control): paired differences
        ("student", "student_no_teacher"),
        ("student", "vla"),
        ("student", "planner_alone"),
        ("student", "ego_status_mlp"),
        ("student", "constant_velocity"),
        ("student", "student_blank"),
        ("student", "student_shuffled"),
        ("vla", "planner_alone"),
        ("vla", "ego_status_mlp"),
        ("vla", "constant_velocity"),
        ("vla", "vla_blank"),
        ("vla", "vla_shuffled"),
        ("planner_alone", "ego_status_mlp"),
        ("planner_alone", "planner_alone_blank"),
        ("human", "pdm_closed"),
    )
    interval: IntervalConfig = field(default_factory=IntervalConfig)
    seed: int = 0  # of the shuffled images
    zero_shot: ZeroShotConfig | None = None  # open loop on logs of another town; None: not done
