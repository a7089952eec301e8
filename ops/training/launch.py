"""The one door to Ray Train: launch a training loop, in this process or on workers, and the session
inside the loop.

A loop is a top-level function `loop(config: dict) -> dict`. With `num_workers=0` it runs in this
process at no cost; with N workers the same loop runs under a TorchTrainer. The run's name carries
the hash of everything that decides its result, because the same name resumes.
"""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import nn
from ops.training.config import ComputeConfig

CHECKPOINT_FILE = "state.pt"
HISTORY_FILE = "history.jsonl"
_RAY_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the controller polls every 2 s by default
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # else every line of a worker shows twice
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # else relative paths break in workers
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
}


def launch(
    loop: Callable[[dict[str, Any]], dict[str, Any]],
    config: dict[str, Any],
    *,
    name: str,
    runs: Path,
    compute: ComputeConfig,
) -> dict[str, Any]:
    """Run `loop(config)` and return what rank 0 returned. A run that was killed goes on from its
    last checkpoint.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in _RAY_ENVIRONMENT.items()})
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    if compute.num_workers == 0:
        # it announces local mode before every run
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
    trainer = TorchTrainer(
        cast(Any, loop),  # Ray's annotation knows no loop that returns something
        train_loop_config=config
        | {
            "_run": str(runs / name),
            "_threads": compute.threads,
            "_local": compute.num_workers == 0,
        },
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


def forget(name: str, runs: Path) -> None:
    """Remove the checkpoints of a run whose artefact is finished."""
    shutil.rmtree(runs / name, ignore_errors=True)


def read_history(name: str, runs: Path) -> list[dict[str, Any]]:
    """Metric rows that the run reported so far, oldest first."""
    file = runs / name / HISTORY_FILE
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


class Session:
    """What a loop needs from its surroundings: rank, device, resume, checkpoints, metrics. The same
    in every mode.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        import torch
        from ray import train

        self._folder = Path(config["_run"])
        self._local = config["_local"]
        context = train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        torch.set_num_threads(config["_threads"])
        self.device = (
            torch.device("cuda", torch.cuda.current_device())
            if torch.cuda.is_available()
            else torch.device("cpu")
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        self._started = time.monotonic()

    def resume(self) -> dict[str, Any] | None:
        """The state last saved under this run's name, or None on a fresh start. Later history rows
        are dropped.
        """
        import torch
        from ray import train

        file: Path | None = self._folder / CHECKPOINT_FILE
        if not self._local:
            checkpoint = train.get_checkpoint()
            file = Path(checkpoint.path) / CHECKPOINT_FILE if checkpoint else None
        state = (
            torch.load(file, weights_only=False, map_location="cpu")
            if file and file.exists()
            else None
        )
        if self.rank == 0:
            rows = [
                row
                for row in read_history(self._folder.name, self._folder.parent)
                if state and row["step"] <= state["step"]
            ]
            (self._folder / HISTORY_FILE).write_text(
                "".join(json.dumps(row) + "\n" for row in rows)
            )
        return state

    def prepare(self, model: "nn.Module") -> "nn.Module":
        """The model on this process's device; with several workers, wrapped so that they average
        their gradients.
        """
        from ray.train.torch import prepare_model

        return model.to(self.device) if self._local else prepare_model(model)

    def report(
        self, step: int, metrics: dict[str, float], state: dict[str, Any] | None = None
    ) -> None:
        """Record metrics of one step; with `state`, save it as the checkpoint that resume() finds.
        Called by every rank.
        """
        import torch
        from ray import train

        if self.rank == 0:
            with (self._folder / HISTORY_FILE).open("a") as file:
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
        if self._local:
            if state is not None:
                aside = self._folder / f"{CHECKPOINT_FILE}.part"
                torch.save({"step": step, **state}, aside)
                os.replace(aside, self._folder / CHECKPOINT_FILE)
            return
        if state is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if self.rank == 0:
                torch.save({"step": step, **state}, Path(folder) / CHECKPOINT_FILE)
                checkpoint = train.Checkpoint.from_directory(folder)
            train.report(metrics, checkpoint=checkpoint)
