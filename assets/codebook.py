"""Asset 4 of 9: the codebook of latent actions, learned from pairs of frames without labels."""

import math

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import asset_checks, record, result
from assets.chain.metadata import file_picture, read_json, report_table, training_pictures
from assets.chain.one_artifact import Materialization, MaterializeConfig
from assets.chain.pipeline import Pipeline
from assets.frames import frames
from assets.trajectories import trajectories


@dg.asset(
    deps=[frames, trajectories, "training_logs"],
    group_name="training",
    kinds={"pytorch", "ray"},
    owners=["team:ml"],
    code_version=code_version("codebook"),
)
def codebook(
    context: dg.AssetExecutionContext,
    pipeline: dg.ResourceParam[Pipeline],
    config: MaterializeConfig,
) -> dg.MaterializeResult:
    """Latent actions: what a model needs beside one frame to predict the next one, as a few codes
    of a small codebook.

    Learned in two phases from frame pairs: codes for changes that are not the ego's motion, then
    ego-centric codes. The health in the metadata is measured on held-out logs: perplexity, dead
    codes, PSNR against copying the frame, and how well the codes predict speed and yaw rate.
    """
    materialization = Materialization(context, pipeline, "codebook", config)
    if materialization.needed:
        from ops.latent_actions.learn_actions import learn_actions
        from ops.training.heldout import train_and_heldout

        settings = pipeline.preset.codebook
        train, heldout = train_and_heldout(
            pipeline.lake, materialization.log_ids, settings.image_hw
        )
        with materialization.artifact() as out:
            learn_actions(train, heldout, out, settings, **materialization.training_options)
    return materialization.result(codebook_metadata(pipeline))


def codebook_metadata(pipeline: Pipeline) -> dict:
    """Health on held-out logs, training curves, and pictures of what each code does to a frame."""
    path = pipeline.lake.asset("codebook")
    health = read_json(path / "health.json")
    pictures = {
        file.stem.replace("_", " "): file_picture(file) for file in sorted(path.rglob("*.png"))[:3]
    }
    return {"health": report_table(health), **training_pictures(path), **pictures}


# On held-out logs. Below these the codes are of little use, but no data is wrong: warnings only.
MINIMUM = {"gain_over_copy_db": 2.0, "speed_r2": 0.85, "yaw_rate_r2": 0.9}
MINIMUM_IN_USE = 0.75  # perplexity over the size of the codebook


@asset_checks(
    [
        dg.AssetCheckSpec(
            "health_is_known",
            asset="codebook",
            blocking=True,
            description="Perplexity and PSNR are finite numbers.",
        ),
        dg.AssetCheckSpec(
            "codes_are_in_use",
            asset="codebook",
            description=f"Perplexity is at least {MINIMUM_IN_USE:.0%} of the number of codes, and "
            "no code is dead.",
        ),
        dg.AssetCheckSpec(
            "beats_copying_the_frame",
            asset="codebook",
            description="The PSNR of the predicted frame is at least "
            f"{MINIMUM['gain_over_copy_db']:.0f} dB above that of a copy of the first frame.",
        ),
        dg.AssetCheckSpec(
            "codes_predict_ego_motion",
            asset="codebook",
            description=f"A linear probe on the codes explains {MINIMUM['speed_r2']:.0%} of the "
            f"variance of speed and {MINIMUM['yaw_rate_r2']:.0%} of that of yaw rate.",
        ),
    ]
)
def codebook_checks(pipeline: dg.ResourceParam[Pipeline]):
    """Checks of the codebook, on held-out logs."""
    health = read_json(pipeline.lake.asset("codebook") / "health.json")
    finite = all(math.isfinite(health[name]) for name in ("perplexity", "psnr_db", "psnr_copy_db"))
    record(pipeline, "codebook", None, {"health_is_known": finite})
    yield result("codebook", "health_is_known", finite, True, {"held-out pairs": health["pairs"]})
    in_use = health["perplexity"] >= MINIMUM_IN_USE * health["codes"] and not health["dead_codes"]
    yield result(
        "codebook",
        "codes_are_in_use",
        in_use,
        False,
        {
            "perplexity": health["perplexity"],
            "dead codes": health["dead_codes"],
            "codes": health["codes"],
        },
    )
    beats_copy = health["gain_over_copy_db"] >= MINIMUM["gain_over_copy_db"]
    yield result(
        "codebook",
        "beats_copying_the_frame",
        beats_copy,
        False,
        {"gain, dB": health["gain_over_copy_db"], "copy, dB": health["psnr_copy_db"]},
    )
    # None where the speed or the yaw rate of the drive does not vary
    r2 = {name: health[name] for name in ("speed_r2", "yaw_rate_r2")}
    yield result(
        "codebook",
        "codes_predict_ego_motion",
        all(value is None or value >= MINIMUM[name] for name, value in r2.items()),
        False,
        {name: "does not vary" if value is None else value for name, value in r2.items()},
    )
