"""What the evaluation scores, and how it draws its intervals."""

from dataclasses import dataclass, field

from ops.ingest.config import ZeroShotLogsConfig
from ops.pdm.config import ScenesConfig
from storage.trajectory_table import Category


@dataclass(frozen=True, slots=True)
class IntervalConfig:
    """How intervals are drawn."""

    resamples: int = 2000  # bootstrap draws of whole logs
    confidence: float = 0.95  # probability mass of an interval
    seed: int = 0  # of the draws


@dataclass(frozen=True, slots=True)
class OpenLoopConfig:
    """The ego box of nuScenes' vehicle as the public planning code takes it, and what counts as an
    obstacle.
    """

    length_m: float = 4.084
    width_m: float = 1.85
    # box centre ahead of the rear axle: 0.94 to the lidar, 0.5 from there
    center_ahead_m: float = 1.44
    categories: tuple[int, ...] = (Category.VEHICLE, Category.PEDESTRIAN, Category.BICYCLE)
    # a row is `turning` if the human is this far sideways after 3 s
    turning_offset_m: float = 2.0
    time_tolerance_s: float = 0.1  # a box belongs to a step if its frame lies this near
    interval: IntervalConfig = field(default_factory=IntervalConfig)


@dataclass(frozen=True, slots=True)
class ZeroShotConfig:
    """The logs, and how the plans on them are judged."""

    logs: ZeroShotLogsConfig = field(default_factory=ZeroShotLogsConfig)
    open_loop: OpenLoopConfig = field(default_factory=OpenLoopConfig)


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """What is scored and how the means are drawn up."""

    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    stride: int = 1  # every how many scenes of a log; 1: all
    # a scene carries the events that are active from now until then
    event_horizon_s: float = 4.0
    sight_ablations: tuple[str, ...] = (
        "planner_alone",
        "student_no_teacher",
        "vla",
        "student",
    )  # also with blank and shuffled images
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
    zero_shot: ZeroShotConfig | None = None  # also drive logs of another place, open loop
