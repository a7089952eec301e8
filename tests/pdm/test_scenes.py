"""Scenes from the tables of a log: key frames, route, map, tracks, and their cache."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ops.pdm.prepared import prepare
from ops.pdm.scene import cache
from ops.pdm.scene.cache import cached_scenes, read_scenes, write_scenes
from ops.pdm.scene.from_tables import (
    LogScenes,
    key_rows,
    scene_frames,
    scene_from_tables,
    scenes_from_tables,
)
from ops.pdm.scene.scene import Scene
from ops.pdm.score import score
from storage.errors import ArtifactError, SourceError
from storage.lake import Lake
from storage.trajectory_table import TABLES, MapLayer, read_table
from tests.worlds.tiny_lake import FRAMES, START, YAW, on_road, write_tiny_lake
from tests.worlds.tiny_pdm import straight


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write_tiny_lake(tmp_path_factory.mktemp("lake"))


def tables(lake: Lake, log_id: str = "log-a") -> dict[str, pa.Table]:
    return {name: read_table(lake.log("trajectories", log_id), name) for name in TABLES}


def scene_at(parts: dict[str, pa.Table], frame: int) -> Scene:
    return scene_from_tables(
        parts["trajectories"], parts["agents"], parts["lights"], parts["map"], frame
    )


def with_column(table: pa.Table, name: str, values: object) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(
        place, table.schema.field(name), pa.array(values, table.schema.field(name).type)
    )


def equal(a: Scene, b: Scene) -> bool:
    """True if two scenes hold the same values."""
    pairs = [(getattr(a, field.name), getattr(b, field.name)) for field in fields(Scene)]
    return all(np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y for x, y in pairs)


def test_a_frame_is_a_scene_if_it_has_a_second_and_a_half_before_and_five_after(lake: Lake) -> None:
    assert scene_frames(tables(lake)["trajectories"]).tolist() == list(range(3, FRAMES - 10))


def test_a_scene_holds_what_the_log_recorded(lake: Lake) -> None:
    scene = scene_at(tables(lake), 5)
    assert scene.scene_key == ("log-a", 5) and scene.split == "test"
    np.testing.assert_allclose(
        scene.ego[:4], [*on_road(20.0 + 8.0 * 2.5, 0.0), YAW, 8.0], atol=1e-6
    )
    np.testing.assert_allclose(scene.human, straight(8.0)[0], atol=1e-6)
    np.testing.assert_allclose(scene.past[0, :2], on_road(20.0 + 8.0 * 1.0, 0.0), atol=1e-6)
    assert scene.agents[:, :, 0].all()
    along = (scene.centerline[:, :2] - START) @ [np.cos(YAW), np.sin(YAW)]
    assert (np.diff(along) >= 0).all() and along[-1] > 20.0 + 8.0 * 2.5
    assert {MapLayer.LANE, MapLayer.ROADBLOCK} <= {MapLayer(layer) for layer in scene.map_layer}
    assert score(prepare(scene), straight(8.0)).dac[0] == 1.0


def test_many_frames_at_once_are_the_same_as_each_alone(lake: Lake) -> None:
    scenes = scenes_from_tables(*tables(lake).values())
    assert [scene.scene_key[1] for scene in scenes if isinstance(scene, Scene)] == list(
        range(3, FRAMES - 10)
    )
    assert all(
        equal(scene, scene_at(tables(lake), scene.scene_key[1]))
        for scene in scenes
        if isinstance(scene, Scene)
    )


def test_a_log_of_ten_hertz_gives_the_scene_of_its_two_hertz_frames(lake: Lake) -> None:
    """Five rows for each one: the key frames skip the rows in between."""
    coarse = tables(lake)
    fine = dict(coarse)
    rows = np.repeat(np.arange(FRAMES), 5)
    part = np.tile(np.arange(5), FRAMES)
    time_us = coarse["trajectories"]["timestamp_us"].to_numpy()[rows] + part * 100_000
    xy = [coarse["trajectories"][name].to_numpy()[rows] for name in ("x_m", "y_m")]
    moved = 8.0 * 0.1 * part
    table = with_column(coarse["trajectories"].take(rows), "timestamp_us", time_us)
    table = with_column(table, "frame_index", np.arange(len(rows), dtype=np.int32))
    table = with_column(table, "x_m", xy[0] + moved * np.cos(YAW))
    fine["trajectories"] = with_column(table, "y_m", xy[1] + moved * np.sin(YAW))
    for name in ("agents", "lights"):
        fine[name] = with_column(
            coarse[name], "frame_index", coarse[name]["frame_index"].to_numpy() * 5
        )
    a, b = scene_at(coarse, 6), scene_at(fine, 30)
    np.testing.assert_allclose(a.human, b.human, atol=1e-6)
    np.testing.assert_array_equal(a.agents, b.agents)
    np.testing.assert_array_equal(a.past_time_us, b.past_time_us)
    assert score(prepare(a), straight(8.0)).score == pytest.approx(
        score(prepare(b), straight(8.0)).score
    )


def test_key_frames_may_miss_half_a_second_by_a_twentieth_and_no_more() -> None:
    jitter = np.array([0, 540_000, 1_010_000, 1_480_000])
    assert key_rows(jitter, 0, 3)[0].tolist() == [0, 1, 2, 3]
    assert key_rows(np.array([0, 560_000, 1_060_000]), 0, 2)[0].tolist() == [0, -1, -1]
    assert key_rows(np.array([0, 500_000]), 1, 1)[0].tolist() == [-1, 0, 1]
    assert key_rows(np.zeros(0, np.int64), 3, 10).shape == (0, 14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"map": t["map"].slice(0, 0)}, "no map with lanes"),
        (
            lambda t: (
                t
                | {
                    "trajectories": with_column(
                        t["trajectories"], "route_roadblock_ids", [[]] * FRAMES
                    )
                }
            ),
            "no route",
        ),
        (
            lambda t: (
                t
                | {
                    "trajectories": with_column(
                        t["trajectories"], "route_roadblock_ids", [["x"]] * FRAMES
                    )
                }
            ),
            "no roadblock of the route",
        ),
        (lambda t: t | {"agents": pa.concat_tables([t["agents"], t["agents"]])}, "appears twice"),
        (lambda t: t | {"trajectories": t["trajectories"].slice(0, 12)}, "key frames"),
        (lambda t: t | {"trajectories": t["trajectories"].slice(6, 12)}, "no such frame"),
    ],
)
def test_a_frame_without_what_a_scene_needs_is_named(
    lake: Lake, change: object, message: str
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        scene_at(change(tables(lake)), 5)  # type: ignore[operator]
    assert "frame 5" in str(caught.value)


def test_the_cache_gives_back_every_value_and_every_reason(lake: Lake, tmp_path: Path) -> None:
    log = LogScenes(*tables(lake).values())
    scenes: dict[int, Scene | SourceError] = {
        int(frame): log.scene(int(frame)) for frame in log.frames()
    }
    scenes[4] = SourceError("too dark", where="there", expected=3, do="wait")
    write_scenes(tmp_path / "a.arrow", "log-a", scenes, "v7")
    again = read_scenes(tmp_path / "a.arrow", "v7")
    assert again is not None and list(again) == list(scenes)
    for frame, scene in scenes.items():
        other = again[frame]
        if isinstance(scene, Scene):
            assert isinstance(other, Scene) and equal(scene, other)
        else:
            assert str(other) == str(scene)


def test_a_cache_of_another_version_or_damaged_is_not_used(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "a.arrow"
    assert read_scenes(file, "1") is None
    write_scenes(file, "log-a", {5: LogScenes(*tables(lake).values()).scene(5)}, "1")
    assert read_scenes(file, "1") is not None
    assert read_scenes(file, "2") is None
    file.write_bytes(file.read_bytes()[:500])
    assert read_scenes(file, "1") is None


def test_the_lake_keeps_the_scenes_of_a_log_until_its_tables_change(lake: Lake) -> None:
    first = cached_scenes(lake, "log-b")
    stamp = (lake.scenes / "log-b.arrow").stat().st_mtime_ns
    assert list(cached_scenes(lake, "log-b")) == list(first)
    assert (lake.scenes / "log-b.arrow").stat().st_mtime_ns == stamp
    lineage = lake.log("trajectories", "log-b") / "lineage.json"
    lineage.write_text(lineage.read_text().replace('"version": "0"', '"version": "1"'))
    cached_scenes(lake, "log-b")
    assert (lake.scenes / "log-b.arrow").stat().st_mtime_ns != stamp
    with pytest.raises(ArtifactError, match="no log 'log-z'"):
        cached_scenes(lake, "log-z")


def test_a_cache_written_by_other_code_is_not_used(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.arrow"
    write_scenes(file, "log-a", {5: LogScenes(*tables(lake).values()).scene(5)}, "1")
    monkeypatch.setattr(cache, "_code_hash", lambda: "other code")
    assert read_scenes(file, "1") is None
