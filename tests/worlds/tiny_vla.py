"""Synthetic frames without a map, and a VLA and a student trained on them in seconds.

A bright bar at the left, in the middle or at the right of the image encodes the bend of the road,
the ego status the speed, and the codes both. `trained_artifacts()` trains once for all tests of a
process.
"""

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from models.ground_config import GroundConfig
from models.planners.config import FusionConfig, PlannerConfig
from models.vlm_config import BevImageConfig, VlmConfig
from ops.planners.config import PlannerRecipe, ProposalScoringConfig, RowChoice
from ops.student.config import StudentConfig
from ops.student.distill import StudentReport, distill
from ops.training.config import ComputeConfig, FitConfig
from ops.vla.config import VlaConfig
from ops.vla.finetune import VlaReport, finetune
from storage.camera import Camera, camera_numbers
from storage.dataset import FrameSet

HEIGHT, WIDTH = 56, 112
SMALL_VLM = VlmConfig(
    bev=BevImageConfig(pixels=56), hidden=32, layers=1, heads=2, vision_layers=1, vision_hidden=32
)
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
class TrainedArtifacts:
    """Finished artefacts, the rows of their splits, and their reports."""

    vla: Path
    student: Path
    train: FrameSet
    val: FrameSet
    vla_report: VlaReport
    student_report: StudentReport


def tiny_frames(logs: int = 2, frames: int = 24, seed: int = 0, prefix: str = "log") -> FrameSet:
    """Rows whose future follows from the image (the bend) and the ego status (the speed)."""
    generator, count = np.random.default_rng(seed), logs * frames
    speed = generator.uniform(2, 12, count).astype(np.float32)
    bend = generator.integers(-1, 2, count)
    images = generator.integers(0, 60, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)
    columns = np.abs(np.arange(WIDTH)[None] - (WIDTH // 2 - bend * WIDTH // 3)[:, None]) < 8
    images[:, HEIGHT // 2 :] = np.where(columns[:, None, :, None], 220, images[:, HEIGHT // 2 :])
    times = 0.5 * np.arange(1, 9)
    yaw = 0.15 * bend[:, None] * times
    along = speed[:, None] * times
    frame_index = np.arange(count) % frames
    valid = np.ones((count, 8), dtype=bool)
    zeros = np.zeros(count, np.float32)
    return FrameSet(
        log_id=np.array([f"{prefix}{row // frames}" for row in range(count)], dtype=object),
        frame_index=frame_index.astype(np.int32),
        timestamp_us=frame_index.astype(np.int64) * 500_000,
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


def score_by_displacement(rows: FrameSet, plans_NK83: np.ndarray) -> np.ndarray:
    """A stand-in for the PDM scorer: every sub-score decreases with the displacement error.

    The first row has NaN, like a row that is not a scene.
    """
    error = np.linalg.norm(plans_NK83[..., :2] - rows.future[:, None, :, :2], axis=-1).mean(axis=-1)
    scores = np.repeat(np.exp(-error)[..., None], 6, axis=-1)
    scores[0] = np.nan
    return scores


@lru_cache(maxsize=1)
def trained_artifacts() -> TrainedArtifacts:
    """A VLA and a student, trained for a few steps."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-vla-"))
    train, val = tiny_frames(), tiny_frames(1, seed=1, prefix="val")
    compute = ComputeConfig(threads=1)
    for name in ("vla", "student"):
        (folder / name).mkdir()
    vla = finetune(
        train,
        val,
        folder / "vla",
        VLA,
        num_codes=16,
        score_plans=score_by_displacement,
        compute=compute,
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
        score_plans=score_by_displacement,
        compute=compute,
        runs=folder / "runs",
        name="student-test",
        seed=0,
    )
    return TrainedArtifacts(folder / "vla", folder / "student", train, val, vla, student)
