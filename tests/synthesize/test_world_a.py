"""Town A's logs: reproducible bytes, realistic drives, and OpenScene's frame format."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from shapely.geometry import Polygon

from ops.synthesize.config import WorldConfig
from ops.synthesize.film.ground import Palette
from ops.synthesize.film.mesh_batch import make_mesh_batch
from ops.synthesize.film.props import parked_cars, place_props
from ops.synthesize.town.build_town import build_town
from ops.synthesize.town.town import TownConfig
from ops.synthesize.traffic.events import EventKind
from ops.synthesize.traffic.expert import EAST_SHARE, SHORTEST_EVENT_S, DriveConfig, drive, is_east
from ops.synthesize.traffic.spawn import EGO_SIZE_M
from ops.synthesize.traffic.traffic import REAR_SHARE
from ops.synthesize.world import synthesize_log, world_log_ids
from ops.synthesize.writers.nuplan_layers import ORIGIN_M
from ops.synthesize.writers.openscene import CAMERAS
from storage.errors import ConfigError
from storage.sources import open_source

WORLD = WorldConfig(
    train_logs=3, val_logs=1, test_logs=2, seconds=SHORTEST_EVENT_S, image_width=96, image_height=54
)
LAST = "A-test-0001"  # in the part of the town that only test logs enter
FIELDS = {
    "token",
    "frame_idx",
    "timestamp",
    "log_name",
    "log_token",
    "scene_name",
    "scene_token",
    "vehicle_name",
    "map_location",
    "roadblock_ids",
    "can_bus",
    "lidar_path",
    "lidar2ego_translation",
    "lidar2ego_rotation",
    "lidar2ego",
    "ego2global_translation",
    "ego2global_rotation",
    "ego2global",
    "lidar2global",
    "ego_dynamic_state",
    "traffic_lights",
    "driving_command",
    "cams",
    "anns",
    "sample_prev",
    "sample_next",
    "occ_gt_final_path",
    "flow_gt_final_path",
}
# nuPlan's comfort bounds: accelerations in m/s2, jerk in m/s3, yaw rate in rad/s
MAX_ACCEL, MIN_ACCEL, MAX_LATERAL, MAX_JERK, MAX_YAW_RATE = 2.40, -4.05, 4.89, 4.13, 0.95


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("a")
    for log_id, _ in world_log_ids(WORLD):
        synthesize_log(folder, WORLD, log_id)
    return folder


@pytest.fixture(scope="module")
def logs(raw) -> dict[str, list[dict]]:
    return {
        log_id: pickle.loads((raw / "navsim_logs" / split / f"{log_id}.pkl").read_bytes())
        for log_id, split in world_log_ids(WORLD)
    }


@pytest.fixture(scope="module")
def drives():
    """Sixteen drives in the western part; each has an event with probability 0.5."""
    config = TownConfig(seed=WORLD.seed)
    drive_config = DriveConfig(frames=24, hz=2.0, east=False, event_rate=0.5)
    return [
        drive(
            build_town(config),
            parked_cars(config, Palette()),
            drive_config,
            np.random.default_rng([5, number]),
        )
        for number in range(16)
    ]


def log_files(folder: Path, log_id: str) -> dict[str, bytes]:
    """The pickle and the images of a log."""
    files = [
        *folder.glob(f"navsim_logs/*/{log_id}.pkl"),
        *folder.glob(f"sensor_blobs/*/{log_id}/**/*.jpg"),
    ]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def east_from_m() -> float:
    return EAST_SHARE * build_town(TownConfig(seed=WORLD.seed)).size_m[0]


def box(x: float, y: float, yaw: float, length: float, width: float) -> Polygon:
    corners = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * (length / 2, width / 2)
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    return Polygon(corners @ turn + (x, y))


def test_a_log_written_twice_has_the_same_bytes(raw, tmp_path):
    synthesize_log(tmp_path, WORLD, "A-train-0001")
    first = log_files(raw, "A-train-0001")
    assert len(first) == 1 + round(WORLD.seconds * WORLD.hz) and first == log_files(
        tmp_path, "A-train-0001"
    )


def test_a_log_written_in_a_separate_process_equals_one_written_after_others(raw, tmp_path):
    code = (
        f"from pathlib import Path; from ops.synthesize.world import *; "
        f"synthesize_log(Path({str(tmp_path)!r}), {WORLD!r}, {LAST!r})"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
        cwd=Path(__file__).parents[2],
    )
    assert log_files(tmp_path, LAST) == log_files(raw, LAST)


def test_another_seed_gives_another_town_and_another_drive(raw, tmp_path):
    other = replace(WORLD, seed=WORLD.seed + 1)
    synthesize_log(tmp_path, other, "A-train-0001")
    first, second = log_files(raw, "A-train-0001"), log_files(tmp_path, "A-train-0001")
    assert first.keys() == second.keys() and all(first[name] != second[name] for name in first)
    towns = [build_town(TownConfig(seed=world.seed)) for world in (WORLD, other)]
    centers = [
        np.array([junction.center for junction in town.junctions.values()]) for town in towns
    ]
    assert not np.array_equal(*centers)


def test_logs_of_one_world_start_at_different_positions(logs):
    start = {tuple(frames[0]["ego2global_translation"]) for frames in logs.values()}
    assert len(start) == len(logs)


def test_the_ego_never_touches_a_road_user(logs):
    length, width, _ = EGO_SIZE_M
    ego = box(length * (0.5 - REAR_SHARE), 0.0, 0.0, length, width)
    boxes = [
        row for frames in logs.values() for frame in frames for row in frame["anns"]["gt_boxes"]
    ]
    assert len(boxes) > 1000
    assert not any(
        ego.intersects(box(x, y, yaw, long, wide)) for x, y, _, long, wide, _, yaw in boxes
    )


def test_the_ego_drives_within_the_bounds_of_comfort(logs):
    for frames in logs.values():
        state = np.array([frame["ego_dynamic_state"] for frame in frames])
        yaw_rate = np.array([frame["can_bus"][14] for frame in frames])
        assert state[:, 2].max() <= MAX_ACCEL and state[:, 2].min() >= MIN_ACCEL
        assert np.abs(state[:, 3]).max() <= MAX_LATERAL and np.abs(yaw_rate).max() <= MAX_YAW_RATE
        assert np.abs(np.diff(state[:, 2]) * WORLD.hz).max() <= MAX_JERK


def test_speeds_are_those_of_the_positions(logs):
    for frames in logs.values():
        xy = np.array([frame["ego2global_translation"][:2] for frame in frames])
        speed = np.array([frame["ego_dynamic_state"][0] for frame in frames])
        driven = np.hypot(*np.diff(xy, axis=0).T) * WORLD.hz
        assert np.allclose(driven, (speed[1:] + speed[:-1]) / 2, atol=0.35)
    assert max(frame["ego_dynamic_state"][0] for frames in logs.values() for frame in frames) > 6.0


def test_frames_have_the_fields_of_openscene(logs):
    for frame in (frame for frames in logs.values() for frame in frames):
        # an addition, which official readers ignore
        assert set(frame) == FIELDS | {"tags"}
        assert set(frame["cams"]) == set(CAMERAS) and all(
            set(camera)
            == {
                "data_path",
                "sensor2lidar_rotation",
                "sensor2lidar_translation",
                "cam_intrinsic",
                "distortion",
            }
            for camera in frame["cams"].values()
        )
        assert set(frame["anns"]) == {
            "gt_boxes",
            "gt_names",
            "gt_velocity_3d",
            "instance_tokens",
            "track_tokens",
        }
        assert (
            frame["can_bus"].shape == (18,)
            and len(frame["token"]) == 16
            and frame["driving_command"].sum() == 1
        )
        count = len(frame["anns"]["gt_names"])
        assert frame["anns"]["gt_boxes"].shape == (count, 7) and frame["anns"][
            "gt_velocity_3d"
        ].shape == (count, 3)


def test_frames_refer_to_their_neighbours_and_every_front_image_can_be_read(raw, logs):
    for log_id, split in world_log_ids(WORLD):
        frames = logs[log_id]
        tokens = [frame["token"] for frame in frames]
        assert [frame["sample_prev"] for frame in frames] == [None, *tokens[:-1]]
        assert [frame["sample_next"] for frame in frames] == [*tokens[1:], None]
        assert np.allclose(np.diff([frame["timestamp"] for frame in frames]), 500_000, atol=1000)
        image = cv2.imread(
            str(raw / "sensor_blobs" / split / frames[3]["cams"]["CAM_F0"]["data_path"])
        )
        assert image.shape == (54, 96, 3) and image.std() > 20


def test_events_are_tagged_for_a_second_or_more_and_their_share_follows_the_rate(drives):
    tagged = [recording for recording in drives if any(recording.tags)]
    assert 4 <= len(tagged) <= 12
    for recording in tagged:
        kinds = [tag for tags in recording.tags for tag in tags]
        assert len(set(kinds)) == 1 and set(kinds) <= set(EventKind) and len(kinds) >= 2
    assert len({tag for recording in tagged for tags in recording.tags for tag in tags}) >= 3


@pytest.mark.parametrize(("rate", "has_event"), [(0.0, False), (1.0, True)])
def test_no_drive_has_an_event_at_rate_zero_and_every_drive_has_one_at_rate_one(rate, has_event):
    config = TownConfig(seed=WORLD.seed)
    drive_config = DriveConfig(frames=24, hz=2.0, event_rate=rate)
    parked = parked_cars(config, Palette())
    assert all(
        any(
            drive(build_town(config), parked, drive_config, np.random.default_rng([6, number])).tags
        )
        is has_event
        for number in range(3)
    )


def test_only_test_logs_enter_the_eastern_part(logs, drives):
    town = build_town(TownConfig(seed=WORLD.seed))
    assert all(recording.pose[:, 0, 0].max() <= east_from_m() for recording in drives)
    for recording in drives:
        lane_indexes = (
            np.searchsorted(recording.route.lane_start_m, recording.travelled_m, side="right") - 1
        )
        assert not any(
            is_east(town, town.lanes[recording.route.lane_ids[lane]])
            for lane in set(lane_indexes.tolist())
        )
    reached = {
        log_id: max(frame["ego2global_translation"][0] for frame in frames) - ORIGIN_M[0]
        for log_id, frames in logs.items()
    }
    assert reached.pop(LAST) > east_from_m() and max(reached.values()) <= east_from_m()


def test_logs_too_short_for_events_are_refused_unless_the_event_rate_is_zero(tmp_path):
    short = replace(WORLD, seconds=SHORTEST_EVENT_S - 0.5)
    with pytest.raises(ConfigError, match=r"too short[\s\S]*event_rate=0"):
        synthesize_log(tmp_path, short, LAST)
    assert not any(tmp_path.iterdir())
    assert len(world_log_ids(replace(short, event_rate=0.0))) == 6


def test_side_cameras_are_rendered_if_configured_and_the_front_stays_the_same(raw, tmp_path):
    wide = replace(WORLD, cameras=("CAM_F0", "CAM_L0", "CAM_R0"))
    synthesize_log(tmp_path, wide, LAST)
    source = open_source("openscene", tmp_path)
    log = source.open(LAST)
    assert [camera.name for camera in log.cameras()] == ["CAM_F0", "CAM_L0", "CAM_R0"]
    # its optical axis
    left = next(camera for camera in log.cameras() if camera.name == "CAM_L0").camera_to_ego[:3, 2]
    assert left[1] > 0.7 and left[0] > 0.4
    blobs = "sensor_blobs/test/" + LAST
    fronts = sorted((tmp_path / blobs / "CAM_F0").iterdir())
    assert [file.read_bytes() for file in fronts] == [
        file.read_bytes() for file in sorted((raw / blobs / "CAM_F0").iterdir())
    ]
    views = {
        name: cv2.imread(str(tmp_path / blobs / name / fronts[5].name)) for name in wide.cameras
    }
    assert (
        views["CAM_L0"].shape == views["CAM_F0"].shape
        and (views["CAM_L0"] != views["CAM_R0"]).mean() > 0.3
    )


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        (("CAM_F1",), "did you mean"),
        (("CAM_L0",), "front camera first"),
        (("CAM_F0", "CAM_F0"), "every camera once"),
    ],
)
def test_an_invalid_choice_of_cameras_is_refused(cameras, message):
    with pytest.raises(ConfigError, match=message):
        world_log_ids(replace(WORLD, cameras=cameras))


def test_an_empty_set_of_instances_gives_an_empty_mesh_batch():
    props = place_props(TownConfig(seed=WORLD.seed), Palette())
    no_props = props.take(np.zeros(len(props.model), bool))
    assert len(make_mesh_batch(no_props).corners) == 0
