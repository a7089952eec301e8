"""The arrays that a training loop reads, stored as .npy files that workers memory-map.

They are temporary files of a training run and are removed with it.

Legend: N rows, V visual tokens, S code slots, K codes, C VLM width, M memory tokens, D planner
width, J scored proposals of a row, R sub-scores.
"""

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from models.ground_view import MIRRORED_CAMERA
from ops.planners.config import RowChoice
from storage.dataset import FrameSet
from storage.errors import ArtifactError
from storage.sources.openscene import drive_of
from storage.trajectory_table import Command

# factors that mirror x, y, heading, left to right
MIRROR = np.array([1.0, -1.0, -1.0], dtype=np.float32)
_MIRROR_STATUS = np.array([1, -1, 1, -1], dtype=np.float32)  # vx, vy, ax, ay
_MIRROR_COMMAND = np.array([Command.RIGHT, Command.STRAIGHT, Command.LEFT, Command.UNKNOWN])


@dataclass(frozen=True, slots=True)
class TrainingArrays:
    """One row per frame; arrays that a loop does not use are None."""

    # (N, 8) float32, FrameSet.status; for the VLM (N, 9), FrameSet.motion_status
    status: np.ndarray
    future: np.ndarray  # (N, 8, 3) float32, the target plan; NaN in a row without one
    images: np.ndarray | None = None  # (N, H, W, 3) uint8
    camera: np.ndarray | None = None  # (N, 19) float32, FrameSet.camera
    proposals: np.ndarray | None = None  # (N, J, 8, 3) float32, scored proposals
    # (N, J, R) float32, their PDM sub-scores; NaN where the row is not a scene
    subscores: np.ndarray | None = None
    codes: np.ndarray | None = None  # (N, S) int64
    codes_valid: np.ndarray | None = None  # (N, S) bool
    visual: np.ndarray | None = None  # (N, V, C) float16, the VLM's hidden states at the image
    action: np.ndarray | None = None  # (N, S, C) float16, its hidden states that predict the codes
    # (N, S, K) float16, the teacher's logits of the codes; NaN in a slot without a target
    code_logits: np.ndarray | None = None
    # (N, M, D) float16, the teacher's memory tokens; NaN in a row without a target
    memory: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.status)

    def take(self, rows: np.ndarray) -> "TrainingArrays":
        """The arrays restricted to the given row numbers."""
        arrays = {item.name: getattr(self, item.name) for item in fields(self)}
        return TrainingArrays(
            **{name: array[rows] for name, array in arrays.items() if array is not None}
        )

    def save(self, folder: Path) -> None:
        """Write each array that is not None to `<name>.npy`."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            array = getattr(self, item.name)
            if array is not None:
                np.save(folder / f"{item.name}.npy", array)

    @classmethod
    def open(cls, folder: Path) -> "TrainingArrays":
        """Memory-map the arrays of a folder."""
        files = {item.name: folder / f"{item.name}.npy" for item in fields(cls)}
        return cls(
            **{name: np.load(file, mmap_mode="r") for name, file in files.items() if file.exists()}
        )


def plannable_rows(frames: FrameSet) -> np.ndarray:
    """Numbers of the rows with an image and a complete recorded future: a planner can be trained
    and scored on these.
    """
    return np.flatnonzero(frames.has_image & frames.future_valid.all(axis=1))


def planner_frames(frames: FrameSet, choice: RowChoice) -> tuple[FrameSet, np.ndarray]:
    """The rows on which planners are trained, in the split's order, then their mirror images; and a
    mask (N,) of the mirror images.

    Raises ArtifactError if there is no such row, or as vlm_logs() does.
    """
    rows = plannable_rows(frames)
    if choice.vlm_share < 1:
        rows = rows[~vlm_logs(frames, choice)[rows]]
    originals = frames.take(rows[:: choice.stride])
    if not len(originals):
        raise ArtifactError(
            "there are no rows to train a planner on",
            expected="rows with an image and 4 s of recorded future",
            found=f"none among {len(frames)} rows",
            do="ingest longer logs, or check has_image",
        )
    if not choice.mirror:
        return originals, np.zeros(len(originals), dtype=bool)
    both = FrameSet.concatenated([originals, mirrored(originals)])
    return both, np.arange(len(both)) >= len(originals)


def vlm_logs(frames: FrameSet, choice: RowChoice) -> np.ndarray:
    """Mask (N,) of the rows whose log the VLM is trained on: all logs, or `choice.vlm_share` of the
    drives, by a hash of their names.

    Raises ArtifactError if there are rows and a share below 1 leaves the VLM or the planners
    without a log.
    """
    if choice.vlm_share >= 1:
        return np.ones(len(frames), dtype=bool)
    logs, log_of_row = np.unique(frames.log_id, return_inverse=True)
    is_vlm = np.array([_draw(log) < choice.vlm_share for log in logs], dtype=bool)
    if len(logs) and (is_vlm.all() or not is_vlm.any()):
        raise ArtifactError(
            f"the {'planners' if is_vlm.all() else 'VLM'} would be trained on no log",
            expected=f"logs for both, with {choice.vlm_share:g} of them for the VLM",
            found=f"{len(logs)} training logs: {', '.join(logs[:5])}",
            do="add training logs, or set RowChoice.vlm_share to 1",
        )
    return is_vlm[log_of_row]


def _draw(log_id: str) -> float:
    """A number in [0, 1) from the name of a log's drive; independent of the one that gives the
    split.
    """
    name = f"vlm/{drive_of(log_id)}"
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8


def mirrored(frames: FrameSet) -> FrameSet:
    """The mirror images of rows: left and right change places in image, camera, motion, history,
    future and command.

    The codes of a mirror image are not known and are marked invalid; `pose_world` is unchanged.
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


def evenly_spaced(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the row numbers, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
