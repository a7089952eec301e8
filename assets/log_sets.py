"""The logs that training and evaluation read, as inputs of theirs without partitions.

Dagster does not look at the partitions of an input when there are 100 or more, so new, changed and
removed logs would make nothing stale in the UI. The version of these two covers all their logs.
"""

import dagster as dg
from dagster._core.definitions.data_version import extract_data_version_from_entry

from assets.chain.ledger import Ledger
from assets.chain.pipeline import Pipeline
from storage.artifact import digest
from storage.errors import ArtifactError

READERS = {"training_logs": "codebook", "test_logs": "evaluation"}  # assets that read these logs


def log_set_version(ledger: Ledger, name: str) -> str:
    """Digest of the logs of a set and the versions of their tables."""
    try:
        logs = ledger.logs_of(READERS[name])
    except ArtifactError:  # there is none
        logs = []
    return digest({log: ledger.made("trajectories", log) for log in logs})


def observe_log_sets(instance: dg.DagsterInstance, ledger: Ledger) -> list[str]:
    """Tell Dagster the versions of the sets that have changed, and return their names."""
    changed = []
    for name in READERS:
        version = log_set_version(ledger, name)
        record = instance.get_latest_data_version_record(dg.AssetKey(name))
        known = record and extract_data_version_from_entry(record.event_log_entry)
        if known is None or known.value != version:
            tags = {"dagster/data_version": version}
            instance.report_runless_asset_event(dg.AssetObservation(name, tags=tags))
            changed.append(name)
    return changed


@dg.observable_source_asset(
    group_name="ingest", description="The usable logs of the splits train and val."
)
def training_logs(pipeline: dg.ResourceParam[Pipeline]) -> dg.DataVersion:
    """Version of the logs of the splits train and val."""
    return dg.DataVersion(log_set_version(Ledger(pipeline), "training_logs"))


@dg.observable_source_asset(group_name="ingest", description="The usable logs of the split test.")
def test_logs(pipeline: dg.ResourceParam[Pipeline]) -> dg.DataVersion:
    """Version of the logs of the split test."""
    return dg.DataVersion(log_set_version(Ledger(pipeline), "test_logs"))
