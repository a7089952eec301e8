"""Configuration of the `student` artefact.

Imports no torch.
"""

from dataclasses import dataclass, field

from ops.planners.config import ImitationConfig


@dataclass(frozen=True, slots=True)
class StudentConfig:
    """The student's own settings; network and training follow the recipe of the VLA's planners."""

    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    # train on mirror images even if the VLA's planners were not; the VLM is then run on them
    mirror: bool = False
    steps: int | None = None  # training steps; None: as in the recipe
    int8: bool = True  # export an 8-bit ONNX file too
    check_rows: int = 128  # training rows for the export's check and the 8-bit calibration
    val_rows: int = 300  # rows of the val split measured for the report, evenly spaced
    # timed plans of each planner, on one thread
    latency_calls: int = field(default=40, metadata={"how": True})
