"""The OpenScene reader: published fields, untrusted pickles, damaged logs, nuPlan maps."""

import collections
import os
import pickle
import shutil

import numpy as np
import pytest

from ops.ingest.config import FrameConfig
from ops.ingest.decode import decode
from storage.errors import SourceError
from storage.sources import open_source
from storage.sources.checked import checked
from storage.sources.nuplan_map import read_nuplan_map
from storage.sources.openscene import drive_of
from storage.sources.safe_pickle import read_plain_pickle
from storage.sources.utm import utm_from_degrees
from storage.trajectory_table import Category, Command, MapLayer
from tests.worlds import tiny_openscene as tiny


def opened(raw, **motion):
    tiny.write_log(raw, **motion)
    return open_source("openscene", raw).open("log_a")


def with_frame(raw, index, **changes):
    """A log in which one frame has other values."""
    frames = tiny.write_log(raw)
    frames[index].update(changes)
    tiny.write_frames_file(raw, "log_a", "train", frames)
    return open_source("openscene", raw).open("log_a")


def test_boxes_move_from_the_ego_frame_to_the_world(tmp_path):
    log = opened(tmp_path, yaw_rad=np.pi / 2, start_xy=(50.0, 0.0))
    agents = log.agents()
    # 10 m ahead of a car that looks north
    assert np.allclose(agents.center_world[0], [50.0, 10.0, 0.8])
    assert np.isclose(agents.yaw_rad[0], np.pi / 2 + 0.1) and agents.category[0] == Category.VEHICLE
    # its velocity was given in the ego frame
    assert np.allclose(agents.velocity_world[0], [0.0, 5.0])


