"""The `dagster` command with our definitions as default target; otherwise it is Dagster's own
program.

`dagster dev` reads workspace.yaml, but `dagster asset materialize` and `dagster job execute` read
no file at all: without `-m` or `-f` they stop with an error. The variable DAGSTER_MODULE_NAME would
give them the module, but breaks `dagster dev`, whose child processes see it beside their workspace.
So only those commands get the module, as click's default value: no environment variable is set, and
any target that the user gives takes precedence.

Without DAGSTER_HOME, `dagster sensor` and its like stop with an error, and the others warn that
they keep nothing. In a checkout it is set to the checkout, which stands for the lake that the
environment chooses (pipelines/history.py): all commands and the processes they start share one
history.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipelines.environment import is_checkout

DEFINITIONS = "latentvla.definitions"
_COMMANDS = {"asset": ("materialize", "list"), "job": ("execute", "scaffold_config")}
_TARGET_OPTIONS = (
    "-f",
    "--python-file",
    "-m",
    "--module-name",
    "--package-name",
    "--autoload-defs-module-name",
    "-d",
    "--working-directory",
    "-a",
    "--attribute",
)
_TARGET_VARIABLES = (
    "DAGSTER_PYTHON_FILE",
    "DAGSTER_MODULE_NAME",
    "DAGSTER_PACKAGE_NAME",
    "DAGSTER_autoload_defs_module_name",
)


def defaults_for(
    arguments: Iterable[str], environment: Mapping[str, str]
) -> dict[str, dict[str, dict[str, str]]]:
    """Click's default_map for this command line: our module, unless the user gives a target."""
    options = {_option(argument) for argument in arguments if argument.startswith("-")}
    if options & set(_TARGET_OPTIONS) or any(environment.get(name) for name in _TARGET_VARIABLES):
        return {}
    return {
        group: {command: {"module_name": DEFINITIONS} for command in commands}
        for group, commands in _COMMANDS.items()
    }


def main() -> None:
    """Run Dagster's command line with those defaults."""
    from dagster._cli import ENV_PREFIX, cli

    if not os.environ.get("DAGSTER_HOME") and is_checkout(Path.cwd()):
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
    cli(auto_envvar_prefix=ENV_PREFIX, default_map=defaults_for(sys.argv[1:], os.environ))


def _option(argument: str) -> str:
    """The option of `--name=value`, `-fvalue` or `-f`."""
    return argument.split("=")[0] if argument.startswith("--") else argument[:2]
