"""AssetSpec 8: every planner on every scene of the test logs, scored by the PDM score and by
displacement.
"""

from pathlib import Path

import dagster as dg

from assets.chain.asset_specs import code_version, usable_logs, zero_shot_lineage
from assets.chain.checks import record, result
from assets.chain.metadata import svg_picture, table
from assets.chain.one_artifact import Materialization, MaterializeConfig
from assets.chain.pipeline import Pipeline
from assets.frames import frames
from assets.relabeled import relabeled
from assets.student import student
from assets.trajectories import trajectories
from assets.vla import vla
from storage.artifact import is_current

# columns of the score table
SHOWN = ("pdms", "ade_m", "fde_m", "nc", "dac", "ddc", "ttc", "ep", "comfort", "epdms")
# PDMS of the recorded drive; below it the score, the map or the recording is wrong
HUMAN_AT_LEAST = 0.9


@dg.asset(
    deps=[frames, trajectories, relabeled, vla, student],
    group_name="evaluation",
    kinds={"parquet", "arrow"},
    owners=["team:ml"],
    code_version=code_version("evaluation"),
)
def evaluation(
    context: dg.AssetExecutionContext,
    pipeline: dg.ResourceParam[Pipeline],
    config: MaterializeConfig,
) -> dg.MaterializeResult:
    """PDM sub-scores, PDMS and displacement errors of every planner on every test scene, with
    intervals and latency.

    Rows that always stand beside each other: stopped, constant velocity, constant turn rate,
    ego-status MLP, human log, PDM-Closed, planner alone, VLA, student, student without the teacher.
    Those that plan also drive logs of a place where nothing was trained, open loop, in nuScenes'
    measures.
    """
    materialization, preset = (
        Materialization(context, pipeline, "evaluation", config),
        pipeline.preset,
    )
    if materialization.needed:
        from ops.evaluation.evaluate import evaluate
        from ops.evaluation.planners import open_planners
        from ops.planners.latency import measure_latency
        from storage.dataset import read_dataset

        rows = read_dataset(
            pipeline.lake,
            "test",
            size_hw=preset.vla.image_hw,
            relabeled=True,
            log_ids=usable_logs(pipeline),
        )
        planners = open_planners(pipeline.lake.asset("vla"), pipeline.lake.asset("student"))
        elsewhere = zero_shot_logs(context, pipeline, force=config.force)
        with materialization.artifact() as out:
            evaluate(
                rows,
                planners,
                pipeline.lake,
                out,
                preset.evaluation,
                seeds=dict.fromkeys(planners, preset.seed),
                latency=measure_latency(planners, rows),
            )
            if elsewhere is not None:
                from ops.evaluation.zero_shot import zero_shot_of_artifact

                zero_shot_of_artifact(
                    elsewhere, planners, out, preset.evaluation, preset.vla.image_hw
                )
    return materialization.result(evaluation_metadata(pipeline))


def zero_shot_logs(
    context: dg.AssetExecutionContext, pipeline: Pipeline, *, force: bool = False
) -> Path | None:
    """The artefact with the logs of another place, made if it is not current; None where the scale
    asks for none.
    """
    lineage, config = zero_shot_lineage(pipeline), pipeline.preset.evaluation.zero_shot
    if lineage is None or config is None:
        return None
    from ops.ingest.zero_shot_logs import make_zero_shot_logs, zero_shot_log_ids

    path = pipeline.lake.root / lineage.asset
    if force or not is_current(path, lineage.version):
        make_zero_shot_logs(path, lineage, config.logs, pipeline.preset.processes)
    logs, failed = zero_shot_log_ids(path)
    context.log.info(f"zero-shot: {len(logs)} logs of {config.logs.nuscenes or 'town B'}")
    for log, reason in failed.items():
        context.log.warning(f"zero-shot: {log} is left out: {reason}")
    return path


def evaluation_metadata(pipeline: Pipeline) -> dict:
    """The score tables, and PDMS with its intervals."""
    from ops.drawing.charts import interval_chart
    from ops.evaluation.intervals import Interval
    from ops.evaluation.open_loop import open_loop_rows, read_open_loop

    rows = _means(pipeline)
    pdms = sorted((row for row in rows if row["measure"] == "pdms"), key=lambda row: -row["mean"])
    bars = [
        (
            row["planner"],
            Interval(
                100 * row["mean"], 100 * row["low"], 100 * row["high"], row["n_scored"], row["logs"]
            ),
        )
        for row in pdms
    ]
    elsewhere = read_open_loop(pipeline.lake.asset("evaluation"))
    more = {"zero shot": table(open_loop_rows(elsewhere))} if elsewhere is not None else {}
    return {
        "scenes": max((row["n_expected"] for row in rows), default=0),
        "scores": score_table(pipeline),
        **more,
        "PDMS": svg_picture(interval_chart(bars, names=str, label="PDMS"), "PDMS"),
    }


def score_table(pipeline: Pipeline) -> dg.TableMetadataValue | dg.MarkdownMetadataValue:
    """Means over all scenes, shares times 100: one row a planner, best first."""
    rows = _means(pipeline)
    mean = {(row["planner"], row["measure"]): row["mean"] for row in rows}
    planners = sorted(
        {row["planner"] for row in rows}, key=lambda planner: -(mean.get((planner, "pdms")) or 0.0)
    )

    def cell(planner: str, name: str) -> str:
        value = mean.get((planner, name))
        return (
            "–"
            if value is None
            else f"{value:.2f}"
            if name.endswith("_m")
            else f"{100 * value:.1f}"
        )

    return table(
        [
            {"planner": planner} | {name: cell(planner, name) for name in SHOWN}
            for planner in planners
        ]
    )


def _means(pipeline: Pipeline) -> list[dict]:
    import pyarrow.parquet as pq

    summary = pq.read_table(pipeline.lake.asset("evaluation") / "summary.parquet").to_pylist()
    return [row for row in summary if row["subset"] == "all"]


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "scores_recompute",
            asset="evaluation",
            blocking=True,
            description="Every PDMS and EPDMS follows from its parts in the same row.",
        ),
        dg.AssetCheckSpec(
            "human_scores_near_the_top",
            asset="evaluation",
            description=f"The recorded human drive has a PDMS of at least {100 * HUMAN_AT_LEAST:.0f}.",
        ),
        dg.AssetCheckSpec(
            "student_beats_constant_velocity",
            asset="evaluation",
            description="The student has a higher PDMS than driving on at the same speed.",
        ),
    ]
)
def evaluation_checks(pipeline: dg.ResourceParam[Pipeline]):
    """What guards the evaluation."""
    import pyarrow.parquet as pq

    from ops.evaluation.evaluate import recompute

    folder = pipeline.lake.asset("evaluation")
    found = recompute(pq.read_table(folder / "scores.parquet"))
    record(pipeline, "evaluation", None, {"scores_recompute": not found.keys})
    yield result(
        "evaluation",
        "scores_recompute",
        not found.keys,
        True,
        {
            "scores": found.rows,
            "largest difference": found.worst,
            "rows that differ": table([{"row": key} for key in found.keys]),
        },
    )
    pdms = {row["planner"]: row["mean"] for row in _means(pipeline) if row["measure"] == "pdms"}
    yield result(
        "evaluation",
        "human_scores_near_the_top",
        pdms["human"] >= HUMAN_AT_LEAST,
        False,
        {"PDMS": 100 * pdms["human"]},
    )
    yield result(
        "evaluation",
        "student_beats_constant_velocity",
        pdms["student"] > pdms["constant_velocity"],
        False,
        {name: 100 * pdms[name] for name in ("student", "constant_velocity", "human")},
    )
