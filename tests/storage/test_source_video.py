"""The video reader: frames and poses joined by time, every missing piece named."""

import json

import numpy as np
import pytest

from ops.ingest.config import FrameConfig
from ops.ingest.decode import decode
from storage.errors import SourceError
from storage.frame_store import frame_info, read_frames
from storage.sources import fingerprint, open_source
from tests.worlds import tiny_video as tiny
from tests.worlds.tiny_kitti import rear_axle_pose


def opened(raw):
    return open_source("video", raw).open(tiny.LOG)


def truth(signals) -> np.ndarray:
    return rear_axle_pose((signals.timestamp_us - tiny.START_US) * 1e-6)


def test_poses_are_those_of_the_frames_own_times(tmp_path):
    tiny.write_video_log(tmp_path)
    log = opened(tmp_path)
    signals = log.signals()
    kept_ms = np.array(tiny.uneven_ms(150))[signals.frame_index]
    assert signals.timestamp_us.tolist() == (tiny.START_US + 1000 * kept_ms).tolist()
    assert np.abs(signals.pose_world - truth(signals)).max() < 1e-3
    assert np.allclose(signals.velocity_ego, [6, 0], atol=0.01)
    assert np.allclose(signals.acceleration_ego, [0, 0.9], atol=0.05)
    assert "75 of 150 frames read" in " ".join(signals.notes)


def test_the_stored_images_are_the_frames_with_these_numbers(tmp_path):
    tiny.write_video_log(tmp_path)
    decode(opened(tmp_path), tmp_path / "out", FrameConfig())
    numbers = frame_info(tmp_path / "out").cameras[0].frame_index
    pixels = read_frames(tmp_path / "out", numbers)
    means = [tiny.picture(number).mean() for number in numbers]
    assert np.abs(pixels.mean(axis=(1, 2, 3)) - means).max() < 3


def test_frames_without_a_pose_are_left_out_and_counted(tmp_path):
    folder = tiny.write_video_log(tmp_path)
    time_s = np.arange(1.0, 7.0, 0.1)
    tiny.write_poses(folder / "poses.csv", time_s[(time_s < 3) | (time_s > 4.5)])
    log = opened(tmp_path)
    signals = log.signals()
    recorded_s = (signals.timestamp_us - tiny.START_US) * 1e-6
    assert recorded_s.min() >= 1 and recorded_s.max() <= 7
    assert not ((recorded_s > 3) & (recorded_s < 4.4)).any()
    assert np.abs(signals.pose_world - truth(signals)).max() < 2e-3
    left_out = 75 - len(signals.frame_index)
    assert f"{left_out} of these frames lie outside the poses" in " ".join(signals.notes)
    assert [image.frame_index for image in log.images("front")] == signals.frame_index.tolist()


def test_latitude_longitude_and_a_compass_heading_are_read(tmp_path):
    folder = tiny.write_video_log(tmp_path)
    time_s = np.arange(-0.2, 8, 0.2)
    pose = rear_axle_pose(time_s)
    degrees = {
        "latitude_deg": 48 + pose[:, 1] / 111_200,
        "longitude_deg": 11 + pose[:, 0] / 74_628,
        "heading_deg": (90 - np.degrees(pose[:, 2])) % 360,
    }
    tiny.write_poses(folder / "poses.csv", time_s)
    text = (folder / "poses.csv").read_text().replace("x_m,y_m,yaw_rad", "a,b,c")
    lines = text.splitlines()
    rows = zip(lines[1:], *degrees.values(), strict=True)
    (folder / "poses.csv").write_text(
        "\n".join([f"{lines[0]},{','.join(degrees)}", *(",".join(map(str, row)) for row in rows)])
    )
    signals = opened(tmp_path).signals()
    assert np.abs(np.diff(signals.pose_world - truth(signals), axis=0)).max() < 0.02


def test_quaternions_speed_seconds_and_the_place_of_the_poses_are_read(tmp_path):
    folder = tiny.write_video_log(tmp_path, video_start_us=0, pose_in_ego=[1.4, 0.3])
    time_s = np.arange(-0.1, 8, 0.1)
    pose = rear_axle_pose(time_s)
    cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    text = {
        "time_s": time_s,
        "x_m": pose[:, 0] + 1.4 * cos - 0.3 * sin,
        "y_m": pose[:, 1] + 1.4 * sin + 0.3 * cos,
        "qw": 1.002 * np.cos(pose[:, 2] / 2),
        "qx": 0 * cos,
        "qy": 0 * cos,
        "qz": 1.002 * np.sin(pose[:, 2] / 2),
        "speed_mps": np.full(len(time_s), 6.2),
    }
    rows = zip(*text.values(), strict=True)
    lines = [",".join(text), *(",".join(map(str, row)) for row in rows)]
    (folder / "poses.csv").write_text("\ufeff" + "\r\n".join(lines))
    signals = opened(tmp_path).signals()
    assert np.abs(signals.pose_world - rear_axle_pose(signals.timestamp_us * 1e-6)).max() < 5e-3
    assert np.allclose(signals.velocity_ego, [6.2, 0], atol=0.02)


