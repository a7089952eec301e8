"""Numbers of raw logs are checked where they enter, for every source alike."""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.ingest.config import ExtractConfig, FrameConfig
from ops.ingest.decode import decode
from ops.ingest.extract import extract
from storage.errors import SourceError
from storage.frame_store import read_calibration
from storage.sources import open_source
from storage.sources.checked import checked
from storage.sources.contract import MapObject, RawLog
from storage.sources.rotations import rotation_of_quaternion, yaw_of_quaternion, yaw_or_nan
from storage.sources.signal_validation import validate_signals
from storage.trajectory_table import MapLayer, read_table
from tests.worlds import tiny_kitti, tiny_nuscenes, tiny_openscene
from tests.worlds.tiny_openscene import yaw_quaternion

CALIBRATION = Path("2011_09_26/calib_cam_to_cam.txt")


@dataclass
class Changed:
    """A log of which some methods return something else."""

    log: RawLog
    values: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name in self.values:
            return lambda *arguments: self.values[name]
        return getattr(self.log, name)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> RawLog:
    raw = tmp_path_factory.mktemp("raw")
    tiny_openscene.write_log(raw)
    return open_source("openscene", raw).open("log_a")


def with_camera(log: RawLog, **changes: Any) -> RawLog:
    camera = replace(log.cameras()[0], **changes)
    return checked(Changed(log, {"cameras": (camera,)}))


def with_agents(log: RawLog, **changes: Any) -> RawLog:
    return checked(Changed(log, {"agents": replace(log.agents(), **changes)}))


# Cameras


def K(fx: float = 60.0, fy: float = 60.0, cx: float = 31.5, cy: float = 17.5) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def pose_of(turn: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = turn
    return pose


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intrinsics": K(np.nan)}, "intrinsics of a camera are no numbers"),
        ({"intrinsics": K(cx=np.inf)}, "intrinsics of a camera are no numbers"),
        ({"intrinsics": K(0.0)}, "intrinsics are those of no camera"),
        ({"intrinsics": K(fy=-60.0)}, "intrinsics are those of no camera"),
        ({"intrinsics": np.eye(4)}, "another shape"),
        ({"intrinsics": K().T}, "intrinsics are those of no camera"),
        ({"camera_to_ego": np.full((4, 4), np.nan)}, "camera_to_ego of a camera are no numbers"),
        ({"camera_to_ego": np.zeros((4, 4))}, "no rotation"),
        ({"camera_to_ego": np.diag([1.05, 1.05, 1.05, 1.0])}, "no rotation"),
        ({"camera_to_ego": np.diag([1.0, 1.0, -1.0, 1.0])}, "no rotation"),
        ({"distortion": (0.1, np.nan, 0.0, 0.0, 0.0)}, "distortion of a camera are no numbers"),
        ({"intrinsics": K(120, 120, 63.5, 35.5)}, "not that of these images"),
        ({"intrinsics": K(cx=-3.0)}, "not that of these images"),
        ({"calibrated_wh": (128, 66)}, "another shape"),
        ({"calibrated_wh": (0, 0)}, "names no size"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused_with_log_and_camera(log, changes, message):
    with pytest.raises(SourceError, match=message) as caught:
        with_camera(log, **changes).cameras()
    assert "log log_a, camera CAM_F0" in str(caught.value) and "what to do" in str(caught.value)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((1700.0, 0.0, 1.5), "a camera is not on its vehicle"),  # millimetres
        ((1.7, 0.0, -1.3), "a camera is not on its vehicle"),  # z downwards
        ((1.7, 0.0, 1300.0), "a camera is not on its vehicle"),
    ],
)
def test_a_camera_off_its_vehicle_is_refused(log, place, message):
    pose = log.cameras()[0].camera_to_ego.copy()
    pose[:3, 3] = place
    with pytest.raises(SourceError, match=message):
        with_camera(log, camera_to_ego=pose).cameras()


@pytest.mark.parametrize("axis", [(0.0, 0.0, -1.0), (-1.0, 0.0, 0.0)])
def test_a_front_camera_that_does_not_look_ahead_is_refused(log, axis):
    pose = log.cameras()[0].camera_to_ego.copy()
    right = np.array([0.0, -1.0, 0.0])
    pose[:3, :3] = np.column_stack([right, np.cross(axis, right), axis])
    with pytest.raises(SourceError, match="the front camera does not look ahead"):
        with_camera(log, camera_to_ego=pose).cameras()


