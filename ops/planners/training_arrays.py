"""The arrays that a training loop reads, kept as .npy files that workers map. Not a format of the
lake.

They lie under the run folder and are removed with it. Legend: N rows, V visual tokens, S = 12
slots, K = 16 codes, C VLM width, M memory tokens, D planner width, J judged plans, R sub-scores.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from models.ground_view import MIRRORED_CAMERA
from ops.planners.config import RowChoice
from storage.dataset import FrameSet
from storage.errors import ArtifactError
from storage.trajectory_table import Command

# x, y, heading seen in a mirror
MIRROR = np.array([1.0, -1.0, -1.0], dtype=np.float32)
_MIRROR_STATUS = np.array([1, -1, 1, -1], dtype=np.float32)  # vx, vy, ax, ay
_MIRROR_COMMAND = np.array([Command.RIGHT, Command.STRAIGHT, Command.LEFT, Command.UNKNOWN])


@dataclass(frozen=True, slots=True)
class TrainingArrays:
    """One row a frame; what a loop does not need is None."""

    status: np.ndarray  # (N, 8) float32, FrameSet.status
    future: np.ndarray  # (N, 8, 3) float32
    images: np.ndarray | None = None  # (N, H, W, 3) uint8
    camera: np.ndarray | None = None  # (N, 19) float32, FrameSet.camera
    # (N, J, 8, 3) float32, plans of which the PDM score is known
    scored: np.ndarray | None = None
    # (N, J, R) float32 their sub-scores, NaN where they cannot be scored
    subscores: np.ndarray | None = None
    codes: np.ndarray | None = None  # (N, 12) int64
    codes_valid: np.ndarray | None = None  # (N, 12) bool
    # (N, V, C) float16, the VLM's hidden states at the image
    visual: np.ndarray | None = None
    action: np.ndarray | None = None  # (N, S, C) float16, those that predict the codes
    code_logits: np.ndarray | None = None  # (N, S, K) float16, the VLM's code distribution
    memory: np.ndarray | None = None  # (N, M, D) float32, the teacher's pooled features

    def __len__(self) -> int:
        return len(self.status)

    def take(self, rows: np.ndarray) -> "TrainingArrays":
        """The given rows."""
        arrays = {item.name: getattr(self, item.name) for item in fields(self)}
        return TrainingArrays(
            **{name: array[rows] for name, array in arrays.items() if array is not None}
        )

    def save(self, folder: Path) -> None:
        """Write each array that is there."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            array = getattr(self, item.name)
            if array is not None:
                np.save(folder / f"{item.name}.npy", array)

    @classmethod
    def open(cls, folder: Path) -> "TrainingArrays":
        """Map the arrays of a folder without reading them."""
        files = {item.name: folder / f"{item.name}.npy" for item in fields(cls)}
        return cls(
            **{name: np.load(file, mmap_mode="r") for name, file in files.items() if file.exists()}
        )


def plannable_rows(frames: FrameSet) -> np.ndarray:
    """Row numbers with an image and a whole recorded future: what a planner can be trained and
    scored on.
    """
    return np.flatnonzero(frames.has_image & frames.future_valid.all(axis=1))


def planner_frames(frames: FrameSet, choice: RowChoice) -> tuple[FrameSet, np.ndarray]:
    """The rows that planners learn from, in the split's order and then mirrored; and which of them
    are mirrored.

    Raises ArtifactError if there is no such row.
    """
    own = frames.take(plannable_rows(frames)[:: choice.stride])
    if not len(own):
        raise ArtifactError(
            "there is nothing to plan from",
            expected="rows with an image and 4 s of recorded future",
            found=f"none among {len(frames)} rows",
            do="ingest longer logs, or check has_image",
        )
    if not choice.mirror:
        return own, np.zeros(len(own), dtype=bool)
    other = mirrored(own)
    both = FrameSet(
        *(np.concatenate([getattr(own, name), getattr(other, name)]) for name in FrameSet.__slots__)
    )
    return both, np.arange(len(both)) >= len(own)


def mirrored(frames: FrameSet) -> FrameSet:
    """The same rows seen in a mirror: left is right in image, motion, path and command.

    Codes and poses in the world have no mirror image here: codes are marked invalid, `pose_world`
    stays as it is.
    """
    return replace(
        frames,
        images=frames.images[:, :, ::-1],
        camera=frames.camera * np.array(MIRRORED_CAMERA, dtype=np.float32),
        velocity=frames.velocity * _MIRROR_STATUS[:2],
        acceleration=frames.acceleration * _MIRROR_STATUS[2:],
        yaw_rate=-frames.yaw_rate,
        command=_MIRROR_COMMAND[frames.command],
        history=frames.history * MIRROR,
        future=frames.future * MIRROR,
        codes_valid=np.zeros_like(frames.codes_valid),
    )


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` of the rows, spread evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
