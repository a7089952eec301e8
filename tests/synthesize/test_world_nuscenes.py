"""Town B read by nuScenes' devkit and by this project's reader; the contract of all sources."""

import json
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from ops.ingest.config import ExtractConfig
from ops.ingest.extract import extract
from ops.synthesize.config import TownBConfig
from ops.synthesize.film.camera import Camera
from ops.synthesize.town.build_town import build_town
from ops.synthesize.town_b import PALETTE, scene_names, synthesize_town_b, town_config_b
from ops.synthesize.writers.nuscenes import VERSION, write_data_set
from ops.synthesize.writers.nuscenes_map import LOCATION
from ops.synthesize.writers.nuscenes_shapes import arclines
from storage.errors import ConfigError
from storage.sources import open_source
from storage.trajectory_table import Command, MapLayer, read_table
from tests.storage import test_source_contract as contract

matplotlib.use("Agg")
SMALL = TownBConfig(scenes=2, seconds=8.0, image_width=96, image_height=54)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("town") / "b"
    synthesize_town_b(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def devkit(raw):
    from nuscenes.nuscenes import NuScenes

    return NuScenes(version=VERSION, dataroot=str(raw), verbose=False)


@pytest.fixture(scope="module")
def devkit_map(raw):
    import matplotlib.pyplot as plt

    with plt.rc_context():
        from nuscenes.map_expansion.map_api import NuScenesMap
    return NuScenesMap(dataroot=str(raw), map_name=LOCATION)


@pytest.fixture(scope="module")
def source(raw):
    return open_source("nuscenes", raw)


@pytest.fixture(scope="module")
def log(source):
    return source.open("scene-9001")


test_logs_are_in_order = contract.test_a_source_lists_its_logs_in_order_with_files_that_exist
test_a_log_is_picklable = contract.test_an_opened_log_is_picklable_and_has_its_id_and_split
test_signals_are_ordered = contract.test_signals_are_ordered_finite_and_of_one_length
test_images_carry_their_times = contract.test_images_carry_the_times_of_their_frames_and_exist
test_cameras_look_ahead = contract.test_the_front_camera_looks_forward_and_is_above_the_ground
test_capabilities_are_true = contract.test_agents_lights_and_map_match_the_capabilities
test_the_log_can_be_extracted = contract.test_the_log_can_be_decoded_and_extracted


def test_the_devkit_renders_a_sample_with_its_boxes(devkit, tmp_path):
    sample = devkit.sample[5]
    devkit.render_sample(sample["token"], out_path=str(tmp_path / "sample.png"), verbose=False)
    assert (tmp_path / "sample.png").stat().st_size > 10_000
    _, boxes, intrinsics = devkit.get_sample_data(sample["data"]["CAM_FRONT"])
    assert (
        boxes
        and all(box.center[2] > 0 for box in boxes)
        and intrinsics[0, 0] == pytest.approx(0.76 * 96)
    )


def test_every_token_in_a_table_exists(devkit):
    for table, references in {
        "sample_data": {"sample": "sample_token", "ego_pose": "ego_pose_token"},
        "sample_annotation": {"instance": "instance_token", "sample": "sample_token"},
        "scene": {"log": "log_token", "sample": "first_sample_token"},
    }.items():
        for row in getattr(devkit, table):
            assert all(devkit.get(other, row[name]) for other, name in references.items())
    for table in ("sample", "sample_data", "sample_annotation"):
        rows = {row["token"]: row for row in getattr(devkit, table)}
        assert all(rows[row["next"]]["prev"] == token for token, row in rows.items() if row["next"])
    assert sum(item["nbr_annotations"] for item in devkit.instance) == len(devkit.sample_annotation)
    assert all(
        name in {row["name"] for row in devkit.category}
        for name in ("vehicle.car", "human.pedestrian.adult")
    )


def test_the_devkit_finds_the_ego_on_drivable_ground_in_the_expansion_and_in_the_mask(
    devkit, devkit_map
):
    poses = np.array([row["translation"] for row in devkit.ego_pose])
    assert devkit.map[0]["mask"].is_on_mask(*poses[:, :2].T).all()
    assert not devkit.map[0]["mask"].is_on_mask(np.array([2.0]), np.array([2.0])).any()
    for x, y, _ in poses[::4]:
        layers = devkit_map.layers_on_point(x, y)
        assert layers["drivable_area"] and layers["road_segment"] and not layers["walkway"]
        assert devkit_map.get_closest_lane(x, y, radius=4.0)
    x, y, _ = poses[0]
    near = devkit_map.get_records_in_patch((x - 70, y - 70, x + 70, y + 70))
    assert all(
        near[layer] for layer in ("lane", "road_block", "road_divider", "walkway", "stop_line")
    )


def test_the_devkit_reads_the_centre_lines_of_the_town(devkit_map):
    town = build_town(town_config_b(SMALL))
    assert (
        len(devkit_map.lane) + len(devkit_map.lane_connector)
        == len(town.lanes)
        == len(devkit_map.connectivity)
    )
    for lane in list(town.lanes.values())[::7]:
        name = f"{'connector' if lane.is_connector else 'lane'}-{lane.lane_id}"
        line = np.array(devkit_map.discretize_lanes([name], 0.5)[name])
        away = np.hypot(*np.moveaxis(lane.path[:, None, :2] - line[None, :, :2], -1, 0))
        assert away.min(axis=1).max() < 0.3 and away[0, 0] < 1e-4 and away[-1, -1] < 1e-4
        assert devkit_map.get_outgoing_lane_ids(name) == [
            f"{'lane' if lane.is_connector else 'connector'}-{other}" for other in lane.successors
        ]


def test_arc_segments_follow_a_circle_and_a_straight_line():
    angle = np.linspace(0.0, 1.2, 13)
    circle = np.column_stack([20 * np.sin(angle), 20 * (1 - np.cos(angle)), angle])
    pieces = arclines(circle)
    assert {piece["shape"] for piece in pieces} == {"LSL"} and [
        piece["radius"] for piece in pieces
    ] == [20.0] * 4
    assert sum(sum(piece["segment_length"]) for piece in pieces) == pytest.approx(24.0, abs=1e-4)
    assert {piece["shape"] for piece in arclines(circle * [1, -1, -1])} == {"RSR"}
    straight = arclines(np.column_stack([np.arange(7.0), np.zeros(7), np.zeros(7)]))
    assert [piece["segment_length"] for piece in straight] == [[0.0, 3.0, 0.0]] * 2


def test_the_can_bus_holds_the_planned_route_and_the_devkit_reads_it(raw, log):
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus

    route = np.array(NuScenesCanBus(dataroot=str(raw)).get_messages("scene-9001", "route"))
    pose = log.signals().pose_world
    gap = np.hypot(*np.moveaxis(pose[:, None, :2] - route[None], -1, 0)).min(axis=1)
    end_m = np.hypot(*(pose[-1, :2] - route[-1]))
    assert gap.max() < 1.0 and 20.0 < end_m < 85.0
    assert set(log.signals().command.tolist()) <= {Command.LEFT, Command.STRAIGHT, Command.RIGHT}


def test_poses_and_velocities_agree_and_boxes_move(log):
    signals, agents = log.signals(), log.agents()
    time_s = signals.timestamp_us * 1e-6
    driven = np.hypot(*np.diff(signals.pose_world[:, :2], axis=0).T) / np.diff(time_s)
    assert np.allclose(
        driven, (signals.velocity_ego[1:, 0] + signals.velocity_ego[:-1, 0]) / 2, atol=0.3
    )
    assert (agents.center_world[:, 2] > 0.2).all() and np.hypot(
        *agents.velocity_world.T
    ).max() < 25.0
    assert len(np.unique(agents.track_token)) < len(agents.track_token)


def test_every_scene_is_in_the_test_split(source):
    assert [ref.log_id for ref in source.logs()] == scene_names(SMALL)
    assert {ref.split for ref in source.logs()} == {"test"}


def test_the_camera_differs_from_town_a_and_the_map_has_all_layers(log, tmp_path):
    camera = log.cameras()[0]
    assert abs(camera.camera_to_ego[2, 3] - Camera().position_m[2]) > 0.2
    assert abs(camera.intrinsics[0, 0] / camera.width - Camera().focal_share) > 0.1
    extract(log, tmp_path, ExtractConfig())
    layers = set(read_table(tmp_path, "map")["layer"].to_pylist())
    assert layers >= {MapLayer.LANE, MapLayer.LANE_CONNECTOR, MapLayer.ROADBLOCK, MapLayer.WALKWAY}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_town(raw, tmp_path):
    synthesize_town_b(tmp_path / "again", SMALL)
    files = sorted(file.relative_to(raw) for file in raw.rglob("*") if file.is_file())
    assert files == sorted(
        file.relative_to(tmp_path / "again")
        for file in (tmp_path / "again").rglob("*")
        if file.is_file()
    )
    assert all(
        (raw / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files
    )
    other = build_town(town_config_b(replace(SMALL, seed=24)))
    assert any(
        not np.array_equal(one.center, two.center)
        for one, two in zip(
            other.junctions.values(),
            build_town(town_config_b(SMALL)).junctions.values(),
            strict=True,
        )
    )


def test_a_failed_write_leaves_the_old_data_set_unchanged(raw):
    before = json.loads((raw / VERSION / "scene.json").read_text())

    def broken():
        raise OSError("the disk is full")
        yield

    with pytest.raises(OSError, match="disk is full"):
        write_data_set(
            raw, build_town(town_config_b(SMALL)), PALETTE, Camera("CAM_FRONT"), broken()
        )
    assert json.loads((raw / VERSION / "scene.json").read_text()) == before
    assert [path.name for path in raw.parent.iterdir()] == [raw.name]


def test_a_town_that_cannot_be_recorded_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be recorded[\s\S]*scenes=0"):
        synthesize_town_b(tmp_path / "b", replace(SMALL, scenes=0))
    assert not any(tmp_path.iterdir())
