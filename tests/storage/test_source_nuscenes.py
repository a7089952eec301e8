"""The nuScenes reader: tables and map through the devkit, command from the route, no future."""

import json
import random

import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources import open_source
from storage.sources.checked import checked
from storage.sources.motion import motion_of_past_poses
from storage.sources.route_command import commands_of_route
from storage.trajectory_table import Category, Command, MapLayer
from tests.worlds import tiny_nuscenes as tiny


def opened(raw, **changes):
    tiny.write_scene(raw, **changes)
    return open_source("nuscenes", raw).open(tiny.SCENE)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("nuscenes"))


def test_the_devkit_opens_and_renders_what_the_tests_write(log, tmp_path):
    from nuscenes.nuscenes import NuScenes

    devkit = NuScenes(version=tiny.VERSION, dataroot=str(log.raw), verbose=False)
    devkit.render_sample_data("front0", out_path=str(tmp_path / "front.png"), verbose=False)
    assert (tmp_path / "front.png").stat().st_size > 1000


def test_poses_times_and_motion_are_read(log):
    signals = log.signals()
    assert signals.timestamp_us[1] == tiny.START_US + 500_000 and np.allclose(
        signals.pose_world[3], [7.5, -2.0, 0.0]
    )
    assert np.allclose(signals.velocity_ego, [tiny.SPEED_MPS, 0.0]) and "CAN bus" in " ".join(
        signals.notes
    )
    # the camera's own clock
    assert next(log.images("CAM_FRONT")).timestamp_us == tiny.START_US + 12_000


def test_boxes_are_in_the_world_above_the_egos_ground(log):
    agents = log.agents()
    car, walker = agents.track_token == "car", agents.track_token == "walker"
    assert np.allclose(agents.center_world[car][0], [10.0, -2.0, 0.8])
    assert np.allclose(agents.size_lwh[car][0], [4.5, 1.9, 1.6])
    assert (
        np.allclose(agents.velocity_world[car], [tiny.SPEED_MPS, 0.0])
        and not agents.velocity_world[walker].any()
    )
    assert (agents.category[car] == Category.VEHICLE).all() and agents.category[walker] == [
        Category.PEDESTRIAN
    ]
    assert agents.frame_index[walker] == [3] and np.isclose(agents.yaw_rad[walker][0], np.pi / 2)


def test_the_map_expansion_becomes_a_lane_graph(log):
    objects = {(item.layer, item.token): item for item in log.map_objects()}
    right, left, joint = (
        objects[key]
        for key in (
            (MapLayer.LANE, "right"),
            (MapLayer.LANE, "left"),
            (MapLayer.LANE_CONNECTOR, "joint"),
        )
    )
    assert (
        right.roadblock_id == left.roadblock_id == "block"
        and right.left_neighbor == "left" == left.token
    )
    assert left.right_neighbor == "right" and left.left_neighbor == right.right_neighbor == ""
    assert (
        right.successors == ("joint",)
        and joint.predecessors == ("right",)
        and joint.successors == ("behind",)
    )
    assert (
        np.allclose(right.baseline_xyyaw[[0, -1]], [[0, -2, 0], [100, -2, 0]])
        and len(right.polygon_xy) == 4
    )
    # 3.5 m around its centre line
    assert np.allclose(np.abs(joint.polygon_xy[:, 1] + 2), 1.75)
    assert {layer for layer, _ in objects} >= {
        MapLayer.INTERSECTION,
        MapLayer.CROSSWALK,
        MapLayer.STOP_LINE,
        MapLayer.WALKWAY,
        MapLayer.ROADBLOCK,
    }
    assert (MapLayer.INTERSECTION, "road") not in objects


def test_reading_a_map_does_not_change_how_later_figures_look(log):
    import matplotlib.pyplot as plt

    before = dict(plt.rcParams)
    log.map_objects()
    assert dict(plt.rcParams) == before


def test_the_command_follows_the_planned_route(tmp_path):
    pose = np.array(
        [[10.0, -2.0, 0.0], [85.0, -2.0, 0.0], [85.0, -12.0, 0.0], [100.0, 70.0, np.pi / 2]]
    )
    route = np.array([[0.0, -2.0], [100.0, -2.0], [100.0, 80.0]])
    left, straight, unknown = Command.LEFT, Command.STRAIGHT, Command.UNKNOWN
    # far off it, and at its end
    assert commands_of_route(pose, route).tolist() == [straight, left, unknown, unknown]
    mirrored = commands_of_route(pose * [1, -1, -1], route * [1, -1])
    assert mirrored.tolist() == [straight, Command.RIGHT, unknown, unknown]


