"""`latentvla doctor`: every data check on raw logs or on a lake, without Dagster."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.commands.target import add_target_arguments, pipeline_of
from pipelines.commands.text import COLUMNS, rows_text
from storage.errors import ConfigError
from storage.lake import Lake

if TYPE_CHECKING:
    from ops.quality.doctor import Diagnosis, Outcome

LEVELS = ("ok", "skipped", "warn", "error")  # from good to bad


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "place",
        nargs="?",
        type=Path,
        metavar="FOLDER",
        help="a lake, or a folder of raw logs of --source; default: the lake of the pipeline",
    )
    parser.add_argument("--json", action="store_true", help="print every check as JSON")
    parser.add_argument(
        "--ci", action="store_true", help="print one line for each check that does not pass"
    )
    parser.add_argument(
        "--fail-on",
        choices=("warn", "error", "never"),
        default="error",
        help="exit with 1 from this level on; default: error",
    )
    parser.add_argument(
        "--no-files",
        action="store_true",
        help="do not read every file of a lake to compare it with its hash",
    )
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Run every data check on a lake or on a folder of raw logs, without writing to it, and say
    what to do about each that does not pass.
    """
    found = diagnose(options)
    if options.json:
        print(json.dumps(asdict(found) | {"worst": found.worst}, indent=1))
    elif options.ci:
        print("\n".join(ci_lines(found)))
    else:
        print(diagnosis_text(found))
    failing = LEVELS[LEVELS.index(options.fail_on) :] if options.fail_on != "never" else ()
    return int(found.worst in failing)


def diagnose(options: argparse.Namespace) -> "Diagnosis":
    """The diagnosis of the place that the options name. Raises ConfigError if it does not exist."""
    from ops.quality.doctor import diagnose_lake, diagnose_raw, is_lake
    from ops.quality.rules import active_rules

    pipeline = pipeline_of(options)
    place = options.place or pipeline.lake.root
    if not place.is_dir():
        raise ConfigError(
            "there is nothing to examine",
            where=place,
            expected="a lake or a folder of raw logs",
            found="a file" if place.exists() else "nothing",
            do="latentvla doctor FOLDER; or make the lake: latentvla run",
        )
    preset = pipeline.preset
    rules = active_rules(preset.quality)
    if is_lake(place):
        files = not options.no_files
        return diagnose_lake(Lake(place), rules, processes=preset.processes, files=files)
    return diagnose_raw(
        pipeline.source,
        place,
        rules,
        preset.frames,
        preset.trajectories,
        processes=preset.processes,
    )


def diagnosis_text(found: "Diagnosis") -> str:
    """A table of all checks, the worst first, and below it what to do about those that failed."""
    ordered = sorted(found.outcomes, key=lambda item: -LEVELS.index(item.state))
    rows = [
        {
            "check": f"{item.asset}.{item.rule}",
            "state": item.state,
            "tested": item.tested,
            "failed": item.failed,
            "first": plain((*item.examples, item.value)[0], 26),
        }
        for item in ordered
    ]
    counts = {level: sum(item.state == level for item in found.outcomes) for level in LEVELS}
    total = ", ".join(f"{count} {level}" for level, count in counts.items() if count)
    lines = [f"{found.kind} in {found.place}: {found.logs} logs", rows_text(rows), total]
    for item in ordered:
        if item.state in ("warn", "error"):
            lines += ["", *_advice(item)]
    return "\n".join(lines)


def ci_lines(found: "Diagnosis") -> list[str]:
    """One line for each check that does not pass, or one that says that all do."""
    bad = [item for item in found.outcomes if item.state in ("warn", "error")]
    lines = [
        f"{item.state}: {item.asset}.{item.rule}: {item.failed} failed: "
        f"{plain(', '.join(filter(None, (*item.examples[:3], item.value))), 200)}"
        for item in sorted(bad, key=lambda item: -LEVELS.index(item.state))
    ]
    return lines or [f"ok: {len(found.outcomes)} checks of {found.logs} logs"]


def plain(text: str, width: int) -> str:
    """A string of the data in one line: other characters than printable ones become `?`."""
    line = "".join(mark if mark.isprintable() else "?" for mark in " ".join(text.split()))
    return line if len(line) <= width else f"{line[: width - 3]}..."


def _advice(item: "Outcome") -> Sequence[str]:
    examples = [plain(text, COLUMNS - 4) for text in item.examples[:5]]
    value = [plain(item.value, COLUMNS - 9)] if item.value else []
    return [
        f"{item.state}: {item.asset}.{item.rule}",
        f"  {item.text}",
        *(f"    {text}" for text in examples),
        *(f"  found: {text}" for text in value),
        f"  what to do: {item.hint}",
    ]