def test_a_sound_calibration_stays_bit_for_bit(log):
    before, after = log.cameras()[0], checked(log).cameras()[0]
    assert np.array_equal(before.intrinsics, after.intrinsics) and after.notes == ()
    assert np.array_equal(before.camera_to_ego, after.camera_to_ego)


def test_a_principal_point_far_from_the_middle_has_a_note(log):
    (note,) = with_camera(log, intrinsics=K(cx=50.0)).cameras()[0].notes
    assert "far from the middle" in note and "CAM_F0" in note


def test_kitti_images_made_smaller_get_the_calibration_of_their_size(tmp_path):
    tiny_kitti.write_drive(tmp_path, images=60, poses=60)
    text = (tmp_path / CALIBRATION).read_text()
    big = text.replace("60 0 31.5 3.6 0 60 16 0", "120 0 63.5 7.2 0 120 32.5 0")
    (tmp_path / CALIBRATION).write_text(big + "S_rect_02: 1.28e+02 6.6e+01\n")
    log = open_source("kitti_raw", tmp_path).open(tiny_kitti.DRIVE)
    summary = decode(log, tmp_path / "out", FrameConfig())
    k = read_calibration(tmp_path / "out")[0].intrinsics
    assert np.allclose(k, K(cx=31.5, cy=15.0))  # an odd image loses its top row
    assert any("128x66, images of 64x33: intrinsics scaled by 0.5" in n for n in summary.notes)
    (tmp_path / CALIBRATION).write_text(big + "S_rect_02: 1.28e+02 1.28e+02\n")
    with pytest.raises(SourceError, match=r"another shape[\s\S]*128x128, images of 64x33"):
        decode(log, tmp_path / "no", FrameConfig())


def test_nuscenes_images_made_smaller_get_the_calibration_of_their_size(tmp_path):
    tiny_nuscenes.write_scene(tmp_path)
    change_table(tmp_path, "sample_data", lambda row: row | {"width": 128, "height": 72})
    change_table(
        tmp_path,
        "calibrated_sensor",
        lambda row: row | {"camera_intrinsic": K(120, 120, 63.5, 35.5).tolist()},
    )
    log = open_source("nuscenes", tmp_path).open(tiny_nuscenes.SCENE)
    (camera,) = checked(log).cameras()
    assert np.allclose(camera.intrinsics, K()) and "128x72, images of 64x36" in camera.notes[0]


def change_table(raw: Path, name: str, change: Any) -> None:
    file = raw / tiny_nuscenes.VERSION / f"{name}.json"
    file.write_text(json.dumps([change(row) for row in json.loads(file.read_text())]))


# Quaternions


@pytest.mark.parametrize("scale", [1.0, 1.005, 1.01, 0.99, -1.0, -1.009])
def test_a_quaternion_of_nearly_unit_length_is_normalised(scale):
    wxyz = np.array([yaw_quaternion(1.5707)])
    assert np.allclose(yaw_of_quaternion(scale * wxyz), 1.5707)
    assert np.allclose(rotation_of_quaternion(scale * wxyz), rotation_of_quaternion(wxyz))


def test_unit_quaternions_stay_bit_for_bit():
    wxyz = np.array([yaw_quaternion(yaw) for yaw in np.linspace(-3, 3, 50)])
    assert np.array_equal(
        yaw_of_quaternion(wxyz * (1 + 1e-9)), yaw_of_quaternion(wxyz * (1 + 1e-9))
    )
    w, x, y, z = wxyz.T
    by_hand = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    assert np.array_equal(yaw_of_quaternion(wxyz), by_hand)


@pytest.mark.parametrize("scale", [0.0, 1.1, 2.0, 0.5, np.nan, np.inf])
def test_a_quaternion_of_another_length_is_refused_with_its_row(scale):
    wxyz = np.array([yaw_quaternion(0.3)] * 4)
    wxyz[2] = 0.5 * scale  # four halves have length one
    for read in (yaw_of_quaternion, rotation_of_quaternion):
        with pytest.raises(SourceError, match=r"no unit quaternion[\s\S]*row 2 of 4"):
            read(wxyz)
    assert np.isnan(yaw_or_nan(wxyz)).tolist() == [False, False, True, False]


def test_the_pose_of_an_openscene_log_with_a_wrong_quaternion_is_refused(tmp_path):
    frames = tiny_openscene.write_log(tmp_path)
    frames[5]["ego2global_rotation"] = np.zeros(4)
    tiny_openscene.write_frames_file(tmp_path, "log_a", "train", frames)
    with pytest.raises(SourceError, match=r"no unit quaternion[\s\S]*log log_a[\s\S]*row 5"):
        open_source("openscene", tmp_path).open("log_a").signals()


# Boxes


