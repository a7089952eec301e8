"""Configurations of the codebook's training and of relabelling.

Imports no torch.
"""

from dataclasses import dataclass, field

from models.latent_action.config import LatentActionConfig
from ops.training.config import FitConfig


@dataclass(frozen=True, slots=True)
class CodebookConfig:
    """Training of the codebook."""

    gap_s: float = 0.5  # time between the two frames of a pair
    model: LatentActionConfig = field(default_factory=LatentActionConfig)
    environment: FitConfig = field(  # phase 1
        default_factory=lambda: FitConfig(steps=80, learning_rate=3e-3, weight_decay=0.01)
    )
    ego: FitConfig = field(  # phase 2
        default_factory=lambda: FitConfig(steps=360, learning_rate=3e-3, weight_decay=0.01)
    )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.model.image_hw

    @property
    def num_codes(self) -> int:
        """Number of entries of the ego codebook."""
        return self.model.ego_quantizer.codes

    @property
    def tokens(self) -> int:
        """Number of codes of one transition."""
        return self.model.ego_quantizer.tokens


@dataclass(frozen=True, slots=True)
class RelabelConfig:
    """Relabelling of rows with codes."""

    transitions: int = 8  # consecutive transitions of gap_s each whose codes label a row
    batch: int = field(default=256, metadata={"how": True})  # pairs per forward pass
    threads: int = field(default=2, metadata={"how": True})  # torch threads
    device: str = "cpu"  # or "cuda"
