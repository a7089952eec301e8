"""`latentvla status`: how much of each asset is current. Also the text of `latentvla logs`."""

import argparse
from typing import TYPE_CHECKING

from pipelines.commands.target import add_target_arguments, pipeline_of
from pipelines.commands.text import rows_text
from storage.artifact import read_lineage
from storage.asset_names import INGEST_ASSETS, PER_LOG_ASSETS
from storage.errors import ArtifactError
from storage.manifest import verify

if TYPE_CHECKING:
    from assets.chain.ledger import Ledger
    from assets.chain.pipeline import Pipeline

_WAITS = "waits until its logs are made and checked: latentvla run"

add_arguments = add_target_arguments


def run(options: argparse.Namespace) -> int:
    """Print the state of each asset (current, stale, unchecked, failed or missing), and which logs
    are quarantined.
    """
    print(status_text(pipeline_of(options)))
    return 0


def status_text(pipeline: "Pipeline") -> str:
    """One line an asset: how much of it is current; then the quarantined logs with their reason,
    and the files that cannot be read.
    """
    from assets.chain.asset_specs import ASSET_SPECS
    from assets.chain.ledger import Ledger

    ledger = Ledger(pipeline)
    states = {
        asset: _per_log_state(ledger, asset) if asset in PER_LOG_ASSETS else _state(ledger, asset)
        for asset in ASSET_SPECS
    }
    damaged = {str(path): error for path, error in ledger.damaged.items()} | _emptied(ledger)
    return "\n".join(
        [
            f"scale {pipeline.scale}, {pipeline.source} logs in {pipeline.raw_folder}, "
            f"lake {ledger.lake.root}",
            *(f"  {asset:<14}{state}" for asset, state in states.items()),
            *(
                f"  quarantined: {log}\n{record.reason}".replace("\n", "\n    ")
                for log, record in ledger.quarantined.items()
            ),
            *(f"  damaged: {path}: {error}" for path, error in sorted(damaged.items())),
        ]
    )


def logs_text(pipeline: "Pipeline") -> str:
    """One line a log: its split, its size, and the last asset that is made of it."""
    from assets.chain.ledger import Ledger

    ledger = Ledger(pipeline)
    rows = []
    for log in ledger.log_ids:
        inventory = ledger.inventory(log)
        rows.append(
            {
                "log": log,
                "split": ledger.logs.split(log) or "?",
                "images": inventory.images if inventory else "",
                "MB": f"{inventory.bytes / 1e6:.1f}" if inventory else "",
                "state": _state_of_log(ledger, log),
            }
        )
    return rows_text(rows)


def _state_of_log(ledger: "Ledger", log: str) -> str:
    """`quarantined at <asset>`, `quarantined by hand`, or the last asset that is made and its
    state.
    """
    from assets.chain.ledger import State
    from ops.ingest.quarantine import BY_HAND

    if (record := ledger.quarantined.get(log)) is not None:
        by_hand = record.fingerprint == BY_HAND
        return "quarantined by hand" if by_hand else f"quarantined at {record.asset}"
    made = [name for name in INGEST_ASSETS if ledger.made(name, log)]
    if not made:
        return "not ingested"
    state = ledger.state(made[-1], log)
    return made[-1] if state is State.CURRENT else f"{made[-1]}, {state}"


def _emptied(ledger: "Ledger") -> dict[str, str]:
    """Files that a glance shows to be damaged: of the assets that are made for all logs those of
    another size than was written, and empty records of data checks. `latentvla doctor` reads all.
    """
    from assets.chain.asset_specs import ASSET_SPECS
    from ops.quality.records import empty_records

    records = empty_records(ledger.lake)
    found = {str(file): "it is empty; the next check measures the log again" for file in records}
    for asset in ASSET_SPECS:
        folder = ledger.lake.asset(asset)
        if asset in PER_LOG_ASSETS or not ledger.made(asset) or not read_lineage(folder).files:
            continue  # the last: an earlier version kept no manifest
        for name, _, fault in (line.partition(": ") for line in verify(folder, whole=False)):
            found[str(folder / name)] = f"{fault}; make it again: latentvla run --again {asset}"
    return found


def _per_log_state(ledger: "Ledger", asset: str) -> str:
    from assets.chain.ledger import State

    states = ledger.states(asset)
    waiting = 0
    if asset not in INGEST_ASSETS:
        waiting = len(ledger.log_ids) - len(ledger.quarantined) - len(ledger.usable)
        if waiting and not ledger.usable:
            return _WAITS
    text = f"{states[State.CURRENT]} of {states.total()} logs current"
    others = [state for state in State if state not in (State.CURRENT, State.MISSING)]
    text += "".join(f", {states[state]} {state}" for state in others if states[state])
    return text + (f", {waiting} wait until they are ingested and checked" if waiting else "")


def _state(ledger: "Ledger", asset: str) -> str:
    """State of an asset with one artefact for all logs."""
    from assets.chain.capabilities import missing_capabilities
    from assets.chain.ledger import State

    if not ledger.usable:
        return f"made before; {_WAITS}" if ledger.made(asset) else State.MISSING
    if lacking := missing_capabilities(ledger, asset):
        return f"does not apply: the logs have no {' and no '.join(lacking)}"
    try:
        ledger.logs_of(asset)
    except ArtifactError as error:
        return f"does not apply: {error.what}"
    state = ledger.state(asset)
    if state is State.MISSING:
        return state
    lineage = read_lineage(ledger.lake.asset(asset))
    return f"{state}, {lineage.version}, made {lineage.created_utc}"
