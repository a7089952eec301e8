"""How the codebook is learned and how rows are labelled with it. Needs no torch."""

from dataclasses import dataclass, field

from models.latent_action.config import LatentActionConfig
from ops.training.config import FitConfig


@dataclass(frozen=True, slots=True)
class CodebookConfig:
    """What the codes are learned from and with."""

    gap_s: float = 0.5  # seconds between the two frames of a pair
    model: LatentActionConfig = field(default_factory=LatentActionConfig)
    environment: FitConfig = field(  # phase (a)
        default_factory=lambda: FitConfig(steps=80, learning_rate=3e-3, weight_decay=0.01)
    )
    ego: FitConfig = field(  # phase (b)
        default_factory=lambda: FitConfig(steps=360, learning_rate=3e-3, weight_decay=0.01)
    )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Size at which the frames are read."""
        return self.model.image_hw

    @property
    def num_codes(self) -> int:
        """Entries of the ego-centric codebook."""
        return self.model.ego_quantizer.codes

    @property
    def tokens(self) -> int:
        """Codes of one transition."""
        return self.model.ego_quantizer.tokens


@dataclass(frozen=True, slots=True)
class RelabelConfig:
    """How rows are labelled."""

    batch: int = 256  # pairs encoded at once
    threads: int = 2  # torch threads
    device: str = "cpu"  # or "cuda"
