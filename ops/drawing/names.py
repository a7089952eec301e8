"""Display names and groups of the planners."""

from collections.abc import Sequence

GROUPS = (
    (
        "Blind: rules and ego status, no camera",
        ("stopped", "constant_velocity", "constant_turn_rate", "ego_status_mlp"),
    ),
    ("Camera planners", ("planner_alone", "student_no_teacher", "vla", "student")),
    ("References", ("pdm_closed", "human")),
)
OURS = ("vla", "student")
_NAMES = {
    "vla": "VLA",
    "pdm_closed": "PDM-Closed",
    "ego_status_mlp": "ego-status MLP",
    "human": "human log",
    "student_no_teacher": "student without teacher",
    "student_recorded_codes": "student taught the recorded codes",
    "student_blind_teacher": "student of a blind teacher",
    "student_ensemble": "student of an ensemble",
}
_IMAGES = {"_blank": "black images", "_shuffled": "shuffled images"}


def label(planner: str) -> str:
    """The display name of a planner."""
    for suffix, images in _IMAGES.items():
        if planner.endswith(suffix):
            return f"{label(planner.removesuffix(suffix))}, {images}"
    return _NAMES.get(planner, planner.replace("_", " "))


def grouped(planners: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The planners by group, without their image ablations; planners of no group last."""
    unablated = [name for name in planners if not name.endswith(tuple(_IMAGES))]
    known = {name for _, names in GROUPS for name in names}
    groups = [(title, [name for name in names if name in unablated]) for title, names in GROUPS]
    groups.append(("Others", [name for name in unablated if name not in known]))
    return [(title, names) for title, names in groups if names]
