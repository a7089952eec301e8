"""Writes tiny logs in the plain video format: a car on a circle, its frames unevenly spaced."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.worlds.tiny_kitti import rear_axle_pose

LOG = "monday_drive"
START_US = 1_500_000_000_000_000
WIDTH, HEIGHT = 64, 48
CODECS = {"mp4": "libx264", "mkv": "libx264", "avi": "mpeg4", "hevc": "libx265", "h264": "libx264"}
CAMERA = {
    "width": WIDTH,
    "height": HEIGHT,
    "fx": 50.0,
    "fy": 50.0,
    "cx": 31.5,
    "cy": 23.5,
    "mounting": {"x_m": 1.5, "y_m": 0.1, "z_m": 1.3, "pitch_deg": 2.0},
    "video_start_us": START_US,
}


def picture(number: int, size_wh: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """A frame (H, W, 3) uint8 whose mean brightness tells its number: 40 + number, below 200."""
    width, height = size_wh
    y, x = np.mgrid[:height, :width]
    wave = 8 * np.sin((x + 3 * number) / 9) + 8 * np.cos(y / 5)
    return np.repeat(np.clip(40 + number + wave, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def encode(
    file: Path,
    time_ms: Sequence[int],
    *,
    size_wh: tuple[int, int] = (WIDTH, HEIGHT),
    key_every: int = 12,
    **container_options: str,
) -> Path:
    """Write a video with one frame at each time; the format follows the ending."""
    import av

    kind = file.suffix[1:].lower()
    container_kind = {"mkv": "matroska"}.get(kind, kind)
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w", format=container_kind, options=container_options) as container:
        options = {"g": str(key_every)}
        if kind == "hevc":
            options = {"x265-params": f"log-level=none:keyint={key_every}:pools=1"}
        stream: Any = container.add_stream(CODECS[kind], rate=20, options=options)
        stream.width, stream.height = size_wh
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        if kind in ("mp4", "mkv"):
            from fractions import Fraction

            stream.codec_context.time_base = Fraction(1, 1000)
        for number, now_ms in enumerate(time_ms):
            frame = av.VideoFrame.from_ndarray(picture(number, size_wh), format="rgb24")
            frame.pts = now_ms if kind in ("mp4", "mkv") else number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


def uneven_ms(frames: int) -> list[int]:
    """Times of a camera that means 20 Hz: every step 45 to 55 ms, and one frame lost."""
    steps = 50 + np.rint(5 * np.sin(np.arange(frames))).astype(int)
    steps[frames // 2] += 50
    return np.cumsum(np.append(0, steps[:-1])).tolist()


def write_poses(file: Path, time_s: np.ndarray, **columns: np.ndarray) -> Path:
    """Write poses.csv of the car on its circle; further columns replace or extend its own."""
    pose = rear_axle_pose(time_s)
    values: dict[str, Any] = {
        "timestamp_us": START_US + np.rint(time_s * 1e6).astype(np.int64),
        "x_m": pose[:, 0],
        "y_m": pose[:, 1],
        "yaw_rad": pose[:, 2],
        **columns,
    }
    lines = [
        ",".join(values),
        *(",".join(map(str, row)) for row in zip(*values.values(), strict=True)),
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return file


def write_video_log(
    raw: Path, log: str = LOG, *, frames: int = 150, ending: str = "mp4", **camera: Any
) -> Path:
    """Write one log of about 7.5 s with poses at 25 Hz; returns its folder."""
    folder = raw / log
    time_ms = uneven_ms(frames)
    encode(folder / f"front.{ending}", time_ms)
    write_poses(folder / "poses.csv", np.arange(-0.1, time_ms[-1] / 1000 + 0.1, 0.04))
    (folder / "camera.json").write_text(json.dumps(CAMERA | camera))
    return folder
