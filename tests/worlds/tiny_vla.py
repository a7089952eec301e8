"""Frames with something to learn, and a VLA and a student made from them in seconds. Not a world,
no map.

A bright bar at the left, in the middle or at the right of the image says where the road bends; the
ego status says how fast. The codes say both. `made()` trains everything once for all tests of a
run.
"""

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from models.planners.config import FusionConfig, GroundConfig, PlannerConfig
from models.vlm_config import VlmConfig
from ops.planners.config import PlannerRecipe, ProposalScoringConfig, RowChoice
from ops.student.config import StudentConfig
from ops.student.distill import StudentReport, distill
from ops.training.config import ComputeConfig, FitConfig
from ops.vla.config import VlaConfig
from ops.vla.finetune import VlaReport, finetune
from storage.camera import Camera, camera_numbers
from storage.dataset import FrameSet

HEIGHT, WIDTH = 56, 112
SMALL_VLM = VlmConfig(hidden=32, layers=1, heads=2, vision_layers=1, vision_hidden=32)
SMALL_PLANNER = PlannerConfig(
    image_hw=(28, 56),
    channels=(8, 16),
    width=16,
    heads=2,
    blocks=2,
    proposals=3,
    dropout=0.0,
    ground=GroundConfig(cell_m=3.0, channels=(8,), features=8),
)
CAMERA = Camera(
    "CAM_F0",
    WIDTH,
    HEIGHT,
    np.array([[67.0, 0.0, 55.5], [0.0, 67.0, 20.0], [0.0, 0.0, 1.0]]),
    np.array(
        [[0.0, 0.0, 1.0, 1.5], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 1.6], [0.0, 0.0, 0.0, 1.0]]
    ),
)
RECIPE = PlannerRecipe(
    planner=SMALL_PLANNER,
    fit=FitConfig(steps=6, batch=8, report_every=2),
    rows=RowChoice(mirror=True),
    proposal_scoring=ProposalScoringConfig(num_retrieved=2, num_perturbed=2, neighbor_window=5),
)
VLA = VlaConfig(
    image_hw=(HEIGHT, WIDTH),
    vlm=SMALL_VLM,
    vlm_fit=FitConfig(steps=4, batch=8, report_every=2),
    recipe=RECIPE,
    ego_fit=FitConfig(steps=8, batch=16),
    fusion=FusionConfig(heads=2),
    val_rows=10,
)
STUDENT = StudentConfig(check_rows=16, val_rows=10, latency_calls=4)


@dataclass(frozen=True, slots=True)
class Made:
    """Finished artefacts and what they were made from."""

    vla: Path
    student: Path
    train: FrameSet
    val: FrameSet
    vla_report: VlaReport
    student_report: StudentReport


def tiny_frames(logs: int = 2, frames: int = 24, seed: int = 0, prefix: str = "log") -> FrameSet:
    """Rows whose future follows from what is seen (the bend) and from the status (the speed)."""
    generator, count = np.random.default_rng(seed), logs * frames
    speed = generator.uniform(2, 12, count).astype(np.float32)
    bend = generator.integers(-1, 2, count)
    images = generator.integers(0, 60, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)
    columns = np.abs(np.arange(WIDTH)[None] - (WIDTH // 2 - bend * WIDTH // 3)[:, None]) < 8
    images[:, HEIGHT // 2 :] = np.where(columns[:, None, :, None], 220, images[:, HEIGHT // 2 :])
    times = 0.5 * np.arange(1, 9)
    yaw = 0.15 * bend[:, None] * times
    along = speed[:, None] * times
    here = np.arange(count) % frames
    valid = np.ones((count, 8), dtype=bool)
    zeros = np.zeros(count, np.float32)
    return FrameSet(
        log_id=np.array([f"{prefix}{row // frames}" for row in range(count)], dtype=object),
        frame_index=here.astype(np.int32),
        timestamp_us=here.astype(np.int64) * 500_000,
        images=images,
        has_image=np.ones(count, bool),
        camera=np.tile(camera_numbers(CAMERA), (count, 1)),
        pose_world=np.zeros((count, 3)),
        velocity=np.stack([speed, zeros], 1),
        acceleration=np.zeros((count, 2), np.float32),
        yaw_rate=zeros,
        command=np.ones(count, np.int64),
        history=np.zeros((count, 4, 3), np.float32),
        history_valid=np.ones((count, 4), bool),
        future=np.stack([along, along * yaw / 2, yaw], -1).astype(np.float32),
        future_valid=valid,
        codes=np.repeat((3 * (speed // 3) + bend + 1).astype(np.int64)[:, None], 12, axis=1),
        codes_valid=np.ones((count, 12), bool),
        tags=np.array([*[()] * count, None], dtype=object)[:-1],
    )


def near_the_human(rows: FrameSet, plans_NK83: np.ndarray) -> np.ndarray:
    """Stands in for the PDM scorer, in its shape: every sub-score is high where the plan is near
    the recorded one.
    """
    error = np.linalg.norm(plans_NK83[..., :2] - rows.future[:, None, :, :2], axis=-1).mean(axis=-1)
    scores = np.repeat(np.exp(-error)[..., None], 6, axis=-1)
    scores[0] = np.nan  # as for a scene that cannot be scored
    return scores


@lru_cache(maxsize=1)
def made() -> Made:
    """A VLA and a student, trained for a few steps."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-vla-"))
    train, val, here = tiny_frames(), tiny_frames(1, seed=1, prefix="val"), ComputeConfig(threads=1)
    for name in ("vla", "student"):
        (folder / name).mkdir()
    vla = finetune(
        train,
        val,
        folder / "vla",
        VLA,
        score_plans=near_the_human,
        compute=here,
        runs=folder / "runs",
        name="vla-test",
        seed=0,
    )
    student = distill(
        train,
        val,
        folder / "vla",
        folder / "student",
        STUDENT,
        score_plans=near_the_human,
        compute=here,
        runs=folder / "runs",
        name="student-test",
        seed=0,
    )
    return Made(folder / "vla", folder / "student", train, val, vla, student)
