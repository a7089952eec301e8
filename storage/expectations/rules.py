"""The data rules: what each tests, its limits, and what a failure does.

This is the one list of them. `ops/quality/config.py` changes limits and severities for a run.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from storage.trajectory_table import Category, Command

BLOCK = "block"  # a log that breaks the rule is not trained on
WARN = "warn"  # it is named, and used
OFF = "off"  # the rule is not evaluated
SEVERITIES = (BLOCK, WARN, OFF)

_READ_AGAIN = "correct or leave out the log; it is read again when its bytes change"
HINTS = {  # table or rule -> what to do about a row that breaks a rule
    "raw": "the reason says what to do; the log is read again when its bytes change",
    "images": "look at the frame: latentvla show LOG --frame N; then leave it out or repair it",
    "files": "make it again: latentvla run (the damaged artefact first: remove its folder)",
    "cameras": "correct the calibration or the images of this camera in the raw log",
    "pictures": "the camera repeats an image: leave the log out, or only its stuck part",
    "clock": "shift the camera's time stamps by the lag named, or leave the log out",
    "trajectories": _READ_AGAIN,
    "agents": _READ_AGAIN,
    "lights": _READ_AGAIN,
    "map": "correct the map beside the raw logs",
    "relabeled": "make it again: latentvla run --until relabeled",
    "scores": "make it again: latentvla run --until evaluation",
    "plans": "make it again: latentvla run --until evaluation",
    "lake": "see the logs named",
    "files_are_whole": "restore the files; or remove the artefact's link in the lake and make it "
    "again: latentvla run",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule on one table. A row breaks it if `column` is outside the limits, is none of
    `values`, or repeats the columns `unique`. A value that is missing or NaN breaks it too.
    """

    name: str  # also the name of the Dagster check
    asset: str  # whose data it tests; "lake": all of it
    table: str  # of storage/expectations/columns.py, or measured by ops/quality
    description: str  # shown in the UI; {low}, {high} and {allowed} are the limits
    severity: str  # BLOCK | WARN | OFF
    column: str = ""
    low: float | None = None
    high: float | None = None
    values: tuple[int | bool | str, ...] = ()
    unique: tuple[str, ...] = ()
    allowed: float = 0.0  # share of one log's rows that may break it

    @property
    def blocking(self) -> bool:
        """True if a log that breaks the rule is not trained on."""
        return self.severity == BLOCK

    @property
    def text(self) -> str:
        """The description with its limits."""
        return self.description.format(
            low=_number(self.low), high=_number(self.high), allowed=f"{100 * self.allowed:g} %"
        )

    @property
    def hint(self) -> str:
        """What to do about it."""
        return HINTS.get(self.name) or HINTS[self.table]


@dataclass(frozen=True, slots=True)
class LogFailure:
    """One log that breaks one rule."""

    count: int  # rows that break it
    rows: int  # of the log in this table
    keys: tuple[str, ...]  # of the first of these rows: "log_id/frame_index"
    value: str  # of the first of these rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


RAW_RULES = (
    Rule(
        "logs_are_readable",
        "raw_logs",
        "raw",
        "Every log can be read; in a lake: none is in quarantine.",
        BLOCK,
        "error",
        values=("",),
    ),
)


def _frames(name: str, table: str, description: str, severity: str, column: str, **more) -> Rule:
    return Rule(name, "frames", table, description, severity, column, **more)


