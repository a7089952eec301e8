"""`latentvla lineage`: which logs, configuration and code made an artefact, from the lake's files
alone.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipelines.commands.target import add_target_arguments, lake_of
from storage.asset_names import ASSET_NAMES
from storage.errors import ConfigError
from storage.lake import Lake
from storage.lineage import Lineage, find_lineage, is_log_artifact
from storage.lineage_lookup import FoundLineage, differences, find

LOGS_SHOWN = 5  # of a kind of difference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "name",
        nargs="?",
        help="an asset such as student, asset/log_id, ablation/vla/0, the path of a checkpoint or "
        "of any file of an artefact, or a version",
    )
    parser.add_argument("--every-log", action="store_true", help="list every log")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--diff",
        nargs=2,
        metavar=("A", "B"),
        help="what differs between two artefacts or versions: configuration, code, packages, "
        "parents",
    )
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print what made an artefact, up to the raw logs; or what differs between two."""
    lake = lake_of(options)
    if (options.name is None) == (options.diff is None):
        raise ConfigError(
            "one artefact, or two to compare",
            expected="latentvla lineage NAME, or latentvla lineage --diff A B",
            found="neither" if options.name is None else "both",
            do="give one of the two",
        )
    if options.diff:
        one, other = (find(lake.root, target) for target in options.diff)
        print((_diff_json if options.json else _diff_text)(one.lineage, other.lineage))
    elif options.json:
        print(_json(find(lake.root, options.name), every_log=options.every_log))
    else:
        print(lineage_text(lake, options.name, every_log=options.every_log))
    return 0


def lineage_text(lake: Lake, name: str, *, every_log: bool = False) -> str:
    """The lineage of `name` (see storage.lineage_lookup.find) up to the raw logs, indented; logs
    are counted unless `every_log`.

    Raises ConfigError for a name that is no artefact and ArtifactError if it does not exist.
    """
    tree = _Tree(find(lake.root, name), every_log)
    tree.add(tree.found.lineage.asset, tree.found.lineage, depth=0)
    return "\n".join(tree.lines)


class _Tree:
    """The lines of a lineage; a version that has been described is only referred to."""

    def __init__(self, found: FoundLineage, every_log: bool) -> None:
        self.found, self.every_log = found, every_log
        self.lines: list[str] = []
        self._described: set[str] = set()

    def add(self, name: str, lineage: Lineage, depth: int) -> None:
        """Add an artefact and its parents."""
        indent = "  " * depth
        line = f"{indent}{name} {lineage.version}"
        if depth and (newer := self.found.newer(name, lineage.version)) is not None:
            line = f"{indent}{name} (used version {lineage.version}; there is a newer one, {newer})"
        if lineage.version in self._described:
            self.lines.append(f"{line}  (see above)")
            return
        self._described.add(lineage.version)
        facts = _facts(lineage)
        if depth == 0:
            facts += _facts_of_target(self.found)
        self.lines += [line, *(f"{indent}    {fact}" for fact in facts)]
        versions_by_log: dict[str, dict[str, str]] = defaultdict(dict)
        for parent, version in lineage.parents.items():
            asset, _, log = parent.partition("/")
            if is_log_artifact(parent) and not (self.every_log or is_log_artifact(lineage.asset)):
                versions_by_log[asset][log] = version
            else:
                self._add_parent(parent, version, depth + 1)
        for asset, versions in versions_by_log.items():
            lineages = _lineages_of_logs(self.found, asset, versions)
            summary = _summary_of_logs(self.found, asset, versions, lineages)
            self.lines.extend(f"{indent}  {line}" for line in summary)
            shared = {
                (parent, version)
                for item in lineages
                for parent, version in item.parents.items()
                if parent in ASSET_NAMES
            }
            for parent, version in sorted(shared):
                self._add_parent(parent, version, depth + 2)

    def _add_parent(self, name: str, version: str, depth: int) -> None:
        lineage = self.found.of(name, version)
        if lineage is not None:
            self.add(name, lineage, depth)
            return
        newer = self.found.newer(name, version)
        line = f"{'  ' * depth}{name} {version}"
        if newer is not None:
            line = f"{'  ' * depth}{name} (used version {version}; there is a newer one, {newer})"
            line += ": its lineage is not in this lake"
        elif name.partition("/")[0] != "bytes":
            line += ": no longer in this lake"
        self.lines.append(line)


