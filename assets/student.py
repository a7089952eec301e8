"""Link 7: the student, a small planner that has learned from the teacher and drives without it."""

import dagster as dg

from assets.chain import Ask, Chain
from assets.frames import frames
from assets.links import code_version, usable_logs
from assets.making import Making
from assets.metadata import read_json, report_table, training_pictures
from assets.relabeled import relabeled
from assets.trajectories import trajectories
from assets.vla import vla


@dg.asset(deps=[frames, trajectories, relabeled, vla], group_name="training", kinds={"pytorch", "ray", "onnx"},
          owners=["team:ml"], pool="training", code_version=code_version("student"))
def student(context: dg.AssetExecutionContext, chain: Chain, config: Ask) -> dg.MaterializeResult:
    """The planner with a small transformer that imitates the teacher's codes and features, in place of the teacher.

    The folder holds the student in the Hugging Face layout and as ONNX, and the student without the teacher as control.
    """
    making, preset = Making(context, chain, "student", config), chain.preset()
    if making.needed:
        from ops.distill import distill
        from ops.heldout import train_and_heldout
        from ops.scenes import PlanScorer

        train, heldout = train_and_heldout(chain.lake, usable_logs(chain), preset.vla.image_hw, relabeled=True)
        with making.artifact() as out, PlanScorer(chain.lake, preset.processes) as score_plans:
            distill(train, heldout, chain.lake.link("vla"), out, preset.student, score_plans=score_plans,
                    where=preset.where, runs=chain.lake.runs, name=making.run_name, seed=preset.seed)
    return making.result(student_metadata(chain))


def student_metadata(chain: Chain) -> dict:
    """What the training reported, and its curves."""
    path = chain.lake.link("student")
    return {"report": report_table(read_json(path / "report.json")), **training_pictures(path)}
