"""Opens the Dagster instance that holds the history of the runs."""

import os
from pathlib import Path

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from storage.errors import ConfigError

CONFIG_FILE = "dagster.yaml"


def open_instance() -> dg.DagsterInstance:
    """The Dagster instance of DAGSTER_HOME if it is set, else that of ./dagster.yaml, which
    `dagster dev` uses in this folder too.

    Raises ConfigError if there is neither, for a DAGSTER_HOME that is no absolute path of a folder,
    and for a dagster.yaml that Dagster refuses. Errors of its database are passed on.
    """
    home = os.environ.get("DAGSTER_HOME")
    folder = Path(home).expanduser() if home else Path.cwd()
    if home:
        _require_home(folder)
    elif not (folder / CONFIG_FILE).exists():
        raise ConfigError(
            "there is no Dagster instance here",
            where=folder,
            expected="dagster.yaml or DAGSTER_HOME",
            do="go to the repository's root",
        )
    try:
        return dg.DagsterInstance.from_config(str(folder))
    except (OSError, SQLAlchemyError):
        raise
    except Exception as error:  # whatever a wrong line of dagster.yaml leads to
        raise ConfigError(
            "Dagster's settings cannot be used",
            where=folder / CONFIG_FILE,
            expected="an instance's configuration, as this project's dagster.yaml",
            found=str(error).strip()[:500] or type(error).__name__,
            do="correct the file, or set DAGSTER_HOME to a folder with another one",
        ) from error


def _require_home(folder: Path) -> None:
    """Raise ConfigError unless DAGSTER_HOME is an absolute path of a folder."""
    if folder.is_absolute() and folder.is_dir():
        return
    found = "a relative path" if not folder.is_absolute() else "a file" if folder.exists() else ""
    raise ConfigError(
        "DAGSTER_HOME names no folder for Dagster's history",
        where=folder,
        expected="the absolute path of a folder that exists",
        found=found or "nothing",
        do="make the folder, correct DAGSTER_HOME, or unset it to use ./dagster.yaml",
    )
