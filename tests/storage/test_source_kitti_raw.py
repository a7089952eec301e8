"""The KITTI raw reader: separate clocks, uneven spacing, missing images or poses, the lever arm."""

import numpy as np
import pytest

from ops.ingest.config import FrameConfig
from ops.ingest.decode import decode
from storage.errors import SourceError
from storage.frame_store import read_calibration
from storage.sources import open_source
from storage.trajectory_table import Category, Command
from tests.worlds import tiny_kitti as tiny


def opened(raw, **changes):
    tiny.write_drive(raw, **changes)
    return open_source("kitti_raw", raw).open(tiny.DRIVE)


def test_poses_are_those_of_the_rear_axle_at_the_times_of_the_images(tmp_path):
    signals = opened(tmp_path).signals()
    # the first image is at time zero
    camera_s = (signals.timestamp_us - signals.timestamp_us[0]) * 1e-6
    truth = tiny.rear_axle_pose(camera_s)
    # the world starts at the first reading
    offset = signals.pose_world[0, :2] - truth[0, :2]
    assert np.abs(signals.pose_world[:, :2] - truth[:, :2] - offset).max() < 2e-3
    assert np.abs(signals.pose_world[:, 2] - truth[:, 2]).max() < 1e-4
    assert np.allclose(signals.velocity_ego, [tiny.SPEED_MPS, 0.0], atol=1e-6)
    assert np.allclose(
        signals.acceleration_ego, [0.0, tiny.SPEED_MPS**2 / tiny.RADIUS_M], atol=1e-6
    )


def test_corrections_are_noted(tmp_path):
    notes = " ".join(opened(tmp_path, poses=75).signals().notes)
    assert "behind the camera's" in notes and "75 poses for 70 images" in notes
    assert "uneven frame spacing, camera 9" in notes
    ahead = " ".join(opened(tmp_path / "other", camera_offset_s=-0.012).signals().notes)
    assert "12.0 ms ahead of the camera's" in ahead


def test_poses_after_the_last_image_stay_as_rows_without_an_image(tmp_path):
    signals = opened(tmp_path, poses=75).signals()
    assert (
        len(signals.frame_index) == 75
        and signals.has_image.sum() == 70
        and not signals.has_image[70:].any()
    )
    assert (signals.command == Command.UNKNOWN).all()


def test_images_after_the_last_pose_are_left_out_with_a_note(tmp_path):
    log = opened(tmp_path, images=70, poses=60)
    signals = log.signals()
    assert len(signals.frame_index) == 61 and "images have no pose" in " ".join(signals.notes)
    assert [image.frame_index for image in log.images("image_02")] == list(range(61))


def test_an_odd_image_height_is_cut_to_an_even_one_with_its_calibration(tmp_path):
    log = opened(tmp_path)
    summary = decode(log, tmp_path / "frames", FrameConfig())
    assert (summary.height, summary.width) == (32, 64) and "odd image size 64x33" in " ".join(
        summary.notes
    )
    stored = read_calibration(tmp_path / "frames")[0]
    assert stored.intrinsics[1, 2] == log.cameras()[0].intrinsics[1, 2] - 1


def test_the_cameras_pose_follows_from_the_calibration_files(tmp_path):
    front = opened(tmp_path).cameras()[0]
    # rear axle -> unit (-0.05, 0.32, 0.93) -> Velodyne (+0.81, -0.32, +0.80) -> camera 0 (+0.27, 0,
    # -0.08) -> 6 cm left
    assert np.allclose(front.camera_to_ego[:3, 3], [0.76 + 0.27, 0.06, 1.65], atol=1e-9)


def test_tracklets_become_agents_in_the_world(tmp_path):
    log = opened(tmp_path)
    agents, signals = log.agents(), log.signals()
    assert len(agents.frame_index) == 70 and (agents.category == Category.VEHICLE).all()
    pose = signals.pose_world[0]
    ahead = np.array([np.cos(pose[2]), np.sin(pose[2])]) @ (agents.center_world[0, :2] - pose[:2])
    # 10 m before the Velodyne
    assert np.isclose(ahead, 10.76, atol=1e-3)
    # bottom 3 cm above the ground, 1.6 m high
    assert np.isclose(agents.center_world[0, 2], 1.73 - 1.7 + 0.8)
    speed = np.hypot(*agents.velocity_world[5:-5].T)
    assert np.allclose(
        speed, tiny.SPEED_MPS / tiny.RADIUS_M * np.hypot(tiny.RADIUS_M, 10.76), atol=0.25
    )


def test_a_drive_without_tracklets_has_no_agents(tmp_path):
    folder = tiny.write_drive(tmp_path)
    (folder / "tracklet_labels.xml").unlink()
    log = open_source("kitti_raw", tmp_path).open(tiny.DRIVE)
    assert not log.capabilities.agents and len(log.agents().frame_index) == 0


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("oxts/data/0000000003.txt", "1 2 3", "odometry file is damaged"),
        ("oxts/timestamps.txt", "2011-09-26 13:04:32.0\n", "odometry is incomplete"),
        ("image_02/timestamps.txt", "yesterday\n", "time stamps cannot be read"),
        ("../calib_velo_to_cam.txt", None, "calibration is missing"),
        ("tracklet_labels.xml", "<boost", "tracklets cannot be read"),
    ],
)
def test_damaged_files_are_named(tmp_path, file, content, message):
    folder = tiny.write_drive(tmp_path)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    log = open_source("kitti_raw", tmp_path).open(tiny.DRIVE)
    with pytest.raises(SourceError, match=message):
        (log.signals(), log.cameras(), log.agents())


def test_odometry_time_that_goes_back_is_refused(tmp_path):
    folder = tiny.write_drive(tmp_path)
    file = folder / "oxts" / "timestamps.txt"
    lines = file.read_text().splitlines()
    lines[9] = lines[4]
    file.write_text("\n".join(lines))
    with pytest.raises(SourceError, match=r"go back[\s\S]*frame 9"):
        open_source("kitti_raw", tmp_path).open(tiny.DRIVE).signals()
