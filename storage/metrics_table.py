"""The Arrow schemas of the evaluation: scores and plans of each scene, means, differences, latency.

Scores lie in 0 ... 1 as in the devkit; the report and the terminal show them in %. A scene that
could not be scored keeps its row with `scored` False, its reason, and nulls, so every planner has a
row for every expected scene.
"""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pcsv

from storage.artifact import reading
from storage.errors import ArtifactError
from storage.trajectory_table import FUTURE_STEPS, read_parquet, write_parquet

V1_PARTS = ("nc", "dac", "ddc", "ttc", "ep", "comfort")
V2_PARTS = ("nc_v2", "dac_v2", "ddc_v2", "tlc_v2", "ep_v2", "ttc_v2", "lk_v2", "hc_v2", "ec_v2")
MEASURES = (*V1_PARTS, "pdms", *V2_PARTS, "epdms", "ade_m", "fde_m", "lateral_m", "progress_m")

SCORES = pa.schema(
    [
        pa.field("log_id", pa.string(), False),
        pa.field("frame_index", pa.int32(), False),
        pa.field("split", pa.string(), False),
        pa.field("planner", pa.string(), False),
        pa.field("metric_version", pa.string(), False),  # names the score, for example "PDMS v1.1"
        # of the trained planner's run; null: nothing was trained
        pa.field("seed", pa.int32(), True),
        pa.field("scored", pa.bool_(), False),
        pa.field("reason", pa.string(), False),  # why the scene was not scored, else ""
        *(pa.field(name, pa.float64(), True) for name in (*V1_PARTS, "pdms", *V2_PARTS, "epdms")),
        pa.field("ade_m", pa.float64(), True),  # mean distance to the human over 4 s
        pa.field("fde_m", pa.float64(), True),  # distance to the human at 4 s
        # mean distance at right angles to the human's heading
        pa.field("lateral_m", pa.float64(), True),
        # raw progress along the route's centre line, simulated plan
        pa.field("progress_m", pa.float64(), True),
        pa.field("speed_mps", pa.float64(), False),  # ego speed when the plan begins
        pa.field("command", pa.int8(), False),  # storage.trajectory_table.Command
        pa.field("tags", pa.list_(pa.string()), False),  # rare events of the scene
    ]
)

PLANS = pa.schema(
    [
        pa.field("log_id", pa.string(), False),
        pa.field("frame_index", pa.int32(), False),
        pa.field("planner", pa.string(), False),
        # ego frame, row-major (step, 3)
        pa.field("plan_xyyaw", pa.list_(pa.float32(), 3 * FUTURE_STEPS), False),
    ]
)

SUMMARY = pa.schema(
    [
        pa.field("planner", pa.string(), False),
        pa.field("subset", pa.string(), False),  # all | rare | ordinary | tag:<name>
        pa.field("measure", pa.string(), False),  # one of MEASURES
        pa.field("mean", pa.float64(), False),
        pa.field("low", pa.float64(), False),
        pa.field("high", pa.float64(), False),
        pa.field("n_scored", pa.int32(), False),  # scenes in the mean
        pa.field("n_expected", pa.int32(), False),  # scenes of the subset
        pa.field("logs", pa.int32(), False),  # independent logs that the interval is drawn over
    ]
)

DIFFERENCES = pa.schema(
    [
        pa.field("planner", pa.string(), False),
        pa.field("control", pa.string(), False),
        pa.field("subset", pa.string(), False),
        pa.field("measure", pa.string(), False),
        pa.field("mean", pa.float64(), False),  # planner minus control on the same scenes
        pa.field("low", pa.float64(), False),
        pa.field("high", pa.float64(), False),
        pa.field("n_scored", pa.int32(), False),
        pa.field("logs", pa.int32(), False),
    ]
)

# one row for each planner, all measured in one run on one machine
LATENCY = pa.schema(
    [
        pa.field("planner", pa.string(), False),
        # of one plan; null: not timed
        pa.field("p50_ms", pa.float64(), True),
        pa.field("p95_ms", pa.float64(), True),
        pa.field("calls", pa.int32(), False),  # timed calls after the warm-up
        pa.field("parameters", pa.int64(), False),  # trained parameters, 0 for a rule
        pa.field("device", pa.string(), False),
        pa.field("threads", pa.int32(), False),
    ]
)

# open-loop errors on the zero-shot logs, if there are any; schema in ops/evaluation/open_loop.py
ZERO_SHOT_FILE = "zero_shot.parquet"
FILES = {
    "scores": SCORES,
    "plans": PLANS,
    "summary": SUMMARY,
    "differences": DIFFERENCES,
    "latency": LATENCY,
}


def write_metrics(folder: Path, name: str, table: pa.Table) -> None:
    """Write one of FILES as Parquet, and all but the plans also as CSV (lists joined by spaces)."""
    table = table.cast(FILES[name])
    write_parquet(table, folder / f"{name}.parquet")
    if name == "plans":
        return
    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            joined = pa.array(
                [" ".join(items) for items in table[field.name].to_pylist()], pa.string()
            )
            table = table.set_column(index, field.name, joined)
    pcsv.write_csv(table, os.fspath(folder / f"{name}.csv"))


def read_metrics(folder: Path, name: str) -> pa.Table:
    """One of FILES of an evaluation. Raises ArtifactError if the folder holds none, or it is
    damaged.
    """
    with reading(folder) as present:
        file = present / f"{name}.parquet"
        if not file.exists():
            raise ArtifactError(
                "there is no evaluation here",
                where=folder,
                expected=file.name,
                do="run: latentvla run --until evaluation",
            )
        return read_parquet(file, FILES[name])
