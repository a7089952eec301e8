"""Zero-shot evaluation: open-loop L2 and collision rate of the planners on logs of a town that is
in no training data.

No PDM score: it needs a route, which these logs in nuScenes' format may lack. The logs are made by
ops/ingest/zero_shot_logs.py.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from ops.evaluation.config import EvaluationConfig, OpenLoopConfig
from ops.evaluation.evaluate import HUMAN, all_plans
from ops.evaluation.open_loop import open_loop
from ops.ingest.zero_shot_logs import zero_shot_log_ids
from ops.planners.planner import Planner
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
    """Run zero_shot on an artefact of ops/ingest/zero_shot_logs.py; `size_hw` is the image size of
    the planners.
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
    """Write `zero_shot.parquet` and `.csv` (ops.evaluation.open_loop.OPEN_LOOP) to `out` and return
    the table.

    `frames` are all frames of the logs in `lake`, with the images the planners read. The planners
    plan for every frame with an image and at least one recorded future pose. Raises ConfigError if
    there is none.
    """
    rows = frames.take(frames.has_image & frames.future_valid.any(axis=1))
    if not len(rows):
        raise ConfigError(
            "these logs hold no frame to plan for",
            where=lake.root,
            found=f"{len(frames)} frames",
            expected="frames with an image and a recorded future pose",
            do="give other logs",
        )
    plans = all_plans(rows, planners, config)
    del plans[HUMAN]
    logs = np.unique(rows.log_id.astype(str))
    agents = pa.concat_tables([read_table(lake.log("trajectories", log), "agents") for log in logs])
    measures = config.zero_shot.open_loop if config.zero_shot else OpenLoopConfig()
    table = open_loop(
        rows, np.stack([*plans.values()], axis=1), tuple(plans), agents, frames, measures
    )
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, out / ZERO_SHOT_FILE, compression="zstd")
    pcsv.write_csv(table, str(out / ZERO_SHOT_FILE.replace(".parquet", ".csv")))
    return table
