"""Configuration of the study on logs without labels.

Imports no torch.
"""

from dataclasses import dataclass, field, replace

from ops.evaluation.config import EvaluationConfig
from ops.ingest.config import ExtractConfig, FrameConfig
from ops.latent_actions.config import CodebookConfig, RelabelConfig
from ops.planners.config import ImitationConfig, PlannerRecipe, without_teacher
from ops.study.arms import ARMS
from ops.study.town_config import TownsConfig
from ops.synthesize.config import WorldConfig
from ops.training.config import FitConfig
from ops.vla.config import VlaConfig


@dataclass(frozen=True, slots=True)
class StudySize:
    """Numbers of logs and seeds, and the trainings' lengths, of the study at one scale."""

    # one synthetic town each; the logs are spread evenly
    town_seeds: tuple[int, ...] = (13, 31, 47)
    labelled_logs: int = 35  # with map, agents and futures
    unlabelled_logs: int = 420  # with video and odometry alone
    val_logs: int = 24  # on which choices are made
    test_logs: int = 128  # looked at once
    teachers: int = 3  # codebook and VLM, each with its own seed
    students: int = 12  # seeds of the students; every one is crossed with every teacher
    members: int = 4  # planners of the ensemble, the positive control's teacher
    # of the VLM, on the rows without labels alone
    vlm_fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=1200, batch=16, learning_rate=1.5e-3, optimizer="muon"
        )
    )
    # of the students: `batch` rows with labels a step and, in arms that see them, as many without
    student_fit: FitConfig = field(
        default_factory=lambda: FitConfig(steps=300, batch=32, learning_rate=2e-3, optimizer="muon")
    )
    # of the codes alone: there are no memory tokens, since no planner reads the VLM
    imitation: ImitationConfig = field(
        default_factory=lambda: ImitationConfig(code_weight=2.0, memory_weight=0.0)
    )


@dataclass(frozen=True, slots=True)
class StudyConfig:
    """Everything that determines the study's artefacts and tables."""

    size: StudySize
    world: WorldConfig  # seed and numbers of logs are replaced by those of `size`
    frames: FrameConfig
    trajectories: ExtractConfig
    codebook: CodebookConfig
    relabeled: RelabelConfig
    vla: VlaConfig
    evaluation: EvaluationConfig  # which scenes are scored, and the intervals
    split: str = "test"  # of the scored scenes; "val" for choices

    @property
    def towns(self) -> TownsConfig:
        """The logs and how they are read."""
        size = self.size
        return TownsConfig(
            size.town_seeds,
            size.labelled_logs,
            size.unlabelled_logs,
            size.val_logs,
            size.test_logs,
            self.world,
            self.frames,
            self.trajectories,
        )

    @property
    def recipe(self) -> PlannerRecipe:
        """The planners' recipe, with the students' optimisation and rows: no mirror images, and
        the VLM has logs of its own anyway.
        """
        rows = replace(self.vla.recipe.rows, mirror=False, vlm_share=1.0)
        return replace(self.vla.recipe, fit=self.size.student_fit, rows=rows)

    @property
    def code_layout(self) -> tuple[int, int]:
        """Code slots of a row, and entries of the codebook."""
        return self.relabeled.transitions * self.codebook.tokens, self.codebook.num_codes

    def imitation_of(self, arm: str) -> ImitationConfig:
        """The weights of the imitation in an arm: 0 without a teacher."""
        imitation = self.size.imitation
        return imitation if ARMS[arm].taught else without_teacher(imitation)
