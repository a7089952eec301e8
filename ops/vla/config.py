"""The recipe of the `vla` artefact.

Imports no torch.
"""

from dataclasses import dataclass, field

from models.planners.config import EgoMlpConfig, FusionConfig
from models.vlm_config import VlmConfig
from ops.planners.config import PlannerRecipe
from ops.training.config import FitConfig


@dataclass(frozen=True, slots=True)
class VlaConfig:
    """The recipe of the `vla` artefact; the student reuses `recipe`."""

    # height and width of the VLM's images in pixels; the planner's are resized from them
    image_hw: tuple[int, int] = (112, 224)
    vlm: VlmConfig = field(default_factory=VlmConfig)
    vlm_fit: FitConfig = field(
        default_factory=lambda: FitConfig(steps=400, batch=16, learning_rate=1.5e-3)
    )
    fusion: FusionConfig = field(default_factory=FusionConfig)
    recipe: PlannerRecipe = field(default_factory=PlannerRecipe)
    ego_mlp: EgoMlpConfig = field(default_factory=EgoMlpConfig)
    ego_fit: FitConfig = field(
        default_factory=lambda: FitConfig(steps=2000, batch=128, report_every=50)
    )
    val_rows: int = 300  # rows of the val split measured for the report, evenly spaced
