"""How many scenes the report shows."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SceneChoice:
    """Which scenes and what is drawn into them."""

    # whose best and worst; the first planner that sees, if it was not evaluated
    judged: str = "student"
    best: int = 4  # scenes
    worst: int = 8
    paths: tuple[str, ...] = ("human", "pdm_closed", "vla")  # drawn beside the judged one
    # of the bird's-eye view at low speed; it grows with the longest path
    reach_m: float = 42.0
    dpi: int = 125


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """What the report shows."""

    title: str = "LatentVLA: from raw driving logs to a small planner"
    scenes: SceneChoice = field(default_factory=SceneChoice)