def test_velocities_of_boxes_are_in_the_lidar_frame(tmp_path):
    frames = tiny.write_log(tmp_path, yaw_rad=0.0)
    turned = np.eye(4)
    turned[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    for frame in frames:
        frame["lidar2ego"] = turned
    tiny.write_frames_file(tmp_path, "log_a", "train", frames)
    velocity = open_source("openscene", tmp_path).open("log_a").agents().velocity_world
    assert np.allclose(velocity, [[0.0, 5.0]])


def test_lights_command_route_and_tags_are_read_as_recorded(tmp_path):
    log = with_frame(tmp_path, 4, driving_command=np.array([1, 0, 0, 0]), tags=["cut_in"])
    signals, lights = log.signals(), log.lights()
    assert signals.command[4] == Command.LEFT and signals.command[5] == Command.STRAIGHT
    assert signals.tags[4] == ["cut_in"] and signals.route_roadblock_ids[0] == ["10", "12"]
    assert lights.lane_connector_id[0] == "30" and lights.is_red[:2].tolist() == [True, False]


def test_frames_without_an_image_keep_their_pose_and_are_counted_in_a_note(tmp_path):
    frames = tiny.write_log(tmp_path)
    (tmp_path / "sensor_blobs" / "train" / frames[5]["cams"]["CAM_F0"]["data_path"]).unlink()
    log = open_source("openscene", tmp_path).open("log_a")
    signals = log.signals()
    assert np.flatnonzero(~signals.has_image).tolist() == [5] and "1 of 24 frames" in " ".join(
        signals.notes
    )
    assert decode(log, tmp_path / "frames", FrameConfig()).frames == 23


def test_a_log_whose_map_is_missing_is_read_without_it_with_a_note(tmp_path):
    tiny.write_log(tmp_path)
    (tmp_path / "maps" / "nuplan-maps-v1.0.json").unlink()
    log = open_source("openscene", tmp_path).open("log_a")
    assert not log.capabilities.map and log.location == "" and log.map_objects() == []
    assert "us-ma-boston" in " ".join(log.signals().notes)


def test_maps_may_lie_where_the_devkit_looks_for_them(tmp_path, monkeypatch):
    tiny.write_log(tmp_path)
    os.rename(tmp_path / "maps", tmp_path / "elsewhere")
    monkeypatch.setenv("NUPLAN_MAPS_ROOT", str(tmp_path / "elsewhere"))
    assert open_source("openscene", tmp_path).open("log_a").capabilities.map


def test_trainval_logs_get_a_split_that_does_not_depend_on_other_logs(tmp_path):
    for number in range(20):
        tiny.write_frames_file(tmp_path, f"log_{number}", "trainval", [])
    tiny.write_frames_file(tmp_path, "log_x", "test", [])
    splits = {ref.log_id: ref.split for ref in open_source("openscene", tmp_path).logs()}
    assert splits["log_x"] == "test" and {splits[f"log_{number}"] for number in range(20)} == {
        "train",
        "val",
    }
    alone = tmp_path / "alone"
    tiny.write_frames_file(alone, "log_3", "trainval", [])
    assert open_source("openscene", alone).logs()[0].split == splits["log_3"]


def test_pieces_of_one_drive_fall_on_one_side_of_the_split(tmp_path):
    drives = [f"2021.05.{day:02d}.22.00.38_veh-{day + 20}" for day in range(1, 26)]
    for drive in drives:
        for start_s in (5, 361, 1008, 1634):
            name = f"{drive}_{start_s:05d}_{start_s + 90:05d}"
            tiny.write_frames_file(tmp_path, name, "trainval", [])
    splits: dict[str, set[str]] = {drive: set() for drive in drives}
    for ref in open_source("openscene", tmp_path).logs():
        splits[drive_of(ref.log_id)].add(ref.split)
    assert all(len(sides) == 1 for sides in splits.values())
    assert set.union(*splits.values()) == {"train", "val"}


@pytest.mark.parametrize(
    ("log_id", "drive"),
    [
        ("2021.05.12.22.00.38_veh-35_01008_01518", "2021.05.12.22.00.38_veh-35"),
        ("2021.05.12.22.00.38_veh-35_01534_01700", "2021.05.12.22.00.38_veh-35"),
        ("2021.05.12.22.00.38_veh-36_01008_01518", "2021.05.12.22.00.38_veh-36"),
        ("2021.05.13.22.00.38_veh-35_01008_01518", "2021.05.13.22.00.38_veh-35"),
        ("A-train-0001", "A-train-0001"),
        ("my_drive_1_2", "my_drive_1_2"),
    ],
)
def test_a_drive_is_the_date_and_the_vehicle_of_nuplan_and_else_the_whole_log(log_id, drive):
    assert drive_of(log_id) == drive


def test_a_split_folder_of_another_name_and_a_log_in_two_splits_are_refused_alone(tmp_path):
    for log_id, split in (
        ("log_a", "train"),
        ("log_b", "training"),
        ("log_c", "train"),
        ("log_c", "mini"),
    ):
        tiny.write_frames_file(tmp_path, log_id, split, [split] * (split == "mini"))
    source = open_source("openscene", tmp_path)
    assert [ref.log_id for ref in source.logs()] == ["log_a"]
    assert set(source.refused) == {"log_b", "log_c"}
    unknown, twice = str(source.refused["log_b"]), str(source.refused["log_c"])
    assert "unknown split folder" in unknown and "trainval" in unknown and "log_b.pkl" in unknown
    assert "exists twice" in twice and "train/log_c.pkl" in twice and "mini/log_c.pkl" in twice
    for log_id in source.refused:
        with pytest.raises(SourceError, match=r"unknown split folder|exists twice"):
            source.open(log_id)


class Evil:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize(
    "content_with",
    [
        lambda evil: evil,
        lambda evil: {"frames": [evil]},
        lambda evil: np.array([evil], dtype=object),
        lambda evil: collections.Counter("a"),
        lambda evil: np.float64,
        lambda evil: tiny.Path("/"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_holds_anything_but_plain_data_is_refused_unread(
    tmp_path, content_with, protocol
):
    file = tmp_path / "log.pkl"
    file.write_bytes(pickle.dumps(content_with(Evil(tmp_path / "it_ran")), protocol))
    with pytest.raises(SourceError, match="more than plain data"):
        read_plain_pickle(file)
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_plain_containers_and_numpy_arrays_are_read_as_they_were(tmp_path, protocol):
    content = {
        "a": [1, 2.5, None, True],
        "b": ("x", b"y\xff"),
        "c": {1, 2},
        "d": np.arange(6.0).reshape(2, 3),
        "e": np.array(["vehicle", "pedestrian"]),
        "f": np.float32(2.5),
        "g": np.array([1, "x"], dtype=object),
        "h": collections.OrderedDict(k=1),
        "i": np.asfortranarray(np.eye(3, dtype=np.int64)),
        "j": np.bool_(True),
    }
    file = tmp_path / "log.pkl"
    file.write_bytes(pickle.dumps(content, protocol))
    read = read_plain_pickle(file)
    assert (
        str(read) == str(content)
        and read["d"].dtype == np.float64
        and (read["i"] == np.eye(3)).all()
    )


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-50], lambda data: b"", lambda data: b"no pickle at all"]
)
def test_a_truncated_pickle_is_explained(tmp_path, damage):
    file = tmp_path / "log.pkl"
    file.write_bytes(damage(pickle.dumps([{"a": np.arange(100)}])))
    with pytest.raises(SourceError, match=r"cannot be read[\s\S]*what to do"):
        read_plain_pickle(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ego2global_translation": np.array([np.nan, 0, 0])}, "pose_world is not a number"),
        ({"ego_dynamic_state": [np.inf, 0, 0, 0]}, "velocity_ego is not a number"),
        ({"ego2global_translation": np.array([900.0, 0, 0])}, "the pose jumps"),
        ({"ego_dynamic_state": [400.0, 0, 0, 0]}, "the ego speed is impossible"),
        ({"timestamp": 1_599_999_999_000_000}, "time stamps go back"),
    ],
)
def test_impossible_signals_are_refused_with_log_and_frame(tmp_path, changes, message):
    with pytest.raises(SourceError, match=message) as caught:
        with_frame(tmp_path, 7, **changes).signals()
    assert "log log_a, frame 7" in str(caught.value) and "what to do" in str(caught.value)


