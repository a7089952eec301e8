"""A pinhole camera on the ego: mounting, projection, and the ground point of each pixel.

Camera frame: x right, y down, z forward. Ego frame: rear axle on the ground, x forward, y left, z
up. Pixel centres are whole numbers.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Camera:
    """Mounting and intrinsics of one camera."""

    name: str = "CAM_F0"
    width: int = 224  # pixels
    height: int = 126
    focal_share: float = 0.60  # focal length over image width
    position_m: tuple[float, float, float] = (1.55, 0.0, 1.58)  # in the ego frame
    yaw_rad: float = 0.0  # to the left
    pitch_rad: float = 0.045  # downwards

    @cached_property
    def intrinsics(self) -> np.ndarray:
        """(3, 3) pixels."""
        focal = self.focal_share * self.width
        return np.array(
            [
                [focal, 0.0, (self.width - 1) / 2],
                [0.0, focal, (self.height - 1) / 2],
                [0.0, 0.0, 1.0],
            ]
        )

    @cached_property
    def to_ego(self) -> np.ndarray:
        """(4, 4) camera frame -> ego frame."""
        cy, sy, cp, sp = (
            np.cos(self.yaw_rad),
            np.sin(self.yaw_rad),
            np.cos(self.pitch_rad),
            np.sin(self.pitch_rad),
        )
        forward = np.array([cy * cp, sy * cp, -sp])
        right = np.array([sy, -cy, 0.0])
        out = np.eye(4)
        out[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        out[:3, 3] = self.position_m
        return out

    def to_camera(self, points_ego: np.ndarray) -> np.ndarray:
        """Ego-frame points (..., 3) in the camera frame."""
        return (points_ego - self.to_ego[:3, 3]) @ self.to_ego[:3, :3]

    def project(self, points_camera: np.ndarray) -> np.ndarray:
        """Camera-frame points (..., 3) with positive depth -> pixels (..., 2)."""
        k = self.intrinsics
        return points_camera[..., :2] / points_camera[..., 2:] * k[0, 0] + k[:2, 2]

    @cached_property
    def horizon_row(self) -> int:
        """First image row in which every pixel sees the ground within 400 m."""
        return int(np.argmax((self._ground_distance > 0).all(axis=1)))

    @cached_property
    def ground_xy(self) -> np.ndarray:
        """Ego-frame ground point of each pixel from `horizon_row` down, (rows, W, 2) float32."""
        rays = self._rays[self.horizon_row :]
        length = self._ground_distance[self.horizon_row :, :, None]
        return (self.to_ego[:2, 3] + rays[..., :2] * length).astype(np.float32)

    @cached_property
    def ground_depth(self) -> np.ndarray:
        """Horizontal distance of the ground in the middle of each row of `ground_xy`, (rows,) m."""
        middle = self.ground_xy[:, self.width // 2] - self.to_ego[:2, 3]
        return np.hypot(*middle.T)

    @cached_property
    def _rays(self) -> np.ndarray:
        columns, rows = np.meshgrid(np.arange(self.width), np.arange(self.height))
        k = self.intrinsics
        rays = np.stack(
            [(columns - k[0, 2]) / k[0, 0], (rows - k[1, 2]) / k[1, 1], np.ones(columns.shape)],
            axis=-1,
        )
        return rays @ self.to_ego[:3, :3].T

    @cached_property
    def _ground_distance(self) -> np.ndarray:
        """Ray length to the ground, -1 where the ray misses it or meets it beyond 400 m."""
        down = -self._rays[..., 2]
        length = self.position_m[2] / np.maximum(down, 1e-9)
        return np.where(
            (down > 0) & (length * np.hypot(self._rays[..., 0], self._rays[..., 1]) < 400.0),
            length,
            -1.0,
        )
