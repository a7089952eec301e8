"""The floors of the VLM that see no image: a multi-layer perceptron from the ego status to the
codes, and each slot's code frequencies.

Both come from the rows of the VLM: a VLM that predicts codes no better than the lower of them has
learned nothing from its images. Legend: N rows, S code slots, K codes.
"""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from models.vlm_config import STATUS_WIDTH
from ops.planners.config import RowChoice
from ops.planners.training_arrays import vlm_logs
from ops.vla.code_accuracy import code_loss
from storage.dataset import FrameSet


@dataclass(frozen=True, slots=True)
class BlindCodesConfig:
    """Size and training of the blind baseline."""

    hidden: int = 256  # units of both hidden layers
    steps: int = 1500  # at most
    batch: int = 128  # rows
    learning_rate: float = 2e-3  # peak, one cycle
    dropout: float = 0.1
    held_out: float = 0.1  # share of the logs, at least one, on which the weights are chosen
    check_every: int = 50  # steps between two measurements on the held-out logs
    patience: int = 6  # measurements without an improvement after which the training ends


class BlindCodes(nn.Module):
    """Ego status (B, 9) as FrameSet.motion_status -> logits (B, S, K)."""

    mean_N: torch.Tensor
    std_N: torch.Tensor

    def __init__(self, status_NN: torch.Tensor, slots: int, codes: int, config: BlindCodesConfig):
        super().__init__()
        self.register_buffer("mean_N", status_NN.mean(dim=0))
        self.register_buffer("std_N", status_NN.std(dim=0, correction=0).clamp(min=1e-3))
        self.layers = nn.Sequential(
            nn.Linear(STATUS_WIDTH, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, slots * codes),
            nn.Unflatten(-1, (slots, codes)),
        )

    def forward(self, status_BN: torch.Tensor) -> torch.Tensor:
        return self.layers((status_BN - self.mean_N) / self.std_N)


def fit_blind_codes(
    status: np.ndarray,
    codes: np.ndarray,
    valid: np.ndarray,
    log_id: np.ndarray,
    num_codes: int,
    seed: int,
    config: BlindCodesConfig | None = None,
) -> BlindCodes:
    """Train the blind baseline on rows: status (N, 9), codes and their validity (N, S), each with a
    valid code, and their logs (N,), in order of time within a log.

    The weights are those with the least loss on held-out logs, the initial ones included: with few
    rows the last ones would be far worse than uniform probabilities.
    """
    config = config or BlindCodesConfig()
    generator = np.random.default_rng((seed, 307))
    torch.manual_seed(seed)
    held_out = _held_out(log_id, config.held_out, generator)
    train = [torch.from_numpy(array[~held_out]) for array in (status, codes, valid)]
    check = [torch.from_numpy(array[held_out]) for array in (status, codes, valid)]
    model = BlindCodes(train[0], codes.shape[1], num_codes, config)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps
    )
    best, best_step, weights = _loss(model.eval(), check), 0, deepcopy(model.state_dict())
    for step in range(1, config.steps + 1):
        rows = torch.from_numpy(generator.integers(0, len(train[0]), config.batch))
        status_BN, codes_BS, valid_BS = (array[rows] for array in train)
        loss, _ = code_loss(model.train()(status_BN), codes_BS, valid_BS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % config.check_every and step < config.steps:
            continue
        if (now := _loss(model.eval(), check)) < best:
            best, best_step, weights = now, step, deepcopy(model.state_dict())
        elif step - best_step >= config.patience * config.check_every:
            break
    model.load_state_dict(weights)
    return model.eval()


def labelled_rows(train: FrameSet, choice: RowChoice) -> np.ndarray:
    """Indices of the VLM's training rows: those of its logs with an image and a code."""
    labelled = train.has_image & train.codes_valid.any(axis=1)
    return np.flatnonzero(labelled & vlm_logs(train, choice))


def blind_code_logits(
    train: FrameSet, rows: FrameSet, choice: RowChoice, num_codes: int, seed: int
) -> np.ndarray:
    """Logits (N, S, K) of the codes of `rows`, by the blind baseline trained on the VLM's training
    rows of the split `train`.
    """
    labelled = labelled_rows(train, choice)
    blind = fit_blind_codes(
        train.motion_status[labelled],
        train.codes[labelled],
        train.codes_valid[labelled],
        train.log_id[labelled],
        num_codes,
        seed,
    )
    with torch.no_grad():
        return blind(torch.from_numpy(rows.motion_status)).numpy()


def frequency_logits(codes: np.ndarray, valid: np.ndarray, num_codes: int) -> np.ndarray:
    """Log of each slot's code frequencies (S, K) with add-one smoothing, from codes and their
    validity (N, S).
    """
    counts = 1 + (np.eye(num_codes)[codes] * valid[..., None]).sum(axis=0)
    return np.log(counts / counts.sum(axis=1, keepdims=True))


def _held_out(log_id: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Mask (N,) of the rows of `share` of the logs; of the last `share` of a single log."""
    logs = generator.permutation(np.unique(log_id))
    if len(logs) == 1:
        return np.arange(len(log_id)) >= max(1, int((1 - share) * len(log_id)))
    return np.isin(log_id, logs[: max(1, round(share * len(logs)))])


@torch.no_grad()
def _loss(model: BlindCodes, rows: list[torch.Tensor]) -> float:
    """Mean negative log-likelihood in nats of the valid codes of rows: status, codes, validity."""
    status_BN, codes_BS, valid_BS = rows
    return float(code_loss(model(status_BN), codes_BS, valid_BS)[0])
