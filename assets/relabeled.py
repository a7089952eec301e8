"""Asset 5 of 9: the trajectories with the latent-action codes of the next 1.5 s."""

import dagster as dg

from assets.chain.asset_specs import code_version
from assets.chain.checks import record, result
from assets.chain.ledger import ledger_of_run
from assets.chain.metadata import column_schema, key_table, svg_picture
from assets.chain.one_artifact import Materialization, MaterializeConfig
from assets.chain.pipeline import Pipeline
from assets.codebook import codebook
from assets.frames import frames
from assets.trajectories import trajectories
from storage.trajectory_table import MEANING


@dg.asset(
    deps=[frames, trajectories, codebook],
    group_name="training",
    kinds={"pytorch", "parquet"},
    owners=["team:ml"],
    code_version=code_version("relabeled"),
)
def relabeled(
    context: dg.AssetExecutionContext,
    pipeline: dg.ResourceParam[Pipeline],
    config: MaterializeConfig,
) -> dg.MaterializeResult:
    """Every row of the trajectories with the codes of the transitions that follow it.

    A code is marked invalid where the later frame is missing. `codebook_version` is the version of
    the codebook that encoded the row.
    """
    materialization = Materialization(context, pipeline, "relabeled", config)
    if materialization.needed:
        from ops.latent_actions.relabel import relabel
        from storage.artifact import read_lineage
        from storage.dataset import frame_set_from_table, read_rows

        preset, path = pipeline.preset, pipeline.lake.asset("codebook")
        rows = read_rows(pipeline.lake, log_ids=materialization.log_ids)
        frame_set = frame_set_from_table(rows, pipeline.lake, preset.codebook.image_hw)
        version = read_lineage(path).version
        with materialization.artifact() as out:
            relabel(frame_set, rows, path, version, out, preset.relabeled)
    return materialization.result(relabeled_metadata(pipeline))


def relabeled_metadata(pipeline: Pipeline) -> dict:
    """Rows, rows with all codes, and how often each code is used."""
    import pyarrow.parquet as pq

    from ops.drawing.charts import code_chart
    from ops.latent_actions.probe import code_usage
    from storage.trajectory_table import code_layout, relabeled_schema

    columns = ["codes", "codes_valid", "codebook_version"]
    rows = pq.read_table(pipeline.lake.asset("relabeled") / "relabeled.parquet", columns=columns)
    layout, usage = code_layout(rows), code_usage(rows)
    return {
        "dagster/row_count": len(rows),
        "rows with all codes": usage.complete_rows,
        "codebook": rows["codebook_version"][0].as_py() if len(rows) else "",
        "dagster/column_schema": column_schema(relabeled_schema(layout), MEANING),
        "use of the codes": svg_picture(code_chart(usage.shares_KC), "use of the codes"),
    }


@dg.multi_asset_check(
    specs=[
        *(
            dg.AssetCheckSpec(name, asset="relabeled", blocking=True, description=text)
            for name, text in (
                ("key_is_unique", "The join with the codes has duplicated no row."),
                ("codes_in_range", "Every code is one of the codebook's."),
                ("codes_not_negative", "No code is negative."),
                ("one_codebook_version", "One codebook encoded all rows."),
                ("no_row_is_lost", "Every row of the trajectories has a relabeled row."),
            )
        ),
        dg.AssetCheckSpec(
            "codebook_version_is_current",
            asset="relabeled",
            description="The rows were encoded by the codebook that is in the lake now.",
        ),
    ]
)
def relabeled_checks(context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]):
    """Checks of the relabeled rows."""
    import pyarrow.parquet as pq

    from storage.artifact import read_lineage
    from storage.dataset import read_rows
    from storage.expectations import validate_relabeled

    lake = pipeline.lake
    rows = pq.read_table(lake.asset("relabeled") / "relabeled.parquet")
    log_ids = ledger_of_run(context.run.run_id, pipeline, as_made=True).usable
    expected = len(read_rows(lake, log_ids=log_ids))
    suite = validate_relabeled(rows, pipeline.preset.codebook.num_codes)
    complete = len(rows) == expected
    outcome = {item.rule.name: item.passed for item in suite.results}
    record(pipeline, "relabeled", None, outcome | {"no_row_is_lost": complete})
    for item in suite.results:
        failed = {} if item.passed else {"failed rows": key_table(item.failed_keys)}
        yield result("relabeled", item.rule.name, item.passed, True, {"rows": item.rows, **failed})
    metadata = {"rows": len(rows), "expected": expected}
    yield result("relabeled", "no_row_is_lost", complete, True, metadata)
    current = read_lineage(lake.asset("codebook")).version
    versions = set(rows["codebook_version"].to_pylist())
    yield result(
        "relabeled",
        "codebook_version_is_current",
        versions <= {current},
        False,
        {"encoded by": sorted(versions), "codebook in the lake": current},
    )