FRAME_RULES = (
    _frames(
        "frames_are_readable",
        "files",
        "The frame store of every log can be read.",
        BLOCK,
        "error",
        values=("",),
    ),
    _frames(
        "images_have_one_shape",
        "cameras",
        "Every log holds images, all of a camera of one size and at least {low} pixels wide.",
        BLOCK,
        "width_px",
        low=32,
    ),
    _frames(
        "calibration_is_finite",
        "cameras",
        "Intrinsics, extrinsics and distortion are numbers, not NaN or infinite.",
        BLOCK,
        "finite",
        values=(True,),
    ),
    _frames(
        "focal_length_is_positive",
        "cameras",
        "Both focal lengths are at least {low} of the image's width.",
        BLOCK,
        "focal_share",
        low=0.05,
    ),
    _frames(
        "extrinsics_are_a_rotation",
        "cameras",
        "The camera's axes are at right angles and of length one, within {high}.",
        BLOCK,
        "rotation_error",
        low=0.0,
        high=0.01,
    ),
    _frames(
        "time_moves_forward",
        "images",
        "Time stamps of a camera increase from frame to frame.",
        BLOCK,
        "step_s",
        low=1e-6,
    ),
    _frames(
        "no_gaps_in_time",
        "images",
        "No time between two frames is above {high} times the camera's median.",
        WARN,
        "gap_factor",
        low=0.0,
        high=1.5,
    ),
    _frames(
        "no_black_images",
        "images",
        "No image has a mean brightness below {low} of 255.",
        WARN,
        "brightness",
        low=8.0,
    ),
    _frames(
        "no_frozen_images",
        "images",
        "No image repeats the one before while the ego moves.",
        WARN,
        "frozen",
        values=(False,),
    ),
    _frames(
        "images_are_sharp",
        "images",
        "The variance of an image's Laplacian, at 128 pixels width, is at least {low}; at most "
        "{allowed} of a log's images may be below.",
        WARN,
        "sharpness",
        low=20.0,
        allowed=0.1,
    ),
    _frames(
        "images_are_not_overexposed",
        "images",
        "At most {high} of an image is white (250 of 255 and more); at most {allowed} of a log's "
        "images may have more.",
        WARN,
        "white_share",
        low=0.0,
        high=0.4,
        allowed=0.1,
    ),
    _frames(
        "images_are_not_underexposed",
        "images",
        "At most {high} of an image is black (5 of 255 and less); at most {allowed} of a log's "
        "images may have more.",
        WARN,
        "black_share",
        low=0.0,
        high=0.7,
        allowed=0.1,
    ),
)


def _row(name: str, description: str, severity: str, column: str = "", **more) -> Rule:
    return Rule(name, "trajectories", "trajectories", description, severity, column, **more)


TRAJECTORY_RULES = (
    _row(
        "key_is_unique",
        "No two rows have the same (log_id, frame_index).",
        BLOCK,
        unique=("log_id", "frame_index"),
    ),
    _row(
        "pose_is_finite",
        "Poses, velocities and accelerations are numbers, not NaN or infinite.",
        BLOCK,
        "finite",
        values=(True,),
    ),
    _row(
        "numbers_are_finite",
        "No number of a row is NaN or infinite, also none of its history and future.",
        BLOCK,
        "numbers_finite",
        values=(True,),
    ),
    _row(
        "time_increases",
        "Time moves forward from row to row of a log, by at most {high} s.",
        BLOCK,
        "dt_s",
        low=1e-3,
        high=2.0,
    ),
    _row(
        "speed_in_range",
        "Speed is between {low} and {high} m/s.",
        BLOCK,
        "speed_mps",
        low=0.0,
        high=60.0,
    ),
    _row(
        "pose_agrees_with_speed",
        "Consecutive poses lie as far apart as the recorded speed implies, within {high} m/s.",
        BLOCK,
        "jump_mps",
        low=0.0,
        high=5.0,
    ),
    _row(
        "future_agrees_with_speed",
        "The first future waypoint agrees with the recorded speed, within {high} m.",
        BLOCK,
        "future_error_m",
        low=0.0,
        high=3.0,
    ),
    _row(
        "command_is_known",
        "The driving command is one of left, straight, right, unknown.",
        BLOCK,
        "command",
        values=tuple(int(item) for item in Command),
    ),
    _row(
        "heading_is_wrapped",
        "Headings lie in [-pi, pi].",
        BLOCK,
        "yaw_rad",
        low=-np.pi,
        high=np.pi,
    ),
    _row(
        "acceleration_in_range",
        "Accelerations stay within {high} m/s2.",
        WARN,
        "acceleration_mps2",
        low=0.0,
        high=12.0,
    ),
    _row(
        "yaw_rate_in_range",
        "Yaw rates stay within {high} rad/s.",
        WARN,
        "yaw_rate_radps",
        low=-1.5,
        high=1.5,
    ),
    _row(
        "jerk_in_range",
        "Changes of acceleration stay within {high} m/s3.",
        WARN,
        "jerk_mps3",
        low=0.0,
        high=30.0,
    ),
    _row(
        "rows_have_images",
        "At most {allowed} of a log's rows have no front-camera image.",
        WARN,
        "has_image",
        values=(True,),
        allowed=0.1,
    ),
    _row(
        "rows_have_futures",
        "At most {allowed} of a log's rows lack the whole 4 s future.",
        WARN,
        "has_future",
        values=(True,),
        allowed=0.75,
    ),
)

