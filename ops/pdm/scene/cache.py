"""The cache of scenes: one Arrow file a log, so that map, route and tracks are computed once.

A file holds the version of the log's tables and of the code that built it; a file of another
version, or a damaged one, is written again. One row for each frame that has its key frames: a
scene, or the reason why there is none. Rows of one log share most of their map, which compresses
well.
"""

import hashlib
import logging
import os
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc

from ops.pdm.scene.from_tables import LogScenes
from ops.pdm.scene.scene import HISTORY_POSES, HUMAN_POSES, KEY_FRAMES, Scene
from storage.artifact import LINEAGE_FILE, read_lineage
from storage.durable import replacing
from storage.errors import ArtifactError, LatentVLAError, SourceError
from storage.lake import Lake
from storage.trajectory_table import TABLES, read_table

_SHAPES: dict[str, tuple[int, ...]] = {  # of the numeric fields; -1 is computed
    "ego": (7,),
    "past": (HISTORY_POSES, 7),
    "past_time_us": (HISTORY_POSES,),
    "human": (HUMAN_POSES, 3),
    "agents": (KEY_FRAMES, -1, 6),
    "agent_lwh": (-1, 3),
    "agent_category": (-1,),
    "light_red": (KEY_FRAMES, -1),
    "map_xy": (-1, 2),
    "map_start": (-1,),
    "map_layer": (-1,),
    "centerline": (-1, 3),
    "path_xyyaw": (-1, 3),
    "path_start": (-1,),
    "path_limit_mps": (-1,),
}
_TYPES = {
    "past_time_us": pa.int64(),
    "map_start": pa.int64(),
    "path_start": pa.int64(),
    "agent_category": pa.int8(),
    "map_layer": pa.int8(),
    "light_red": pa.bool_(),
}
_TOKENS = ("agent_token", "light_token", "map_token", "route_lane_token")
_PLAIN = ("time_us", "speed_limit_mps", "split", "location")
_ERROR = ("what", "where", "expected", "found", "do")
SCHEMA = pa.schema(
    [
        pa.field("log_id", pa.string(), False),
        pa.field("frame_index", pa.int32(), False),
        pa.field("time_us", pa.int64()),
        *(pa.field(name, pa.list_(_TYPES.get(name, pa.float64()))) for name in _SHAPES),
        *(pa.field(name, pa.list_(pa.string())) for name in _TOKENS),
        pa.field("speed_limit_mps", pa.float64()),
        pa.field("split", pa.string()),
        pa.field("location", pa.string()),
        *(pa.field(f"error_{name}", pa.string()) for name in _ERROR),
    ]
)
assert {field.name for field in fields(Scene)} == set(SCHEMA.names) - {
    f"error_{name}" for name in _ERROR
} - {"log_id", "frame_index"} | {"scene_key"}, "the fields of a scene changed: update SCHEMA"


def cached_scenes(lake: Lake, log_id: str) -> dict[int, Scene | SourceError]:
    """Scenes of a log by frame, or the reason why there is none, from the lake's cache, which is
    written first if it is outdated. Where it cannot be written, it is done without.

    Raises ArtifactError if the lake has no finished trajectories of the log.
    """
    if not _has_log(lake, log_id):
        raise ArtifactError(
            f"there is no log '{log_id}' in the lake",
            where=lake.root / "trajectories",
            expected="finished trajectories",
            do="extract it: latentvla run --until trajectories",
        )
    folder = lake.log("trajectories", log_id)
    tables_version = read_lineage(folder).version
    file = lake.scenes / f"{log_id}.arrow"
    scenes = read_scenes(file, tables_version)
    if scenes is None:
        log = LogScenes(*(read_table(folder, name) for name in TABLES))
        scenes = {int(frame): _scene_or_error(log, int(frame)) for frame in log.frames()}
        try:
            write_scenes(file, log_id, scenes, tables_version)
        except OSError as error:  # a lake that is read only, another user's or full
            _note_missing_cache(str(lake.scenes), error.strerror or str(error))
    return scenes


