"""AssetSpec 4: the codebook of latent actions, learned from pairs of frames without a label."""

import math

import dagster as dg

from assets.chain.asset_specs import code_version, usable_logs
from assets.chain.checks import record, result
from assets.chain.metadata import file_picture, read_json, report_table, training_pictures
from assets.chain.one_artifact import Materialization, MaterializeConfig
from assets.chain.pipeline import Pipeline
from assets.frames import frames
from assets.trajectories import trajectories


@dg.asset(
    deps=[frames, trajectories],
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
    """Latent actions: what must be known, beside one frame, to say what the next one looks like; 4
    tokens of 16 codes.

    Learned in two phases from frame pairs: codes for what is not the ego's motion, then ego-centric
    codes. The health in the metadata is measured on held-out logs: perplexity, dead codes, against
    copying the frame, and how well the codes tell speed and yaw rate.
    """
    materialization, preset = (
        Materialization(context, pipeline, "codebook", config),
        pipeline.preset,
    )
    if materialization.needed:
        from ops.latent_actions.learn_actions import learn_actions
        from ops.training.heldout import train_and_heldout

        train, heldout = train_and_heldout(
            pipeline.lake, usable_logs(pipeline), preset.codebook.image_hw
        )
        with materialization.artifact() as out:
            learn_actions(
                train,
                heldout,
                out,
                preset.codebook,
                compute=preset.compute,
                runs=pipeline.lake.runs,
                name=materialization.run_name,
                seed=preset.seed,
            )
    return materialization.result(codebook_metadata(pipeline))


def codebook_metadata(pipeline: Pipeline) -> dict:
    """Health on held-out logs, training curves, and the pictures of what each code does to a frame."""
    path = pipeline.lake.asset("codebook")
    health = read_json(path / "health.json")
    pictures = {
        file.stem.replace("_", " "): file_picture(file) for file in sorted(path.rglob("*.png"))[:3]
    }
    return {"health": report_table(health), **training_pictures(path), **pictures}


# On held-out logs; below these the codes are of little use, but nothing is poisoned: warnings.
LEAST = {"perplexity": 12.0, "gain_over_copy_db": 2.0, "speed_r2": 0.85, "yaw_rate_r2": 0.9}


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "health_is_known",
            asset="codebook",
            blocking=True,
            description="Every figure of the codes' use and of the prediction is a finite number.",
        ),
        dg.AssetCheckSpec(
            "codes_are_in_use",
            asset="codebook",
            description=f"Perplexity of at least {LEAST['perplexity']:.0f}, and no dead code.",
        ),
        dg.AssetCheckSpec(
            "beats_copying_the_frame",
            asset="codebook",
            description=f"The predicted frame is {LEAST['gain_over_copy_db']:.0f} dB better than a copy.",
        ),
        dg.AssetCheckSpec(
            "codes_tell_ego_motion",
            asset="codebook",
            description=f"A linear reading of the codes explains {LEAST['speed_r2']:.0%} of the variance of "
            f"speed and {LEAST['yaw_rate_r2']:.0%} of that of yaw rate.",
        ),
    ]
)
def codebook_checks(pipeline: dg.ResourceParam[Pipeline]):
    """What guards the codebook, on held-out logs."""
    health = read_json(pipeline.lake.asset("codebook") / "health.json")
    known = all(math.isfinite(health[name]) for name in ("perplexity", "psnr_db", "psnr_copy_db"))
    record(pipeline, "codebook", None, {"health_is_known": known})
    yield result("codebook", "health_is_known", known, True, {"held-out pairs": health["pairs"]})
    in_use = health["perplexity"] >= LEAST["perplexity"] and not health["dead_codes"]
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
    beats_copy = health["gain_over_copy_db"] >= LEAST["gain_over_copy_db"]
    yield result(
        "codebook",
        "beats_copying_the_frame",
        beats_copy,
        False,
        {"gain, dB": health["gain_over_copy_db"], "copy, dB": health["psnr_copy_db"]},
    )
    told = {
        name: health[name] for name in ("speed_r2", "yaw_rate_r2")
    }  # None where the drive does not vary
    yield result(
        "codebook",
        "codes_tell_ego_motion",
        all(value is None or value >= LEAST[name] for name, value in told.items()),
        False,
        {name: "does not vary" if value is None else value for name, value in told.items()},
    )
