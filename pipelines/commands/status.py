"""`latentvla status`: how much of each asset is current. Also the text of `latentvla logs`."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.commands.target import add_target_arguments, pipeline_of
from pipelines.commands.text import rows_text
from storage.artifact import LINEAGE_FILE, is_current, read_lineage
from storage.asset_names import PER_LOG_ASSETS
from storage.errors import ArtifactError

if TYPE_CHECKING:
    from assets.chain.pipeline import Pipeline, RawLogs

add_arguments = add_target_arguments


def run(options: argparse.Namespace) -> int:
    """Print whether each asset is current, stale or missing, and which logs are quarantined."""
    print(status_text(pipeline_of(options)))
    return 0


def status_text(pipeline: "Pipeline") -> str:
    """One line an asset: how much of it is current; then the quarantined logs with their reason."""
    from assets.chain.asset_specs import ASSET_SPECS, usable_logs
    from assets.chain.pipeline import RawLogs
    from ops.ingest.quarantine import quarantined

    logs, lake = RawLogs(pipeline), pipeline.lake
    states = {asset: _per_log_state(pipeline, logs, asset) for asset in PER_LOG_ASSETS}
    try:
        log_ids: Sequence[str] = usable_logs(pipeline)
    except ArtifactError:  # nothing has been ingested yet
        log_ids = ()
    planned: dict[str, str] = {}
    for asset in ASSET_SPECS:
        if asset not in PER_LOG_ASSETS:
            states[asset] = _state(pipeline, asset, log_ids, planned)
    return "\n".join(
        [
            f"scale {pipeline.scale}, {pipeline.source} logs in {pipeline.raw_folder}, "
            f"lake {lake.root}",
            *(f"  {asset:<14}{state}" for asset, state in states.items()),
            *(
                f"  quarantined: {log}\n    {record.reason}".replace("\n", "\n    ")
                for log, record in quarantined(lake).items()
            ),
        ]
    )


def logs_text(pipeline: "Pipeline") -> str:
    """One line a log: its split, its size, and the last asset that is made of it."""
    from assets.chain.pipeline import RawLogs
    from ops.ingest.inventory import read_inventory
    from ops.ingest.quarantine import quarantined

    logs, lake, records = RawLogs(pipeline), pipeline.lake, quarantined(pipeline.lake)
    rows = []
    for log in logs.ids:
        made = [name for name in PER_LOG_ASSETS if (lake.log(name, log) / LINEAGE_FILE).exists()]
        inventory = read_inventory(lake.log("raw_logs", log)) if "raw_logs" in made else None
        last = made[-1] if made else "not ingested"
        rows.append(
            {
                "log": log,
                "split": inventory.split if inventory else "?",
                "images": inventory.images if inventory else "",
                "MB": f"{inventory.bytes / 1e6:.1f}" if inventory else "",
                "state": f"quarantined at {records[log].asset}" if log in records else last,
            }
        )
    return rows_text(rows)


def _per_log_state(pipeline: "Pipeline", logs: "RawLogs", asset: str) -> str:
    from assets.chain.asset_specs import log_lineage

    lake = pipeline.lake
    made = [log for log in logs.ids if (lake.log(asset, log) / LINEAGE_FILE).exists()]
    stale = [
        log
        for log in made
        if not is_current(lake.log(asset, log), log_lineage(pipeline, logs, asset, log).version)
    ]
    text = f"{len(made) - len(stale)} of {len(logs.ids)} logs current"
    return text + (f", {len(stale)} stale" if stale else "")


def _state(
    pipeline: "Pipeline", asset: str, log_ids: Sequence[str], planned: dict[str, str]
) -> str:
    """State of an unpartitioned asset; adds the version that it should have to `planned`."""
    from assets.chain.asset_specs import asset_lineage
    from assets.chain.capabilities import missing_capabilities

    if not log_ids:
        return "missing"
    lacking = missing_capabilities(pipeline.lake, asset, log_ids)
    if lacking:
        return f"does not apply: the logs have no {' and no '.join(lacking)}"
    path = pipeline.lake.asset(asset)
    try:
        planned[asset] = asset_lineage(pipeline, asset, log_ids, planned).version
    except ArtifactError:  # an input is missing
        return "missing"
    if not (path / LINEAGE_FILE).exists():
        return "missing"
    lineage = read_lineage(path)
    state = "current" if lineage.version == planned[asset] else "stale"
    return f"{state}, {lineage.version}, made {lineage.created_utc}"
