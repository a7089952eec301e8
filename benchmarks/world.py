"""Frames and logs per second of the synthetic world on one core: `python -m benchmarks.world`.

In one run, in CPU seconds: whole logs from the seed, the frames of those logs decoded from their
JPEG files (the alternative: a recorded data set), and, on as many other drives, the traffic alone
and the rendering alone.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ops.synthesize.config import WorldConfig
from ops.synthesize.film.camera import Camera
from ops.synthesize.film.ground import Palette
from ops.synthesize.film.props import parked_cars
from ops.synthesize.film.render_log import render_log, weather
from ops.synthesize.town.build_town import build_town
from ops.synthesize.town.town import TownConfig
from ops.synthesize.traffic.expert import DriveConfig, drive
from ops.synthesize.traffic.recording import Recording
from ops.synthesize.world import synthesize_log, world_log_ids


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--logs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", default="126x224", help="height x width of the images")
    options = parser.parse_args(arguments)
    height, width = (int(side) for side in options.size.split("x"))
    world = WorldConfig(
        train_logs=options.logs + 1, seconds=options.seconds, image_width=width, image_height=height
    )
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder)
        warm_up, *log_ids = [log_id for log_id, split in world_log_ids(world) if split == "train"]
        # includes the town, its ground texture and its map
        built_s = _seconds(lambda: synthesize_log(raw, world, warm_up))
        whole_s = _seconds(lambda: [synthesize_log(raw, world, log_id) for log_id in log_ids])
        files = [
            file
            for log_id in log_ids
            for file in sorted(raw.glob(f"sensor_blobs/*/{log_id}/**/*.jpg"))
        ]
        decoded_s = _seconds(lambda: [_decoded(file) for file in files])
        megabytes = sum(file.stat().st_size for file in raw.rglob("*") if file.is_file()) / 1e6
    recordings: list[Recording] = []
    driven_s = _seconds(
        lambda: recordings.extend(_drive(world, number) for number in range(options.logs))
    )
    rendered_s = _seconds(lambda: [_render(world, recording) for recording in recordings])
    frames, rendered = len(files), sum(len(recording.time_s) for recording in recordings)
    print(
        f"{options.logs} logs of {options.seconds:g} s, {frames} frames of {width}x{height}; "
        f"town and first log {built_s:.1f} s; {megabytes / (options.logs + 1):.1f} MB a log"
    )
    print(f"{'one core, CPU time':<44}{'frames/s':>10}{'logs/s':>8}")
    for name, count, seconds in (
        ("rendered (one renderer a log)", rendered, rendered_s),
        ("decoded from the JPEG files", frames, decoded_s),
        ("driven only, including discarded tries", rendered, driven_s),
        ("whole logs: driven, rendered, written", frames, whole_s),
    ):
        print(f"{name:<44}{count / seconds:>10.0f}{options.logs / seconds:>8.2f}")


def _drive(world: WorldConfig, number: int) -> Recording:
    config = TownConfig(seed=world.seed)
    drive_config = DriveConfig(round(world.seconds * world.hz), world.hz, False, world.event_rate)
    return drive(
        build_town(config),
        parked_cars(config, Palette()),
        drive_config,
        np.random.default_rng([world.seed, number]),
    )


def _render(world: WorldConfig, recording: Recording) -> None:
    """Render a drive; no image is kept."""
    rng = np.random.default_rng(world.seed)
    camera = replace(Camera(), width=world.image_width, height=world.image_height)
    for _ in render_log(
        build_town(TownConfig(seed=world.seed)), recording, [camera], Palette(), weather(rng), rng
    ):
        pass


def _decoded(file: Path) -> np.ndarray:
    return cv2.cvtColor(
        cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR),
        cv2.COLOR_BGR2RGB,
    )


def _seconds(work: Callable[[], object]) -> float:
    """CPU seconds, which exclude other work on the machine."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
