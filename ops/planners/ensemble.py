"""Several students' networks as one planner: it pools their proposals, and all of them judge all of
the pool.

Legend: B rows of a batch, N rows, P pooled proposals; a plan is (8, 3): x, y, heading in m, m, rad
in the ego frame at 0.5 s steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.planners.planner import best_plan, mode_preference
from models.planners.student import StudentNet
from ops.planners.kinds import StudentKind
from ops.planners.propose import plan_in_batches
from ops.planners.training_arrays import TrainingArrays


@dataclass(frozen=True, slots=True)
class PlannerEnsemble:
    """Trained networks of one configuration, on one device."""

    members: Sequence[StudentNet]

    def plan(self, arrays: TrainingArrays) -> np.ndarray:
        """The chosen plan of each row, (N, 8, 3) float64; `arrays` as for plan_rows."""
        device = next(self.members[0].parameters()).device
        return plan_in_batches(self.choose, StudentKind.inputs, arrays, device)

    def choose(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The best plan (B, 8, 3) of the pool; inputs as for StudentNet.forward.

        It is chosen as by PlannerNet.choose, with the mode of the member that proposes the plan,
        and with the mean of the predicted log PDM scores of all members, each from the scene as
        that member sees it. One member alone is that member's own choice.
        """
        outputs = [member(*inputs) for member in self.members]
        plans_BP83 = torch.cat([output.proposals.plans_BK83 for output in outputs], dim=1)
        mode_BP = torch.cat([mode_preference(output.proposals) for output in outputs], dim=1)
        judged_BP = torch.stack(
            [
                member.planner.judge(plans_BP83, output.scene)
                for member, output in zip(self.members, outputs, strict=True)
            ]
        ).mean(dim=0)
        return best_plan(plans_BP83, mode_BP + judged_BP)
