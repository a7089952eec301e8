"""Where and how a network is trained. Needs no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class ComputeConfig:
    """Where training runs."""

    num_workers: int = 0  # 0: in this process; N: that many Ray Train workers
    use_gpu: bool = False  # one GPU a worker
    # None: a private Ray cluster; "auto" or host:port: an existing one
    address: str | None = None
    max_failures: int = 1  # restarts of the worker group after a crash
    # torch threads of each process: networks this small gain nothing from more
    threads: int = 1
    # trainings in this machine's own processes that run side by side; 1: in turn
    at_once: int = 2


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How a network is trained."""

    steps: int = 400  # optimiser steps
    batch: int = 32  # rows a step, all workers together
    learning_rate: float = 1e-3  # peak; linear warm-up, then cosine to 2 % of it
    weight_decay: float = 0.05  # decoupled; on matrices only
    warmup: float = 0.1  # fraction of the steps
    clip: float = 1.0  # norm of the gradient
    autocast: str = ""  # "bfloat16": mixed precision; "": the parameters' own type
    report_every: int = 10  # steps between two rows of the history
    checkpoint_every: int = 200  # steps between two checkpoints; one more is written at the end
