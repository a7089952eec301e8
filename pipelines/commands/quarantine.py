"""`latentvla quarantine`: set a log aside by hand."""

import argparse

from pipelines.commands.logs import ledger_of, require_log
from pipelines.commands.target import add_target_arguments
from storage.errors import ConfigError, SourceError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("log")
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, for other people")
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Set a log aside: nothing is made, trained or evaluated with it until it is released."""
    from ops.ingest.quarantine import BY_HAND, quarantine

    ledger, log, why = ledger_of(options), options.log, options.why.strip()
    require_log(ledger, log)
    if not why:
        raise ConfigError(
            "a log is set aside with a reason",
            expected="--why TEXT",
            found="an empty text",
            do='say it for other people: --why "the camera was turned"',
        )
    quarantine(ledger.lake, log, "raw_logs", SourceError(f"set aside by hand: {why}"), BY_HAND)
    print(f"{log} is quarantined until: latentvla release {log}")
    if log in ledger.usable:
        print("what was made from it is stale now: latentvla status")
    return 0
