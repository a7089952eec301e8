"""The training runs of one artefact: where they keep their checkpoints, and how they are launched."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.pool import worker_pool
from ops.training.config import ComputeConfig
from ops.training.launch import forget, launch, read_history

Loop = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One training loop among those of an artefact."""

    part: str
    loop: Loop
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TrainingRuns:
    """Where the training runs of one artefact keep their checkpoints, and what seeds them."""

    compute: ComputeConfig
    runs: Path  # folder of unfinished runs
    name: str  # carries the hash of all that decides the result; each run adds its part's name
    seed: int

    def launch(self, part: str, loop: Loop, config: dict[str, Any]) -> dict[str, Any]:
        """Run one training loop; the same place and part go on after a kill."""
        return launch(
            loop,
            config | {"seed": self.seed},
            name=f"{self.name}-{part}",
            runs=self.runs,
            compute=self.compute,
        )

    def launch_all(self, jobs: Sequence[TrainingJob]) -> None:
        """Run loops that do not need each other: side by side where this machine trains them, in
        turn on Ray's workers.

        The weights are the same either way: every loop has its own seeds, and `compute.threads`
        threads.
        """
        together = 1 if self.compute.num_workers else min(self.compute.at_once, len(jobs))
        if together == 1:
            for job in jobs:
                self.launch(job.part, job.loop, job.config)
            return
        with worker_pool(together) as pool:
            pending = [pool.submit(self.launch, job.part, job.loop, job.config) for job in jobs]
            try:
                for future in as_completed(pending):
                    future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def arrays(self, part: str) -> Path:
        """Folder for the arrays that a loop maps."""
        return self.runs / f"{self.name}-{part}-arrays"

    def finish(self, parts: Sequence[str], histories: Path) -> None:
        """Keep the metric rows of the runs as `<part>.jsonl` and remove their checkpoints and
        arrays.
        """
        histories.mkdir(parents=True, exist_ok=True)
        for part in parts:
            rows = read_history(f"{self.name}-{part}", self.runs)
            if rows:
                (histories / f"{part}.jsonl").write_text(
                    "".join(json.dumps(row) + "\n" for row in rows)
                )
            forget(f"{self.name}-{part}", self.runs)
            shutil.rmtree(self.arrays(part), ignore_errors=True)


class Clock:
    """Wall time of the parts of a asset, one after the other."""

    def __init__(self) -> None:
        self.laps: tuple[tuple[str, float], ...] = ()
        self._last = time.monotonic()

    def lap(self, part: str) -> None:
        """Note the time since the last lap as that of `part`."""
        now = time.monotonic()
        self.laps = (*self.laps, (part, round(now - self._last, 2)))
        self._last = now
