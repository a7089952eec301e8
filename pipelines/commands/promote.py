"""`latentvla promote`: makes a student that passed its gates the promoted one."""

import argparse

from pipelines.commands.target import add_target_arguments, lake_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "version",
        nargs="?",
        help="version of a student, or its first digits; default: the present student",
    )
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Make a student the promoted one if its checks and those of its evaluation passed."""
    from storage.promotion import promote, promoted_student

    lake = lake_of(options)
    made = promote(lake, options.version)
    print(f"promoted: student {made.version}, by evaluation {made.evaluation}")
    print(f"its files: {promoted_student(lake)}")
    return 0
