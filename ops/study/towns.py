"""The logs of the study: three synthetic towns, each in a lake of its own, and their rows.

    <study>/town-<seed>/raw, frames, trajectories

In each town the first training logs are the labelled ones. The others keep images and odometry
only: nothing in this package reads their map, agents or lights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ops.ingest.decode import decode
from ops.ingest.each_log import LogWork, each_log, make_from_raw_log
from ops.ingest.extract import extract
from ops.study.town_config import TownsConfig
from ops.synthesize.config import WorldConfig
from ops.synthesize.world import synthesize_log, world_log_ids
from storage.artifact import Lineage, is_current, planned_lineage
from storage.dataset import FrameSet, read_dataset
from storage.lake import Lake

SOURCE = "openscene"  # the format in which the synthetic world is written


@dataclass(frozen=True, slots=True)
class Town:
    """One town of the study and its lake."""

    seed: int
    lake: Lake
    world: WorldConfig
    labelled: int  # how many of its training logs are labelled

    def logs(self, group: str) -> list[str]:
        """Log ids of a group: labelled | unlabelled | val | test."""
        split = "train" if group in ("labelled", "unlabelled") else group
        logs = [log for log, of_split in world_log_ids(self.world) if of_split == split]
        if group == "labelled":
            return logs[: self.labelled]
        return logs[self.labelled :] if group == "unlabelled" else logs

    def read(self, group: str, size_hw: tuple[int, int]) -> FrameSet:
        """All rows of a group with images; log ids as in the lake."""
        logs = self.logs(group)
        return read_dataset(self.lake, size_hw=size_hw, log_ids=logs)


def towns(root: Path, config: TownsConfig) -> list[Town]:
    """The towns of the study, with the logs spread evenly over them."""
    count, out = len(config.seeds), []
    for at, seed in enumerate(config.seeds):
        labelled, unlabelled, val, test = (
            len(range(at, logs, count))
            for logs in (
                config.labelled_logs,
                config.unlabelled_logs,
                config.val_logs,
                config.test_logs,
            )
        )
        world = replace(
            config.world,
            seed=seed,
            train_logs=labelled + unlabelled,
            val_logs=val,
            test_logs=test,
        )
        out.append(Town(seed, Lake(root / f"town-{seed}"), world, labelled))
    return out


def town_lineages(town: Town, config: TownsConfig, code: str) -> dict[str, Lineage]:
    """The lineage that every log of a town has, of frames and of trajectories.

    `code` is the version of the code that writes and reads logs.
    """
    world = replace(town.world, train_logs=0, val_logs=0, test_logs=0)  # not what is in a log
    return {
        asset: planned_lineage(f"town-{town.seed}/{asset}", {}, [world, settings], code)
        for asset, settings in _settings(config).items()
    }


def make_town(
    town: Town,
    config: TownsConfig,
    lineages: Mapping[str, Lineage],
    processes: int,
    log: Callable[[str], None],
) -> None:
    """Make what is missing or stale of a town's logs; `lineages` from town_lineages()."""
    settings = _settings(config)
    works = [
        LogWork(log_id, partial(_make_log, town, log_id, settings, lineages))
        for log_id, _ in world_log_ids(town.world)
        if not all(
            is_current(town.lake.log(asset, log_id), lineage.version)
            for asset, lineage in lineages.items()
        )
    ]
    for done, outcome in enumerate(each_log(works, processes), 1):
        if outcome.error is not None:
            raise outcome.error
        if done % 50 == 0 or done == len(works):
            log(f"  town {town.seed}: {done} of {len(works)} logs")


def together(parts: Sequence[tuple[Town, FrameSet]]) -> FrameSet:
    """The rows of several towns, with the town before each log id: "13/A-train-0001"."""
    return FrameSet.concatenated(
        [
            replace(
                rows, log_id=np.array([f"{town.seed}/{log}" for log in rows.log_id], dtype=object)
            )
            for town, rows in parts
        ]
    )


def _settings(config: TownsConfig) -> dict[str, Any]:
    return {"frames": config.frames, "trajectories": config.trajectories}


def _make_log(
    town: Town, log_id: str, settings: Mapping[str, Any], lineages: Mapping[str, Lineage]
) -> None:
    raw = town.lake.root / "raw"
    synthesize_log(raw, town.world, log_id)
    for asset, verb in (("frames", decode), ("trajectories", extract)):
        path = town.lake.log(asset, log_id)
        make_from_raw_log(verb, SOURCE, raw, log_id, settings[asset], path, lineages[asset])
