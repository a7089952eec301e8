"""The training runs of one artefact: their folders, and how they are launched."""

import json
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.pool import worker_pool
from ops.training.config import ComputeConfig
from ops.training.launch import Loop, launch, read_history, remove_run


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One training of an artefact: its name, loop and configuration."""

    part: str  # name, unique within the artefact
    loop: Loop
    config: Any  # frozen dataclass, first argument of the loop


@dataclass(frozen=True, slots=True)
class TrainingRuns:
    """Compute, folder, name and seed of an artefact's training runs."""

    compute: ComputeConfig
    runs: Path  # folder of the unfinished runs
    name: str  # contains a hash of everything that determines the result; runs append their part
    seed: int

    def launch(self, job: TrainingJob) -> dict[str, Any]:
        """Run one training loop and return its result; a killed run of the same name resumes."""
        name = f"{self.name}-{job.part}"
        return launch(job.loop, job.config, name=name, runs=self.runs, compute=self.compute)

    def launch_all(self, jobs: Sequence[TrainingJob]) -> None:
        """Run independent training loops: in up to `compute.at_once` processes, or one after the
        other on Ray workers.

        The weights are the same either way: each loop has its own seeds and `compute.threads`
        threads.
        """
        processes = 1 if self.compute.num_workers else min(self.compute.at_once, len(jobs))
        if processes == 1:
            for job in jobs:
                self.launch(job)
            return
        with worker_pool(processes) as pool:
            pending = [pool.submit(self.launch, job) for job in jobs]
            try:
                for future in as_completed(pending):
                    future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def arrays(self, part: str) -> Path:
        """Folder of the arrays of a training loop."""
        return self.runs / f"{self.name}-{part}-arrays"

    def finish(self, parts: Sequence[str], histories: Path) -> None:
        """Write the metrics of runs to `histories/<part>.jsonl`; remove checkpoints and arrays."""
        histories.mkdir(parents=True, exist_ok=True)
        for part in parts:
            rows = read_history(f"{self.name}-{part}", self.runs)
            if rows:
                (histories / f"{part}.jsonl").write_text(
                    "".join(json.dumps(row) + "\n" for row in rows)
                )
            remove_run(f"{self.name}-{part}", self.runs)
            shutil.rmtree(self.arrays(part), ignore_errors=True)


class Clock:
    """Wall time of the consecutive parts of an asset."""

    def __init__(self) -> None:
        self.laps: tuple[tuple[str, float], ...] = ()  # part, seconds
        self._last = time.monotonic()

    def lap(self, part: str) -> None:
        """Record the time since the last lap under the name of `part`."""
        now = time.monotonic()
        self.laps = (*self.laps, (part, round(now - self._last, 2)))
        self._last = now
