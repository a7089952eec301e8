"""`latentvla forget`: remove everything that the lake holds of a log."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipelines.commands.logs import ledger_of, require_log
from pipelines.commands.target import add_target_arguments
from pipelines.commands.text import as_argument
from storage.errors import ConfigError, SourceError
from storage.locks import users_of_lake

if TYPE_CHECKING:
    from assets.chain.ledger import Ledger
    from ops.ingest.forget import Descendant, Removed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("log")
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Remove everything that the lake holds of a log, and say what was made from it and must be
    made again. The raw files are left to you.
    """
    from ops.ingest.forget import descendants, forget_log
    from ops.ingest.quarantine import BY_HAND, quarantine
    from ops.quality.records import records_of

    ledger, log = ledger_of(options), options.log
    require_log(ledger, log)
    with _alone(ledger, log):
        made_from_it = descendants(ledger.lake, log)
        removed = forget_log(ledger.lake, log, records_of(ledger.lake, log))
        raw = _raw_files(ledger, log)
        if raw:  # or the next run would read it again
            why = "set aside by hand: forgotten; its raw files are still there"
            quarantine(ledger.lake, log, "raw_logs", SourceError(why), BY_HAND)
    print("\n".join(_lines(log, removed, made_from_it, raw)))
    return 0


@contextmanager
def _alone(ledger: "Ledger", log: str) -> Iterator[None]:
    """Hold the lake; a run that holds it is told with how the log is left out meanwhile."""
    try:
        with ledger.lake.lock():
            yield
    except ConfigError as error:
        if not users_of_lake(ledger.lake.root):
            raise
        at_once = f"latentvla quarantine --why TEXT {as_argument(log)}"
        raise ConfigError(
            error.what,
            where=error.where,
            expected="a lake that no run reads or writes",
            found=error.found,
            do=f"wait until it has finished, then forget the log; to leave it out now: {at_once}",
        ) from error


def _raw_files(ledger: "Ledger", log: str) -> list[str]:
    """The folders and files of the raw folder that hold this log and no other."""
    try:
        refs = ledger.logs.refs
    except SourceError:
        return []
    if log not in refs:
        world = log in ledger.logs.splits_of_world
        return [f"none now; the synthetic world would write {log} again"] if world else []
    shared = {file for other, ref in refs.items() if other != log for file in ref.files}
    files = [file for file in refs[log].files if file not in shared]
    folders = {file.parent for file in refs[log].image_files}
    return [str(path) for path in (*files, *sorted(folders))]


def _lines(
    log: str, removed: "list[Removed]", made_from_it: "list[Descendant]", raw: list[str]
) -> list[str]:
    lines = [f"removed of {log}:" if removed else f"the lake holds nothing of {log}"]
    lines += [f"  {item.path}  {item.bytes / 1e6:.2f} MB" for item in removed]
    if made_from_it:
        lines.append("made from it, and still there:")
        lines += [
            f"  {item.asset:<14}{item.version}{'' if item.present else '  an older version, kept'}"
            for item in made_from_it
        ]
        lines += [
            "the present ones are stale and are made again by: latentvla run",
            "copies that left this lake (exports, pages, submissions) are yours to find",
        ]
    if raw:
        lines += [
            "its raw files are untouched; remove them yourself:",
            *(f"  {name}" for name in raw),
            "it stays quarantined, so that no run reads them, until: latentvla release "
            f"{as_argument(log)}",
        ]
    return lines
