"""The versions of the PDM score, and which of them are computed."""

from dataclasses import dataclass, field
from typing import Literal

Version = Literal["v1", "v2"]
VERSIONS: tuple[Version, ...] = ("v1", "v2")


METRIC_NAMES: dict[Version, str] = {"v1": "PDMS (NAVSIM v1.1)", "v2": "EPDMS (NAVSIM v2.2)"}


@dataclass(frozen=True, slots=True)
class ScenesConfig:
    """Which scores are computed, and with how many processes."""

    # v1 is always among them: tables are sorted and compared by PDMS
    versions: tuple[Version, ...] = ("v1", "v2")
    processes: int = field(default=2, metadata={"how": True})  # 1: in this process
    # rows of work that justify one more process: starting it takes as long as scoring them
    rows_a_process: int = field(default=500, metadata={"how": True})

    @property
    def metric_version(self) -> str:
        """Names of the scores, for tables."""
        return " and ".join(METRIC_NAMES[version] for version in self.versions)
