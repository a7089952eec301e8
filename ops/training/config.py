"""Compute and optimisation settings of a training.

Imports no torch.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ComputeConfig:
    """Processes, devices and threads of a training."""

    num_workers: int = 0  # 0: in this process; N: that many Ray Train workers
    use_gpu: bool = False  # one GPU per worker
    # None: a private Ray cluster; "auto" or host:port: an existing one
    address: str | None = field(default=None, metadata={"how": True})
    # restarts of the worker group after a crash
    max_failures: int = field(default=1, metadata={"how": True})
    threads: int = 1  # torch threads per process; small networks are no faster with more
    # trainings that run in parallel without workers, a process each; 1: one after the other
    at_once: int = field(default=2, metadata={"how": True})


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Optimisation of a network."""

    steps: int = 400  # optimizer steps
    batch: int = 32  # rows per step, over all workers
    learning_rate: float = 1e-3  # peak; linear warm-up, then cosine decay to 2 % of it
    # "adamw"; "muon": Muon for the matrices of the hidden layers, AdamW for everything else
    optimizer: str = "adamw"
    muon_factor: float = 2.0  # Muon's learning rate as a multiple of `learning_rate`
    weight_decay: float = 0.05  # decoupled; not on biases and other vectors
    warmup: float = 0.1  # fraction of the steps
    clip: float = 1.0  # largest norm of the gradient
    autocast: str = ""  # "bfloat16": mixed precision; "": the parameters' dtype
    # steps between two rows of the history file
    report_every: int = field(default=10, metadata={"how": True})
    # steps between two checkpoints; the last step has one too
    checkpoint_every: int = field(default=200, metadata={"how": True})
