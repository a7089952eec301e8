"""What a run of the pipeline has to do, and what it did.

Needs no Dagster, so that a run with nothing to do ends at once.
"""

import time
from dataclasses import dataclass, field

from assets.chain.asset_specs import ASSET_SPECS
from assets.chain.capabilities import capability_error, missing_capabilities
from assets.chain.ledger import Ledger
from assets.chain.pipeline import Pipeline, RawLogs
from assets.chain.weights import require_weights
from ops.ingest.quarantine import QuarantineRecord
from storage.asset_names import INGEST_ASSETS
from storage.errors import ArtifactError, unknown_name


@dataclass(slots=True)
class RunSummary:
    """What one run of the pipeline did."""

    seconds_by_asset: dict[str, float] = field(default_factory=dict)  # of the assets that were made
    failures: list[str] = field(default_factory=list)  # failed steps, each with its error
    quarantined: dict[str, QuarantineRecord] = field(default_factory=dict)  # log -> why
    ends_at: str = ""  # why the pipeline ends before `until`; "" if it does not
    seconds: float = 0.0


def assets_until(until: str) -> list[str]:
    """The assets up to and including `until`. Raises ConfigError if there is no such asset."""
    if until not in ASSET_SPECS:
        raise unknown_name("asset", until, ASSET_SPECS)
    return list(ASSET_SPECS)[: list(ASSET_SPECS).index(until) + 1]


def require_inputs(pipeline: Pipeline, until: str) -> None:
    """Raise ConfigError for an unknown source or asset, a pipeline that has no logs without a raw
    folder, or published weights that an asset up to `until` needs and that are missing.

    Called before the lake or Dagster's history is touched, so that a mistake leaves nothing behind.
    """
    RawLogs(pipeline)
    require_weights(pipeline.preset, assets_until(until))


def nothing_to_do(pipeline: Pipeline, until: str) -> RunSummary | None:
    """The summary of a run up to `until` that finds everything current; None if there is work."""
    start, ledger = time.monotonic(), Ledger(pipeline)
    assets = assets_until(until)
    if ledger.todo(asset for asset in assets if asset in INGEST_ASSETS):
        return None
    summary = RunSummary(quarantined=ledger.quarantined)
    try:
        later = [asset for asset in assets if asset not in INGEST_ASSETS]
        stale, summary.ends_at = stale_assets(ledger, later)
    except ArtifactError:  # no log is left, which the run tells
        return None
    if stale:
        return None
    summary.seconds = time.monotonic() - start
    return summary


def stale_assets(ledger: Ledger, assets: list[str]) -> tuple[list[str], str]:
    """Those of these training assets that have to be made or checked, up to the first that the logs
    cannot carry, and why it cannot be made ("" if all can).

    Raises ArtifactError if there is no usable log at all.
    """
    stale: list[str] = []
    for asset in assets:
        ledger.require_logs()
        missing = missing_capabilities(ledger, asset)
        if missing:
            return stale, str(capability_error(ledger, asset, missing))
        try:
            ledger.logs_of(asset)
        except ArtifactError as error:  # no log of the splits that it reads
            return stale, str(error)
        if not ledger.is_current(asset):
            stale.append(asset)
    return stale, ""