def test_a_compass_heading_in_the_column_of_a_yaw_is_refused(tmp_path):
    folder = tiny.write_video_log(tmp_path)
    time_s = np.arange(0, 8, 0.1)
    compass_rad = np.pi / 2 - rear_axle_pose(time_s)[:, 2]
    tiny.write_poses(folder / "poses.csv", time_s, yaw_rad=compass_rad)
    with pytest.raises(SourceError, match=r"not where the car drives[\s\S]*heading_deg"):
        opened(tmp_path).signals()


def test_a_bare_stream_is_read_with_its_table_of_frames(tmp_path):
    folder = tiny.write_video_log(tmp_path, ending="hevc")
    with pytest.raises(SourceError, match=r"frames\.csv with frame_index"):
        opened(tmp_path).signals()
    time_us = tiny.START_US + 1000 * np.array(tiny.uneven_ms(150))
    rows = [f"{number},{now_us}" for number, now_us in enumerate(time_us)]
    (folder / "frames.csv").write_text("frame_index,timestamp_us\n" + "\n".join(rows))
    signals = opened(tmp_path).signals()
    assert np.abs(signals.pose_world - truth(signals)).max() < 1e-3
    (folder / "frames.csv").write_text("frame_index,timestamp_us\n" + "\n".join(rows[:-1]))
    with pytest.raises(SourceError, match="the frames 0 to 149"):
        opened(tmp_path).signals()


def test_the_calibration_is_scaled_to_the_video_or_refused(tmp_path):
    tiny.write_video_log(tmp_path, width=128, height=96, fx=100, fy=100, cx=63.5, cy=47.5)
    log = opened(tmp_path)
    camera = log.cameras()[0]
    assert (camera.width, camera.height) == (64, 48)
    assert camera.intrinsics[0].tolist() == [50, 0, 31.5]
    assert "calibrated at 128x96, scaled" in " ".join(log.signals().notes)
    tiny.write_video_log(tmp_path / "b", width=64, height=36, cy=17.5)
    with pytest.raises(SourceError, match="other proportions"):
        opened(tmp_path / "b").cameras()


def test_yaml_says_the_same_as_json_and_a_camera_that_looks_down_does(tmp_path):
    folder = tiny.write_video_log(tmp_path)
    camera = opened(tmp_path).cameras()[0]
    assert camera.camera_to_ego[2, 2] == pytest.approx(-np.sin(np.radians(2)))
    (folder / "camera.json").rename(folder / "camera.yaml")
    again = opened(tmp_path).cameras()[0]
    assert np.array_equal(camera.camera_to_ego, again.camera_to_ego)
    (folder / "camera.yaml").write_text(
        "width: 64\nheight: 48\nfx: 50\nfy: 50\ncx: 31.5\ncy: 23.5\nvideo_start_us: 7\n"
        "mounting:\n  x_m: 1.5\n  y_m: 0\n  z_m: 1.2\n"
    )
    assert opened(tmp_path).cameras()[0].camera_to_ego[2, 3] == 1.2