def _has_log(lake: Lake, log_id: str) -> bool:
    """True for a log with finished trajectories; False also for a text that is no log's name."""
    try:
        folder = lake.log("trajectories", log_id)
        return os.path.basename(log_id) == log_id and (folder / LINEAGE_FILE).is_file()
    except (OSError, ValueError, LatentVLAError):  # too long, NUL, lone surrogates
        return False


@cache
def _note_missing_cache(folder: str, reason: str) -> None:
    """Say once a process that scenes are computed anew each time."""
    logging.getLogger(__name__).warning(
        "scenes are not cached, since %s cannot be written: %s", folder, reason
    )


def write_scenes(
    file: Path, log_id: str, scenes: dict[int, Scene | SourceError], tables_version: str
) -> None:
    """Write the scenes of a log; the file appears complete or not at all."""
    rows = [_row(log_id, frame, scene) for frame, scene in sorted(scenes.items())]
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(_stamp(tables_version)))
    file.parent.mkdir(parents=True, exist_ok=True)
    options = ipc.IpcWriteOptions(compression="zstd")
    # not synced: a file that a power cut damages is written again
    with (
        replacing(file, synced=False) as part,
        ipc.new_file(part, table.schema, options=options) as writer,
    ):
        writer.write_table(table)


def read_scenes(file: Path, tables_version: str) -> dict[int, Scene | SourceError] | None:
    """The scenes of a file that `write_scenes` wrote; None if the file is missing, damaged or of
    another version.
    """
    try:
        with pa.memory_map(str(file)) as source:
            reader = ipc.open_file(source)
            if reader.schema.metadata != _stamp(tables_version):
                return None
            table = reader.read_all()
    except (OSError, pa.ArrowInvalid):
        return None
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    return {
        int(frame): _scene(columns, row)
        for row, frame in enumerate(columns["frame_index"].to_numpy())
    }


def _scene_or_error(log: LogScenes, frame: int) -> Scene | SourceError:
    try:
        return log.scene(frame)
    except SourceError as error:
        return error


def _stamp(tables_version: str) -> dict[bytes, bytes]:
    return {b"code": _code_hash().encode(), b"tables_version": tables_version.encode()}


@cache
def _code_hash() -> str:
    """Hash of the modules that build a scene."""
    folder = Path(__file__).parent
    files = [*sorted(folder.glob("*.py")), *sorted((folder.parent / "rules").glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _row(log_id: str, frame: int, scene: Scene | SourceError) -> dict[str, object]:
    row: dict[str, object] = {"log_id": log_id, "frame_index": frame}
    if isinstance(scene, SourceError):
        parts = {name: getattr(scene, name) for name in _ERROR}
        return row | {
            f"error_{name}": None if part is None else str(part) for name, part in parts.items()
        }
    row |= {name: getattr(scene, name).ravel() for name in _SHAPES}
    row |= {name: getattr(scene, name).tolist() for name in _TOKENS}
    return row | {name: getattr(scene, name) for name in _PLAIN}


def _scene(columns: dict[str, pa.Array], row: int) -> Scene | SourceError:
    what = columns["error_what"][row].as_py()
    if what is not None:
        where, expected, found, do = (columns[f"error_{name}"][row].as_py() for name in _ERROR[1:])
        return SourceError(what, where=where, expected=expected, found=found, do=do)
    parts: dict[str, Any] = {name: columns[name][row].as_py() for name in _PLAIN}
    parts |= {name: np.asarray(columns[name][row].as_py(), dtype=str) for name in _TOKENS}
    for name, shape in _SHAPES.items():
        values = np.array(columns[name][row].values.to_numpy(zero_copy_only=False))
        count = int(np.prod([size for size in shape if size > 0]))
        parts[name] = values.reshape([len(values) // count if size < 0 else size for size in shape])
    return Scene(
        scene_key=(columns["log_id"][row].as_py(), columns["frame_index"][row].as_py()), **parts
    )