MOTION_RULES = (
    Rule(
        "tables_are_readable",
        "trajectories",
        "files",
        "The tables of every log can be read.",
        BLOCK,
        "error",
        values=("",),
    ),
    Rule(
        "images_change_while_driving",
        "trajectories",
        "pictures",
        "An image differs from the one before if the ego has driven on; at most {allowed} of a "
        "log's images may not.",
        WARN,
        "repeats",
        values=(False,),
        allowed=0.05,
    ),
    Rule(
        "camera_agrees_with_odometry",
        "trajectories",
        "clock",
        "The motion seen by the front camera and the recorded motion lie at most {high} s apart, "
        "where the log's motion allows to tell.",
        WARN,
        "lag_s",
        low=-0.25,
        high=0.25,
    ),
)


def _agent(name: str, description: str, severity: str, column: str = "", **more) -> Rule:
    return Rule(name, "trajectories", "agents", description, severity, column, **more)


AGENT_RULES = (
    _agent(
        "agent_key_is_unique",
        "No track appears twice in a frame.",
        BLOCK,
        unique=("log_id", "frame_index", "track_token"),
    ),
    _agent(
        "agent_category_is_known",
        "Every agent has a category of NAVSIM.",
        BLOCK,
        "category",
        values=tuple(int(item) for item in Category),
    ),
    _agent(
        "agent_is_finite",
        "Place, heading, velocity and size of every agent are numbers, not NaN or infinite.",
        BLOCK,
        "finite",
        values=(True,),
    ),
    _agent(
        "agent_frame_is_known",
        "Every agent belongs to a row of the trajectories.",
        WARN,
        "frame_known",
        values=(True,),
    ),
    _agent(
        "agent_length_in_range",
        "Agents are between {low} and {high} m long.",
        WARN,
        "length_m",
        low=0.05,
        high=40.0,
    ),
    _agent(
        "agent_width_in_range",
        "Agents are between {low} and {high} m wide.",
        WARN,
        "width_m",
        low=0.02,
        high=40.0,
    ),
    _agent(
        "agent_height_in_range",
        "Agents are between {low} and {high} m high.",
        WARN,
        "height_m",
        low=0.02,
        high=10.0,
    ),
    _agent(
        "agent_speed_in_range",
        "Agents move at no more than {high} m/s.",
        WARN,
        "speed_mps",
        low=0.0,
        high=70.0,
    ),
)


def _scene(name: str, table: str, description: str, severity: str, column: str = "", **more):
    return Rule(name, "trajectories", table, description, severity, column, **more)


SCENE_RULES = (
    _scene(
        "light_key_is_unique",
        "lights",
        "No traffic light has two states in a frame.",
        WARN,
        unique=("log_id", "frame_index", "lane_connector_id"),
    ),
    _scene(
        "light_has_a_connector",
        "lights",
        "Every traffic light names its lane connector.",
        WARN,
        "named",
        values=(True,),
    ),
    _scene(
        "light_frame_is_known",
        "lights",
        "Every traffic light belongs to a row of the trajectories.",
        WARN,
        "frame_known",
        values=(True,),
    ),
    _scene(
        "map_token_is_unique",
        "map",
        "No two objects of a map layer have the same token.",
        WARN,
        unique=("log_id", "layer", "token"),
    ),
    _scene(
        "map_polygon_is_sound",
        "map",
        "Polygons have at least three corners, all of them numbers.",
        BLOCK,
        "polygon_sound",
        values=(True,),
    ),
    _scene(
        "map_baseline_is_sound",
        "map",
        "Centre lines of lanes and connectors have at least two points, all of them numbers.",
        BLOCK,
        "baseline_sound",
        values=(True,),
    ),
    _scene(
        "map_speed_limit_in_range",
        "map",
        "Known speed limits are between {low} and {high} m/s.",
        WARN,
        "limit_mps",
        low=0.0,
        high=60.0,
    ),
)


