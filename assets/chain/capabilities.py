"""Which assets the logs of a pipeline can carry: a planner needs a map and a route, a score needs
agents. Read from the logs' inventories.
"""

from collections.abc import Sequence

from assets.chain.asset_specs import ASSET_SPECS
from assets.chain.pipeline import Pipeline
from ops.ingest.inventory import read_inventory
from storage.errors import ConfigError
from storage.lake import Lake

OPTIONAL_CAPABILITIES = ("agents", "map", "traffic_lights", "command")


def require_capabilities(pipeline: Pipeline, asset: str, log_ids: Sequence[str]) -> None:
    """Raise ConfigError if these logs cannot carry this asset."""
    missing = missing_capabilities(pipeline.lake, asset, log_ids)
    if missing:
        raise capability_error(pipeline, asset, missing, log_ids)


def missing_capabilities(lake: Lake, asset: str, log_ids: Sequence[str]) -> list[str]:
    """What this asset needs and none of these logs has."""
    available = _available(lake, log_ids, ASSET_SPECS[asset].needs)
    return [name for name in ASSET_SPECS[asset].needs if name not in available]


def available_capabilities(lake: Lake, log_ids: Sequence[str]) -> list[str]:
    """What at least one of these logs holds beside images and ego motion, in words."""
    available = _available(lake, log_ids, OPTIONAL_CAPABILITIES)
    return [name.replace("_", " ") for name in OPTIONAL_CAPABILITIES if name in available]


def capability_error(
    pipeline: Pipeline, asset: str, missing: Sequence[str], log_ids: Sequence[str]
) -> ConfigError:
    """The error that says why this asset does not apply to the logs of this source."""
    before = list(ASSET_SPECS)[: list(ASSET_SPECS).index(asset)]
    last = next(name for name in reversed(before) if not {*missing} & {*ASSET_SPECS[name].needs})
    available = available_capabilities(pipeline.lake, log_ids)
    return ConfigError(
        f"'{asset}' does not apply to these logs: they have no {' and no '.join(missing)}",
        where=f"{pipeline.source} logs in {pipeline.raw_folder}",
        expected=", ".join(ASSET_SPECS[asset].needs),
        found=", ".join(["images", "ego motion", *available]),
        do=f"the pipeline of such logs ends at '{last}'",
    )


def _available(lake: Lake, log_ids: Sequence[str], names: Sequence[str]) -> set[str]:
    if not names:
        return set()
    capabilities = [read_inventory(lake.log("raw_logs", log)).capabilities for log in log_ids]
    return {name for name in names if any(getattr(item, name) for item in capabilities)}
