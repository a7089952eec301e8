"""Pictures of ingested logs for the Dagster UI: first frames, paths, speed and yaw rate."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ops.drawing.charts import svg
from ops.drawing.contact_sheet import contact_sheet
from storage.frame_store import frame_info, read_frames
from storage.trajectory_table import read_table

THUMBNAIL_HW = (90, 160)  # pixels of one image in the contact sheet


def first_frames_sheet(folders: Sequence[Path], columns: int) -> np.ndarray:
    """The first front image of each frame store in one picture (H, W, 3) uint8."""
    images = [
        read_frames(folder, frame_info(folder).cameras[0].frame_index[:1], size_hw=THUMBNAIL_HW)
        for folder in folders
    ]
    return contact_sheet(np.concatenate(images), columns=columns, width=THUMBNAIL_HW[1])


def motion_chart(folders: Sequence[Path]) -> str:
    """Paths, and histograms of speed and yaw rate, of the logs in `folders`, as one <svg>."""
    columns = ["x_m", "y_m", "vx_mps", "vy_mps", "yaw_rate_radps"]
    logs = [
        np.stack([read_table(folder, "trajectories")[name].to_numpy() for name in columns])
        for folder in folders
    ]
    figure = Figure(figsize=(9.0, 2.8))
    paths, speed, yaw_rate = figure.subplots(1, 3)
    origin = logs[0][:2, :1]
    for log in logs:
        paths.plot(*(log[:2] - origin), lw=0.8, alpha=0.6, color="#2b6cb0")
    paths.set(xlabel="x, m", ylabel="y, m", title=f"{len(logs)} logs", aspect="equal")
    _, _, vx, vy, yaw_rate_radps = np.concatenate(logs, axis=1)
    speed.hist(np.hypot(vx, vy), bins=40, color="#2b6cb0")
    speed.set(xlabel="speed, m/s", ylabel="rows")
    yaw_rate.hist(yaw_rate_radps, bins=40, color="#2b6cb0", log=True)
    yaw_rate.set(xlabel="yaw rate, rad/s")
    figure.set_layout_engine("tight")
    return svg(figure)
