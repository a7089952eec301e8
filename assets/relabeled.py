"""AssetSpec 5: the trajectories with the latent-action codes of what follows."""

import dagster as dg

from assets.chain.asset_specs import code_version, usable_logs
from assets.chain.checks import record, result
from assets.chain.metadata import column_schema, svg_picture, table
from assets.chain.one_artifact import Materialization, MaterializeConfig
from assets.chain.pipeline import Pipeline
from assets.codebook import codebook
from assets.frames import frames
from assets.trajectories import trajectories
from storage.trajectory_table import MEANING

TOKENS = 4  # codes of one transition


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
    """Every row of the trajectories with the 12 codes of its next 1.5 s: 3 steps of 0.5 s, 4 tokens
    each.

    A code is marked invalid where the later frame is missing. `codebook_version` names the codebook
    that gave it.
    """
    materialization, preset = (
        Materialization(context, pipeline, "relabeled", config),
        pipeline.preset,
    )
    if materialization.needed:
        from ops.latent_actions.relabel import relabel
        from storage.artifact import read_lineage
        from storage.dataset import frame_set_from_table, read_rows

        rows = read_rows(pipeline.lake, log_ids=usable_logs(pipeline))
        path = pipeline.lake.asset("codebook")
        with materialization.artifact() as out:
            relabel(
                frame_set_from_table(rows, pipeline.lake, preset.codebook.image_hw),
                rows,
                path,
                read_lineage(path).version,
                out,
                preset.relabeled,
            )
    return materialization.result(relabeled_metadata(pipeline))


def relabeled_metadata(pipeline: Pipeline) -> dict:
    """Rows, rows with all codes, and how often each code is used."""
    import numpy as np
    import pyarrow.parquet as pq

    from ops.drawing.charts import code_chart
    from storage.trajectory_table import CODES_PER_ROW, RELABELED

    columns = ["codes", "codes_valid", "codebook_version"]
    rows = pq.read_table(pipeline.lake.asset("relabeled") / "relabeled.parquet", columns=columns)
    codes = rows["codes"].combine_chunks().flatten().to_numpy().reshape(-1, CODES_PER_ROW)
    valid = (
        rows["codes_valid"]
        .combine_chunks()
        .flatten()
        .to_numpy(zero_copy_only=False)
        .reshape(codes.shape)
    )
    size = int(codes.max(initial=0)) + 1
    used = np.stack(
        [
            np.bincount(codes[valid[:, token], token], minlength=size)
            / max(valid[:, token].sum(), 1)
            for token in range(TOKENS)
        ]
    )
    return {
        "dagster/row_count": len(rows),
        "rows with all codes": int(valid.all(axis=1).sum()),
        "codebook": rows["codebook_version"][0].as_py() if len(rows) else "",
        "dagster/column_schema": column_schema(RELABELED, MEANING),
        "use of the codes": svg_picture(code_chart(used), "use of the codes"),
    }


@dg.multi_asset_check(
    specs=[
        *(
            dg.AssetCheckSpec(name, asset="relabeled", blocking=True, description=text)
            for name, text in (
                ("key_is_unique", "The join with the codes has doubled no row."),
                ("codes_in_range", "Every code is one of the codebook's."),
                ("codes_not_negative", "No code is negative."),
                ("one_codebook_version", "One codebook labelled all rows."),
                ("no_row_is_lost", "Every row of the trajectories is there."),
            )
        ),
        dg.AssetCheckSpec(
            "codes_are_of_the_codebook_that_is_there",
            asset="relabeled",
            description="The rows were labelled by the codebook that lies in the lake now.",
        ),
    ]
)
def relabeled_checks(pipeline: dg.ResourceParam[Pipeline]):
    """What guards the relabeled rows."""
    import pyarrow.parquet as pq

    from storage.artifact import read_lineage
    from storage.dataset import read_rows
    from storage.expectations import validate_relabeled

    lake = pipeline.lake
    rows = pq.read_table(lake.asset("relabeled") / "relabeled.parquet")
    expected = len(read_rows(lake, log_ids=usable_logs(pipeline)))
    found = validate_relabeled(rows, pipeline.preset.codebook.num_codes)
    version = read_lineage(lake.asset("codebook")).version
    outcome = {item.rule.name: item.passed for item in found.results} | {
        "no_row_is_lost": len(rows) == expected
    }
    record(pipeline, "relabeled", None, outcome)
    for item in found.results:
        yield result(
            "relabeled",
            item.rule.name,
            item.passed,
            True,
            {
                "rows": item.rows,
                **(
                    {}
                    if item.passed
                    else {"failed rows": table([{"row": key} for key in item.failed_keys])}
                ),
            },
        )
    yield result(
        "relabeled",
        "no_row_is_lost",
        len(rows) == expected,
        True,
        {"rows": len(rows), "expected": expected},
    )
    versions = set(rows["codebook_version"].to_pylist())
    yield result(
        "relabeled",
        "codes_are_of_the_codebook_that_is_there",
        versions <= {version},
        False,
        {"labelled by": sorted(versions), "there is": version},
    )
