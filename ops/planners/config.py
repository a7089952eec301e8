"""The recipe that all planners share. Needs no torch."""

from dataclasses import dataclass, field

from models.planners.config import PlannerConfig
from ops.training.config import FitConfig


@dataclass(frozen=True, slots=True)
class RowChoice:
    """Which rows of a split the planners learn from."""

    stride: int = 1  # every how many plannable rows
    mirror: bool = False  # each row's mirror image too; the VLM then reads both


@dataclass(frozen=True, slots=True)
class ProposalScoringConfig:
    """Which plans are scored, and what the judgement weighs."""

    num_retrieved: int = 10  # a row: futures of rows at a like speed
    # a row: its own future, turned by about 3 degrees and stretched by about 15 %
    num_perturbed: int = 5
    # how far from a row, in the order of speeds, the others are drawn
    neighbor_window: int = 150
    loss_weight: float = 1.0  # of the sub-scores' cross-entropy in a planner's loss
    # of the log score against the log probability of the mode when a plan is chosen
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ImitationConfig:
    """What the student's loss adds to the planning loss."""

    # of KL(teacher || student) over the codes; 0 in the student without a teacher
    code_weight: float = 0.5
    memory_weight: float = 0.5  # of 1 - cosine to the teacher's pooled features; 0 likewise
    temperature: float = 2.0  # of both distributions


@dataclass(frozen=True, slots=True)
class PlannerRecipe:
    """What every planner shares, with the VLM, as the student, or alone."""

    planner: PlannerConfig = field(default_factory=PlannerConfig)
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=500, batch=32))
    proposal_scoring: ProposalScoringConfig = field(default_factory=ProposalScoringConfig)
    rows: RowChoice = field(default_factory=RowChoice)
