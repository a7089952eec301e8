"""Which assets the logs of a pipeline can carry: a planner needs a map and a route, a score needs
agents. Read from the logs' inventories.
"""

from collections.abc import Sequence

from assets.chain.asset_specs import ASSET_SPECS
from assets.chain.ledger import Ledger
from storage.errors import ConfigError

OPTIONAL_CAPABILITIES = ("agents", "map", "traffic_lights", "command")


def require_capabilities(ledger: Ledger, asset: str) -> None:
    """Raise ConfigError if the usable logs cannot carry this asset, ArtifactError if there is no
    log.
    """
    ledger.require_logs()
    missing = missing_capabilities(ledger, asset)
    if missing:
        raise capability_error(ledger, asset, missing)


def missing_capabilities(ledger: Ledger, asset: str) -> list[str]:
    """What this asset needs and none of the usable logs has."""
    available = _available(ledger, ASSET_SPECS[asset].needs)
    return [name for name in ASSET_SPECS[asset].needs if name not in available]


def available_capabilities(ledger: Ledger) -> list[str]:
    """What at least one of the usable logs holds beside images and ego motion, in words."""
    available = _available(ledger, OPTIONAL_CAPABILITIES)
    return [name.replace("_", " ") for name in OPTIONAL_CAPABILITIES if name in available]


def capability_error(ledger: Ledger, asset: str, missing: Sequence[str]) -> ConfigError:
    """The error that says why this asset does not apply to the logs of this source."""
    before = list(ASSET_SPECS)[: list(ASSET_SPECS).index(asset)]
    last = next(name for name in reversed(before) if not {*missing} & {*ASSET_SPECS[name].needs})
    return ConfigError(
        f"'{asset}' does not apply to these logs: they have no {' and no '.join(missing)}",
        where=f"{ledger.pipeline.source} logs in {ledger.pipeline.raw_folder}",
        expected=", ".join(ASSET_SPECS[asset].needs),
        found=", ".join(["images", "ego motion", *available_capabilities(ledger)]),
        do=f"the pipeline of such logs ends at '{last}'",
    )


def _available(ledger: Ledger, names: Sequence[str]) -> set[str]:
    if not names:
        return set()
    inventories = [ledger.inventory(log) for log in ledger.usable]
    return {
        name
        for name in names
        if any(item is not None and getattr(item.capabilities, name) for item in inventories)
    }
