"""`latentvla logs`: list the logs of the pipeline. Also finds the log that a command names."""

import argparse
from typing import TYPE_CHECKING

from pipelines.commands.status import logs_text
from pipelines.commands.target import add_target_arguments, pipeline_of
from storage.asset_names import PER_LOG_ASSETS
from storage.errors import SourceError, unknown_name

if TYPE_CHECKING:
    from assets.chain.ledger import Ledger

add_arguments = add_target_arguments


def run(options: argparse.Namespace) -> int:
    """List the logs of the pipeline: split, size, and the last asset that is made of each."""
    print(logs_text(pipeline_of(options)))
    return 0


def ledger_of(options: argparse.Namespace) -> "Ledger":
    """The ledger of the chosen pipeline."""
    from assets.chain.ledger import Ledger

    return Ledger(pipeline_of(options))


def require_log(ledger: "Ledger", log: str) -> None:
    """Raise ConfigError, with the nearest names, if a log is neither in the raw folder nor in the
    lake.
    """
    from ops.ingest.forget import has_traces

    try:
        known = set(ledger.log_ids)
    except SourceError:  # the raw folder is gone
        known = set()
    known |= {*ledger.records}
    known |= {name for asset in PER_LOG_ASSETS for name in ledger.lake.log_ids(asset)}
    is_name = log and not log.startswith(".") and not {"/", "\0"} & {*log}
    if log in known or (is_name and has_traces(ledger.lake, log)):
        return
    where = f"{ledger.pipeline.raw_folder}, {ledger.lake.root}"
    raise unknown_name("log", log, known, listed_by="latentvla logs", where=where)