def test_boxes_without_place_heading_or_size_are_left_out_with_a_note(log, tmp_path):
    boxes = log.agents()
    center, size = boxes.center_world.copy(), boxes.size_lwh.copy()
    yaw, velocity = boxes.yaw_rad.copy(), boxes.velocity_world.copy()
    center[3, 0], size[4, 2], size[5, 0], yaw[6] = np.nan, np.nan, 0.0, np.inf
    velocity[[8, 9, 20]] = np.nan
    mended = with_agents(
        log, center_world=center, size_lwh=size, yaw_rad=yaw, velocity_world=velocity
    )
    extract(mended, tmp_path / "out", ExtractConfig())
    table = read_table(tmp_path / "out", "agents").to_pandas()
    assert sorted(set(range(24)) - set(table["frame_index"])) == [3, 4, 5, 6]
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    assert np.allclose(table[["vx_mps", "vy_mps"]], boxes.velocity_world[0], atol=0.05)
    notes = " ".join(mended.agents().notes)
    assert "4 of 24 boxes are left out" in notes and "the first in frame 3" in notes
    assert "3 boxes without a velocity" in notes


def test_a_box_alone_in_its_track_and_without_a_velocity_is_left_out(log):
    tokens = np.array([str(row) for row in range(24)], dtype=object)
    velocity = log.agents().velocity_world.copy()
    velocity[7] = np.nan
    agents = with_agents(log, track_token=tokens, velocity_world=velocity).agents()
    assert sorted(set(range(24)) - set(agents.frame_index.tolist())) == [7]
    assert "1 of 24 boxes are left out" in agents.notes[-1] and "frame 7" in agents.notes[-1]


def test_sound_boxes_are_the_readers_own(log):
    assert checked(log).agents().notes == ()


def test_a_tracklet_without_its_height_is_left_out(tmp_path):
    folder = tiny_kitti.write_drive(tmp_path, images=60, poses=60)
    file = folder / "tracklet_labels.xml"
    file.write_text(file.read_text().replace("<h>1.6</h>", ""))
    log = checked(open_source("kitti_raw", tmp_path).open(tiny_kitti.DRIVE))
    agents = log.agents()
    assert len(agents.frame_index) == 0 and "60 of 60 boxes are left out" in agents.notes[-1]


def test_a_nuscenes_box_with_a_quaternion_of_zeros_is_left_out(tmp_path):
    tiny_nuscenes.write_scene(tmp_path)
    table = "sample_annotation"
    log = open_source("nuscenes", tmp_path).open(tiny_nuscenes.SCENE)
    before = len(log.agents().frame_index)
    file = tmp_path / tiny_nuscenes.VERSION / f"{table}.json"
    rows = json.loads(file.read_text())
    rows[0]["rotation"] = [0, 0, 0, 0]
    file.write_text(json.dumps(rows))
    assert len(checked(log).agents().frame_index) == before - 1


# Maps


def test_a_map_with_nan_is_refused_by_its_object_and_a_limit_of_nan_is_none(log):
    ring = np.array([[0.0, 0], [4, 0], [4, 4]])
    limit = MapObject(MapLayer.LANE, "a", ring, speed_limit_mps=float("nan"))
    (sound,) = checked(Changed(log, {"map_objects": [limit]})).map_objects()
    assert sound.speed_limit_mps is None
    bad = MapObject(MapLayer.LANE, "b7", ring * np.nan)
    with pytest.raises(SourceError, match=r"no number[\s\S]*log log_a, lane b7"):
        checked(Changed(log, {"map_objects": [limit, bad]})).map_objects()


# Signals


def validated(log: RawLog, **changes: Any) -> Any:
    return validate_signals(replace(log.signals(), **changes), "log_a", Path("file"))


@pytest.mark.parametrize(
    ("unit", "divide"), [("seconds", 10**6), ("milliseconds", 10**3), ("nanoseconds", None)]
)
@pytest.mark.parametrize("start_us", [None, 0])
def test_the_unit_of_time_is_named(log, unit, divide, start_us):
    time_us = log.signals().timestamp_us
    if start_us is not None:
        time_us = time_us - time_us[0]
    stamps = time_us // divide if divide else time_us * 1000
    if start_us is not None and unit == "seconds":
        return  # 0, 0, 1, 1: refused as time that stands still
    with pytest.raises(SourceError, match=rf"not in microseconds[\s\S]*probably {unit}"):
        validated(log, timestamp_us=stamps)


