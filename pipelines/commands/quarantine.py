"""`latentvla quarantine`: set a log aside by hand."""

import argparse

from pipelines.commands.logs import ledger_of, require_log
from pipelines.commands.target import add_target_arguments
from pipelines.commands.text import as_argument
from storage.errors import ConfigError, SourceError
from storage.locks import users_of_lake


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
    print(f"{log} is quarantined until: latentvla release {as_argument(log)}")
    if users := users_of_lake(ledger.lake.root):
        print(
            f"this lake is in use ({users}): a run leaves the log out from its next asset on; what "
            "it makes of it before is stale, and the next run makes that again"
        )
    if log in ledger.usable:
        print("what was made from it is stale now: latentvla status")
    return 0
