"""The paths of a lake: one folder for each artefact."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.artifact import LINEAGE_FILE, adopt_waiting
from storage.locks import alone_in_lake, writing_in_lake


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
        """Hold this lake for one run and the processes that it starts; inside, again at no cost.

        The system releases the lock when the process ends, also when it is killed. An asset that
        was finished, and not yet linked, when its run was killed is linked first. Raises
        ConfigError, with host and process, if another process holds the lake or writes in it.
        """
        with alone_in_lake(self.root):
            adopt_waiting(self.root)
            yield

    def writing(self) -> AbstractContextManager[None]:
        """Write in this lake beside others that do, each another artefact; inside a run that holds
        the lake, at no cost. `write_artifact` does it by itself. Raises as lock() does.
        """
        return writing_in_lake(self.root)

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
