"""Asset 8 of 9: every planner on every scene of the test logs, measured by the PDM score and by
displacement errors.
"""

from pathlib import Path

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import asset_checks, record, result
from assets.chain.ledger import zero_shot_lineage
from assets.chain.metadata import key_table, svg_picture, table
from assets.chain.one_artifact import Materialization, MaterializeConfig
from assets.chain.pipeline import Pipeline
from assets.chain.quality_checks import quality_specs, score_findings
from assets.frames import frames
from assets.relabeled import relabeled
from assets.student import student
from assets.trajectories import trajectories
from assets.vla import vla
from storage.artifact import is_current
from storage.errors import LatentVLAError

# smallest PDMS of the recorded human drive; below it the score, the map or the recording is wrong
HUMAN_PDMS = 0.9


@dg.asset(
    deps=[frames, trajectories, relabeled, vla, student, "test_logs"],
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

    Planners: stopped, constant velocity, constant turn rate, ego-status MLP, human log, PDM-Closed,
    planner alone, VLA, student, student without the teacher. The zero-shot logs, of a place where
    nothing was trained, are evaluated open loop with the measures of nuScenes.
    """
    materialization = Materialization(context, pipeline, "evaluation", config)
    if materialization.needed:
        from ops.evaluation.evaluate import evaluate
        from ops.evaluation.planners import open_planners
        from ops.evaluation.zero_shot import zero_shot_of_artifact
        from ops.planners.latency import measure_latency
        from storage.dataset import read_dataset

        lake, settings = pipeline.lake, pipeline.preset.evaluation
        size_hw = pipeline.preset.vla.image_hw
        rows = read_dataset(
            lake, "test", size_hw=size_hw, relabeled=True, log_ids=materialization.log_ids
        )
        planners = open_planners(lake.asset("vla"), lake.asset("student"))
        seeds = dict.fromkeys(planners, pipeline.preset.seed)
        zero_shot = zero_shot_logs(context, pipeline, force=config.force)
        with materialization.artifact() as out:
            latency = measure_latency(planners, rows)
            evaluate(rows, planners, lake, out, settings, seeds=seeds, latency=latency)
            if zero_shot is not None:
                zero_shot_of_artifact(zero_shot, planners, out, settings, size_hw)
    return materialization.result(evaluation_metadata(pipeline))


def zero_shot_logs(
    context: dg.AssetExecutionContext, pipeline: Pipeline, *, force: bool = False
) -> Path | None:
    """The artefact with the zero-shot logs, made unless current; None if the preset has none."""
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
        context.log.warning(f"zero-shot: log {log} is left out: {reason}")
    return path


def evaluation_metadata(pipeline: Pipeline) -> dict:
    """The score tables, and PDMS with its intervals."""
    from ops.drawing.charts import interval_chart
    from ops.evaluation.intervals import percent
    from ops.evaluation.open_loop import open_loop_rows, read_open_loop
    from ops.evaluation.score_table import read_score_table

    scores = read_score_table(pipeline.lake.asset("evaluation"))
    items = [(planner, percent(scores.mean(planner))) for planner in scores.planners]
    bars = [(planner, item) for planner, item in items if item is not None]
    zero_shot = read_open_loop(pipeline.lake.asset("evaluation"))
    more = {"zero shot": table(open_loop_rows(zero_shot))} if zero_shot is not None else {}
    return {
        "scenes": scores.n_expected,
        "scores": score_table(pipeline),
        **more,
        "PDMS": svg_picture(interval_chart(bars, names=str, label="PDMS, %"), "PDMS"),
    }


def score_table(pipeline: Pipeline) -> dg.TableMetadataValue | dg.MarkdownMetadataValue:
    """Means over all scenes, scores in %, distances in metres: one row per planner, best first."""
    from ops.evaluation.config import SCORE_TABLE_MEASURES
    from ops.evaluation.score_table import read_score_table

    scores = read_score_table(pipeline.lake.asset("evaluation"))
    return table(
        [
            {"planner": planner}
            | {scores.title(name): scores.text(planner, name, "–") for name in SCORE_TABLE_MEASURES}
            for planner in scores.planners
        ]
    )


@asset_checks(
    [
        dg.AssetCheckSpec(
            "scores_recompute",
            asset="evaluation",
            blocking=True,
            description="Every PDMS and EPDMS equals the one computed from its sub-scores.",
        ),
        dg.AssetCheckSpec(
            "human_scores_near_the_top",
            asset="evaluation",
            description=f"The recorded human drive has a PDMS of at least {100 * HUMAN_PDMS:.0f}.",
        ),
        dg.AssetCheckSpec(
            "student_beats_constant_velocity",
            asset="evaluation",
            description="The student has a higher PDMS than constant velocity.",
        ),
        dg.AssetCheckSpec(
            "student_is_promoted",
            asset="evaluation",
            description="The student passed its blocking checks and those of this evaluation, and "
            "beats constant velocity: it is the one that `latentvla predict` uses.",
        ),
        *quality_specs("evaluation"),
    ]
)
def evaluation_checks(pipeline: dg.ResourceParam[Pipeline]):
    """Checks of the evaluation."""
    import pyarrow.parquet as pq

    from ops.evaluation.scene_scores import recompute
    from ops.evaluation.score_table import read_score_table

    folder = pipeline.lake.asset("evaluation")
    recomputed = recompute(pq.read_table(folder / "scores.parquet"))
    agree = not recomputed.keys
    findings = score_findings(pipeline)
    outcome = {rule.name: rule.passed for rule in findings if rule.blocking}
    record(pipeline, "evaluation", None, {"scores_recompute": agree, **outcome})
    for rule in findings:
        yield result("evaluation", rule.name, rule.passed, rule.blocking, rule.metadata)
    metadata = {
        "scores": recomputed.rows,
        "largest difference": recomputed.worst,
        "rows that differ": key_table(recomputed.keys),
    }
    yield result("evaluation", "scores_recompute", agree, True, metadata)
    scores = read_score_table(folder)
    pdms = {planner: item.mean for planner in scores.planners if (item := scores.mean(planner))}
    yield result(
        "evaluation",
        "human_scores_near_the_top",
        pdms["human"] >= HUMAN_PDMS,
        False,
        {"PDMS": 100 * pdms["human"]},
    )
    beats = pdms["student"] > pdms["constant_velocity"]
    yield result(
        "evaluation",
        "student_beats_constant_velocity",
        beats,
        False,
        {name: 100 * pdms[name] for name in ("student", "constant_velocity", "human")},
    )
    promoted, why = _promote(pipeline) if beats else (False, "it does not beat constant velocity")
    yield result("evaluation", "student_is_promoted", promoted, False, {"student": why})


def _promote(pipeline: Pipeline) -> tuple[bool, str]:
    """Make the present student the promoted one if it passes its gates; what came of it. One that
    does not leaves the promoted student as it was.
    """
    from storage.promotion import promote

    try:
        return True, f"version {promote(pipeline.lake).version}"
    except LatentVLAError as error:
        return False, str(error)
