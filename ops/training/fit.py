"""The optimisation loop of every network: AdamW or Muon, resumable, in one process or on Ray
workers.

The random numbers of a step depend only on (seed, step, rank), so a resumed run needs no generator
state: it draws the same batches and dropout masks as an uninterrupted run and, on one machine, ends
with the same weights, bit for bit.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from ops.training.config import FitConfig
from ops.training.launch import Session
from ops.training.muon import Muon
from storage.errors import ConfigError, unknown_name

_LOG = logging.getLogger(__name__)


@runtime_checkable
class HasHiddenMatrices(Protocol):
    """A network that Muon can train."""

    def hidden_matrices(self) -> list[torch.Tensor]:
        """The matrices that Muon takes: weights of hidden linear layers, no embeddings or heads."""
        ...


OPTIMIZERS = ("adamw", "muon")

LossOf = Callable[[nn.Module, np.ndarray], tuple[torch.Tensor, dict[str, float]]]
"""(model, row numbers of a batch) -> the loss, (), and further columns of the training history."""


def fit(
    session: Session,
    model: nn.Module,
    loss_of: LossOf,
    rows: int | Sequence[int],
    config: FitConfig,
    seed: int,
) -> None:
    """Train `model` in place.

    `rows` is the number of training rows; each epoch uses every row once, in a new order. Of
    several numbers each is a group of rows that follow those of the group before; a step draws
    `config.batch` rows of each group, those that it would draw of the group alone. A killed run
    that is started again under the same name resumes after its last checkpoint. Raises ConfigError
    if the gradient is not finite.
    """
    model.to(session.device).train()
    groups = [rows] if isinstance(rows, int) else rows
    optimizers = _optimizers(model, config)
    state = session.resume()
    start = 0
    if state is not None:
        start = state["step"]
        load_trained_state(model, state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
    wrapped, progress = session.prepare(model), _Progress(start, config.steps, session.rank == 0)
    for step in range(start, config.steps):
        torch.manual_seed(_derive_seed(seed, step, session.rank))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["peak_lr"] * learning_rate_factor(step, config)
        batch = group_rows(seed, step, groups, config.batch)[session.rank :: session.world_size]
        with torch.autocast(
            session.device.type, torch.bfloat16, enabled=config.autocast == "bfloat16"
        ):
            loss, metrics = loss_of(wrapped, batch)
        model.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), config.clip))
        if not math.isfinite(norm):
            raise ConfigError(
                "the training diverged",
                where=f"step {step + 1} of {config.steps}",
                expected="a finite gradient",
                found=f"loss {float(loss.detach()):.4g}",
                do="lower learning_rate, or look for NaN in the training rows",
            )
        for optimizer in optimizers:
            optimizer.step()
        session.average_batch_norm(model)
        done = step + 1
        save = done == config.steps or done % config.checkpoint_every == 0
        if save or done % config.report_every == 0:
            session.report(
                done,
                {"loss": float(loss.detach()), "gradient_norm": norm, **metrics},
                {
                    "model": trained_state(model),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                }
                if save
                else None,
            )
        progress.log(done, float(loss.detach()))
    model.eval()


def trained_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that training changes: buffers, and parameters that are not frozen.

    A resumed run builds the same network again, with the same frozen parameters. A checkpoint of a
    3B model with adapters then has 0.5 GB instead of 8 GB.
    """
    frozen = {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad
    }
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_trained_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load the tensors of trained_state(). Raises RuntimeError if their names differ."""
    expected = trained_state(model).keys()
    if state.keys() != expected:
        raise RuntimeError(
            f"the checkpoint belongs to another training: {sorted(state.keys() ^ expected)[:5]}"
        )
    model.load_state_dict(state, strict=False)


def batch_rows(seed: int, step: int, rows: int, batch: int) -> np.ndarray:
    """Row numbers of one step, (batch,): a slice of the concatenated permutations of all epochs."""
    first = step * batch
    epochs = range(first // rows, (first + batch - 1) // rows + 1)
    order = np.concatenate([_epoch_order(seed, epoch, rows) for epoch in epochs])
    offset = first - epochs[0] * rows
    return order[offset : offset + batch]


@lru_cache(maxsize=4)  # two epochs of two groups: at a million rows a permutation costs 20 ms
def _epoch_order(seed: int, epoch: int, rows: int) -> np.ndarray:
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    order.setflags(write=False)
    return order


def group_rows(seed: int, step: int, groups: Sequence[int], batch: int) -> np.ndarray:
    """Row numbers of one step, (len(groups) * batch,): batch_rows() of each group."""
    firsts = np.cumsum([0, *groups[:-1]])
    return np.concatenate(
        [
            first + batch_rows(seed, step, rows, batch)
            for first, rows in zip(firsts, groups, strict=True)
        ]
    )


def learning_rate_factor(step: int, config: FitConfig) -> float:
    """Factor of the peak learning rate: linear warm-up, then cosine decay to 0.02."""
    warmup_steps = max(1, round(config.warmup * config.steps))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, config.steps - warmup_steps)
    return 0.02 + 0.49 * (1 + math.cos(math.pi * progress))


class _Progress:
    """Logs step, loss, rate and remaining time every ten seconds."""

    def __init__(self, start: int, steps: int, enabled: bool) -> None:
        self._start, self._steps, self._enabled = start, steps, enabled
        self._start_s = self._last_log_s = time.monotonic()

    def log(self, done: int, loss: float) -> None:
        now = time.monotonic()
        if self._enabled and now - self._last_log_s >= 10:
            self._last_log_s = now
            rate = (done - self._start) / (now - self._start_s)
            _LOG.info(
                "step %d of %d, loss %.4g, %.1f steps/s, %.0f s to go",
                done,
                self._steps,
                loss,
                rate,
                (self._steps - done) / rate,
            )


def _optimizers(model: nn.Module, config: FitConfig) -> list[torch.optim.Optimizer]:
    """AdamW of all trained parameters; or AdamW of those that Muon does not take, and Muon.

    Each group has its peak learning rate as `peak_lr`. Raises ConfigError for an unknown optimizer,
    or a network that does not say which of its matrices are hidden.
    """
    if config.optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", config.optimizer, OPTIMIZERS)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.optimizer == "adamw":
        return [_adamw(trained, config)]
    if not isinstance(model, HasHiddenMatrices):
        raise ConfigError(
            f"{type(model).__name__} cannot be trained with Muon",
            expected="a network with hidden_matrices(), such as the VLM",
            found='FitConfig.optimizer="muon"',
            do='choose optimizer="adamw"',
        )
    hidden = [parameter for parameter in model.hidden_matrices() if parameter.requires_grad]
    taken = {id(parameter) for parameter in hidden}
    peak_lr = config.muon_factor * config.learning_rate
    muon = Muon([{"params": hidden, "peak_lr": peak_lr}], peak_lr, config.weight_decay)
    rest = [parameter for parameter in trained if id(parameter) not in taken]
    return [_adamw(rest, config), muon]


def _adamw(parameters: Sequence[nn.Parameter], config: FitConfig) -> torch.optim.Optimizer:
    """AdamW with weight decay for tensors of two or more dimensions, none for the others."""
    groups = [
        {
            "params": [item for item in parameters if (item.ndim > 1) == decays],
            "weight_decay": config.weight_decay if decays else 0.0,
            "peak_lr": config.learning_rate,
        }
        for decays in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)


def _derive_seed(*numbers: int) -> int:
    """A seed of 63 bits from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
