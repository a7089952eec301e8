"""What is the student's own beside the recipe of the VLA's planners. Needs no torch."""

from dataclasses import dataclass, field

from ops.planners.config import ImitationConfig


@dataclass(frozen=True, slots=True)
class StudentConfig:
    """What is the student's own; everything else is the recipe that the VLA's planners were made
    by.
    """

    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    # learn from mirror images too where the VLA's planners do not; the teacher then reads them
    mirror: bool = False
    steps: int | None = None  # of its training; None: those of the recipe
    int8: bool = True  # export in 8 bits too
    check_rows: int = 128  # training rows that check the export and calibrate the 8 bits
    val_rows: int = 300  # rows of the val split that the report measures, spread evenly
    latency_calls: int = 40  # timed plans of VLA and student, one thread
