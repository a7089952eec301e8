"""The Arrow schemas of the tables of one log: trajectories, agents, lights and map.

One log is one directory `trajectories/<log_id>/` with four Parquet files. `(log_id, frame_index)`
is the key and is never renumbered. World frame: metres, heading counter-clockwise in radians. Ego
frame: origin at the rear axle, x forward, y left. Missing steps of history and future have `valid`
False and zeros as value, never NaN.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.artifact import reading
from storage.errors import ArtifactError

HISTORY_STEPS = 4  # poses at -2.0, -1.5, -1.0, -0.5 s, oldest first
FUTURE_STEPS = 8  # poses at +0.5 ... +4.0 s
STEP_S = 0.5  # spacing of history, future and plans


class Command(IntEnum):
    """Driving command, from the route, never from the recorded future; NAVSIM's one-hot order."""

    LEFT = 0
    STRAIGHT = 1
    RIGHT = 2
    UNKNOWN = 3


class Category(IntEnum):
    """Kind of an agent; the names are NAVSIM's."""

    VEHICLE = 0
    PEDESTRIAN = 1
    BICYCLE = 2
    TRAFFIC_CONE = 3
    BARRIER = 4
    CZONE_SIGN = 5
    GENERIC_OBJECT = 6


class MapLayer(IntEnum):
    """Layer of a map object; the numbers are nuPlan's SemanticMapLayer where one exists."""

    LANE = 0
    INTERSECTION = 1
    STOP_LINE = 2
    CROSSWALK = 4
    LANE_CONNECTOR = 11
    CARPARK_AREA = 15
    WALKWAY = 13
    ROADBLOCK = 17
    ROADBLOCK_CONNECTOR = 18


def pairs_in_time(time_us: np.ndarray, gap_s: float, tolerance_s: float = 0.06) -> np.ndarray:
    """Indices (P, 2) of each time stamp (n,) and the one nearest to `gap_s` after it, where that is
    `gap_s` +- `tolerance_s` after it.
    """
    gap_us, tolerance_us = int(gap_s * 1e6), int(tolerance_s * 1e6)
    if len(time_us) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    later = np.clip(np.searchsorted(time_us, time_us + gap_us), 1, len(time_us) - 1)
    later -= (time_us + gap_us - time_us[later - 1]) < (time_us[later] - time_us - gap_us)
    near = np.flatnonzero(np.abs(time_us[later] - time_us - gap_us) <= tolerance_us)
    return np.stack([near, later[near]], axis=1)


def _array(kind: pa.DataType, size: int) -> pa.DataType:
    return pa.list_(kind, size)


KEY = [pa.field("log_id", pa.string(), False), pa.field("frame_index", pa.int32(), False)]

TRAJECTORIES = pa.schema(
    [
        *KEY,
        pa.field("timestamp_us", pa.int64(), False),
        pa.field("split", pa.string(), False),  # train | val | test
        pa.field("location", pa.string(), False),  # map name, "" without a map
        pa.field("x_m", pa.float64(), False),  # rear axle, world
        pa.field("y_m", pa.float64(), False),
        pa.field("yaw_rad", pa.float64(), False),  # world, wrapped to [-pi, pi)
        pa.field("vx_mps", pa.float64(), False),  # ego frame
        pa.field("vy_mps", pa.float64(), False),
        pa.field("ax_mps2", pa.float64(), False),  # ego frame
        pa.field("ay_mps2", pa.float64(), False),
        pa.field("yaw_rate_radps", pa.float64(), False),  # from neighbouring poses
        pa.field("command", pa.int8(), False),  # Command
        pa.field("has_image", pa.bool_(), False),  # False: the frame has a pose but no image
        # ego frame of this row, (step, 3)
        pa.field("history_xyyaw", _array(pa.float32(), 3 * HISTORY_STEPS), False),
        pa.field("history_valid", _array(pa.bool_(), HISTORY_STEPS), False),
        pa.field("future_xyyaw", _array(pa.float32(), 3 * FUTURE_STEPS), False),
        pa.field("future_valid", _array(pa.bool_(), FUTURE_STEPS), False),
        # route from here on, may be empty
        pa.field("route_roadblock_ids", pa.list_(pa.string()), False),
        pa.field("tags", pa.list_(pa.string()), False),  # rare events active at this frame
    ]
)

AGENTS = pa.schema(
    [
        *KEY,
        pa.field("track_token", pa.string(), False),
        pa.field("category", pa.int8(), False),  # Category
        pa.field("x_m", pa.float64(), False),  # box centre, world
        pa.field("y_m", pa.float64(), False),
        pa.field("z_m", pa.float64(), False),  # box centre above the rear axle's ground plane
        pa.field("yaw_rad", pa.float64(), False),  # world
        pa.field("vx_mps", pa.float64(), False),  # world
        pa.field("vy_mps", pa.float64(), False),
        pa.field("length_m", pa.float64(), False),
        pa.field("width_m", pa.float64(), False),
        pa.field("height_m", pa.float64(), False),
    ]
)

LIGHTS = pa.schema(
    [*KEY, pa.field("lane_connector_id", pa.string(), False), pa.field("is_red", pa.bool_(), False)]
)

