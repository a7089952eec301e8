"""Pairs of frames some time apart with how the ego moved between them: what the latent-action model
learns from.

Not batches. They are kept as .npy files below the run folder, which workers map. Legend: N frames,
P pairs.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from storage.dataset import FrameSet
from storage.errors import ConfigError

# Signs of models.latent_action's condition in a mirror: left, turn, vy, yaw rate and ay change.
MIRROR = np.array([1, -1, -1, 1, -1, -1, 1, -1], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class FramePairs:
    """Pairs of frames of one log, with an image each."""

    images: np.ndarray  # (N, H, W, 3) uint8, all frames
    rows: np.ndarray  # (P, 2) int64, earlier and later frame
    condition: np.ndarray  # (P, 8) float32, see models.latent_action.CONDITION
    # (P, 19) float32, storage.dataset.camera_numbers of the earlier image
    camera: np.ndarray
    # (P, 3) float64: speed m/s, yaw rate rad/s, acceleration m/s2, mean over the gap
    motion: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, pairs: np.ndarray) -> np.ndarray:
        """Earlier images of some pairs, (B, H, W, 3) uint8."""
        return self.images[self.rows[pairs, 0]]

    def second(self, pairs: np.ndarray) -> np.ndarray:
        """Later images of some pairs, (B, H, W, 3) uint8."""
        return self.images[self.rows[pairs, 1]]

    def some(self, count: int) -> "FramePairs":
        """At most `count` pairs, spread evenly."""
        kept = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)
        return FramePairs(
            self.images, self.rows[kept], self.condition[kept], self.camera[kept], self.motion[kept]
        )

    def save(self, folder: Path) -> None:
        """Write the arrays."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            np.save(folder / f"{item.name}.npy", getattr(self, item.name))

    @classmethod
    def open(cls, folder: Path) -> "FramePairs":
        """Map the arrays of a folder; only the images are left on disk."""
        return cls(
            **{
                item.name: np.load(
                    folder / f"{item.name}.npy", mmap_mode="r" if item.name == "images" else None
                )
                for item in fields(cls)
            }
        )


def frame_pairs(frames: FrameSet, gap_s: float, image_hw: tuple[int, int], what: str) -> FramePairs:
    """All pairs `gap_s` apart. Raises ConfigError if there is none, or if the images have another
    size.
    """
    if len(frames) and tuple(frames.images.shape[1:3]) != tuple(image_hw):
        raise ConfigError(
            f"the {what} images have another size than the codebook's",
            expected=tuple(image_hw),
            found=tuple(frames.images.shape[1:3]),
            do="read them with size_hw=config.image_hw",
        )
    rows = frames.pairs(gap_s)
    if not len(rows):
        raise ConfigError(
            f"the {what} logs have no two images {gap_s} s apart",
            found=f"{len(frames)} frames of {len(np.unique(frames.log_id))} logs",
            do="add logs, or choose a gap_s that is a multiple of the frame spacing",
        )
    early, late = rows.T
    delta = frames.pose_world[late] - frames.pose_world[early]
    cos, sin = np.cos(frames.pose_world[early, 2]), np.sin(frames.pose_world[early, 2])
    forward, left = cos * delta[:, 0] + sin * delta[:, 1], cos * delta[:, 1] - sin * delta[:, 0]
    turn = (delta[:, 2] + np.pi) % (2 * np.pi) - np.pi
    passed_s = (frames.timestamp_us[late] - frames.timestamp_us[early]) * 1e-6
    condition = np.column_stack(
        [
            forward,
            left,
            turn,
            frames.velocity[early],
            frames.yaw_rate[early],
            frames.acceleration[early],
        ]
    ).astype(np.float32)
    gained = frames.velocity[late, 0].astype(np.float64) - frames.velocity[early, 0]
    motion = np.column_stack([forward, turn, gained]) / passed_s[:, None]
    return FramePairs(frames.images, rows, condition, frames.camera[early], motion)
