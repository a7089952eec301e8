"""Renders a driven log of the synthetic world again: as it was, or without its traffic.

Legend: T frames, H x W pixels.
"""

import tempfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np

from ops.synthesize.film.render_log import render_log
from ops.synthesize.traffic.recording import Recording
from ops.synthesize.world import PALETTE, DrivenLog
from storage.frame_store import CameraFrames, read_frames, write_frames
from storage.sources import contract


def without_traffic(recording: Recording) -> Recording:
    """The same drive without other vehicles, pedestrians and cones; parked cars stay."""
    ego_only = {
        name: getattr(recording, name)[:, :1]
        for name in ("pose", "speed_mps", "accel_mps2", "lateral_mps2", "blinker")
    }
    no_walkers = {
        name: getattr(recording, name)[:, :0] for name in ("walker_xy", "walker_velocity")
    }
    return replace(
        recording,
        **ego_only,
        **no_walkers,
        size_m=recording.size_m[:1],
        kind=recording.kind[:1],
        walker_yaw_rad=recording.walker_yaw_rad[:0],
        cone_pose=recording.cone_pose[:0],
    )


def rerender(log: DrivenLog, recording: Recording) -> Iterator[np.ndarray]:
    """Front-camera images (H, W, 3) uint8 RGB of a recording in the log's town and light."""
    for (view,) in render_log(
        log.town, recording, log.cameras[:1], PALETTE, log.light, deepcopy(log.rng)
    ):
        yield view


def rerendered_frames(log: DrivenLog, recording: Recording, size_hw: tuple[int, int]) -> np.ndarray:
    """The images of `rerender` after a frame store, (T, H, W, 3) uint8: cropped and resized.

    Without JPEG compression.
    """
    frames = np.arange(len(recording.time_s), dtype=np.int32)
    front = log.cameras[0]
    camera = contract.Camera(front.name, front.width, front.height, front.intrinsics, front.to_ego)
    with tempfile.TemporaryDirectory() as folder:
        write_frames(
            Path(folder),
            "rerendered",
            [
                CameraFrames(
                    camera,
                    frames,
                    np.round(recording.time_s * 1e6),
                    rerender(log, recording),
                    np.zeros(len(frames), bool),
                )
            ],
        )
        return read_frames(Path(folder), frames, size_hw=size_hw)