def _facts(lineage: Lineage) -> list[str]:
    config = ", ".join(f"{key}={_short(value)}" for key, value in (lineage.config or {}).items())
    host = lineage.machine.get("host", "?")
    code = f"code {lineage.code_version}"
    if commit := lineage.git.get("commit"):
        code += f", commit {str(commit)[:12]}"
        code += " with changes that were not committed" if lineage.git.get("dirty") else ""
    return [
        f"made {lineage.created_utc} in {lineage.seconds:.1f} s on {host}",
        code,
        *([f"seed {lineage.seed}"] if lineage.seed is not None else []),
        *([f"config {config}"] if config else []),
    ]


def _facts_of_target(found: FoundLineage) -> list[str]:
    """Packages, files and checks: told of the artefact that was asked for alone."""
    packages = ", ".join(f"{name} {item}" for name, item in found.lineage.packages.items())
    files, checks = found.lineage.files, found.checks
    failed = [name for name, passed in checks.items() if passed is False]
    passed = sum(value is True for value in checks.values())
    return [
        *([f"python {found.lineage.machine.get('python')}, {packages}"] if packages else []),
        *([f"{files.get('count')} files, {files.get('bytes')} bytes"] if files else []),
        *([f"checks: {passed} passed"] if checks and not failed else []),
        *([f"checks failed: {', '.join(failed)}"] if failed else []),
        *([] if found.folder else ["its files are no longer in this lake"]),
    ]


def _lineages_of_logs(
    found: FoundLineage, asset: str, versions: Mapping[str, str]
) -> list[Lineage]:
    """The lineages of these versions of logs, as far as the lake knows them, by log."""
    lineages = (found.of(f"{asset}/{log}", versions[log]) for log in sorted(versions))
    return [item for item in lineages if item is not None]


def _summary_of_logs(
    found: FoundLineage, asset: str, versions: Mapping[str, str], lineages: Sequence[Lineage]
) -> list[str]:
    """One line for the logs of an asset, then what their artefacts were made from."""
    names = sorted(versions)
    present = [find_lineage(found.root / asset / log) for log in names]
    missing = sum(item is None for item in present)
    newer = sum(
        item is not None and item.version != versions[log]
        for log, item in zip(names, present, strict=True)
    )
    line = f"{asset}: {len(names)} logs, {names[0]} ... {names[-1]}"
    line += f"; {newer} are newer now" if newer else ""
    line += f"; {missing} are no longer in this lake" if missing else ""
    lines = [line]
    if lineages:
        lines += [f"    {fact}" for fact in _facts(lineages[0])[1:]]
    parents = Counter(parent.split("/")[0] for item in lineages for parent in item.parents)
    return lines + [f"    from {count} x {parent}" for parent, count in parents.items()]


def _json(found: FoundLineage, *, every_log: bool) -> str:
    ancestors = found.closure(every_log=every_log)
    told: dict[str, Any] = {
        "lineage": asdict(found.lineage),
        "checks": found.checks,
        "folder": None if found.folder is None else str(found.folder),
        "ancestors": {version: asdict(item) for version, item in ancestors.items()},
    }
    return json.dumps(told, indent=1)


def _diff_json(one: Lineage, other: Lineage) -> str:
    told = {name: list(values) for name, values in differences(one, other).items()}
    return json.dumps({"versions": [one.version, other.version], "differences": told}, indent=1)


def _diff_text(one: Lineage, other: Lineage) -> str:
    """One line for each field that differs; logs are counted, with the first names."""
    lines = [f"{one.asset} {one.version} -> {other.asset} {other.version}"]
    logs: dict[str, list[str]] = defaultdict(list)
    for name, (left, right) in differences(one, other).items():
        parent = name.removeprefix("parents[").removesuffix("]")
        if name in ("asset", "version"):
            continue
        if name != parent and is_log_artifact(parent):
            asset, _, log = parent.partition("/")
            kind = "added" if left is None else "removed" if right is None else "other version"
            logs[f"parents {asset}, {kind}"].append(log)
        else:
            lines.append(f"  {name}: {_short(left)} -> {_short(right)}")
    for kind, names in logs.items():
        shown = ", ".join(sorted(names)[:LOGS_SHOWN]) + (", ..." if len(names) > LOGS_SHOWN else "")
        lines.append(f"  {kind}: {len(names)} logs ({shown})")
    return "\n".join(lines if len(lines) > 1 else [*lines, "  no difference"])


def _short(value: object, limit: int = 60) -> str:
    text = str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
