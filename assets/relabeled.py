"""Asset 5 of 9: the trajectories with the latent-action codes of the next 4 s, one artefact a log.

It is one asset without partitions in Dagster, so that training is one run; its data version covers
the logs that training reads, so that a new test log makes no trained asset stale.
"""

from collections.abc import Iterator, Sequence

import dagster as dg
import pyarrow as pa

from assets.chain.asset_specs import ASSET_SPECS, code_version
from assets.chain.checks import asset_checks, record, result
from assets.chain.ledger import Ledger, State, ledger_of_run
from assets.chain.metadata import column_schema, file_path, key_table, svg_picture
from assets.chain.one_artifact import MaterializeConfig
from assets.chain.pipeline import Pipeline
from assets.codebook import codebook
from assets.frames import frames
from assets.trajectories import trajectories
from storage.artifact import digest
from storage.lake import Lake
from storage.trajectory_table import MEANING

BATCH = 500  # logs that are checked at a time


@dg.asset(
    deps=[frames, trajectories, codebook, "training_logs"],
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
    """Every row of the trajectories with the codes of the transitions that follow it, in one file a
    log. A new log relabels only itself; a new codebook relabels all.

    A code is marked invalid where the later frame is missing. `codebook_version` is the version of
    the codebook that encoded the row.
    """
    ledger = ledger_of_run(context.run.run_id, pipeline, as_made=True)
    log_ids = ledger.logs_of("relabeled")
    ledger.require_inputs("relabeled")
    outdated = (State.MISSING, State.STALE)
    todo = [log for log in log_ids if config.force or ledger.state("relabeled", log) in outdated]
    if todo:
        from ops.latent_actions.relabel import relabel_logs

        remove_file_of_all_logs(pipeline.lake)
        folder, version = pipeline.lake.asset("codebook"), ledger.made("codebook")
        lineages = {log: ledger.lineage("relabeled", log) for log in todo}
        rows = 0
        for made in relabel_logs(
            pipeline.lake, lineages, folder, version, pipeline.preset.relabeled
        ):
            rows += made.rows
        ledger.changed("relabeled", todo)
        context.log.info(f"{len(todo)} logs relabeled, {rows} rows")
    else:
        context.log.info(f"relabeled is current in all {len(log_ids)} logs: nothing to do")
    counts = {"logs made": len(todo), "logs unchanged": len(log_ids) - len(todo)}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(data_version(ledger)),
        metadata={
            **counts,
            "folder": dg.MetadataValue.path(str(pipeline.lake.asset("relabeled").absolute())),
            **relabeled_metadata(pipeline, log_ids),
        },
    )


def data_version(ledger: Ledger) -> str:
    """What the assets that are trained on the rows see: the versions of those rows."""
    splits = ASSET_SPECS["vla"].splits
    items = [(log, ledger.inventory(log)) for log in ledger.usable]
    logs = [log for log, item in items if item is not None and item.split in splits]
    return digest({log: ledger.made("relabeled", log) for log in logs})


def remove_file_of_all_logs(lake: Lake) -> None:
    """Remove the artefact of earlier versions, one for all logs, from the folder's place."""
    folder = lake.asset("relabeled")
    if folder.is_symlink():
        folder.unlink()
    for name in ("lineage.json", "checks.json", "summary.json", "relabeled.parquet"):
        (folder / name).unlink(missing_ok=True)


def relabeled_metadata(pipeline: Pipeline, log_ids: Sequence[str]) -> dict:
    """Rows, rows with all codes, and how often each code is used."""
    from ops.drawing.charts import code_chart
    from ops.latent_actions.probe import code_usage
    from storage.dataset import read_relabeled
    from storage.trajectory_table import code_layout, relabeled_schema

    columns = ["codes", "codes_valid", "codebook_version"]
    rows = pa.concat_tables([read_relabeled(pipeline.lake, log, columns) for log in log_ids])
    layout, usage = code_layout(rows), code_usage(rows)
    return {
        "dagster/row_count": len(rows),
        "rows with all codes": usage.complete_rows,
        "codebook": rows["codebook_version"][0].as_py() if len(rows) else "",
        "dagster/column_schema": column_schema(relabeled_schema(layout), MEANING),
        "use of the codes": svg_picture(code_chart(usage.shares_KC), "use of the codes"),
    }


@asset_checks(
    [
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
    """Checks of the relabeled rows of the logs that were not checked yet; of all if there are
    none.
    """
    ledger = ledger_of_run(context.run.run_id, pipeline, as_made=True)
    made = [log for log in ledger.usable if ledger.made("relabeled", log)]
    states = {log: ledger.state("relabeled", log) for log in made}
    unchecked = [log for log in made if states[log] in (State.UNCHECKED, State.FAILED)]
    yield from check_rows(ledger, unchecked or made)
    stale = [log for log in made if states[log] is State.STALE]
    metadata = {"logs": len(made), "encoded by another codebook": stale[:20]}
    yield result("relabeled", "codebook_version_is_current", not stale, False, metadata)


def check_rows(ledger: Ledger, log_ids: Sequence[str]) -> Iterator[dg.AssetCheckResult]:
    """Check the rows of these logs, record the outcome beside each, and yield the results."""
    from ops.latent_actions.relabel import lost_rows
    from ops.quality.data_docs import publish_pages
    from ops.quality.rules import active_rules
    from storage.dataset import read_relabeled
    from storage.expectations import validate_relabeled
    from storage.expectations.rules import rule_records, rules_of

    rules = rules_of(active_rules(ledger.pipeline.preset.quality), asset="relabeled")
    num_codes = ledger.pipeline.preset.codebook.num_codes
    pages: dict[str, str] = {}
    rows = 0
    failed: dict[str, set[str]] = {}  # check -> logs
    keys: dict[str, list[str]] = {}  # check -> rows
    lost: set[str] = set()
    for start in range(0, len(log_ids), BATCH):
        part = log_ids[start : start + BATCH]
        table = pa.concat_tables([read_relabeled(ledger.lake, log) for log in part])
        suite = validate_relabeled(table, num_codes, rules)
        pages[f"relabeled-{1 + start // BATCH}"] = suite.html
        lost |= {log for log in part if lost_rows(ledger.lake, log)}
        rows += len(table)
        for item in suite.results:
            logs = [] if item.passed else item.failed_logs or part
            failed.setdefault(item.rule.name, set()).update(logs)
            keys.setdefault(item.rule.name, []).extend(item.failed_keys)
        for log in part:
            outcome = {
                rule.name: log not in failed.get(rule.name, ()) for rule in rules if rule.blocking
            }
            record(ledger.pipeline, "relabeled", log, outcome | {"no_row_is_lost": log not in lost})
    ledger.changed("relabeled", log_ids)
    version = digest([{log: ledger.made("relabeled", log) for log in log_ids}, rule_records(rules)])
    docs = file_path(publish_pages(ledger.lake, "relabeled", version, pages))
    for rule in rules:
        bad = failed.get(rule.name, set())
        rows_of_bad = {"failed rows": key_table(keys[rule.name][:20])} if bad else {}
        metadata = {"rows": rows, "data docs": docs, **rows_of_bad}
        yield result("relabeled", rule.name, not bad, rule.blocking, metadata)
    of_lost = {"rows": rows, "logs that lost rows": sorted(lost)[:20]}
    yield result("relabeled", "no_row_is_lost", not lost, True, of_lost)
