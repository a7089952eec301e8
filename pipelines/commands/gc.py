"""`latentvla gc`: removes what nothing in a lake refers to, and says what and how many bytes."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.commands.target import add_target_arguments, lake_of
from pipelines.commands.text import rows_text
from storage.artifact import VERSIONS_KEPT
from storage.lake import Lake

if TYPE_CHECKING:
    from storage.collect import Collected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--keep",
        type=int,
        default=VERSIONS_KEPT,
        metavar="K",
        help=f"versions to keep of each trained asset, the present one included; "
        f"default: {VERSIONS_KEPT}",
    )
    parser.add_argument(
        "--idle-days",
        type=float,
        default=7.0,
        metavar="DAYS",
        help="an unfinished training that was not touched for so long is abandoned; default: 7",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Remove old versions, leftovers of killed processes, abandoned trainings and the cached scenes
    of logs that are gone.
    """
    from storage.collect import collect

    lake = lake_of(options)
    found = collect(lake, keep=options.keep, idle_days=options.idle_days, dry_run=options.dry_run)
    print(collected_text(lake, found, dry_run=options.dry_run))
    return 0


def collected_text(lake: Lake, found: "Sequence[Collected]", *, dry_run: bool) -> str:
    """One line for each thing that was removed, then the sum."""
    rows = [
        {
            "what": item.kind,
            "bytes": item.bytes,
            "path": item.path.relative_to(lake.root).as_posix(),
        }
        for item in found
    ]
    total = sum(item.bytes for item in found)
    done = "would be removed" if dry_run else "removed"
    summary = f"{len(found)} {done}, {total} bytes ({total / 1e6:.1f} MB)"
    return "\n".join([*([rows_text(rows)] if rows else []), summary])
