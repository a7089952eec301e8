"""Where each artefact of a lake lies. Paths only; what is inside is the business of each format."""

from dataclasses import dataclass
from pathlib import Path

from storage.artifact import LINEAGE_FILE

ASSET_NAMES = (
    "raw_logs",
    "frames",
    "trajectories",
    "codebook",
    "relabeled",
    "vla",
    "student",
    "evaluation",
    "report",
)
PER_LOG_ASSETS = ("raw_logs", "frames", "trajectories")


@dataclass(frozen=True, slots=True)
class Lake:
    """One folder that holds every artefact of one pipeline: `<root>/<asset>` or
    `<root>/<asset>/<log_id>`.
    """

    root: Path

    def asset(self, name: str) -> Path:
        """Folder of an unpartitioned asset: codebook, relabeled, vla, student, evaluation, report."""
        return self.root / name

    def log(self, name: str, log_id: str) -> Path:
        """Folder of one log in a asset that has one artefact a log: raw_logs, frames, trajectories."""
        return self.root / name / log_id

    def log_ids(self, name: str) -> list[str]:
        """Logs with a finished artefact in this asset, sorted."""
        folder = self.root / name
        return (
            sorted(path.parent.name for path in folder.glob(f"*/{LINEAGE_FILE}"))
            if folder.exists()
            else []
        )

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
