"""The grid on the ground that images are warped to, and the length of the calibration vector that
warps them.
"""

from dataclasses import dataclass

# length of the calibration vector of storage.camera.camera_numbers; models do not import storage,
# so tests/storage/test_camera.py compares the two constants
CAMERA_NUMBERS = 19


@dataclass(frozen=True, slots=True)
class GroundConfig:
    """Grid of the bird's-eye view and sizes of the network over it."""

    near_m: float = 3.0  # distance from the rear axle ahead to the grid's near border
    far_m: float = 45.0  # distance from the rear axle ahead to the grid's far border
    side_m: float = 18.0  # half width of the grid, to the left and to the right
    cell_m: float = 1.0  # side of a cell
    channels: tuple[int, ...] = (32, 64, 96)  # of the stages at 1/2, 1/4, 1/8 of the grid
    features: int = 48  # channels of the feature map, at 1/2 of the grid

    @property
    def cells(self) -> tuple[int, int]:
        """Number of cells ahead and across, (X, Y)."""
        return round((self.far_m - self.near_m) / self.cell_m), round(2 * self.side_m / self.cell_m)

    @property
    def tokens(self) -> int:
        """Number of cells of the coarsest stage."""
        ahead, side = self.cells
        for _ in self.channels:
            ahead, side = -(-ahead // 2), -(-side // 2)
        return ahead * side