def test_without_a_route_the_command_is_unknown_and_without_a_map_there_is_none(tmp_path):
    log = opened(tmp_path, can_bus=False, with_map=False)
    signals = log.signals()
    assert (signals.command == Command.UNKNOWN).all() and not log.capabilities.command
    assert not log.capabilities.map and log.location == "" and log.map_objects() == []
    notes = " ".join(signals.notes)
    assert "no planned route" in notes and "no map expansion" in notes and "past poses" in notes
    assert np.allclose(signals.velocity_ego, [tiny.SPEED_MPS, 0.0])


def test_motion_of_poses_uses_no_future():
    time_s = np.arange(12) * 0.5
    pose = np.column_stack([3.0 * time_s + 0.5 * time_s**2, np.zeros(12), np.zeros(12)])
    zero = np.zeros(12)
    assert np.allclose(
        motion_of_past_poses(time_s, pose), np.column_stack([3 + time_s, zero, 1 + zero, zero])
    )
    changed = pose.copy()
    changed[8:, 1] += 50.0
    assert np.allclose(
        motion_of_past_poses(time_s, pose)[:8], motion_of_past_poses(time_s, changed)[:8]
    )


def test_scenes_get_the_official_split_or_the_one_that_is_written_beside_the_tables(tmp_path):
    tiny.write_scene(tmp_path)
    source = open_source("nuscenes", tmp_path)
    # scene-0001 is one of the published training scenes
    assert source.logs()[0].split == "train"
    (tmp_path / tiny.VERSION / "splits.json").write_text(json.dumps({"test": [tiny.SCENE]}))
    assert source.logs()[0].split == source.open(tiny.SCENE).split == "test"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (f"{tiny.VERSION}/sample.json", "[", "tables cannot be read"),
        (f"{tiny.VERSION}/ego_pose.json", "[]", "names one that its table does not have"),
        (f"maps/expansion/{tiny.LOCATION}.json", "{}", "map expansion cannot be read"),
        (f"can_bus/{tiny.SCENE}_route.json", "[[0,", "CAN bus file cannot be read"),
        (
            f"can_bus/{tiny.SCENE}_pose.json",
            '[{"utime": 1}]',
            "holds something that its format does not have",
        ),
    ],
)
def test_damaged_files_are_explained(tmp_path, file, content, message):
    tiny.write_scene(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(SourceError, match=message):
        log = open_source("nuscenes", tmp_path).open(tiny.SCENE)
        (log.signals(), log.map_objects())


def test_a_scene_without_images_is_refused(tmp_path):
    tiny.write_scene(tmp_path)
    for file in (tmp_path / "samples" / "CAM_FRONT").iterdir():
        file.unlink()
    with pytest.raises(SourceError, match="no front image"):
        open_source("nuscenes", tmp_path).open(tiny.SCENE)


def edited(raw, table, change):
    file = raw / tiny.VERSION / f"{table}.json"
    rows = json.loads(file.read_text())
    change(rows)
    file.write_text(json.dumps(rows))


def arrays_of(log):
    parts = (log.signals(), log.agents())
    return {
        (type(part).__name__, name): getattr(part, name)
        for part in parts
        for name in part.__dataclass_fields__
        if isinstance(getattr(part, name), np.ndarray)
    }


def equal(one, other):
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name]) for name in one
    )


def test_rows_are_joined_by_token_in_whatever_order_the_tables_have_them(log, tmp_path):
    tiny.write_scene(tmp_path)
    for file in (tmp_path / tiny.VERSION).glob("*.json"):
        edited(tmp_path, file.stem, random.Random(file.stem).shuffle)
    file = tmp_path / "can_bus" / f"{tiny.SCENE}_pose.json"
    file.write_text(json.dumps(json.loads(file.read_text())[::-1]))
    other = open_source("nuscenes", tmp_path).open(tiny.SCENE)
    one, two = arrays_of(log), arrays_of(other)
    boxes = [
        np.lexsort((item["Agents", "track_token"].astype(str), item["Agents", "frame_index"]))
        for item in (one, two)
    ]
    for name in one:
        first, second = (
            item[name][order] if name[0] == "Agents" else item[name]
            for item, order in zip((one, two), boxes, strict=True)
        )
        assert np.array_equal(first, second), name
    images = [[image.file.name for image in item.images("CAM_FRONT")] for item in (log, other)]
    assert images[0] == images[1] and log.signals().notes == other.signals().notes


