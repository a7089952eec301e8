"""The arms of the study: which rows a student learns from, who tells it about the rows without
labels, and whether it reads the VLM itself.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train the student. All arms see the same labelled rows equally often."""

    description: str  # in the table
    taught: bool = False  # by a teacher of the study: trained once for each of them
    unlabelled: bool = False  # learns from the rows without labels too
    # the VLA: what it reads of its teacher when it plans, instead of imitating: "hidden" states, or
    # the distributions of the "codes"
    reads: str = ""

    @property
    def kind(self) -> str:
        """The kind of its network, a key of ops.planners.kinds.KINDS."""
        return "fused_planner" if self.reads else "student"


CONTROL = "labelled_only"
ARMS = {
    CONTROL: Arm("labels alone"),
    "distilled_labelled": Arm("and the VLM's codes on the labelled rows", taught=True),
    "distilled": Arm("and the VLM's codes on all rows: the paper's claim", True, True),
    "recorded_codes": Arm("and the recorded codes on all rows: a VLM that knows all", True, True),
    "ensemble": Arm("and an ensemble's plans on the other rows: positive control", False, True),
    "odometry": Arm("and the odometry of the other rows as a label: upper bound", False, True),
    "vla": Arm("labels alone; plans from the VLM's hidden states: the VLA", True, reads="hidden"),
    "vla_codes": Arm("labels alone; plans from the VLM's code distributions", True, reads="codes"),
}
PAIRS = (
    ("distilled_labelled", CONTROL),
    ("distilled", CONTROL),
    ("recorded_codes", CONTROL),
    ("ensemble", CONTROL),
    ("odometry", CONTROL),
    ("vla", CONTROL),
    ("vla_codes", CONTROL),
    ("distilled", "recorded_codes"),
    ("distilled", "vla"),
)


@dataclass(frozen=True, slots=True)
class StudentKey:
    """One student of the study."""

    arm: str
    seed: int
    teacher: int | None = None  # of arms that are taught

    @property
    def name(self) -> str:
        """Unique; also the name of its folder."""
        teacher = "" if self.teacher is None else f"-teacher-{self.teacher}"
        return f"{self.arm}{teacher}-seed-{self.seed}"


def students_of(seed: int, teachers: int) -> list[StudentKey]:
    """The students of one seed, those that are taught once for every teacher."""
    return [
        StudentKey(name, seed, teacher)
        for name, arm in ARMS.items()
        for teacher in (range(teachers) if arm.taught else [None])
    ]
