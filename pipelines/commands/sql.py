"""`latentvla sql`: query the tables of the lake with DuckDB."""

import argparse

from pipelines.commands.target import add_target_arguments, lake_of
from pipelines.commands.text import table_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "query", help="for example: select split, count(*) from trajectories group by split"
    )
    parser.add_argument("--rows", type=int, default=40, help="rows to print; default: 40")
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Query the tables of the lake in DuckDB's SQL."""
    from storage.catalogue import query

    print(table_text(query(lake_of(options), options.query), options.rows))
    return 0
