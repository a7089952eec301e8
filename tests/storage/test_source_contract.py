"""The contract of every source of raw logs; add a new source to SOURCES_UNDER_TEST."""

import pickle

import numpy as np
import pytest

from ops.ingest.config import ExtractConfig, FrameConfig
from ops.ingest.decode import decode
from ops.ingest.extract import extract
from storage.errors import ConfigError, SourceError
from storage.frame_store import frame_info
from storage.sources import SOURCES, fingerprint, open_source
from storage.sources.contract import RawLog, Source
from storage.trajectory_table import TABLES, Category, Command, read_table
from tests.worlds.tiny_comma2k19 import write_segment
from tests.worlds.tiny_kitti import write_drive
from tests.worlds.tiny_kitti_sequences import write_sequence
from tests.worlds.tiny_nuscenes import write_scene
from tests.worlds.tiny_openscene import write_log
from tests.worlds.tiny_video import write_video_log

# name -> writes one log below a folder
SOURCES_UNDER_TEST = {
    "openscene": write_log,
    "kitti_raw": write_drive,
    "nuscenes": write_scene,
    "kitti_odometry": write_sequence,
    "comma2k19": write_segment,
    "video": write_video_log,
}


@pytest.fixture(scope="module", params=SOURCES_UNDER_TEST)
def source(request, tmp_path_factory) -> Source:
    raw = tmp_path_factory.mktemp(request.param)
    SOURCES_UNDER_TEST[request.param](raw)
    return open_source(request.param, raw)


@pytest.fixture(scope="module")
def log(source) -> RawLog:
    return source.open(source.logs()[0].log_id)


def test_every_source_is_under_test():
    assert set(SOURCES_UNDER_TEST) == set(SOURCES)


def test_a_source_lists_its_logs_in_order_with_files_that_exist(source):
    refs = source.logs()
    assert (
        isinstance(source, Source)
        and refs
        and [ref.log_id for ref in refs] == sorted(ref.log_id for ref in refs)
    )
    assert all(
        ref.split in ("train", "val", "test") and ref.files and ref.image_files for ref in refs
    )
    assert all(file.is_file() for ref in refs for file in (*ref.files, *ref.image_files))


def test_an_opened_log_is_picklable_and_has_its_id_and_split(source, log):
    assert (
        isinstance(log, RawLog)
        and log.log_id == source.logs()[0].log_id
        and log.split == source.logs()[0].split
    )
    again = pickle.loads(pickle.dumps(log))
    assert np.array_equal(again.signals().pose_world, log.signals().pose_world)


def test_signals_are_ordered_finite_and_of_one_length(log):
    signals = log.signals()
    rows = len(signals.frame_index)
    assert (np.diff(signals.frame_index) > 0).all() and (np.diff(signals.timestamp_us) > 0).all()
    assert signals.pose_world.shape == (rows, 3) and np.isfinite(signals.pose_world).all()
    assert signals.velocity_ego.shape == signals.acceleration_ego.shape == (rows, 2)
    assert signals.timestamp_us.dtype == np.int64 and signals.frame_index.dtype == np.int32
    assert set(signals.command.tolist()) <= set(Command) and len(signals.has_image) == rows
    assert len(signals.route_roadblock_ids) == len(signals.tags) == rows


def test_poses_and_velocities_describe_the_same_motion(log):
    signals = log.signals()
    time_s = signals.timestamp_us * 1e-6
    cos, sin = np.cos(signals.pose_world[:, 2]), np.sin(signals.pose_world[:, 2])
    world = np.gradient(signals.pose_world[:, :2], time_s, axis=0)
    forward, left = cos * world[:, 0] + sin * world[:, 1], cos * world[:, 1] - sin * world[:, 0]
    assert np.allclose(np.stack([forward, left], 1)[1:-1], signals.velocity_ego[1:-1], atol=0.15)


def test_images_carry_the_times_of_their_frames_and_exist(log):
    signals = log.signals()
    images = list(log.images(log.capabilities.cameras[0]))
    assert [image.frame_index for image in images] == signals.frame_index[
        signals.has_image
    ].tolist()
    time_us = dict(zip(signals.frame_index.tolist(), signals.timestamp_us.tolist(), strict=True))
    assert all(image.file.is_file() for image in images)
    assert all(abs(image.timestamp_us - time_us[image.frame_index]) < 60_000 for image in images)


def test_the_front_camera_looks_forward_and_is_above_the_ground(log):
    cameras = log.cameras()
    assert tuple(camera.name for camera in cameras) == log.capabilities.cameras
    front = cameras[0]
    turn = front.camera_to_ego[:3, :3]
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-6) and np.isclose(np.linalg.det(turn), 1.0)
    # looks along ego x from a car's height
    assert turn[0, 2] > 0.9 and 0.5 < front.camera_to_ego[2, 3] < 3.0


def test_agents_lights_and_map_match_the_capabilities(log):
    agents, lights, objects = log.agents(), log.lights(), log.map_objects()
    boxes = len(agents.frame_index)
    assert agents.center_world.shape == agents.size_lwh.shape == (boxes, 3)
    assert agents.velocity_world.shape == (boxes, 2) and agents.yaw_rad.shape == (boxes,)
    assert set(agents.category.tolist()) <= set(Category) and (agents.size_lwh > 0).all()
    assert bool(boxes) == log.capabilities.agents
    assert bool(len(lights.frame_index)) == log.capabilities.traffic_lights
    assert bool(objects) == log.capabilities.map == bool(log.location)
    assert len({(item.layer, item.token) for item in objects}) == len(objects)
    assert (log.signals().command != Command.UNKNOWN).any() == log.capabilities.command


def test_the_log_can_be_decoded_and_extracted(log, tmp_path):
    summary = decode(log, tmp_path / "frames", FrameConfig())
    assert (
        summary.frames == int(log.signals().has_image.sum())
        and summary.width % 2 == summary.height % 2 == 0
    )
    stored = frame_info(tmp_path / "frames").cameras[0].frame_index
    assert stored.tolist() == log.signals().frame_index[log.signals().has_image].tolist()
    extracted = extract(log, tmp_path / "tables", ExtractConfig())
    assert extracted.rows == len(log.signals().frame_index) and extracted.full_future > 0
    assert all(
        read_table(tmp_path / "tables", name).schema.equals(schema)
        for name, schema in TABLES.items()
    )


def test_the_fingerprint_follows_the_bytes_and_not_the_modification_times(source):
    ref = source.logs()[0]
    before = fingerprint(ref)
    for file in (ref.image_files[-1], ref.files[0]):
        content = file.read_bytes()
        file.write_bytes(content)
        assert fingerprint(ref) == before
        file.write_bytes(content + b"\n")
        assert fingerprint(ref) != before
        file.write_bytes(content)


def test_a_missing_folder_an_empty_one_and_an_unknown_log_are_explained(source, tmp_path):
    kind = type(source)
    with pytest.raises(SourceError, match="does not exist"):
        kind(tmp_path / "nowhere").logs()
    with pytest.raises(SourceError, match=r"no log in the raw folder[\s\S]*expected"):
        kind(tmp_path).logs()
    with pytest.raises(SourceError, match="there is no log 'no_such_log'"):
        source.open("no_such_log")


def test_the_error_of_an_unknown_source_suggests_the_nearest_name(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'kitti_raw'"):
        open_source("kitty_raw", tmp_path)
