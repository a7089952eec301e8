"""Link 4: the codebook of latent actions, learned from pairs of frames without a label."""

import dagster as dg

from assets.chain import Ask, Chain
from assets.frames import frames
from assets.links import code_version, usable_logs
from assets.making import Making
from assets.metadata import file_picture, read_json, report_table, training_pictures
from assets.trajectories import trajectories


@dg.asset(deps=[frames, trajectories], group_name="training", kinds={"pytorch", "ray"}, owners=["team:ml"],
          pool="training", code_version=code_version("codebook"))
def codebook(context: dg.AssetExecutionContext, chain: Chain, config: Ask) -> dg.MaterializeResult:
    """Latent actions: what must be known, beside one frame, to say what the next one looks like; 4 tokens of 16 codes.

    Learned in two phases from frame pairs: codes for what is not the ego's motion, then ego-centric codes. The health
    in the metadata is measured on held-out logs: perplexity, dead codes, against copying the frame, and how well the
    codes tell speed and yaw rate.
    """
    making, preset = Making(context, chain, "codebook", config), chain.preset()
    if making.needed:
        from ops.heldout import train_and_heldout
        from ops.learn_actions import learn_actions

        train, heldout = train_and_heldout(chain.lake, usable_logs(chain), preset.codebook.image_hw)
        with making.artifact() as out:
            learn_actions(train, heldout, out, preset.codebook, where=preset.where, runs=chain.lake.runs,
                          name=making.run_name, seed=preset.seed)
    return making.result(codebook_metadata(chain))


def codebook_metadata(chain: Chain) -> dict:
    """Health on held-out logs, training curves, and the pictures of what each code does to a frame."""
    path = chain.lake.link("codebook")
    health = read_json(path / "health.json")
    pictures = {file.stem.replace("_", " "): file_picture(file) for file in sorted(path.rglob("*.png"))[:3]}
    return {"health": report_table(health), **training_pictures(path), **pictures}
