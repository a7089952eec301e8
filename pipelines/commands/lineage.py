"""Answers from a lake's files which logs, configuration and code made an artefact. Needs no Dagster
instance.
"""

from collections import defaultdict
from pathlib import Path

from storage.artifact import Lineage, read_lineage
from storage.errors import ArtifactError, unknown_name
from storage.lake import ASSET_NAMES, Lake


def lineage_text(lake: Lake, name: str, *, every_log: bool = False) -> str:
    """The lineage of `name` (a asset, or asset/log_id) up to the raw logs, indented; logs are
    counted unless asked for.

    Raises ConfigError for a name that is no asset and ArtifactError if the artefact does not exist.
    """
    asset = name.split("/")[0]
    if asset not in ASSET_NAMES:
        raise unknown_name("asset", asset, ASSET_NAMES)
    lines: list[str] = []
    _walk(lake, name, None, 0, lines, set(), every_log)
    return "\n".join(lines)


def _walk(
    lake: Lake,
    name: str,
    wanted: str | None,
    depth: int,
    lines: list[str],
    told: set[str],
    every_log: bool,
) -> None:
    indent = "  " * depth
    try:
        made = read_lineage(lake.root / name)
    except ArtifactError:
        lines.append(f"{indent}{name} {wanted}: no longer in this lake")
        if wanted is None:
            raise
        return
    note = (
        "" if wanted in (None, made.version) else f"  (used version {wanted}; there is a newer one)"
    )
    lines.append(f"{indent}{name} {made.version}{note}")
    if name in told:
        lines[-1] += "  (see above)"
        return
    told.add(name)
    lines.extend(f"{indent}    {line}" for line in _facts(made))
    by_log: dict[str, dict[str, str]] = defaultdict(dict)
    for parent, version in made.parents.items():
        asset, _, log = parent.partition("/")
        if not log and (lake.root / parent).exists():
            _walk(lake, parent, version, depth + 1, lines, told, every_log)
        else:
            by_log[asset][log] = version
    for asset, logs in by_log.items():
        if every_log or "/" in name:
            for log, version in logs.items():
                path = f"{asset}/{log}" if log else asset
                if (lake.root / path).exists():
                    _walk(lake, path, version, depth + 1, lines, told, every_log)
                else:
                    lines.append(f"{indent}  {path} {version}")
        else:
            lines.extend(f"{indent}  {line}" for line in _summary_of_logs(lake, asset, logs))


def _facts(made: Lineage) -> list[str]:
    config = ", ".join(f"{key}={_short(value)}" for key, value in (made.config or {}).items())
    host = made.machine.get("host", "?")
    facts = [
        f"made {made.created_utc} in {made.seconds:.1f} s on {host}",
        f"code {made.code_version}",
    ]
    facts += [f"seed {made.seed}"] if made.seed is not None else []
    return facts + ([f"config {config}"] if config else [])


def _summary_of_logs(lake: Lake, asset: str, logs: dict[str, str]) -> list[str]:
    """One line for the logs of a asset, then what they were made from in turn."""
    names = sorted(logs)
    there = {
        log: read_lineage(lake.log(asset, log))
        for log in names
        if (lake.log(asset, log) / "lineage.json").exists()
    }
    other = [log for log, made in there.items() if made.version != logs[log]]
    gone = [log for log in names if log not in there]
    notes = [
        f"{len(other)} are newer now" if other else "",
        f"{len(gone)} are gone" if gone else "",
    ]
    line = f"{asset}: {len(names)} logs, {names[0]} ... {names[-1]}" + "".join(
        f"; {note}" for note in notes if note
    )
    lines = [line]
    if there:
        lines += [f"    {fact}" for fact in _facts(next(iter(there.values())))[1:]]
    above: dict[str, int] = defaultdict(int)
    for made in there.values():
        for parent in made.parents:
            above[parent.split("/")[0]] += 1
    return lines + [f"    from {count} x {parent}" for parent, count in above.items()]


def _short(value: object, limit: int = 60) -> str:
    text = str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def logs_behind(lake: Lake, name: str) -> list[str]:
    """Every raw log that an artefact of this lake descends from, sorted."""
    pending, seen, logs = [name], set(), set()
    while pending:
        current = pending.pop()
        if current in seen or not Path(lake.root / current).exists():
            continue
        seen.add(current)
        if current.startswith("raw_logs/"):
            logs.add(current.split("/", 1)[1])
            continue
        pending += read_lineage(lake.root / current).parents
    return sorted(logs)
