"""The blind baseline of the VLM: a multi-layer perceptron from the ego status to the codes.

It is trained on the rows of the VLM and sees no image: a VLM that predicts codes no better than
this has learned nothing from its images. Legend: N rows, S code slots, K codes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from models.vlm_config import STATUS_WIDTH
from ops.vla.code_accuracy import code_loss
from storage.dataset import FrameSet


@dataclass(frozen=True, slots=True)
class BlindCodesConfig:
    """Size and training of the blind baseline."""

    hidden: int = 256  # units of both hidden layers
    steps: int = 1500
    batch: int = 128  # rows
    learning_rate: float = 2e-3  # peak, one cycle
    dropout: float = 0.1


class BlindCodes(nn.Module):
    """Ego status (B, 9) as FrameSet.motion_status -> logits (B, S, K)."""

    mean_N: torch.Tensor
    std_N: torch.Tensor

    def __init__(self, status_NN: torch.Tensor, slots: int, codes: int, config: BlindCodesConfig):
        super().__init__()
        self.register_buffer("mean_N", status_NN.mean(dim=0))
        self.register_buffer("std_N", status_NN.std(dim=0).clamp(min=1e-3))
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
    num_codes: int,
    seed: int,
    config: BlindCodesConfig | None = None,
) -> BlindCodes:
    """Train the blind baseline on rows: status (N, 9), codes and their validity (N, S)."""
    config = config or BlindCodesConfig()
    generator = np.random.default_rng((seed, 307))
    torch.manual_seed(seed)
    status_NN, codes_NS, valid_NS = map(torch.from_numpy, (status, codes, valid))
    model = BlindCodes(status_NN, codes.shape[1], num_codes, config)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps
    )
    for _ in range(config.steps):
        rows = torch.from_numpy(generator.integers(0, len(status), config.batch))
        loss, _ = code_loss(model(status_NN[rows]), codes_NS[rows], valid_NS[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def labelled_rows(train: FrameSet) -> np.ndarray:
    """Indices of the VLM's training rows: those with an image and a code."""
    return np.flatnonzero(train.has_image & train.codes_valid.any(axis=1))


def blind_code_logits(train: FrameSet, rows: FrameSet, num_codes: int, seed: int) -> np.ndarray:
    """Logits (N, S, K) of the codes of `rows`, by the blind baseline trained on the VLM's training
    rows of the split `train`.
    """
    labelled = labelled_rows(train)
    blind = fit_blind_codes(
        train.motion_status[labelled],
        train.codes[labelled],
        train.codes_valid[labelled],
        num_codes,
        seed,
    )
    with torch.no_grad():
        return blind(torch.from_numpy(rows.motion_status)).numpy()
