"""The command line `latentvla`: the parser and the dispatch; each command is a file of
pipelines/commands.

Those files import heavy libraries inside their functions, so that `latentvla --help` is quick.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn, Protocol

from pipelines.commands import (
    ablate,
    config,
    doctor,
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
from pipelines.failures import explained
from pipelines.stopping import Stop, interrupts_told, watch_for_stop
from storage.errors import LatentVLAError
from storage.printable import printable


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
    "doctor": doctor,
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
    """Run one command and return the exit code: 2 for an error of ours or of the system, which is
    printed without a traceback, and 130 or 143 if Ctrl-C or SIGTERM stopped it.

    Without `arguments` this is the program itself, which ends within seconds of those signals.
    """
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.version:
        from importlib.metadata import version

        print(f"latentvla {version('latentvla')}")
        return 0
    if options.command_name is None:
        parser.print_help()
        return 0
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for letters that it cannot show
    stop, code = (watch_for_stop() if arguments is None else Stop()), 0
    try:
        with interrupts_told(stop):
            code = _exit_code(options)
    except KeyboardInterrupt:
        stop.signal = signal.SIGINT
    if stop.signal is not None:
        stop.tell()
        return stop.exit_code
    return code


def _exit_code(options: argparse.Namespace) -> int:
    """Run the command; its errors for users are printed."""
    try:
        code = COMMANDS[options.command_name].run(options)
        if sys.stdout is not None:  # None: closed, as in: latentvla ... >&-
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has closed the pipe, as in: latentvla ... | head
        _drop_output()
        return 128 + signal.SIGPIPE
    except Exception as error:
        known = error if isinstance(error, LatentVLAError) else explained(error)
        if known is None:
            raise
        print(printable(f"error: {known}"), file=sys.stderr)
        if isinstance(error, OSError) and error.filename is None:
            _drop_output()
        return 2


def _drop_output() -> None:
    """Forget what stdout has not taken, or Python would try again at its end and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Also says how a log is named whose name looks like an option."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and end with 2."""
        if "unrecognized arguments: -" in message or message.endswith("required: log"):
            message += "\na name that begins with '-' follows '--': latentvla show -- -log"
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; it puts the command into `command_name`."""
    parser = _Parser(
        prog="latentvla",
        description="From raw driving logs to a small planner.",
        epilog="The options of a command: latentvla COMMAND --help",
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    parser.set_defaults(command_name=None)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command_name")
    for name, command in COMMANDS.items():
        text = " ".join((command.run.__doc__ or "").split())
        command.add_arguments(commands.add_parser(name, help=text, description=text))
    return parser


if __name__ == "__main__":
    sys.exit(main())