def test_rows_that_stand_in_a_table_twice_are_read_once_and_told(log, tmp_path):
    tiny.write_scene(tmp_path)
    for table in ("sample", "sample_data", "sample_annotation", "ego_pose", "scene"):
        edited(tmp_path, table, lambda rows: rows.append(dict(rows[0])))
    other = open_source("nuscenes", tmp_path).open(tiny.SCENE)
    assert equal(arrays_of(log), arrays_of(other))
    told = "read once: 1 of ego_pose, 1 of sample, 1 of sample_annotation, 1 of sample_data"
    assert any(told in note for note in other.signals().notes)


def test_a_scene_that_names_another_number_of_samples_says_so(tmp_path):
    tiny.write_scene(tmp_path)
    edited(tmp_path, "scene", lambda rows: rows[0].update(nbr_samples=40))
    notes = open_source("nuscenes", tmp_path).open(tiny.SCENE).signals().notes
    assert "the scene names 40 samples and has 24" in notes


def test_a_first_sample_without_an_image_is_no_log_without_a_camera(tmp_path):
    tiny.write_scene(tmp_path)
    edited(tmp_path, "sample_data", lambda rows: rows.pop(0))
    log = open_source("nuscenes", tmp_path).open(tiny.SCENE)
    assert log.signals().has_image.tolist() == [False] + [True] * 23
    assert log.cameras()[0].name == "CAM_FRONT"


def test_images_of_another_ending_than_the_table_names_are_found(log, tmp_path):
    tiny.write_scene(tmp_path)
    for file in (tmp_path / "samples" / "CAM_FRONT").iterdir():
        endings = (".jpg", ".JPG", ".jpeg", ".JPEG")
        file.rename(file.with_suffix(endings[int(file.stem) % 4]))
    source = open_source("nuscenes", tmp_path)
    assert equal(arrays_of(log), arrays_of(source.open(tiny.SCENE)))
    assert len(source.logs()[0].image_files) == 24


@pytest.mark.parametrize("null", [None, ""])
@pytest.mark.parametrize("tokens", [("block",), ("block", "block2")])
def test_road_blocks_of_the_published_map_without_a_polygon_have_no_area(tmp_path, tokens, null):
    tiny.write_scene(tmp_path)
    file = tmp_path / "maps" / "expansion" / f"{tiny.LOCATION}.json"
    expansion = json.loads(file.read_text())
    for block in expansion["road_block"]:
        if block["token"] in tokens:
            block["polygon_token"] = null
    file.write_text(json.dumps(expansion))
    objects = open_source("nuscenes", tmp_path).open(tiny.SCENE).map_objects()
    found = {(item.layer, item.token): item for item in objects}
    for token in ("block", "block2"):
        assert len(found[MapLayer.ROADBLOCK, token].polygon_xy) == (0 if token in tokens else 4)
    parents = {token: found[MapLayer.LANE, token].roadblock_id for token in ("left", "behind")}
    assert parents == {"left": "", "behind": "" if "block2" in tokens else "block2"}
    left = found[MapLayer.LANE, "left"]
    assert left.left_neighbor == left.right_neighbor == "" and len(left.polygon_xy) == 4
    assert found[MapLayer.LANE, "right"].successors == ("joint",)


def test_a_box_beside_one_whose_place_is_no_number_has_an_unknown_velocity(tmp_path):
    tiny.write_scene(tmp_path)
    edited(
        tmp_path,
        "sample_annotation",
        lambda rows: rows[5].update(translation=[float("nan"), 0.0, 0.0]),
    )
    log = open_source("nuscenes", tmp_path).open(tiny.SCENE)
    agents, read = log.agents(), checked(log).agents()
    unknown = agents.frame_index[np.isnan(agents.velocity_world).any(axis=1)]
    assert unknown.tolist() == [4, 6]
    assert 5 not in read.frame_index and len(read.frame_index) == 24
    car = read.track_token == "car"
    assert np.allclose(read.velocity_world[car], [tiny.SPEED_MPS, 0.0])