# objects within 150 m of the log's path
MAP = pa.schema(
    [
        pa.field("location", pa.string(), False),
        pa.field("layer", pa.int8(), False),  # MapLayer
        pa.field("token", pa.string(), False),  # unique within its layer
        pa.field("polygon_xy", pa.list_(pa.float64()), False),  # flattened open ring, world
        # flattened (n, 3), lanes and connectors only
        pa.field("baseline_xyyaw", pa.list_(pa.float64()), False),
        pa.field("speed_limit_mps", pa.float64(), True),  # null: no limit known
        pa.field("roadblock_id", pa.string(), False),  # parent of a lane or lane connector, else ""
        # tokens of incoming lanes / connectors
        pa.field("predecessors", pa.list_(pa.string()), False),
        # tokens of outgoing lanes / connectors
        pa.field("successors", pa.list_(pa.string()), False),
        # token of the adjacent lane in the roadblock, or ""
        pa.field("left_neighbor", pa.string(), False),
        pa.field("right_neighbor", pa.string(), False),
    ]
)


@dataclass(frozen=True, slots=True)
class CodeLayout:
    """How the codes of a row are laid out: transition by transition, token by token."""

    transitions: int  # that follow the row, each as long as the codebook's gap
    tokens: int  # codes of one transition
    codes: int  # entries of the codebook: a code is 0 ... codes - 1

    @property
    def slots(self) -> int:
        """Codes of a row."""
        return self.transitions * self.tokens


def relabeled_schema(layout: CodeLayout) -> pa.Schema:
    """TRAJECTORIES with the codes of each row; the layout is kept as metadata of the schema."""
    return pa.schema(
        [
            *TRAJECTORIES,
            pa.field("codes", _array(pa.int16(), layout.slots), False),
            # False where the later frame is missing
            pa.field("codes_valid", _array(pa.bool_(), layout.slots), False),
            pa.field("codebook_version", pa.string(), False),
        ],
        metadata={name: str(value) for name, value in asdict(layout).items()},
    )


def code_layout(relabeled: pa.Table | pa.Schema) -> CodeLayout:
    """The layout of the codes of a relabeled table.

    Raises ArtifactError for a table without a layout.
    """
    schema = relabeled if isinstance(relabeled, pa.Schema) else relabeled.schema
    known = schema.metadata or {}
    names = [item.name for item in fields(CodeLayout)]
    if any(name.encode() not in known for name in names):
        raise ArtifactError(
            "this table has no layout of its codes",
            expected=f"schema metadata {', '.join(names)}",
            do="make it again: latentvla run --until relabeled",
        )
    return CodeLayout(**{name: int(known[name.encode()]) for name in names})


TABLES = {"trajectories": TRAJECTORIES, "agents": AGENTS, "lights": LIGHTS, "map": MAP}


def write_table(table: pa.Table, file: Path, schema: pa.Schema) -> None:
    """Write a table as Parquet, cast to `schema`, with a checksum for each page. Raises ValueError
    if names or order differ.
    """
    write_parquet(table.cast(schema), file)


def read_table(folder: Path, name: str) -> pa.Table:
    """Read one of the four tables in a log directory; `name` is a key of TABLES.

    Raises ArtifactError, with the file's name, if there is none or it is damaged.
    """
    with reading(folder) as present:
        return read_parquet(present / f"{name}.parquet", TABLES[name])


def write_parquet(table: pa.Table, file: Path) -> None:
    """Write a table as Parquet with a checksum for each page."""
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def read_parquet(
    file: Path, schema: pa.Schema | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """The table in a Parquet file, or some of its columns; its pages are compared with their
    checksums.

    Raises ArtifactError if there is no such file, or it is damaged or holds other columns.
    """
    try:
        return pq.read_table(file, schema=schema, columns=columns, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise ArtifactError(
            "there is no table here",
            where=file,
            expected="a Parquet file",
            do="make it: latentvla run",
        ) from error
    except (OSError, ValueError) as error:  # pa.ArrowInvalid is a ValueError
        raise ArtifactError(
            "this table is damaged",
            where=file,
            found=str(error).splitlines()[0][:200],
            do="make it again: remove the artefact's folder, then latentvla run; or restore it",
        ) from error


# description of each column of the trajectories and relabeled tables, shown in Dagster's catalogue
MEANING = {
    "log_id": "name of the log; with frame_index the key",
    "frame_index": "number of the frame in the raw log, never renumbered",
    "timestamp_us": "time of the pose, microseconds",
    "split": "train, val or test",
    "location": "name of the map, empty without a map",
    "x_m": "rear axle, world",
    "y_m": "rear axle, world",
    "yaw_rad": "heading, world, in [-pi, pi)",
    "vx_mps": "velocity forward, ego frame",
    "vy_mps": "velocity to the left, ego frame",
    "ax_mps2": "acceleration forward, ego frame",
    "ay_mps2": "acceleration to the left, ego frame",
    "yaw_rate_radps": "from neighbouring poses",
    "command": "0 left, 1 straight, 2 right, 3 unknown; from the route",
    "has_image": "False: the frame has a pose but no image",
    "history_xyyaw": (
        "4 poses (x, y, yaw) from -2.0 to -0.5 s in the ego frame of this row, oldest first"
    ),
    "history_valid": "False: the pose is missing and holds zeros",
    "future_xyyaw": "8 poses (x, y, yaw) from +0.5 to +4.0 s in the ego frame of this row",
    "future_valid": "False: the pose is missing and holds zeros",
    "route_roadblock_ids": "route from here on, may be empty",
    "tags": "rare events that are active at this frame",
    "codes": "codes of the next transitions, transition by transition, token by token",
    "codes_valid": "False: the later frame is missing",
    "codebook_version": "version of the codebook that gave the codes",
}
