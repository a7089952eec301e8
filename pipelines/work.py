"""What a run of the pipeline has to do, and what it did.

Needs no Dagster, so that a run with nothing to do ends at once.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from assets.chain.asset_specs import ASSET_SPECS
from assets.chain.capabilities import capability_error, missing_capabilities
from assets.chain.ledger import Ledger, State
from assets.chain.pipeline import Pipeline, RawLogs
from assets.chain.weights import require_weights
from ops.ingest.quarantine import QuarantineRecord
from storage.asset_names import INGEST_ASSETS, PER_LOG_ASSETS
from storage.errors import ArtifactError, ConfigError, unknown_name


@dataclass(slots=True)
class RunSummary:
    """What one run of the pipeline did."""

    seconds_by_asset: dict[str, float] = field(default_factory=dict)  # of the assets that were made
    failures: list[str] = field(default_factory=list)  # failed steps, each with its error
    quarantined: dict[str, QuarantineRecord] = field(default_factory=dict)  # log -> why
    checked: dict[str, int] = field(default_factory=dict)  # asset -> logs (or 1) that were only
    # checked: they are made, and their checks had not run or had failed
    set_aside_meanwhile: list[str] = field(default_factory=list)  # logs, by hand, during the run
    ends_at: str = ""  # why the pipeline ends before `until`; "" if it does not
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Again:
    """What a person wants made again, although it is current: `latentvla run --again`."""

    trained: frozenset[str] = frozenset()  # assets that are made for all logs
    ingested: tuple[tuple[str, str | None], ...] = ()  # asset and log; None: every log

    @property
    def is_empty(self) -> bool:
        """True if nothing is."""
        return not self.trained and not self.ingested


def made_again(pipeline: Pipeline, until: str, names: Sequence[str]) -> Again:
    """What `names` choose: `student`, `frames`, `frames/LOG`.

    Raises ConfigError for an asset that does not exist or comes after `until`, for one log of an
    asset that is made for all, and for a log that does not exist or is quarantined.
    """
    trained, ingested, assets = set(), [], assets_until(until)
    ledger = Ledger(pipeline) if any("/" in name for name in names) else None
    for name in names:
        asset, one_log, log = name.partition("/")
        if asset not in ASSET_SPECS:
            raise unknown_name("asset", asset, ASSET_SPECS)
        if asset not in assets:
            raise ConfigError(
                f"'{asset}' comes after '{until}', where this run ends",
                expected=f"one of {', '.join(assets)}",
                found=f"--again {name} --until {until}",
                do=f"latentvla run --again {name} --until {asset}",
            )
        if asset in INGEST_ASSETS:
            if ledger is not None and one_log:
                _require_ingestible(ledger, log)
            ingested.append((asset, log if one_log else None))
        elif one_log:
            raise ConfigError(
                f"'{asset}' is made for all logs at once",
                expected=f"a log of one of {', '.join(INGEST_ASSETS)}",
                found=f"--again {name}",
                do=f"latentvla run --again {asset}",
            )
        else:
            trained.add(asset)
    return Again(frozenset(trained), tuple(ingested))


def _require_ingestible(ledger: Ledger, log: str) -> None:
    if log not in ledger.log_ids_set:
        raise unknown_name("log", log, ledger.log_ids_set, listed_by="latentvla logs")
    if log in ledger.quarantined:
        raise ConfigError(
            f"log '{log}' is quarantined: no run makes anything of it",
            where=ledger.lake.quarantine,
            found=ledger.quarantined[log].reason.splitlines()[0],
            do="latentvla release takes it back; then: latentvla run",
        )


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


def only_checked(ledger: Ledger, assets: Iterable[str]) -> dict[str, int]:
    """Of the assets that have to be made or checked, those that lack nothing but their checks: how
    many of their logs, 1 for an asset that is made for all.
    """
    unchecked = (State.UNCHECKED, State.FAILED)
    counts = {
        asset: sum(ledger.states(asset)[state] for state in unchecked)
        if asset in PER_LOG_ASSETS
        else int(ledger.state(asset) in unchecked)
        for asset in assets
    }
    return {asset: count for asset, count in counts.items() if count}


def nothing_to_do(pipeline: Pipeline, until: str) -> RunSummary | None:
    """The summary of a run up to `until` that finds everything current; None if there is work."""
    start, ledger = time.monotonic(), Ledger(pipeline)
    assets = assets_until(until)
    if ledger.none_left or ledger.todo(asset for asset in assets if asset in INGEST_ASSETS):
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


def stale_assets(
    ledger: Ledger, assets: list[str], again: Collection[str] = ()
) -> tuple[list[str], str]:
    """Those of these training assets that have to be made or checked, or made `again`, up to the
    first that the logs cannot carry, and why it cannot be made ("" if all can).

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
        if asset in again or not ledger.is_current(asset):
            stale.append(asset)
    return stale, ""
