"""Asset 7 of 9: the student, a small planner distilled from the teacher, which it does not need to
drive.
"""

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import asset_checks, record, result
from assets.chain.metadata import read_json, report_table, training_pictures
from assets.chain.one_artifact import Materialization, MaterializeConfig
from assets.chain.pipeline import Pipeline
from assets.frames import frames
from assets.relabeled import relabeled
from assets.trajectories import trajectories
from assets.vla import vla

PARITY_M = 1e-3  # largest distance between a plan in PyTorch and in ONNX Runtime
AGREEMENT = 0.5  # smallest share of slots in which the student predicts the teacher's code


@dg.asset(
    deps=[frames, trajectories, relabeled, vla],
    group_name="training",
    kinds={"pytorch", "ray", "onnx"},
    owners=["team:ml"],
    code_version=code_version("student"),
)
def student(
    context: dg.AssetExecutionContext,
    pipeline: dg.ResourceParam[Pipeline],
    config: MaterializeConfig,
) -> dg.MaterializeResult:
    """The planner with a small transformer that imitates the teacher's codes and features, in place
    of the teacher.

    The folder holds the student in the Hugging Face layout and as ONNX, and as control a student
    trained without the teacher.
    """
    materialization = Materialization(context, pipeline, "student", config)
    if materialization.needed:
        from ops.pdm.score_rows import PlanScorer
        from ops.student.distill import distill
        from ops.training.heldout import train_and_heldout

        preset, lake = pipeline.preset, pipeline.lake
        train, heldout = train_and_heldout(
            lake, materialization.log_ids, preset.vla.image_hw, relabeled=True
        )
        with (
            materialization.artifact() as out,
            PlanScorer(lake, preset.processes) as score_plans,
        ):
            distill(
                train,
                heldout,
                lake.asset("vla"),
                out,
                preset.student,
                score_plans=score_plans,
                **materialization.training_options,
            )
    return materialization.result(student_metadata(pipeline))


def student_metadata(pipeline: Pipeline) -> dict:
    """The report of the training, and its curves."""
    path = pipeline.lake.asset("student")
    return {"report": report_table(read_json(path / "report.json")), **training_pictures(path)}


@asset_checks(
    [
        dg.AssetCheckSpec(
            "export_is_faithful",
            asset="student",
            blocking=True,
            description="Plans in ONNX Runtime and in PyTorch differ by at most "
            f"{1000 * PARITY_M:.0f} mm.",
        ),
        dg.AssetCheckSpec(
            "agrees_with_the_teacher",
            asset="student",
            description=f"It predicts the teacher's code in at least {AGREEMENT:.0%} of the slots.",
        ),
        dg.AssetCheckSpec(
            "faster_than_the_teacher",
            asset="student",
            description="One plan takes less time than the teacher's, both measured in this run.",
        ),
    ]
)
def student_checks(pipeline: dg.ResourceParam[Pipeline]):
    """Checks of the student, with latency and size in the metadata."""
    report = read_json(pipeline.lake.asset("student") / "report.json")
    export = report["export"]
    faithful = export["parity_m"] <= PARITY_M
    record(pipeline, "student", None, {"export_is_faithful": faithful})
    yield result(
        "student",
        "export_is_faithful",
        faithful,
        True,
        {
            "largest difference, m": export["parity_m"],
            "MB": export["onnx_bytes"] / 1e6,
            **({"MB in 8 bits": export["int8_bytes"] / 1e6} if export["int8_bytes"] else {}),
        },
    )
    yield result(
        "student",
        "agrees_with_the_teacher",
        report["code_agreement"] >= AGREEMENT,
        False,
        {
            "agreement": report["code_agreement"],
            "KL, nats": report["code_kl_nats"],
            "feature cosine": report["memory_cosine"],
        },
    )
    yield result(
        "student",
        "faster_than_the_teacher",
        report["speed_up"] > 1,
        False,
        {
            "times faster": report["speed_up"],
            **{f"{name} p50, ms": p50 for name, p50, _ in report["latency_ms"]},
        },
    )
