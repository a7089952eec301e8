"""AssetSpec 6: the teacher. A vision-language model that says the latent actions, frozen and fused
into the planner.
"""

import math
from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.chain.asset_specs import code_version, usable_logs
from assets.chain.checks import record, result
from assets.chain.metadata import read_json, report_table, table, training_pictures
from assets.chain.one_artifact import Materialization, MaterializeConfig
from assets.chain.pipeline import Pipeline
from assets.frames import frames
from assets.relabeled import relabeled
from assets.trajectories import trajectories


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
    """Qwen2.5-VL with 16 action tokens, trained to say the 12 codes of the next 1.5 s; then frozen,
    pooled and fused.

    Its hidden states enter the planner by cross-attention. The folder holds the model in the
    Hugging Face layout, the planner with and without it, and the blind baseline.
    """
    materialization, preset = Materialization(context, pipeline, "vla", config), pipeline.preset
    if materialization.needed:
        from ops.pdm.score_rows import PlanScorer
        from ops.training.heldout import train_and_heldout
        from ops.vla.finetune import finetune

        train, heldout = train_and_heldout(
            pipeline.lake, usable_logs(pipeline), preset.vla.image_hw, relabeled=True
        )
        with (
            materialization.artifact() as out,
            PlanScorer(pipeline.lake, preset.processes) as score_plans,
        ):
            finetune(
                train,
                heldout,
                out,
                preset.vla,
                score_plans=score_plans,
                compute=preset.compute,
                runs=pipeline.lake.runs,
                name=materialization.run_name,
                seed=preset.seed,
            )
    return materialization.result(vla_metadata(pipeline))


def vla_metadata(pipeline: Pipeline) -> dict:
    """What the training reported, and its curves."""
    path = pipeline.lake.asset("vla")
    report = read_json(path / "report.json")
    return {
        "report": report_table(report),
        "codes by position": table(codes_by_position(report["codes"])),
        **training_pictures(path),
    }


def codes_by_position(codes: Mapping[str, Any]) -> list[dict[str, float]]:
    """How well each of the 12 codes is said, and how far its confidence is from how often it is
    right.
    """
    measures = {
        "right": "accuracy_by_slot",
        "majority code right": "majority_accuracy_by_slot",
        "calibration error": "calibration_error_by_slot",
    }
    return [
        {"position": place + 1, **{name: codes[key][place] for name, key in measures.items()}}
        for place in range(len(codes["accuracy_by_slot"]))
    ]


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "figures_are_finite",
            asset="vla",
            blocking=True,
            description="The planner's plans and the model's code distribution are finite numbers.",
        ),
        dg.AssetCheckSpec(
            "beats_the_majority_code",
            asset="vla",
            description="The model says more codes right than always saying each slot's most frequent one.",
        ),
        dg.AssetCheckSpec(
            "beats_constant_velocity",
            asset="vla",
            description="On held-out logs its plans lie nearer to the human's than driving on at one speed.",
        ),
    ]
)
def vla_checks(pipeline: dg.ResourceParam[Pipeline]):
    """What guards the VLA, on held-out logs."""
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
        {"accuracy": codes["accuracy"], "of the majority": codes["majority_accuracy"]},
    )
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