def test_a_long_gap_in_a_log_is_no_jump(tmp_path):
    frames = tiny.write_log(tmp_path, frames=12)
    for frame in frames[6:]:
        frame["timestamp"] += 10_000_000
        frame["ego2global_translation"] = frame["ego2global_translation"] + [130.0, 0, 0]
    tiny.write_frames_file(tmp_path, "log_a", "train", frames)
    assert len(open_source("openscene", tmp_path).open("log_a").signals().frame_index) == 12


def test_a_frame_without_its_fields_and_a_pickle_of_something_else_are_explained(tmp_path):
    frames = tiny.write_log(tmp_path)
    del frames[3]["ego2global_rotation"]
    tiny.write_frames_file(tmp_path, "log_a", "train", frames)
    with pytest.raises(SourceError, match=r"frame 3[\s\S]*without ego2global_rotation"):
        open_source("openscene", tmp_path).open("log_a")
    tiny.write_frames_file(tmp_path, "log_a", "train", {"a": 1})
    with pytest.raises(SourceError, match="no OpenScene log"):
        open_source("openscene", tmp_path).open("log_a")


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({"ego_dynamic_state": [1.0]}, "signals"),
        ({"timestamp": "noon"}, "signals"),
        ({"traffic_lights": [7]}, "lights"),
        ({"anns": {"gt_names": ["vehicle"]}}, "agents"),
        ({"cams": {"CAM_F0": {}}}, "cameras"),
        ({"roadblock_ids": 3}, "signals"),
    ],
)
def test_fields_of_another_shape_or_type_raise_source_error(tmp_path, changes, method):
    with pytest.raises(SourceError, match=r"its format does not have[\s\S]*log log_a"):
        getattr(with_frame(tmp_path, 0, **changes), method)()


def test_a_log_without_any_front_image_is_refused(tmp_path):
    tiny.write_frames_file(tmp_path, "log_a", "train", [tiny.frame_dict("log_a", 0)])
    with pytest.raises(SourceError, match=r"no front image[\s\S]*CAM_F0"):
        open_source("openscene", tmp_path).open("log_a")


def test_an_agent_of_an_unknown_category_is_refused(tmp_path):
    boxes = tiny.frame_dict("log_a", 0)["anns"] | {"gt_names": np.array(["dragon"])}
    with pytest.raises(SourceError, match=r"unknown category[\s\S]*dragon"):
        with_frame(tmp_path, 2, anns=boxes).agents()


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    objects = read_nuplan_map(tiny.write_map(tmp_path_factory.mktemp("maps")))
    return {(item.layer, item.token): item for item in objects}


def test_the_lane_graph_of_a_nuplan_map_is_read(objects):
    left, right = objects[MapLayer.LANE, "20"], objects[MapLayer.LANE, "21"]
    assert left.right_neighbor == "21" and right.left_neighbor == "20"
    assert left.left_neighbor == right.right_neighbor == ""
    assert left.successors == ("30",) and left.predecessors == () and left.roadblock_id == "10"
    assert objects[MapLayer.LANE, "22"].predecessors == ("30",)
    connector = objects[MapLayer.LANE_CONNECTOR, "30"]
    assert (
        connector.predecessors == ("20",)
        and connector.successors == ("22",)
        and connector.roadblock_id == "12"
    )
    assert objects[MapLayer.ROADBLOCK, "10"].successors == ("12",)
    assert objects[MapLayer.ROADBLOCK_CONNECTOR, "12"].predecessors == ("10",)
    assert left.speed_limit_mps == 13.0 and right.speed_limit_mps is None