@pytest.mark.parametrize("start_us", [0, 1_800_000_000, 40_000_000_000])
def test_a_clock_in_microseconds_may_start_anywhere(log, start_us):
    time_us = log.signals().timestamp_us
    validated(log, timestamp_us=time_us - time_us[0] + start_us)


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ([[-1, 0], [0, -1]], "opposite direction"),
        ([[0, 1], [1, 0]], "swapped axes"),
        ([[0, 1], [-1, 0]], "swapped axes"),
        ([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]], "world frame"),
    ],
)
def test_velocities_that_contradict_the_motion_are_refused(log, turn, words):
    velocity = log.signals().velocity_ego @ np.array(turn).T
    with pytest.raises(SourceError, match=rf"contradict the motion[\s\S]*frame 0[\s\S]*{words}"):
        validated(log, velocity_ego=velocity)


def test_a_car_that_stands_or_backs_contradicts_nothing(log):
    signals = log.signals()
    still = np.zeros_like(signals.pose_world)
    zeros = np.zeros_like(signals.velocity_ego)
    assert validated(log, pose_world=still, velocity_ego=zeros).notes == signals.notes
    backwards = signals.pose_world.copy()
    backwards[:, 2] += np.pi
    validated(log, pose_world=backwards, velocity_ego=-signals.velocity_ego)


@pytest.mark.parametrize("times", [0.05, 0.5, 2.24, 3.6])
def test_velocities_of_another_size_than_the_motion_are_refused(log, times):
    velocity = times * log.signals().velocity_ego
    with pytest.raises(SourceError, match="the velocities contradict the poses"):
        validated(log, velocity_ego=velocity)


def test_poses_without_a_fix_are_refused(log):
    still = np.repeat(log.signals().pose_world[:1], len(log.signals().pose_world), axis=0)
    with pytest.raises(SourceError, match=r"the velocities contradict the poses[\s\S]*no fix"):
        validated(log, pose_world=still)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_log_without_any_velocity_gets_that_of_its_poses_with_a_note(log, value):
    signals = log.signals()
    empty = np.full_like(signals.velocity_ego, value)
    mended = validated(log, velocity_ego=empty, acceleration_ego=empty)
    assert np.allclose(mended.velocity_ego, signals.velocity_ego, atol=1e-6)
    assert np.allclose(mended.acceleration_ego, 0, atol=1e-3)
    assert any("no velocities" in note for note in mended.notes)


def test_frames_outside_the_can_bus_have_the_velocity_of_the_poses(tmp_path):
    tiny_nuscenes.write_scene(tmp_path)
    file = tmp_path / "can_bus" / f"{tiny_nuscenes.SCENE}_pose.json"
    messages = json.loads(file.read_text())
    for message in messages:
        message["vel"][0] = 4.9
    part = messages[100:300]
    part[50]["vel"][0] = float("nan")
    file.write_text(json.dumps(part))
    signals = open_source("nuscenes", tmp_path).open(tiny_nuscenes.SCENE).signals()
    by_can = np.isclose(signals.velocity_ego[:, 0], 4.9)
    assert 8 <= by_can.sum() <= 11 and np.allclose(signals.velocity_ego[~by_can, 0], 5.0)
    assert any("where it has none, from the past poses" in note for note in signals.notes)
    file.write_text("[]")
    signals = open_source("nuscenes", tmp_path).open(tiny_nuscenes.SCENE).signals()
    assert np.allclose(signals.velocity_ego[:, 0], 5.0)


def test_two_clocks_of_camera_and_poses_are_named_with_their_hours(log, tmp_path):
    late = [
        replace(image, timestamp_us=image.timestamp_us + 8 * 3600 * 10**6)
        for image in log.images("CAM_F0")
    ]
    with pytest.raises(SourceError, match=r"clock of the camera[\s\S]*\+8.0 hours: two time zones"):
        decode(Changed(log, {"images": late}), tmp_path / "out", FrameConfig())


@pytest.mark.parametrize("source", ["openscene", "nuscenes", "kitti_raw"])
def test_sound_logs_of_every_source_have_no_new_note(source, tmp_path):
    write = {
        "openscene": tiny_openscene.write_log,
        "nuscenes": tiny_nuscenes.write_scene,
        "kitti_raw": tiny_kitti.write_drive,
    }[source]
    write(tmp_path)
    opened = open_source(source, tmp_path)
    log = opened.open(opened.logs()[0].log_id)
    wrapped = checked(log)
    assert wrapped.signals().notes == log.signals().notes
    assert wrapped.agents().notes == log.agents().notes
    assert all(camera.notes == () for camera in wrapped.cameras())
    assert checked(wrapped) is wrapped
    shutil.rmtree(tmp_path)
