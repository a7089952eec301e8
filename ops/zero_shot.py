"""Drive the planners, as they are, through logs of a town that nothing was trained on, and tabulate L2 and collisions.

Not the PDM score: these logs have the boxes of nuScenes but need no route.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from ops.evaluate import HUMAN, EvaluationConfig, Planner, all_plans
from ops.openloop import OpenLoopConfig, open_loop
from storage.dataset import FrameSet
from storage.errors import ConfigError
from storage.lake import Lake
from storage.metrics_table import ZERO_SHOT_FILE
from storage.trajectory_table import read_table


@dataclass(frozen=True, slots=True)
class ZeroShotConfig:
    """What is driven in the other town."""

    open_loop: OpenLoopConfig = field(default_factory=OpenLoopConfig)
    sight_ablations: tuple[str, ...] = EvaluationConfig().sight_ablations   # also with blank and with shuffled images
    seed: int = 0                                                           # of the shuffled images


def zero_shot(frames: FrameSet, planners: Mapping[str, Planner], lake: Lake, out: Path,
              config: ZeroShotConfig) -> pa.Table:
    """Write `zero_shot.parquet` and `.csv` (ops.openloop.OPEN_LOOP) to `out` and return the table.

    `frames` are all frames of the other town's logs in `lake`, with the images the planners read. Every frame with an
    image and at least one recorded pose ahead is driven. Raises ConfigError if there is none.
    """
    rows = frames.take(frames.has_image & frames.future_valid.any(axis=1))
    if not len(rows):
        raise ConfigError("these logs hold no frame to drive from", where=lake.root, found=f"{len(frames)} frames",
                          expected="frames with an image and a recorded pose ahead", do="give other logs")
    plans = all_plans(rows, planners, EvaluationConfig(sight_ablations=config.sight_ablations, seed=config.seed))
    del plans[HUMAN]
    logs = np.unique(rows.log_id.astype(str))
    agents = pa.concat_tables([read_table(lake.log("trajectories", log), "agents") for log in logs])
    table = open_loop(rows, np.stack([*plans.values()], axis=1), tuple(plans), agents, frames, config.open_loop)
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, out / ZERO_SHOT_FILE, compression="zstd")
    pcsv.write_csv(table, str(out / ZERO_SHOT_FILE.replace(".parquet", ".csv")))
    return table
