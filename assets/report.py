"""Asset 9 of 9: the report, one HTML file that opens offline."""

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import result
from assets.chain.metadata import file_path
from assets.chain.one_artifact import Materialization, MaterializeConfig
from assets.chain.pipeline import Pipeline
from assets.codebook import codebook
from assets.evaluation import evaluation, score_table
from assets.frames import frames
from assets.relabeled import relabeled
from assets.student import student
from assets.trajectories import trajectories
from assets.vla import vla


@dg.asset(
    deps=[frames, trajectories, codebook, relabeled, vla, student, evaluation],
    group_name="evaluation",
    kinds={"html"},
    owners=["team:ml"],
    code_version=code_version("report"),
)
def report(
    context: dg.AssetExecutionContext,
    pipeline: dg.ResourceParam[Pipeline],
    config: MaterializeConfig,
) -> dg.MaterializeResult:
    """One HTML page with the score table, the best and the worst scenes with their plans, codes,
    training curves and lineage.
    """
    materialization = Materialization(context, pipeline, "report", config)
    if materialization.needed:
        from ops.report.report import draw

        with materialization.artifact() as out:
            draw(pipeline.lake, out, pipeline.preset.report)
    file = materialization.path / "report.html"
    return materialization.result(
        {"page": file_path(file), "MB": file.stat().st_size / 1e6, "scores": score_table(pipeline)}
    )


@dg.asset_check(
    asset="report", description="The page loads nothing from outside itself, so it opens offline."
)
def opens_offline(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """List the addresses from which the page would load something."""
    from ops.report.offline import outside_of

    addresses = outside_of((pipeline.lake.asset("report") / "report.html").read_text())
    return result("report", "opens_offline", not addresses, False, {"addresses": addresses[:20]})
