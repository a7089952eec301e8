"""`latentvla lineage`: which logs, configuration and code made an artefact, from the lake's files
alone.
"""

import argparse
from collections import Counter, defaultdict

from pipelines.commands.target import add_target_arguments, lake_of
from storage.artifact import LINEAGE_FILE, Lineage, read_lineage
from storage.asset_names import ASSET_NAMES
from storage.errors import ArtifactError, unknown_name
from storage.lake import Lake


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", help="an asset, such as student, or asset/log_id")
    parser.add_argument("--every-log", action="store_true", help="list every log")
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print what made an artefact, up to the raw logs; read from the lake's files alone."""
    print(lineage_text(lake_of(options), options.name, every_log=options.every_log))
    return 0


def lineage_text(lake: Lake, name: str, *, every_log: bool = False) -> str:
    """The lineage of `name` (an asset, or asset/log_id) up to the raw logs, indented; logs are
    counted unless `every_log`.

    Raises ConfigError for a name that is no asset and ArtifactError if the artefact does not exist.
    """
    asset = name.split("/")[0]
    if asset not in ASSET_NAMES:
        raise unknown_name("asset", asset, ASSET_NAMES)
    tree = _Tree(lake, every_log)
    tree.add(name, read_lineage(lake.root / name), used_version=None, depth=0)
    return "\n".join(tree.lines)


class _Tree:
    """The lines of a lineage; an artefact that has been described is only referred to."""

    def __init__(self, lake: Lake, every_log: bool) -> None:
        self.lake, self.every_log = lake, every_log
        self.lines: list[str] = []
        self._described: set[str] = set()

    def add(self, name: str, lineage: Lineage, used_version: str | None, depth: int) -> None:
        """Add an artefact and its parents. `used_version`: the one that its child was made from."""
        indent = "  " * depth
        line = f"{indent}{name} {lineage.version}"
        if used_version not in (None, lineage.version):
            line += f"  (used version {used_version}; there is a newer one)"
        if name in self._described:
            self.lines.append(f"{line}  (see above)")
            return
        self._described.add(name)
        self.lines += [line, *(f"{indent}    {fact}" for fact in _facts(lineage))]
        versions_by_log: dict[str, dict[str, str]] = defaultdict(dict)
        for parent, version in lineage.parents.items():
            asset, _, log = parent.partition("/")
            if not log and (self.lake.root / parent).exists():
                self._add_parent(parent, version, depth + 1)
            else:
                versions_by_log[asset][log] = version
        for asset, versions in versions_by_log.items():
            if self.every_log or "/" in name:
                self._add_logs(asset, versions, depth + 1)
            else:
                summary = _summary_of_logs(self.lake, asset, versions)
                self.lines.extend(f"{indent}  {line}" for line in summary)
                for parent, version in _shared_parents(self.lake, asset, versions).items():
                    self._add_parent(parent, version, depth + 2)

    def _add_logs(self, asset: str, versions: dict[str, str], depth: int) -> None:
        for log, version in versions.items():
            path = f"{asset}/{log}" if log else asset
            if (self.lake.root / path).exists():
                self._add_parent(path, version, depth)
            else:
                self.lines.append(f"{'  ' * depth}{path} {version}")

    def _add_parent(self, name: str, version: str, depth: int) -> None:
        try:
            lineage = read_lineage(self.lake.root / name)
        except ArtifactError:
            self.lines.append(f"{'  ' * depth}{name} {version}: no longer in this lake")
            return
        self.add(name, lineage, version, depth)


def _facts(lineage: Lineage) -> list[str]:
    config = ", ".join(f"{key}={_short(value)}" for key, value in (lineage.config or {}).items())
    host = lineage.machine.get("host", "?")
    return [
        f"made {lineage.created_utc} in {lineage.seconds:.1f} s on {host}",
        f"code {lineage.code_version}",
        *([f"seed {lineage.seed}"] if lineage.seed is not None else []),
        *([f"config {config}"] if config else []),
    ]


def _summary_of_logs(lake: Lake, asset: str, versions: dict[str, str]) -> list[str]:
    """One line for the logs of an asset, then what their artefacts were made from."""
    names = sorted(versions)
    if names == [""]:  # not an asset with one artefact a log
        return [f"{asset} {versions['']}: no longer in this lake"]
    lineages = {
        log: read_lineage(lake.log(asset, log))
        for log in names
        if (lake.log(asset, log) / LINEAGE_FILE).exists()
    }
    newer = sum(lineage.version != versions[log] for log, lineage in lineages.items())
    missing = len(names) - len(lineages)
    line = f"{asset}: {len(names)} logs, {names[0]} ... {names[-1]}"
    line += f"; {newer} are newer now" if newer else ""
    line += f"; {missing} are no longer in this lake" if missing else ""
    lines = [line]
    if lineages:
        lines += [f"    {fact}" for fact in _facts(next(iter(lineages.values())))[1:]]
    parents = Counter(
        parent.split("/")[0] for lineage in lineages.values() for parent in lineage.parents
    )
    return lines + [f"    from {count} x {parent}" for parent, count in parents.items()]


def _shared_parents(lake: Lake, asset: str, versions: dict[str, str]) -> dict[str, str]:
    """Artefacts for all logs from which those of single logs were made: name -> version."""
    shared: dict[str, str] = {}
    for log in versions:
        if log and (lake.log(asset, log) / LINEAGE_FILE).exists():
            parents = read_lineage(lake.log(asset, log)).parents
            shared |= {name: parents[name] for name in parents if name in ASSET_NAMES}
    return shared


def _short(value: object, limit: int = 60) -> str:
    text = str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
