"""Pairs of frames a fixed time apart, with the ego motion between them: the training data of the
latent-action model.

They are stored as .npy files of a training run, which workers memory-map.

Legend: N frames, P pairs, B some of the pairs.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from storage.dataset import FrameSet
from storage.errors import ConfigError
from storage.grouping import rows_by_log

# factors that mirror the condition: left, turn, vy, yaw rate and ay change sign
MIRROR = np.array([1, -1, -1, 1, -1, -1, 1, -1], dtype=np.float32)

NAMED_LOGS = 5  # in a message


@dataclass(frozen=True, slots=True)
class FramePairs:
    """Pairs of frames; both belong to one log and have images."""

    images: np.ndarray  # (N, H, W, 3) uint8, all frames
    rows: np.ndarray  # (P, 2) int64, earlier and later frame
    condition: np.ndarray  # (P, 8) float32, see models.latent_action.model.CONDITION
    camera: np.ndarray  # (P, 19) float32, storage.camera.camera_numbers of the earlier image
    # (P, 3) float64: speed m/s, yaw rate rad/s, acceleration m/s2, means over the gap
    motion: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, pairs: np.ndarray) -> np.ndarray:
        """Earlier images of some pairs, (B, H, W, 3) uint8."""
        return self.images[self.rows[pairs, 0]]

    def second(self, pairs: np.ndarray) -> np.ndarray:
        """Later images of some pairs, (B, H, W, 3) uint8."""
        return self.images[self.rows[pairs, 1]]

    def evenly_spaced(self, count: int) -> "FramePairs":
        """At most `count` pairs, evenly spaced."""
        kept = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)
        return FramePairs(
            self.images, self.rows[kept], self.condition[kept], self.camera[kept], self.motion[kept]
        )

    def save(self, folder: Path) -> None:
        """Write the arrays to `<name>.npy`."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            np.save(folder / f"{item.name}.npy", getattr(self, item.name))

    @classmethod
    def open(cls, folder: Path) -> "FramePairs":
        """Read the arrays of a folder; the images are memory-mapped."""
        return cls(
            **{
                item.name: np.load(
                    folder / f"{item.name}.npy", mmap_mode="r" if item.name == "images" else None
                )
                for item in fields(cls)
            }
        )


def frame_pairs(frames: FrameSet, gap_s: float, image_hw: tuple[int, int], what: str) -> FramePairs:
    """All pairs of frames `gap_s` apart; `what` names the logs in error messages.

    Raises ConfigError that says which log has how many images if there is no pair, and if the
    images are not of size `image_hw`.
    """
    if len(frames) and tuple(frames.images.shape[1:3]) != tuple(image_hw):
        raise ConfigError(
            f"the {what} images have another size than the codebook's images",
            expected=tuple(image_hw),
            found=tuple(frames.images.shape[1:3]),
            do="read them with size_hw=config.image_hw",
        )
    rows = frames.pairs(gap_s)
    if not len(rows):
        raise ConfigError(
            f"the {what} logs have no two images {gap_s} s apart",
            found=_spacings(frames),
            do="add logs, or choose a gap_s that is a multiple of the spacing of their images",
        )
    early, late = rows.T
    delta = frames.pose_world[late] - frames.pose_world[early]
    cos, sin = np.cos(frames.pose_world[early, 2]), np.sin(frames.pose_world[early, 2])
    forward, left = cos * delta[:, 0] + sin * delta[:, 1], cos * delta[:, 1] - sin * delta[:, 0]
    turn = (delta[:, 2] + np.pi) % (2 * np.pi) - np.pi
    elapsed_s = (frames.timestamp_us[late] - frames.timestamp_us[early]) * 1e-6
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
    speed_change = frames.velocity[late, 0].astype(np.float64) - frames.velocity[early, 0]
    motion = np.column_stack([forward, turn, speed_change]) / elapsed_s[:, None]
    return FramePairs(frames.images, rows, condition, frames.camera[early], motion)


def _spacings(frames: FrameSet) -> str:
    """How many images each log has, and how far apart; the first NAMED_LOGS logs by name."""
    logs = rows_by_log(frames.log_id)
    texts = []
    for log, rows in sorted(logs.items())[:NAMED_LOGS]:
        time_us = frames.timestamp_us[rows[frames.has_image[rows]]]
        apart = f" {np.median(np.diff(time_us)) * 1e-6:.2f} s apart" if len(time_us) > 1 else ""
        texts.append(f"{log}: {len(time_us)} images{apart} in {len(rows)} rows")
    more = f"; and {len(logs) - NAMED_LOGS} logs more" if len(logs) > NAMED_LOGS else ""
    return ("; ".join(texts) or "no rows") + more