def test_shapes_of_a_nuplan_map_are_open_rings_and_directed_lines(objects):
    lane = objects[MapLayer.LANE, "20"]
    assert len(lane.polygon_xy) == 4 and np.allclose(
        lane.baseline_xyyaw, [[0, 2, 0], [50, 2, 0], [100, 2, 0]]
    )
    # one with two parts
    assert {token for layer, token in objects if layer == MapLayer.CROSSWALK} == {"60", "60:1"}
    assert (MapLayer.STOP_LINE, "50") in objects and (MapLayer.CARPARK_AREA, "70") in objects


def test_degrees_become_utm_metres():
    # The CN Tower, given with both coordinates in the literature on UTM: 43 38 33.24 N, 79 23 13.7
    # W, zone 17.
    metres = utm_from_degrees(
        np.array([[-(79 + 23 / 60 + 13.7 / 3600), 43 + 38 / 60 + 33.24 / 3600]]), 17
    )
    assert np.allclose(metres, [[630_084, 4_833_438]], atol=1.0)
    assert np.allclose(utm_from_degrees(np.array([[3.0, 0.0]]), 31), [[500_000.0, 0.0]])
    assert np.allclose(
        utm_from_degrees(np.array([[3.0, -1e-9]]), 31, north=False), [[500_000.0, 10_000_000.0]]
    )


def test_a_map_in_degrees_is_read_in_the_metres_of_its_zone(tmp_path):
    objects = read_nuplan_map(tiny.write_map(tmp_path, on_the_equator=True))
    lane = next(item for item in objects if (item.layer, item.token) == (MapLayer.LANE, "20"))
    # UTM's scale on its meridian
    expected = 0.9996 * np.array([[0, 2], [50, 2], [100, 2]]) + [500_000, 0]
    assert np.allclose(lane.baseline_xyyaw[:, :2], expected, atol=0.01)


def test_a_broken_map_is_explained(tmp_path):
    file = tiny.write_map(tmp_path)
    file.write_bytes(b"no database" * 100)
    with pytest.raises(SourceError, match="the map cannot be read"):
        read_nuplan_map(file)
    with pytest.raises(SourceError, match=r"map file does not exist[\s\S]*NUPLAN_MAPS_ROOT"):
        read_nuplan_map(tmp_path / "nothing.gpkg")


def same_signals(one, other):
    return all(
        np.array_equal(getattr(one.signals(), name), getattr(other.signals(), name))
        for name in ("timestamp_us", "pose_world", "velocity_ego", "command", "has_image")
    ) and np.array_equal(one.agents().center_world, other.agents().center_world)


def test_frames_in_any_order_are_sorted_by_time_and_repeated_ones_are_told(tmp_path):
    frames = tiny.write_log(tmp_path / "whole")
    whole = open_source("openscene", tmp_path / "whole").open("log_a")
    tiny.write_log(tmp_path / "mixed")
    mixed = [*frames[12:], *frames[8:14], *frames[:10], pickle.loads(pickle.dumps(frames[3]))]
    tiny.write_frames_file(tmp_path / "mixed", "log_a", "train", mixed)
    log = open_source("openscene", tmp_path / "mixed").open("log_a")
    assert same_signals(whole, log)
    assert [image.file.name for image in log.images("CAM_F0")] == [
        image.file.name for image in whole.images("CAM_F0")
    ]
    assert not whole.signals().notes and len(log.signals().notes) == 2
    assert any("sorted" in note for note in log.signals().notes)
    assert "5 of 29 frames of the file are repeated" in log.signals().notes


def test_frames_of_several_scenes_that_count_anew_are_sorted_too(tmp_path):
    frames = tiny.write_log(tmp_path)
    for index, frame in enumerate(frames):
        frame["frame_idx"] = index % 8
    tiny.write_frames_file(tmp_path, "log_a", "train", frames[::-1])
    log = open_source("openscene", tmp_path).open("log_a")
    assert (np.diff(log.signals().timestamp_us) == 500_000).all()


