"""Reads a file of plans.

A plans file is Parquet with the columns log_id, frame_index, planner, poses (24 or 120 numbers: x,
y, heading in the ego frame, row-major) and dt_s (0.5 or 0.1 s between poses; 0.5 without the
column).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ops.pdm.rules.vehicle import KEY_STEP_S
from storage.errors import ConfigError

HORIZON_S = 4.0
MAX_POSES = 400  # one every 0.01 s
MAX_HEADING_RAD = 1000.0
REACH_M = 10_000.0  # of a pose from the ego; farther away lie only poses of other frames
# names of the column of poses; the second is that of the table which the evaluation writes
_POSES = ("poses", "plan_xyyaw")
_KEYS = {"log_id": pa.string(), "frame_index": pa.int32(), "planner": pa.string()}
_COLUMNS = "log_id, frame_index, planner, poses, dt_s"
_SEE_DOCS = "write the file as docs/metrics.md says, or name another"


@dataclass(frozen=True, slots=True)
class Plan:
    """One row of a plans file."""

    row: int  # in the file; -1 for a plan that is missing
    log_id: str
    frame_index: int
    planner: str
    poses: np.ndarray  # (n, 3); n = 0 where the row's numbers are no poses
    dt_s: float  # NaN where the row has none

    @property
    def fault(self) -> str:
        """Why this plan cannot be scored at any scene, or ""."""
        if not len(self.poses):
            return "the plan has no poses, or not three numbers a pose"
        if not np.isfinite(self.poses).all():
            return "the plan holds NaN or infinity"
        if len(self.poses) > MAX_POSES:
            return f"the plan has {len(self.poses)} poses, more than {MAX_POSES}"
        if not np.isclose(len(self.poses) * self.dt_s, HORIZON_S):
            return f"{len(self.poses)} poses {self.dt_s} s apart do not make {HORIZON_S} s"
        if (reach_m := float(np.abs(self.poses[:, :2]).max())) > REACH_M:
            return f"a pose lies {reach_m:.3g} m from the ego: are the poses in the ego frame?"
        if np.abs(self.poses[:, 2]).max() > MAX_HEADING_RAD:
            return "a heading is beyond 1000 rad"
        return ""


def missing_plan(log_id: str, frame_index: int, planner: str) -> Plan:
    """A plan that was expected and is not in the file."""
    return Plan(-1, log_id, frame_index, planner, np.zeros((0, 3)), np.nan)


def read_plans(plans: Path | pa.Table) -> list[Plan]:
    """The rows of a plans file or table, in its order.

    Raises ConfigError for a file that does not exist, is no Parquet file, lacks a column or has one
    twice, has a column of another type, has no rows, or rows without log, frame or planner. Faulty
    poses are no error: see `Plan.fault`.
    """
    where = plans if isinstance(plans, Path) else None
    table = _cast(_table(plans), where)
    for name in _KEYS:
        if table[name].null_count:
            raise ConfigError(
                f"rows of this file of plans have no {name}",
                where=where,
                found=table[name].null_count,
                do=f"fill in {name}, or leave these rows out",
            )
    if not len(table):
        raise ConfigError(
            "this file of plans has no rows",
            where=where,
            expected="a row for each plan",
            do="look at the program that wrote the file",
        )
    columns = [table[name].to_pylist() for name in table.column_names]
    return [
        Plan(row, log_id, frame, planner, _poses(numbers), np.nan if dt_s is None else dt_s)
        for row, (log_id, frame, planner, numbers, dt_s) in enumerate(zip(*columns, strict=True))
    ]


def _table(plans: Path | pa.Table) -> pa.Table:
    if not isinstance(plans, Path):
        return plans
    if not plans.is_file():
        raise ConfigError(
            "there is no such file of plans",
            where=plans,
            expected=f"Parquet with {_COLUMNS}",
            found="something else" if plans.exists() else "nothing",
            do=_SEE_DOCS,
        )
    try:
        with pq.ParquetFile(plans) as file:
            # other columns may be of any size, and are not read
            wanted = [*_KEYS, *_POSES, "dt_s"]
            names = [name for name in file.schema_arrow.names if name in wanted]
            return file.read(columns=names) if names else file.schema_arrow.empty_table()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise _unreadable(plans, error) from error


def _unreadable(plans: Path, error: Exception) -> ConfigError:
    return ConfigError(
        "this file of plans is no Parquet that can be read",
        where=plans,
        expected=f"Parquet with {_COLUMNS}",
        found=(str(error).splitlines() or [type(error).__name__])[0],
        do=_SEE_DOCS,
    )


def _cast(table: pa.Table, where: Path | None) -> pa.Table:
    """The columns of a plan in their types: log_id, frame_index, planner, poses, dt_s."""
    column = next((name for name in _POSES if name in table.column_names), None)
    if column is None or not _KEYS.keys() <= set(table.column_names):
        raise ConfigError(
            "this is not a file of plans",
            where=where,
            expected=_COLUMNS,
            found=", ".join(table.column_names),
            do=_SEE_DOCS,
        )
    if "dt_s" not in table.column_names:
        table = table.append_column("dt_s", pa.array(np.full(len(table), KEY_STEP_S)))
    schema = pa.schema([*_KEYS.items(), (column, pa.list_(pa.float64())), ("dt_s", pa.float64())])
    try:
        table = table.select(schema.names).cast(schema)
        table.validate(full=True)  # text that is no UTF-8
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise ConfigError(
            "the columns of this file of plans have other types",
            where=where,
            expected=", ".join(f"{field.name}: {field.type}" for field in schema),
            found=str(error).splitlines()[0],
            do=_SEE_DOCS,
        ) from error
    return table


def _poses(numbers: list[float | None] | None) -> np.ndarray:
    flat = np.array(
        [np.nan if number is None else number for number in numbers or ()], dtype=np.float64
    )
    return flat.reshape(-1, 3) if len(flat) % 3 == 0 else np.zeros((0, 3))
