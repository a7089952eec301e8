"""Drive the planners, as they are, through logs of a place that nothing was trained on, and
tabulate L2 and collisions.

Not the PDM score: these logs have the boxes of nuScenes but need no route. Where the logs come
from: ops/ingest/zero_shot_logs.py.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from ops.evaluation.config import EvaluationConfig, OpenLoopConfig
from ops.evaluation.evaluate import HUMAN, Planner, all_plans
from ops.evaluation.open_loop import open_loop
from ops.ingest.zero_shot_logs import zero_shot_log_ids
from storage.dataset import FrameSet, read_dataset
from storage.errors import ConfigError
from storage.lake import Lake
from storage.metrics_table import ZERO_SHOT_FILE
from storage.trajectory_table import read_table


def zero_shot_of_artifact(
    path: Path,
    planners: Mapping[str, Planner],
    out: Path,
    config: EvaluationConfig,
    size_hw: tuple[int, int],
) -> pa.Table:
    """zero_shot over the artefact that ops.zero_shot_logs made; `size_hw` is the size of the images
    that planners read.
    """
    logs, _ = zero_shot_log_ids(path)
    return zero_shot(
        read_dataset(Lake(path), "test", size_hw=size_hw, log_ids=logs),
        planners,
        Lake(path),
        out,
        config,
    )


def zero_shot(
    frames: FrameSet,
    planners: Mapping[str, Planner],
    lake: Lake,
    out: Path,
    config: EvaluationConfig,
) -> pa.Table:
    """Write `zero_shot.parquet` and `.csv` (ops.openloop.OPEN_LOOP) to `out` and return the table.

    `frames` are all frames of the other place's logs in `lake`, with the images the planners read.
    Every frame with an image and at least one recorded pose ahead is driven. Raises ConfigError if
    there is none.
    """
    rows = frames.take(frames.has_image & frames.future_valid.any(axis=1))
    if not len(rows):
        raise ConfigError(
            "these logs hold no frame to drive from",
            where=lake.root,
            found=f"{len(frames)} frames",
            expected="frames with an image and a recorded pose ahead",
            do="give other logs",
        )
    plans = all_plans(rows, planners, config)
    del plans[HUMAN]
    logs = np.unique(rows.log_id.astype(str))
    agents = pa.concat_tables([read_table(lake.log("trajectories", log), "agents") for log in logs])
    judged = config.zero_shot.open_loop if config.zero_shot else OpenLoopConfig()
    table = open_loop(
        rows, np.stack([*plans.values()], axis=1), tuple(plans), agents, frames, judged
    )
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, out / ZERO_SHOT_FILE, compression="zstd")
    pcsv.write_csv(table, str(out / ZERO_SHOT_FILE.replace(".parquet", ".csv")))
    return table
