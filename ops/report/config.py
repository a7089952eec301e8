"""Configuration of the report: its title and the scenes it shows."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SceneChoice:
    """Which scenes are shown and which plans are drawn into them."""

    # whose best and worst scenes are shown; if it was not evaluated, the first other planner
    planner: str = "student"
    best: int = 4  # scenes
    worst: int = 8
    paths: tuple[str, ...] = ("human", "pdm_closed", "vla")  # whose plans are also drawn
    # smallest range ahead in the bird's-eye view, metres; it grows with the longest path
    reach_m: float = 42.0
    dpi: int = 125


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """What the report shows."""

    title: str = "LatentVLA: from raw driving logs to a small planner"
    scenes: SceneChoice = field(default_factory=SceneChoice)
