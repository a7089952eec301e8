"""Which raw logs an artefact of a lake was made from."""

from storage.artifact import read_lineage
from storage.lake import Lake


def logs_behind(lake: Lake, name: str) -> list[str]:
    """Every raw log that an artefact of this lake descends from, sorted."""
    pending, seen, logs = [name], set(), set()
    while pending:
        current = pending.pop()
        if current in seen or not (lake.root / current).exists():
            continue
        seen.add(current)
        if current.startswith("raw_logs/"):
            logs.add(current.split("/", 1)[1])
            continue
        pending += read_lineage(lake.root / current).parents
    return sorted(logs)
