"""The paths of a lake: one folder for each artefact."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.artifact import LINEAGE_FILE
from storage.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Lake:
    """The folder that holds every artefact of one pipeline: `<root>/<asset>`, or
    `<root>/<asset>/<log_id>` for the assets in PER_LOG_ASSETS.
    """

    root: Path  # a string is understood too

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def asset(self, name: str) -> Path:
        """Folder of an asset that has one artefact for all logs, for example 'codebook'."""
        return self.root / name

    def log(self, name: str, log_id: str) -> Path:
        """Folder of one log's artefact of an asset in PER_LOG_ASSETS, for example 'frames'."""
        return self.root / name / log_id

    def log_ids(self, name: str) -> list[str]:
        """Logs that have a finished artefact of this asset, sorted."""
        folder = self.root / name
        return (
            sorted(path.parent.name for path in folder.glob(f"*/{LINEAGE_FILE}"))
            if folder.exists()
            else []
        )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this lake for one run. The system releases the lock when the process ends, also when
        it is killed. Raises ConfigError if another run holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    "another run is using this lake",
                    where=self.root,
                    do="wait until it has finished, or choose another lake with --lake",
                ) from error
            yield

    @property
    def quarantine(self) -> Path:
        """Folder with one JSON file for each log that could not be read."""
        return self.root / "quarantine"

    @property
    def runs(self) -> Path:
        """Folder of unfinished training runs: their checkpoints and metric histories."""
        return self.root / ".runs"

    @property
    def scenes(self) -> Path:
        """Folder of the cached inputs of the PDM score, one Arrow file a log."""
        return self.root / ".scenes"