@pytest.mark.parametrize("index", [0, 5])
def test_none_in_place_of_a_list_counts_as_an_absent_one(tmp_path, index):
    fields = ("anns", "roadblock_ids", "traffic_lights", "driving_command", "tags", "lidar2ego")
    log = with_frame(tmp_path, index, **dict.fromkeys(fields))
    signals = log.signals()
    assert signals.route_roadblock_ids[index] == [] == signals.tags[index]
    assert signals.command[index] == Command.UNKNOWN and log.capabilities.command
    assert index not in log.agents().frame_index and index not in log.lights().frame_index
    assert len(log.agents().frame_index) == len(log.lights().frame_index) == 23
    without = with_frame(tmp_path, index, cams=None)
    assert without.signals().has_image.sum() == 23 and without.cameras()[0].name == "CAM_F0"
    assert "1 of 24 frames have no front image" in without.signals().notes


def test_boxes_without_velocities_have_those_of_their_tracks(tmp_path):
    boxes = tiny.frame_dict("log_a", 5)["anns"] | {"gt_velocity_3d": None}
    agents = checked(with_frame(tmp_path, 5, anns=boxes)).agents()
    assert len(agents.frame_index) == 24 and np.isfinite(agents.velocity_world).all()
    assert any("without a velocity" in note for note in agents.notes)


def test_the_devkits_split_folders_side_by_side_are_read_once(tmp_path):
    for log_id, split in (("in_trainval", "trainval"), ("in_test", "test"), ("secret", "mini")):
        tiny.write_log(tmp_path, log_id, split=split, frames=12)
    logs, blobs = tmp_path / "navsim_logs", tmp_path / "sensor_blobs"
    for split in ("trainval", "test"):
        shutil.copy(logs / split / f"in_{split}.pkl", logs / "mini")
    # mini's images are there, those of all of trainval are not
    shutil.move(blobs / "trainval" / "in_trainval", blobs / "mini" / "in_trainval")
    shutil.copytree(blobs / "test" / "in_test", blobs / "mini" / "in_test")
    for folder in (logs, blobs):
        (folder / "private_test_e2e").mkdir()
    shutil.move(logs / "mini" / "secret.pkl", logs / "private_test_e2e")
    shutil.move(blobs / "mini" / "secret", blobs / "private_test_e2e")
    (logs / "backup").mkdir()
    shutil.copy(logs / "test" / "in_test.pkl", logs / "backup")
    source = open_source("openscene", tmp_path)
    refs = {ref.log_id: ref for ref in source.logs()}
    assert set(refs) == {"in_trainval", "in_test", "secret"} and not source.refused
    assert refs["in_test"].split == refs["secret"].split == "test"
    assert refs["in_trainval"].image_files[0].is_relative_to(blobs / "mini")
    assert refs["in_test"].image_files[0].is_relative_to(blobs / "test")
    for log_id, ref in refs.items():
        log = source.open(log_id)
        assert log.split == ref.split and log.signals().has_image.all()
        assert {image.file for image in log.images("CAM_F0")} == set(ref.image_files)
    (note,) = source.open("in_test").signals().notes
    assert note.startswith("read from navsim_logs/test, and not again from navsim_logs/")
    assert "navsim_logs/mini" in note and "navsim_logs/backup" in note


def test_endings_in_any_case_are_found(tmp_path):
    whole = opened(tmp_path / "whole")
    tiny.write_log(tmp_path / "other")
    endings = (".jpg", ".JPG", ".jpeg", ".Jpeg")
    folder = tmp_path / "other" / "sensor_blobs" / "train" / "log_a" / "CAM_F0"
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(file.with_suffix(endings[number % 4]))
    (folder / "notes.txt").write_text("left")
    (folder / "old").mkdir()
    logs = tmp_path / "other" / "navsim_logs" / "train"
    (logs / "log_a.pkl").rename(logs / "log_a.PKL")
    (logs / "log_a.pkl~").write_text("left")
    source = open_source("openscene", tmp_path / "other")
    (ref,) = source.logs()
    assert ref.log_id == "log_a" and len(ref.image_files) == 24
    assert same_signals(whole, source.open("log_a"))


def test_a_log_whose_two_pickles_are_links_to_one_is_no_log_that_exists_twice(tmp_path):
    opened(tmp_path)
    logs = tmp_path / "navsim_logs"
    (logs / "mini").mkdir()
    (logs / "mini" / "log_a.pkl").symlink_to(logs / "train" / "log_a.pkl")
    source = open_source("openscene", tmp_path)
    assert [ref.split for ref in source.logs()] == ["train"]
    assert source.open("log_a").split == "train"
