"""The only module that imports Ray: launches training loops and gives them a session.

A loop is a top-level function `loop(config, session) -> dict`; its config is a frozen dataclass.
With `num_workers=0` it runs in this process, without a Ray cluster; with N workers the same loop
runs on N Ray Train workers. A run's name must contain a hash of everything that determines its
result, because a run of the same name is resumed.
"""

import json
import logging
import os
import pickle
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ops.training.config import ComputeConfig
from storage.durable import damaged, replacing, sync_file, warn, write_text
from storage.errors import ArtifactError
from storage.locks import locked

if TYPE_CHECKING:
    from torch import nn

Loop = Callable[[Any, "Session"], dict[str, Any]]  # (config, session) -> result

CHECKPOINT_FILE = "state.pt"
HISTORY_FILE = "history.jsonl"
LOCK_FILE = ".lock"
_RAY_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the controller polls every 2 s by default
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # otherwise each line of a worker is printed twice
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # otherwise relative paths fail in workers
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
}


@dataclass(frozen=True, slots=True)
class _Run:
    """A training run, as it is sent to a worker."""

    loop: Loop
    config: Any
    folder: Path
    threads: int
    local: bool  # runs in the process that launched it


def launch(
    loop: Loop, config: Any, *, name: str, runs: Path, compute: ComputeConfig
) -> dict[str, Any]:
    """Run `loop(config, session)` and return the result of rank 0. A killed run of the same name
    resumes from its last checkpoint in `runs`. Raises ConfigError if another process trains it.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in _RAY_ENVIRONMENT.items()})
    import ray

    if compute.num_workers == 0:
        # Ray logs a notice of the local mode before every run
        logging.getLogger("ray.train").setLevel(logging.WARNING)
    runs = runs.absolute()
    runs.mkdir(parents=True, exist_ok=True)
    if compute.num_workers > 0 and not ray.is_initialized():
        if compute.address in (None, "local"):
            ray.init(
                address="local",
                num_cpus=max(os.cpu_count() or 1, compute.num_workers + 1),
                include_dashboard=False,
                log_to_driver=True,
            )
        else:
            ray.init(address=compute.address)
    run = _Run(loop, config, runs / name, compute.threads, compute.num_workers == 0)
    with run_lock(runs / name):
        return _fit(run, name, runs, compute)


def run_lock(folder: Path) -> AbstractContextManager[None]:
    """Hold the folder of a training run. Raises ConfigError if another process trains in it."""
    return locked(
        folder / LOCK_FILE,
        what=f"another process is training '{folder.name}'",
        do="wait until it has finished",
    )


def _fit(run: _Run, name: str, runs: Path, compute: ComputeConfig) -> dict[str, Any]:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        cast(Any, _run_loop),  # Ray annotates the loop as returning None
        train_loop_config={"run": run},
        scaling_config=ScalingConfig(num_workers=compute.num_workers, use_gpu=compute.use_gpu),
        run_config=RunConfig(
            name=name,
            storage_path=str(runs),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=compute.max_failures),
        ),
    )
    result: Any = trainer.fit()
    returned = result.return_value
    return returned[0] if isinstance(returned, list) else returned


def _run_loop(entry: dict[str, _Run]) -> dict[str, Any]:
    """Entry point of a worker."""
    run = entry["run"]
    return run.loop(run.config, Session(run.folder, run.threads, run.local))


def remove_run(name: str, runs: Path) -> None:
    """Remove the folder of a run whose artefact is finished."""
    shutil.rmtree(runs / name, ignore_errors=True)


def read_history(name: str, runs: Path) -> list[dict[str, Any]]:
    """The rows of metrics that a run has reported so far, oldest first. A line that cannot be read
    is left out, and a warning names it: a killed process may have written half of the last one.
    """
    file = runs / name / HISTORY_FILE
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            row["step"] + 0  # a row of another kind is no row
            rows.append(row)
        except (ValueError, TypeError, KeyError) as error:
            warn(damaged(file, f"line {number}: {error}"))
    return rows


def read_state(file: Path) -> dict[str, Any] | None:
    """The checkpoint of a run; None if there is none, or it is damaged, which a warning says.

    Raises ArtifactError for a checkpoint with anything but tensors, numbers, texts and containers
    of them: reading such a file would run code.
    """
    import torch

    try:
        if not file.exists():
            return None
        if not zipfile.is_zipfile(file):
            raise damaged(file, "it is cut short, or no checkpoint")
        with zipfile.ZipFile(file) as archive:
            changed = archive.testzip()  # torch compares no checksums
        if changed is not None:
            raise damaged(file, f"the checksum of {changed} differs")
        state = torch.load(file, weights_only=True, map_location="cpu")
        if isinstance(state, dict) and isinstance(state.get("step"), int):
            return state
        raise damaged(file, "it has no step")
    except pickle.UnpicklingError as error:
        raise ArtifactError(
            "this checkpoint holds objects that are no weights and is not read",
            where=file,
            expected="tensors and numbers, as a training writes them",
            found=str(error).splitlines()[0][:200],
            do=f"if you do not trust where it is from, do not use this lake; else remove "
            f"{file.parent} and start again",
        ) from error
    except ArtifactError as error:
        warn(error)
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        warn(damaged(file, error))
    return None


class Session:
    """Rank, device, checkpoints and metrics of a running loop, with and without Ray workers."""

    def __init__(self, folder: Path, threads: int, local: bool) -> None:
        import torch
        from ray import train

        self.folder, self._local = folder, local
        context = train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        torch.set_num_threads(threads)
        self.device = (
            torch.device("cuda", torch.cuda.current_device())
            if torch.cuda.is_available()
            else torch.device("cpu")
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._started = time.monotonic()

    def resume(self) -> dict[str, Any] | None:
        """The last checkpoint of this run, or None for a new run. Rows of the history after the
        checkpoint's step are removed.

        A damaged checkpoint or history is set aside with a warning, and the run starts afresh.
        Raises ArtifactError for a checkpoint that would run code.
        """
        from ray import train

        file: Path | None = self.folder / CHECKPOINT_FILE
        if not self._local:
            checkpoint = train.get_checkpoint()
            file = Path(checkpoint.path) / CHECKPOINT_FILE if checkpoint else None
        state = read_state(file) if file else None
        rows = read_history(self.folder.name, self.folder.parent)
        if state is not None and not any(row["step"] == state["step"] for row in rows):
            # a report writes the row before the checkpoint of its step
            warn(damaged(self.folder / HISTORY_FILE, f"the row of step {state['step']} is missing"))
            state = None
        if self.rank == 0:
            if state is None:
                self._set_aside()
            kept = [row for row in rows if state and row["step"] <= state["step"]]
            text = "".join(json.dumps(row) + "\n" for row in kept)
            write_text(self.folder / HISTORY_FILE, text)
        return state

    def _set_aside(self) -> None:
        """Keep what a run that starts afresh finds in its folder under another name."""
        for name in (CHECKPOINT_FILE, HISTORY_FILE):
            file = self.folder / name
            if file.exists() and file.stat().st_size:
                os.replace(file, file.with_name(f"{name}.damaged"))

    def prepare(self, model: "nn.Module") -> "nn.Module":
        """The model on this process's device; with several workers, wrapped in
        DistributedDataParallel. On GPUs its BatchNorm layers are replaced in place by
        SyncBatchNorm, which normalises by the statistics of all workers' rows.
        """
        from ray.train.torch import prepare_model

        if self._local:
            return model.to(self.device)
        if self.world_size > 1 and self.device.type == "cuda":
            from torch import nn

            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return prepare_model(model)

    def average_batch_norm(self, model: "nn.Module") -> None:
        """Replace the running statistics of the BatchNorm layers in training mode by their mean
        over the workers; every rank must call it after each step.

        For workers on CPUs, where SyncBatchNorm does not work: each worker still normalises by its
        own rows, but what rank 0 saves is of all rows. Does nothing with a single process, or
        without BatchNorm.
        """
        if self.world_size == 1 or self.device.type == "cuda":
            return
        import torch
        from torch import distributed, nn

        running = [
            buffer
            for layer in model.modules()
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training
            for buffer in (layer.running_mean, layer.running_var)
            if buffer is not None
        ]
        if running:
            values = torch.cat(running)
            distributed.all_reduce(values)
            parts = (values / self.world_size).split([len(buffer) for buffer in running])
            for buffer, mean in zip(running, parts, strict=True):
                buffer.copy_(mean)

    def report(
        self, step: int, metrics: dict[str, float], state: dict[str, Any] | None = None
    ) -> None:
        """Add the metrics of a step to the history; with `state`, save it as the checkpoint for
        resume(). Every rank must call it.
        """
        import torch
        from ray import train

        if self.rank == 0:
            with (self.folder / HISTORY_FILE).open("a") as file:
                file.write(
                    json.dumps(
                        {
                            "step": step,
                            "seconds": round(time.monotonic() - self._started, 2),
                            **metrics,
                        }
                    )
                    + "\n"
                )
            if state is not None:
                sync_file(self.folder / HISTORY_FILE)
        if self._local:
            if state is not None:
                with replacing(self.folder / CHECKPOINT_FILE) as part:
                    torch.save({"step": step, **state}, part)
            return
        if state is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if self.rank == 0:
                torch.save({"step": step, **state}, Path(folder) / CHECKPOINT_FILE)
                checkpoint = train.Checkpoint.from_directory(folder)
            train.report(metrics, checkpoint=checkpoint)
