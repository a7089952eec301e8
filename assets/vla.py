"""Asset 6 of 9: the teacher, a vision-language model that predicts the latent actions, frozen and
fused into the planner.
"""

import math

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import asset_checks, record, result
from assets.chain.metadata import (
    codes_by_position,
    read_json,
    report_table,
    table,
    training_pictures,
)
from assets.chain.one_artifact import Materialization, MaterializeConfig
from assets.chain.pipeline import Pipeline
from assets.frames import frames
from assets.relabeled import relabeled
from assets.trajectories import trajectories
from ops.vla.verdict import IMAGE_COST_NATS, read_verdict
from storage.errors import ArtifactError


@dg.asset(
    deps=[frames, trajectories, relabeled],
    group_name="training",
    kinds={"pytorch", "ray", "huggingface"},
    owners=["team:ml"],
    code_version=code_version("vla"),
)
def vla(
    context: dg.AssetExecutionContext,
    pipeline: dg.ResourceParam[Pipeline],
    config: MaterializeConfig,
) -> dg.MaterializeResult:
    """Qwen2.5-VL with one action token a code, trained to predict the codes of the transitions that
    follow; then frozen, pooled and fused.

    Its hidden states enter the planner by cross-attention. The folder holds the model in the
    Hugging Face layout, the planner with and without it, and the ego-status baseline, which sees no
    image.
    """
    materialization = Materialization(context, pipeline, "vla", config)
    if materialization.needed:
        from ops.pdm.score_rows import PlanScorer
        from ops.training.heldout import train_and_heldout
        from ops.vla.finetune import finetune

        preset, lake = pipeline.preset, pipeline.lake
        train, heldout = train_and_heldout(
            lake, materialization.log_ids, preset.vla.image_hw, relabeled=True
        )
        with (
            materialization.artifact() as out,
            PlanScorer(lake, preset.processes) as score_plans,
        ):
            finetune(
                train,
                heldout,
                out,
                preset.vla,
                num_codes=preset.codebook.num_codes,
                score_plans=score_plans,
                **materialization.training_options,
            )
    return materialization.result(vla_metadata(pipeline))


def vla_metadata(pipeline: Pipeline) -> dict:
    """The report of the training, the accuracy of each code, and the training curves."""
    path = pipeline.lake.asset("vla")
    report = read_json(path / "report.json")
    return {
        "report": report_table(report),
        "codes by position": table(codes_by_position(report["codes"])),
        **training_pictures(path),
    }


@asset_checks(
    [
        dg.AssetCheckSpec(
            "figures_are_finite",
            asset="vla",
            blocking=True,
            description="The planners' errors and the model's cross-entropy are finite numbers.",
        ),
        dg.AssetCheckSpec(
            "beats_the_majority_code",
            asset="vla",
            description="Top-1 code accuracy is above that of each slot's most frequent code.",
        ),
        dg.AssetCheckSpec(
            "beats_a_blind_mlp",
            asset="vla",
            description="The VLM's cross-entropy of the codes is below that of an MLP that reads "
            "the same ego status and sees no image, trained on the same rows, and below that of "
            "their code frequencies.",
        ),
        dg.AssetCheckSpec(
            "images_matter",
            asset="vla",
            description="The images of other rows raise the VLM's cross-entropy by at least "
            f"{IMAGE_COST_NATS} nats.",
        ),
        dg.AssetCheckSpec(
            "beats_constant_velocity",
            asset="vla",
            description="ADE on held-out logs is below that of constant velocity.",
        ),
    ]
)
def vla_checks(pipeline: dg.ResourceParam[Pipeline]):
    """Checks of the VLA, on held-out logs."""
    report = read_json(pipeline.lake.asset("vla") / "report.json")
    codes, ade_m = report["codes"], {row["planner"]: row["ade_m"] for row in report["planners"]}
    finite = math.isfinite(codes["cross_entropy_nats"]) and all(
        math.isfinite(value) for value in ade_m.values()
    )
    record(pipeline, "vla", None, {"figures_are_finite": finite})
    yield result("vla", "figures_are_finite", finite, True, {"ADE, m": ade_m["vla"]})
    yield result(
        "vla",
        "beats_the_majority_code",
        codes["accuracy"] > codes["majority_accuracy"],
        False,
        {"accuracy": codes["accuracy"], "majority accuracy": codes["majority_accuracy"]},
    )
    verdict = read_verdict(pipeline.lake.asset("vla"))
    if verdict is None:
        raise ArtifactError(
            "this vla was made before its floors were measured",
            where=pipeline.lake.asset("vla"),
            do="make it again: latentvla run --until vla",
        )
    figures = {
        "VLM, nats": verdict.vlm,
        "blind MLP, nats": verdict.blind,
        "code frequencies, nats": verdict.frequencies,
        "shuffled images, nats": verdict.shuffled,
    }
    yield result("vla", "beats_a_blind_mlp", verdict.beats_blind, False, figures)
    yield result("vla", "images_matter", verdict.images_matter, False, figures)
    yield result(
        "vla",
        "beats_constant_velocity",
        ade_m["vla"] < ade_m["constant_velocity"],
        False,
        {
            f"ADE of {name}, m": ade_m[name]
            for name in ("vla", "planner_alone", "ego_status_mlp", "constant_velocity")
        },
    )
