"""Open the planners of a lake by name."""

from pathlib import Path

from ops.planners import baselines
from ops.planners.checkpoint import count_parameters, load_planner
from ops.planners.planner import AlonePlanner, BlindPlanner, Planner, RulePlanner
from ops.student.predict import Student, StudentPlanner
from ops.vla.planner import open_vla
from storage.errors import unknown_name

PLANNERS = (
    "stopped",
    "constant_velocity",
    "constant_turn_rate",
    "ego_status_mlp",
    "planner_alone",
    "student_no_teacher",
    "vla",
    "student",
)


def open_planner(name: str, vla: Path, student: Path, *, runtime: str = "onnx") -> Planner:
    """Open a planner of the artefacts `vla` and `student` on the CPU; `runtime` is the student's.

    Raises ConfigError for a name that does not exist and ArtifactError for an artefact that is
    missing or of another version.
    """
    rules = {
        "stopped": baselines.stopped,
        "constant_velocity": baselines.constant_velocity,
        "constant_turn_rate": baselines.constant_turn_rate,
    }
    if name not in PLANNERS:
        raise unknown_name("planner", name, PLANNERS)
    if name in rules:
        return RulePlanner(rules[name])
    if name == "ego_status_mlp":
        model = load_planner(vla / "ego_status_mlp", "ego_mlp")
        return BlindPlanner(model, count_parameters(model))
    if name == "planner_alone":
        model = load_planner(vla / "planner_alone", "planner")
        return AlonePlanner(model, count_parameters(model))
    if name == "vla":
        return open_vla(vla)
    student_network = (
        Student.from_pretrained(student, runtime=runtime)
        if name == "student"
        else Student.from_pretrained(student / "no_teacher", runtime="torch")
    )
    return StudentPlanner(student_network, student_network.parameters)


def open_planners(
    vla: Path, student: Path, names: tuple[str, ...] = PLANNERS
) -> dict[str, Planner]:
    """Open planners by name; see open_planner."""
    return {name: open_planner(name, vla, student) for name in names}
