"""Link 6: the teacher. A vision-language model that says the latent actions, frozen and fused into the planner."""

import dagster as dg

from assets.chain import Ask, Chain
from assets.frames import frames
from assets.links import code_version, usable_logs
from assets.making import Making
from assets.metadata import read_json, report_table, training_pictures
from assets.relabeled import relabeled
from assets.trajectories import trajectories


@dg.asset(deps=[frames, trajectories, relabeled], group_name="training", kinds={"pytorch", "ray", "huggingface"},
          owners=["team:ml"], pool="training", code_version=code_version("vla"))
def vla(context: dg.AssetExecutionContext, chain: Chain, config: Ask) -> dg.MaterializeResult:
    """Qwen2.5-VL with 16 action tokens, trained to say the 12 codes of the next 1.5 s; then frozen, pooled and fused.

    Its hidden states enter the planner by cross-attention. The folder holds the model in the Hugging Face layout, the
    planner with and without it, and the blind baseline.
    """
    making, preset = Making(context, chain, "vla", config), chain.preset()
    if making.needed:
        from ops.finetune import finetune
        from ops.heldout import train_and_heldout
        from ops.scenes import PlanScorer

        train, heldout = train_and_heldout(chain.lake, usable_logs(chain), preset.vla.image_hw, relabeled=True)
        with making.artifact() as out, PlanScorer(chain.lake, preset.processes) as score_plans:
            finetune(train, heldout, out, preset.vla, score_plans=score_plans, where=preset.where, runs=chain.lake.runs,
                     name=making.run_name, seed=preset.seed)
    return making.result(vla_metadata(chain))


def vla_metadata(chain: Chain) -> dict:
    """What the training reported, and its curves."""
    path = chain.lake.link("vla")
    return {"report": report_table(read_json(path / "report.json")), **training_pictures(path)}
