"""The command line `latentvla`: the parser and the dispatch; each command is a file of
pipelines/commands.

Those files import heavy libraries inside their functions, so that `latentvla --help` is quick.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from pipelines.commands import (
    ablate,
    config,
    forget,
    gc,
    lineage,
    logs,
    predict,
    promote,
    quarantine,
    release,
    rollback,
    run,
    score,
    show,
    sql,
    status,
    study,
)
from storage.errors import LatentVLAError


class Command(Protocol):
    """What a module of pipelines.commands provides."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it and return the exit code; the docstring is the help."""


COMMANDS: dict[str, Command] = {
    "run": run,
    "status": status,
    "logs": logs,
    "quarantine": quarantine,
    "release": release,
    "forget": forget,
    "score": score,
    "show": show,
    "lineage": lineage,
    "sql": sql,
    "predict": predict,
    "ablate": ablate,
    "study": study,
    "config": config,
    "promote": promote,
    "rollback": rollback,
    "gc": gc,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; our own errors are printed without a traceback."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command_name is None:
        parser.print_help()
        return 0
    try:
        code = COMMANDS[options.command_name].run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has closed the pipe, as in: latentvla ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # as of a program that SIGPIPE ended
    except LatentVLAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "stopped; the same command resumes a training from its last checkpoint",
            file=sys.stderr,
        )
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; it puts the command into `command_name`."""
    parser = argparse.ArgumentParser(
        prog="latentvla",
        description="From raw driving logs to a small planner.",
        epilog="The options of a command: latentvla COMMAND --help",
    )
    parser.set_defaults(command_name=None)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command_name")
    for name, command in COMMANDS.items():
        text = " ".join((command.run.__doc__ or "").split())
        command.add_arguments(commands.add_parser(name, help=text, description=text))
    return parser


if __name__ == "__main__":
    sys.exit(main())
