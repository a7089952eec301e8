"""`latentvla release`: take a log out of quarantine."""

import argparse

from pipelines.commands.logs import ledger_of, require_log
from pipelines.commands.target import add_target_arguments
from storage.errors import ConfigError
from storage.locks import users_of_lake


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("log")
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Take a log out of quarantine: the next run reads and checks it again."""
    from ops.ingest.quarantine import release

    ledger, log = ledger_of(options), options.log
    if log not in ledger.records:
        require_log(ledger, log)
        raise ConfigError(
            f"log '{log}' has no record in the quarantine",
            where=ledger.lake.quarantine,
            expected=", ".join(list(ledger.records)[:5]) or "a quarantined log",
            found=str(ledger.refused.get(log, "a log that is not set aside")),
            do="correct its files" if log in ledger.refused else "list them: latentvla status",
        )
    reason = ledger.records[log].reason.splitlines()[0]
    release(ledger.lake, log)
    print(f"{log} is released; it was quarantined because: {reason}")
    if users := users_of_lake(ledger.lake.root):
        print(
            f"this lake is in use ({users}): if the log was made and checked before, a run takes "
            "it again from its next asset on"
        )
    print("the next run reads and checks it again: latentvla run")
    return 0
