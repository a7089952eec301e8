"""Where Dagster keeps its history: in the lake whose history it is, `<lake>/.dagster`.

So runs, partitions and results of two lakes never mix, and a lake that is moved or copied keeps its
history. The settings are those of ./dagster.yaml, which names the two classes below. A folder that
the user names in DAGSTER_HOME takes precedence; each lake has a folder of its own in it.
"""

import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._cli.utils import TMP_DAGSTER_HOME_PREFIX
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from sqlalchemy.exc import SQLAlchemyError

from pipelines.dead_runs import death_of
from pipelines.dev_processes import join_dev_processes
from pipelines.environment import SETTINGS, is_checkout, run_target
from pipelines.process_tag import process_tags
from storage.artifact import digest
from storage.errors import ConfigError

FOLDER = ".dagster"  # in the lake
LOCATION = "latentvla"  # the code location of workspace.yaml
REPOSITORY = "__repository__"  # Dagster's name of the one set of definitions in it
CLASSES = "latentvla.instance"  # the public module of LakeInstance and WatchedRunLauncher


class LakeInstance(dg.DagsterInstance):
    """A Dagster instance whose folders lie in the lake, and whose runs are in the UI's Timeline and
    Jobs wherever they were started. Under `dagster dev` the process that opens it ends with that.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        join_dev_processes()
        super().__init__(*args, **options)

    @classmethod
    def config_schema(cls) -> dict[str, Any]:
        """Settings of our own in dagster.yaml: none."""
        return {}

    @classmethod
    def config_defaults(cls, base_dir: str) -> Mapping[str, Any]:
        """Every folder that dagster.yaml does not name.

        Dagster proposes a temporary folder where DAGSTER_HOME is not set; those, and a DAGSTER_HOME
        that is the checkout itself, stand for the lake that the environment chooses. In another
        DAGSTER_HOME that lake has its own folder.
        """
        base, home = Path(base_dir), os.environ.get("DAGSTER_HOME")
        if base.name.startswith(TMP_DAGSTER_HOME_PREFIX) or is_checkout(base):
            base = history_folder(run_target().lake)
        elif home and base == Path(home).expanduser():
            base = folder_in_home(base, run_target().lake)
        return InstanceRef.config_defaults(str(base))

    def create_run_for_job(self, *args: Any, **options: Any) -> dg.DagsterRun:
        """Create a run that this very process executes; the run names the process and the code
        location, without which Timeline and Jobs would leave it out.
        """
        job: dg.JobDefinition = options["job_def"] if "job_def" in options else args[0]
        options["run_id"] = options.get("run_id") or str(uuid4())
        options["tags"] = {**process_tags(options["run_id"]), **(options.get("tags") or {})}
        options["remote_job_origin"] = options.get("remote_job_origin") or RemoteJobOrigin(
            RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), REPOSITORY), job.name
        )
        return super().create_run_for_job(*args, **options)


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Dagster's launcher, which also says whether the process of a run still lives: Dagster's run
    monitoring marks the dead ones as failed.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED with the reason for a dead run; RUNNING for one that lives or may live."""
        record = self._instance.get_run_record_by_id(run.run_id)
        reason = None if record is None else death_of(self._instance, record)
        status = WorkerStatus.RUNNING if reason is None else WorkerStatus.FAILED
        return CheckRunHealthResult(status, reason)


def history_folder(lake: str | Path) -> Path:
    """The folder of a lake's history, absolute. Raises ConfigError for a path with `?`, which
    Dagster's database would cut there.
    """
    folder = Path(lake).absolute() / FOLDER
    if "?" in str(folder):
        raise ConfigError(
            "Dagster's history cannot lie in this lake",
            where=folder,
            expected="a path without a question mark",
            do="rename the folder, or name another for the history in DAGSTER_HOME",
        )
    return folder


def folder_in_home(home: Path, lake: str | Path) -> Path:
    """The folder of a lake's history in the DAGSTER_HOME of a user: assets, runs and sets of
    partitions do not name the lake, so two lakes share none.
    """
    path = os.path.realpath(lake)
    name = re.sub(r"[^\w.-]", "_", os.path.basename(path), flags=re.ASCII)[:50]
    return home / f"{name}-{digest(path)[:8]}"


def open_history(
    lake: str | Path, environment: Mapping[str, str] = os.environ
) -> dg.DagsterInstance:
    """The Dagster instance with the history of a lake, or that of DAGSTER_HOME, which is said then.

    Raises ConfigError if there are no settings here, they or DAGSTER_HOME cannot be used, or the
    history cannot be used.
    """
    home = home_of_user(environment)
    folder = history_folder(lake) if home is None else folder_in_home(home, lake)
    if home is not None:
        _say_home(folder)
    try:
        return dg.DagsterInstance.from_ref(_settings(folder, home or Path.cwd()))
    except (OSError, SQLAlchemyError) as error:
        raise ConfigError(
            "Dagster's history cannot be used",
            where=folder,
            expected="a folder that can be read and written",
            found=str(error).splitlines()[0],
            do="free or repair the folder, or name another in DAGSTER_HOME",
        ) from error


def home_of_user(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The folder in DAGSTER_HOME; None without one. The checkout itself stands for the lake.

    Raises ConfigError for a folder that does not exist, or a relative one.
    """
    text = environment.get("DAGSTER_HOME")
    if not text or is_checkout(Path(text).expanduser()):
        return None
    home = Path(text).expanduser()
    if home.is_absolute() and home.is_dir():
        return home
    raise ConfigError(
        "DAGSTER_HOME names no folder for Dagster's history",
        where="DAGSTER_HOME",
        expected="the absolute path of a folder",
        found=text,
        do="make the folder, or unset DAGSTER_HOME: then the history is kept in the lake",
    )


def _settings(folder: Path, config: Path) -> InstanceRef:
    """The settings in `config`, with every folder below `folder`."""
    if not (config / SETTINGS).exists() and config == Path.cwd():
        raise ConfigError(
            "there is no Dagster instance here",
            where=config,
            expected=f"{SETTINGS} or DAGSTER_HOME",
            do="go to the repository's root",
        )
    ours = {"instance_class": {"module": CLASSES, "class": LakeInstance.__name__}}
    try:
        return InstanceRef.from_dir(str(folder), config_dir=str(config), overrides=ours)
    except Exception as error:  # Dagster raises anything over a file of another form
        raise ConfigError(
            "Dagster's settings cannot be used",
            where=config / SETTINGS,
            found=str(error).splitlines()[0],
            do="correct the file, or restore it: git checkout dagster.yaml",
        ) from error


@cache
def _say_home(home: Path) -> None:
    print(
        f"notice: Dagster's history is in {home} (DAGSTER_HOME), not in the lake", file=sys.stderr
    )
