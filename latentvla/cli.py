"""The entry points of the commands `latentvla` and `dagster`."""

import latentvla  # noqa: F401  # makes the packages of a wheel importable


def main() -> int:
    """The command `latentvla`, see pipelines/cli.py."""
    from pipelines.cli import main as run

    return run()


def dagster() -> None:
    """The command `dagster` with the project's definitions as its default, see
    pipelines/dagster_cli.py.
    """
    from pipelines.dagster_cli import main as run

    run()
