"""The quantizer of a latent-action model: continuous action tokens -> entries of a codebook.

Wraps the quantizers of vector-quantize-pytorch that are compared in one interface with one warm-up.

Legend: B rows, N = K * D outputs of the encoder, K tokens, D code dimension.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, VectorQuantize

from models.latent_action.config import QuantizerConfig

FSQ_LEVELS = {16: [4, 4], 64: [4, 4, 4]}


class Quantized(NamedTuple):
    """Quantized tokens of a batch."""

    values_BKD: Tensor  # entries of the codebook; continuous tokens during warm-up
    codes_BK: Tensor  # int64; 0 during warm-up
    loss: Tensor  # commitment loss, ()


class Quantizer(nn.Module):
    """A codebook of `codes` entries. Tokens stay continuous for the first training steps, then
    k-means initialises the entries.

    The tokens are first normalised to zero mean and unit variance over the batch: otherwise an
    encoder whose tokens shrink to one point would use a single code.
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
        """Quantize the encoder's output (B, K * D); during warm-up only normalise it."""
        discrete = not self.training or int(self.steps_seen) >= self.config.warmup_steps
        if self.training:
            self.steps_seen += 1
        values_BKD = rearrange(self.normalize(values_BN), "b (k d) -> b k d", k=self.config.tokens)
        no_codes_BK = torch.zeros(values_BKD.shape[:2], dtype=torch.long, device=values_BKD.device)
        no_loss = values_BKD.new_zeros(())
        if isinstance(self.book, FSQ):
            # the same projections without rounding, so that every parameter gets a gradient
            if not discrete:
                return Quantized(
                    self.book.project_out(self.book.project_in(values_BKD).tanh()),
                    no_codes_BK,
                    no_loss,
                )
            values_BKD, codes_BK = self.book(values_BKD)
            return Quantized(values_BKD, codes_BK.long(), no_loss)
        if not discrete:
            return Quantized(values_BKD, no_codes_BK, no_loss)
        return Quantized(*self.book(values_BKD))

    def embed(self, codes_BK: Tensor) -> Tensor:
        """Codebook entries (B, K, D) of codes (B, K)."""
        if isinstance(self.book, FSQ):
            return self.book.indices_to_codes(codes_BK)
        assert isinstance(self.book, VectorQuantize)
        return self.book.get_codes_from_indices(codes_BK)
