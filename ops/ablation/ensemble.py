"""The positive control of the ablation: a student whose teacher is an ensemble of its own network,
which plans better than one of them.

The members are the student's network without a teacher, on the student's rows, with seeds of their
own. Their pooled and jointly judged plan of a row (ops/planners/ensemble.py) is the student's
target: half of each batch has the recorded future as target, the other half the ensemble's plan.

    out/                 the student, as in ops/ablation/teach_student.py
    out/members/0 ...    the members
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ops.ablation.teach_student import StudentTargets, StudentTask
from ops.planners.checkpoint import count_parameters, load_planner
from ops.planners.config import without_teacher
from ops.planners.ensemble import PlannerEnsemble
from ops.planners.recipe import planner_arrays, planner_job
from ops.planners.training_arrays import TrainingArrays
from storage.dataset import FrameSet

MEMBERS = 4
ARRAYS = "members"  # the part whose arrays all members read
_FIRST_SEED = 1_000_000  # of the members of seed 0; above every seed of a run


@dataclass(frozen=True, slots=True)
class EnsemblePlanner:
    """The ensemble behind the interface of ops/planners/planner.py."""

    ensemble: PlannerEnsemble
    parameters: int

    def plan(self, rows: FrameSet) -> np.ndarray:
        """Plans (N, 8, 3), each in the ego frame of its row."""
        config = self.ensemble.members[0].planner.config
        return self.ensemble.plan(planner_arrays(rows, config))


def ensemble_teacher(task: StudentTask) -> StudentTargets:
    """Train the ensemble; its plans are targets beside the recorded futures."""
    arrays, training, recipe = task.arrays, task.training, task.rows.recipe
    imitation = without_teacher(task.imitation)
    parts = tuple(f"member_{member}" for member in range(MEMBERS))
    arrays.save(training.arrays(ARRAYS))
    training.launch_all(
        [
            planner_job(
                part,
                "student",
                task.parts,
                folder,
                recipe,
                replace(training, seed=seed),
                imitation=imitation,
                arrays=training.arrays(ARRAYS),
            )
            for part, folder, seed in zip(
                parts, member_folders(task.out), member_seeds(training.seed), strict=True
            )
        ]
    )
    plans = open_ensemble(task.out).ensemble.plan(arrays)
    return StudentTargets(
        beside_recorded_futures(arrays, plans, training.seed),
        replace(recipe.fit, batch=max(1, recipe.fit.batch // 2)),
        imitation,
        len(arrays),
        (ARRAYS, *parts),
    )


def open_ensemble(folder: Path) -> EnsemblePlanner:
    """Open the ensemble of a run in `folder`. Raises ArtifactError if a member is missing."""
    members = [load_planner(member, "student") for member in member_folders(folder)]
    return EnsemblePlanner(PlannerEnsemble(members), sum(map(count_parameters, members)))


def member_folders(folder: Path) -> Sequence[Path]:
    """Folders of the members of a run in `folder`."""
    return [folder / "members" / str(member) for member in range(MEMBERS)]


def member_seeds(seed: int) -> Sequence[int]:
    """Seeds of the members of the run of a seed; no run and no member of another has them."""
    return range(_FIRST_SEED + MEMBERS * seed, _FIRST_SEED + MEMBERS * (seed + 1))


def beside_recorded_futures(arrays: TrainingArrays, plans: np.ndarray, seed: int) -> TrainingArrays:
    """The rows with their recorded future, then once more with `plans` (N, 8, 3) as target and
    without sub-scores.

    The second time they are in another order, so that a step, which draws the same numbers of both
    halves, does not read each of its images twice.
    """
    count = len(arrays)
    order = np.random.default_rng((seed, 401)).permutation(count)
    both = arrays.take(np.concatenate([np.arange(count), order]))
    both.future[count:] = plans[order]
    if both.subscores is not None:
        both.subscores[count:] = np.nan
    return both
