"""The training recipe that all planners share.

Imports no torch.
"""

from dataclasses import dataclass, field, replace

from models.planners.config import PlannerConfig
from ops.training.config import FitConfig


@dataclass(frozen=True, slots=True)
class RowChoice:
    """Rows of the train split on which the planners, the student and the VLM are trained."""

    stride: int = 1  # every stride-th plannable row is used
    mirror: bool = False  # add each row's mirror image, on which the VLM is run too
    # share of the training logs that the VLM is trained on; below 1 the planners and the student
    # are trained on the other logs alone, so that the VLM's hidden states there are as uncertain as
    # on new logs
    vlm_share: float = 1.0


@dataclass(frozen=True, slots=True)
class ProposalScoringConfig:
    """Proposals that are scored for each row, and the weights of their scores."""

    num_retrieved: int = 10  # per row: recorded futures of rows at a similar speed
    # per row: its own future rotated (std 0.05 rad at the last pose) and stretched (std 15 %)
    num_perturbed: int = 5
    # largest distance of a retrieved row, as a number of rows in the order of speeds
    neighbor_window: int = 150
    loss_weight: float = 1.0  # of the sub-scores' cross-entropy in a planner's loss
    # of the predicted log score relative to the mode's log probability when a plan is chosen
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ImitationConfig:
    """Weights of the imitation terms in the student's loss."""

    # of KL(teacher || student) of the code distributions; 0 in the student without a teacher
    code_weight: float = 0.1
    memory_weight: float = 0.1  # of 1 - cosine similarity of the memory tokens; 0 likewise
    temperature: float = 2.0  # of both code distributions


def without_teacher(imitation: ImitationConfig) -> ImitationConfig:
    """The imitation of the student without a teacher: both weights 0."""
    return replace(imitation, code_weight=0.0, memory_weight=0.0)


@dataclass(frozen=True, slots=True)
class PlannerRecipe:
    """Configuration that the VLA's planner, the planner alone and the student share."""

    planner: PlannerConfig = field(default_factory=PlannerConfig)
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=500, batch=32))
    proposal_scoring: ProposalScoringConfig = field(default_factory=ProposalScoringConfig)
    rows: RowChoice = field(default_factory=RowChoice)
