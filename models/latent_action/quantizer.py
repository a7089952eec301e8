"""The bottleneck of a latent-action model: continuous action tokens in, codebook entries out. Not
the encoder.

Wraps vector-quantize-pytorch, so that the quantisers of the comparison have one face and one
warm-up. Legend: B batch, K tokens, D code dimension.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, VectorQuantize

from models.latent_action.config import QuantizerConfig

FSQ_LEVELS = {16: [4, 4], 64: [4, 4, 4]}


class Quantized(NamedTuple):
    """What a quantiser gives for a batch."""

    values_BKD: Tensor
    codes_BK: Tensor  # int64; zeros while the tokens are continuous
    loss: Tensor  # () commitment


class Quantizer(nn.Module):
    """A codebook of `codes` entries. Tokens stay continuous for the first steps of training, then
    k-means places codes.

    The tokens are first brought to zero mean and unit variance over the batch: an encoder whose
    tokens shrink to one point would otherwise leave every batch with the same code.
    """

    steps_seen: Tensor

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.long))
        self.config = config
        self.normalize = nn.BatchNorm1d(config.tokens * config.code_dim, affine=False)
        if config.kind == "fsq":
            self.book: nn.Module = FSQ(FSQ_LEVELS[config.codes], dim=config.code_dim)
        else:
            self.book = VectorQuantize(
                dim=config.code_dim,
                codebook_size=config.codes,
                kmeans_init=True,
                decay=config.decay,
                threshold_ema_dead_code=config.dead_below,
                commitment_weight=config.commitment,
                rotation_trick=config.kind == "rotation",
                sync_codebook=torch.distributed.is_initialized()
                and torch.distributed.get_world_size() > 1,
            )

    def forward(self, values_BN: Tensor) -> Quantized:
        """Quantise the encoder's output (B, K * D); while warming up only normalise it."""
        discrete = not self.training or int(self.steps_seen) >= self.config.warmup_steps
        if self.training:
            self.steps_seen += 1
        values_BKD = rearrange(self.normalize(values_BN), "b (k d) -> b k d", k=self.config.tokens)
        no_codes_BK = torch.zeros(values_BKD.shape[:2], dtype=torch.long, device=values_BKD.device)
        none = values_BKD.new_zeros(())
        if isinstance(self.book, FSQ):
            # the same projections without rounding, so that every parameter has its gradient
            if not discrete:
                return Quantized(
                    self.book.project_out(self.book.project_in(values_BKD).tanh()),
                    no_codes_BK,
                    none,
                )
            values_BKD, codes_BK = self.book(values_BKD)
            return Quantized(values_BKD, codes_BK.long(), none)
        if not discrete:
            return Quantized(values_BKD, no_codes_BK, none)
        return Quantized(*self.book(values_BKD))

    def embed(self, codes_BK: Tensor) -> Tensor:
        """Codebook entries of codes, (B, K, D)."""
        if isinstance(self.book, FSQ):
            return self.book.indices_to_codes(codes_BK)
        assert isinstance(self.book, VectorQuantize)
        return self.book.get_codes_from_indices(codes_BK)