REFUSED = {
    "poses.csv missing": ("poses.csv", None, "poses.csv, a table of the car's poses"),
    "camera missing": ("camera.json", None, "one of camera.json, camera.yaml"),
    "video missing": ("front.mp4", None, "one video"),
    "two cameras": ("camera.yml", b"a: 1", "camera.json, camera.yml"),
    "two videos": ("rear.MP4", b"", "front.mp4, rear.MP4"),
    "poses.csv a folder": ("poses.csv", "folder", "no regular file"),
}
DAMAGED = {
    "no video": ("front.mp4", b"\0" * 99, "a video cannot be read"),
    "no heading": ("poses.csv", b"timestamp_us,x_m,y_m\n1,2,3\n", "the columns yaw_rad or yaw_deg"),
    "two headings": ("poses.csv", b"time_s,x_m,y_m,yaw_deg,yaw_rad\n1,2,3,4,5\n", "yaw_rad or"),
    "no rows": ("poses.csv", b"time_s,x_m,y_m,yaw_deg\n", "at least one line"),
    "words": ("poses.csv", b"time_s,x_m,y_m,yaw_deg\n1,2,here,3\n", "here"),
    "an empty cell": ("poses.csv", b"time_s,x_m,y_m,yaw_deg\n1,2,3,4\n2,2,,3\n", "line 3"),
    "nan": ("poses.csv", b"time_s,x_m,y_m,yaw_deg\n1,nan,3,4\n", "line 2"),
    "short line": ("poses.csv", b"time_s,x_m,y_m,yaw_deg\n1,2\n", "Expected 4 columns"),
    "time back": ("poses.csv", b"time_s,x_m,y_m,yaw_deg\n1,2,3,4\n1,2,3,4\n", "line 3"),
    "no unit": (
        "poses.csv",
        b"time_s,x_m,y_m,qw,qx,qy,qz\n1,2,3,0,0,0,0\n",
        "quaternions of unit length",
    ),
    "nanoseconds": (
        "poses.csv",
        b"time_s,x_m,y_m,yaw_deg\n1500000000000000000,2,3,4\n",
        "no time in seconds",
    ),
    "beyond the pole": (
        "poses.csv",
        b"time_s,latitude_deg,longitude_deg,yaw_deg\n1,91,3,0\n",
        "degrees",
    ),
    "other clock": ("poses.csv", b"time_s,x_m,y_m,yaw_deg\n1,2,3,4\n2,3,4,5\n", "video_start_us"),
    "bytes": ("poses.csv", b"\xff\xfe\0", "a table of a log cannot be read"),
    "half a file": ("camera.json", b'{"width": 64', "cannot be read"),
    "a list": ("camera.json", b"[1]", "one mapping"),
    "an unknown field": ("camera.json", b'{"widht": 64}', "unknown: widht"),
    "nested": ("camera.json", b"[" * 100_000, "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_log_that_is_not_complete_is_refused_alone(tmp_path, case):
    tiny.write_video_log(tmp_path, "other", frames=4)
    folder = tiny.write_video_log(tmp_path, frames=4)
    name, content, message = REFUSED[case]
    if content is None or content == "folder":
        (folder / name).unlink()
    if content == "folder":
        (folder / name).mkdir()
    elif content is not None:
        (folder / name).write_bytes(content)
    source = open_source("video", tmp_path)
    assert [ref.log_id for ref in source.logs()] == ["other"]
    (error,) = source.refused.values()
    assert tiny.LOG in source.refused and message in str(error) and tiny.LOG in str(error)
    with pytest.raises(SourceError, match="what to do"):
        source.open(tiny.LOG)


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_names_the_log_and_its_place(tmp_path, case):
    folder = tiny.write_video_log(tmp_path, frames=4)
    name, content, message = DAMAGED[case]
    (folder / name).write_bytes(content)
    with pytest.raises(SourceError) as raised:
        opened(tmp_path).signals()
    assert message in str(raised.value) and tiny.LOG in str(raised.value), str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fx": 0}, "fx = 0"),
        ({"fx": float("nan")}, "fx = nan"),
        ({"cx": 64}, "cx = 64"),
        ({"width": True}, "width = True"),
        ({"mounting": {"x_m": 1, "y_m": 0}}, "missing: z_m"),
        ({"mounting": 3}, "one mapping"),
        ({"distortion": [0.1]}, "distortion"),
        ({"pose_in_ego": ["a", 0]}, "pose_in_ego"),
        ({"name": "../x"}, "cannot be used in a path"),
        ({"video_start_us": "noon"}, "video_start_us = 'noon'"),
    ],
)
def test_a_wrong_field_of_the_camera_is_named(tmp_path, change, message):
    folder = tiny.write_video_log(tmp_path, frames=4)
    (folder / "camera.json").write_text(json.dumps(tiny.CAMERA | change))
    with pytest.raises(SourceError, match=r"camera\.json") as raised:
        opened(tmp_path)
    assert message in str(raised.value)


def test_one_of_two_videos_is_read_if_the_camera_names_it(tmp_path):
    folder = tiny.write_video_log(tmp_path, frames=4, video="front.mp4")
    tiny.encode(folder / "rear.mkv", [0, 50])
    (ref,) = open_source("video", tmp_path).logs()
    assert [file.name for file in ref.image_files] == ["front.mp4"]


def test_files_that_other_programs_leave_are_no_part_of_a_log(tmp_path):
    folder = tiny.write_video_log(tmp_path, frames=4)
    (before,) = open_source("video", tmp_path).logs()
    for name in ("._front.mp4", "._poses.csv", "._camera.yaml", "Thumbs.db", ".DS_Store"):
        (folder / name).write_text("left")
    (folder / ".ipynb_checkpoints").mkdir()
    (tmp_path / "@eaDir").mkdir()
    (tmp_path / "@eaDir" / "front.mp4").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.mp4").touch()
    source = open_source("video", tmp_path)
    assert source.logs() == [before] and not source.refused


def test_the_fingerprint_covers_video_poses_and_calibration(tmp_path):
    folder = tiny.write_video_log(tmp_path, frames=4)
    (folder / "notes.txt").write_text("a sunny day")
    seen = set()
    for name in ("front.mp4", "poses.csv", "camera.json"):
        (ref,) = open_source("video", tmp_path).logs()
        seen.add(fingerprint(ref))
        (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    assert len(seen) == 3
