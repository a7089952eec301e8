"""Pictures of ingested logs for the catalogue: a contact sheet, where and how fast the ego drove.
Not the report.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ops.drawing.charts import svg
from storage.frame_store import frame_info, read_frames
from storage.trajectory_table import read_table

TILE_HW = (90, 160)  # pixels of one picture in the sheet


def contact_sheet_of(folders: Sequence[Path], columns: int) -> np.ndarray:
    """First front image of each frame store, tiled row by row into one picture (H, W, 3) uint8."""
    tiles = [
        read_frames(folder, frame_info(folder).cameras[0].frame_index[:1], size_hw=TILE_HW)[0]
        for folder in folders
    ]
    blank = np.full((*TILE_HW, 3), 255, np.uint8)
    tiles += [blank] * (-len(tiles) % columns)
    return np.concatenate(
        [
            np.concatenate(tiles[row : row + columns], axis=1)
            for row in range(0, len(tiles), columns)
        ]
    )


def motion_chart(folders: Sequence[Path]) -> str:
    """Paths from above, and histograms of speed and yaw rate, of the logs in these table folders,
    as one <svg>.
    """
    columns = ["x_m", "y_m", "vx_mps", "vy_mps", "yaw_rate_radps"]
    logs = [
        np.stack([read_table(folder, "trajectories")[name].to_numpy() for name in columns])
        for folder in folders
    ]
    figure = Figure(figsize=(9.0, 2.8))
    above, speed, turn = figure.subplots(1, 3)
    origin = logs[0][:2, :1]
    for log in logs:
        above.plot(*(log[:2] - origin), lw=0.8, alpha=0.6, color="#2b6cb0")
    above.set(xlabel="x, m", ylabel="y, m", title=f"{len(logs)} logs", aspect="equal")
    every = np.concatenate(logs, axis=1)
    speed.hist(np.hypot(every[2], every[3]), bins=40, color="#2b6cb0")
    speed.set(xlabel="speed, m/s", ylabel="rows")
    turn.hist(every[4], bins=40, color="#2b6cb0", log=True)
    turn.set(xlabel="yaw rate, rad/s")
    figure.set_layout_engine("tight")
    return svg(figure)
