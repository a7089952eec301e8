"""The optimisation loop of every network: AdamW, resumable, in one process or on Ray workers.

The random numbers of a step depend only on (seed, step, rank), so a resumed run needs no generator
state: it draws the same batches and dropout masks as an uninterrupted run and, on one machine, ends
with the same weights, bit for bit.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from ops.training.config import FitConfig
from ops.training.launch import Session
from storage.errors import ConfigError

_LOG = logging.getLogger(__name__)

LossOf = Callable[[nn.Module, np.ndarray], tuple[torch.Tensor, dict[str, float]]]
"""(model, row numbers of a batch) -> the loss, (), and further columns of the training history."""


def fit(
    session: Session, model: nn.Module, loss_of: LossOf, rows: int, config: FitConfig, seed: int
) -> None:
    """Train `model` in place.

    `rows` is the number of training rows; each epoch uses every row once, in a new order. A killed
    run that is started again under the same name resumes after its last checkpoint. Raises
    ConfigError if the gradient is not finite.
    """
    model.to(session.device).train()
    optimizer = torch.optim.AdamW(
        _decay_groups(model, config.weight_decay),
        lr=config.learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )
    state = session.resume()
    start = 0
    if state is not None:
        start = state["step"]
        load_trained_state(model, state["model"])
        optimizer.load_state_dict(state["optimizer"])
    wrapped, progress = session.prepare(model), _Progress(start, config.steps, session.rank == 0)
    for step in range(start, config.steps):
        torch.manual_seed(_derive_seed(seed, step, session.rank))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(step, config)
        batch = batch_rows(seed, step, rows, config.batch)[session.rank :: session.world_size]
        with torch.autocast(
            session.device.type, torch.bfloat16, enabled=config.autocast == "bfloat16"
        ):
            loss, metrics = loss_of(wrapped, batch)
        optimizer.zero_grad(set_to_none=True)
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
        optimizer.step()
        session.average_batch_norm(model)
        done = step + 1
        save = done == config.steps or done % config.checkpoint_every == 0
        if save or done % config.report_every == 0:
            session.report(
                done,
                {"loss": float(loss.detach()), "gradient_norm": norm, **metrics},
                {"model": trained_state(model), "optimizer": optimizer.state_dict()}
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
    order = np.concatenate(
        [np.random.default_rng((seed, epoch)).permutation(rows) for epoch in epochs]
    )
    offset = first - epochs[0] * rows
    return order[offset : offset + batch]


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


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups: weight decay for tensors of two or more dimensions, none for the others."""
    trained: Iterable[nn.Parameter] = [
        parameter for parameter in model.parameters() if parameter.requires_grad
    ]
    return [
        {
            "params": [parameter for parameter in trained if parameter.ndim > 1],
            "weight_decay": weight_decay,
        },
        {
            "params": [parameter for parameter in trained if parameter.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]


def _derive_seed(*numbers: int) -> int:
    """A seed of 63 bits from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