def _code(name: str, description: str, column: str = "", **more) -> Rule:
    return Rule(name, "relabeled", "relabeled", description, BLOCK, column, **more)


RELABELED_RULES = (
    _code(
        "key_is_unique",
        "The join with the codes duplicated no row.",
        unique=("log_id", "frame_index"),
    ),
    _code("codes_in_range", "Every code is one of the codebook's.", "code_excess", high=0.0),
    _code("codes_not_negative", "No code is negative.", "code_min", low=0.0),
    _code(
        "one_codebook_version", "One codebook encoded all rows.", "same_codebook", values=(True,)
    ),
)

SCORE_RULES = (
    Rule(
        "score_key_is_unique",
        "evaluation",
        "scores",
        "No planner has two rows for a scene.",
        BLOCK,
        unique=("log_id", "frame_index", "planner"),
    ),
    Rule(
        "scores_in_range",
        "evaluation",
        "scores",
        "Every score and sub-score that is there lies in 0 ... 1.",
        BLOCK,
        "outside",
        low=0.0,
        high=1e-9,
    ),
    Rule(
        "errors_are_finite",
        "evaluation",
        "scores",
        "Displacement errors that are there are numbers of at least 0.",
        BLOCK,
        "error_sound",
        values=(True,),
    ),
    Rule(
        "scored_or_a_reason",
        "evaluation",
        "scores",
        "A scene has both scores, or the reason why not.",
        WARN,
        "explained",
        values=(True,),
    ),
    Rule(
        "every_planner_has_every_scene",
        "evaluation",
        "scores",
        "Every planner has a row for every scene.",
        WARN,
        "planners_missing",
        low=0.0,
        high=0.0,
    ),
    Rule(
        "plans_are_finite",
        "evaluation",
        "plans",
        "All numbers of a plan are finite.",
        BLOCK,
        "finite",
        values=(True,),
    ),
)


def _lake(name: str, description: str, severity: str, column: str, **more) -> Rule:
    return Rule(name, "lake", "lake", description, severity, column, **more)


LAKE_RULES = (
    _lake(
        "splits_share_no_images",
        "At most {high} of a log's images look like those of a log of another split (perceptual "
        "hashes).",
        WARN,
        "shared_images",
        low=0.0,
        high=0.3,
    ),
    _lake(
        "no_log_is_a_copy",
        "At most {high} of a log's images look like those of another log of its split.",
        WARN,
        "shared_images",
        low=0.0,
        high=0.3,
    ),
    _lake(
        "splits_share_no_place_and_time",
        "No log was recorded within {low} m and at the time of a log of another split.",
        WARN,
        "distance_m",
        low=50.0,
    ),
    _lake(
        "cameras_agree_with_odometry",
        "Over all logs of one place and day, the motion seen by the front camera and the recorded "
        "motion lie at most {high} s apart.",
        WARN,
        "lag_s",
        low=-0.25,
        high=0.25,
    ),
    _lake(
        "new_logs_follow_the_training_set",
        "The population stability index of new logs against the training set is at most {high} in "
        "each column, or no larger than that of as many training logs drawn at random.",
        WARN,
        "psi",
        low=0.0,
        high=0.25,
    ),
    _lake(
        "files_are_whole",
        "Every artefact of the lake has the files, sizes and hashes it was published with.",
        BLOCK,
        "damaged_files",
        low=0.0,
        high=0.0,
    ),
)

RULES: tuple[Rule, ...] = (
    *RAW_RULES,
    *FRAME_RULES,
    *TRAJECTORY_RULES,
    *MOTION_RULES,
    *AGENT_RULES,
    *SCENE_RULES,
    *RELABELED_RULES,
    *SCORE_RULES,
    *LAKE_RULES,
)


def rules_of(
    rules: Iterable[Rule], *, asset: str | None = None, table: str | None = None
) -> tuple[Rule, ...]:
    """Those of `rules` that test this asset, this table, or both."""
    return tuple(
        rule for rule in rules if asset in (None, rule.asset) and table in (None, rule.table)
    )


def rule_records(rules: Iterable[Rule]) -> list[dict]:
    """What decides the outcome of the rules, for a digest: everything but the words."""
    return [
        {key: value for key, value in asdict(rule).items() if key != "description"}
        for rule in rules
    ]
