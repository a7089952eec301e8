"""Minimise a loss by AdamW over rows of arrays: resumable, the same here and on workers. Neither
model nor data.

Everything random of a step comes from (seed, step, rank), so a resumed run needs no generator
state: it draws the batches and dropout masks of the uninterrupted run and, on one machine, ends in
the same weights bit for bit.
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


def fit(
    session: Session, model: nn.Module, loss_of: LossOf, rows: int, config: FitConfig, seed: int
) -> None:
    """Train `model` in place. `loss_of(model, row_numbers)` gives the loss of one batch and what
    else to record.

    `rows` is the number of training rows; every epoch visits each once in a new order. A killed run
    that is started again under the same name goes on after its last checkpoint.
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
        torch.manual_seed(_mix(seed, step, session.rank))
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
                do="lower learning_rate, or look for NaN among the rows",
            )
        optimizer.step()
        done, last = step + 1, step + 1 == config.steps
        keep = last or done % config.checkpoint_every == 0
        if keep or done % config.report_every == 0:
            session.report(
                done,
                {"loss": float(loss.detach()), "gradient_norm": norm, **metrics},
                {"model": trained_state(model), "optimizer": optimizer.state_dict()}
                if keep
                else None,
            )
        progress.tell(done, float(loss.detach()))
    model.eval()


def trained_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """What training changes of a network: its buffers, and the parameters that are not frozen.

    A frozen parameter is what it was when the run began, which begins by building the same network
    again: of a 3B model with adapters that leaves 0.5 GB to write instead of 8.
    """
    frozen = {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad
    }
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_trained_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put what trained_state gave into a network built alike. Raises RuntimeError if its trained
    part is another.
    """
    expected = trained_state(model).keys()
    if state.keys() != expected:
        raise RuntimeError(
            f"the checkpoint is of another training: {sorted(state.keys() ^ expected)[:5]}"
        )
    model.load_state_dict(state, strict=False)


def batch_rows(seed: int, step: int, rows: int, batch: int) -> np.ndarray:
    """Row numbers of one step: the permutations of all epochs laid end to end, cut into batches."""
    first = step * batch
    epochs = range(first // rows, (first + batch - 1) // rows + 1)
    order = np.concatenate(
        [np.random.default_rng((seed, epoch)).permutation(rows) for epoch in epochs]
    )
    offset = first - epochs[0] * rows
    return order[offset : offset + batch]


def learning_rate_factor(step: int, config: FitConfig) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine down to 0.02."""
    warm = max(1, round(config.warmup * config.steps))
    if step < warm:
        return (step + 1) / warm
    progress = (step - warm) / max(1, config.steps - warm)
    return 0.02 + 0.49 * (1 + math.cos(math.pi * progress))


class _Progress:
    """A log line every ten seconds: how far, how fast, how long still."""

    def __init__(self, start: int, steps: int, speak: bool) -> None:
        self._start, self._steps, self._speak = start, steps, speak
        self._began = self._told = time.monotonic()

    def tell(self, done: int, loss: float) -> None:
        now = time.monotonic()
        if self._speak and now - self._told >= 10:
            self._told = now
            rate = (done - self._start) / (now - self._began)
            _LOG.info(
                "step %d of %d, loss %.4g, %.1f steps/s, %.0f s to go",
                done,
                self._steps,
                loss,
                rate,
                (self._steps - done) / rate,
            )


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
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


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
