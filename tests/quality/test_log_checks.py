"""Logs are checked once a version; the outcome is kept; a damaged log stops no other."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.quality import log_checks
from ops.quality.config import QualityConfig
from ops.quality.data_docs import latest_pages, pages_folder, publish_pages
from ops.quality.lake_checks import check_lake, code_counts, trained_on
from ops.quality.log_checks import check_logs
from ops.quality.records import read_record, record_file, records_of
from ops.quality.rules import active_rules
from storage.expectations import RULES
from storage.lake import Lake
from storage.trajectory_table import CodeLayout, relabeled_schema
from tests.quality.test_measures import views, write_film
from tests.worlds.tiny_lake import FRAMES, LOGS, write_tiny_lake

ALL = sorted(LOGS)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A lake with three sound logs, checked once."""
    lake = write_varied_lake(tmp_path_factory.mktemp("sound") / "lake")
    for asset in ("frames", "trajectories"):
        check_logs(lake, asset, ALL, RULES)
    return lake


@pytest.fixture
def lake(sound, tmp_path):
    shutil.copytree(sound.root, tmp_path / "lake", symlinks=True)
    return Lake(tmp_path / "lake")


def write_varied_lake(root) -> Lake:
    """The tiny lake with a film of its own for each log."""
    lake = write_tiny_lake(root)
    for seed, log in enumerate(ALL):
        folder = lake.log("frames", log)
        shutil.rmtree(folder / "frames.zarr")
        write_film(folder, log, views(seed, count=FRAMES))
    return lake


def failed(lake: Lake, asset: str, rules=RULES, **options) -> dict[str, tuple[str, ...]]:
    results = check_logs(lake, asset, ALL, rules, **options).results
    return {item.rule.name: item.failed_logs for item in results if not item.passed}


def set_version(lake: Lake, asset: str, log: str, version: str) -> None:
    file = lake.log(asset, log) / "lineage.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": version}))


def count_reads(monkeypatch) -> list[str]:
    read: list[str] = []
    for asset, measure in log_checks.MEASURES.items():

        def counted(lake, log, measure=measure, asset=asset):
            read.append(f"{asset}/{log}")
            return measure(lake, log)

        monkeypatch.setitem(log_checks.MEASURES, asset, counted)
    return read


def test_sound_logs_break_no_rule_and_every_rule_has_been_evaluated(sound):
    for asset, rows in (("frames", 3 * FRAMES), ("trajectories", 3 * FRAMES)):
        checked = check_logs(sound, asset, ALL, RULES, keep=False)
        assert {item.rule.name for item in checked.results if not item.passed} == set()
        assert max(item.rows for item in checked.results) >= rows
        assert all(item.rows for item in checked.results)


def test_only_logs_that_are_new_are_read_and_the_others_keep_their_outcome(lake, monkeypatch):
    read = count_reads(monkeypatch)
    assert failed(lake, "trajectories") == {} and read == []
    spoil_speed(lake, "log-b")
    set_version(lake, "trajectories", "log-b", "1")
    found = failed(lake, "trajectories")
    assert read == ["trajectories/log-b"] and found["speed_in_range"] == ("log-b",)
    assert failed(lake, "trajectories") == found and len(read) == 1  # remembered


def test_a_changed_limit_checks_every_log_again_and_a_changed_word_does_not(
    lake, monkeypatch, tmp_path
):
    from dataclasses import replace

    read = count_reads(monkeypatch)
    words = [replace(rule, description="other words") for rule in RULES]
    assert failed(lake, "trajectories", words) == {} and read == []
    (tmp_path / "rules.toml").write_text("[trajectories.speed_in_range]\nhigh = 7.0\n")
    rules = active_rules(QualityConfig(str(tmp_path / "rules.toml")))
    assert failed(lake, "trajectories", rules) == {"speed_in_range": ("log-a", "log-b")}
    assert len(read) == 3
    assert failed(lake, "frames", rules) == {} and len(read) == 3  # no rule of frames has changed


def test_a_log_that_cannot_be_read_is_named_and_the_others_are_checked(lake):
    (lake.log("frames", "log-a") / "frames.zarr" / "zarr.json").write_text("{")
    (lake.log("trajectories", "log-b") / "agents.parquet").write_bytes(b"PAR1")
    set_version(lake, "frames", "log-a", "1")
    set_version(lake, "trajectories", "log-b", "1")
    assert failed(lake, "frames") == {"frames_are_readable": ("log-a",)}
    checked = check_logs(lake, "trajectories", ALL, RULES)
    names = {item.rule.name: item for item in checked.results if not item.passed}
    assert set(names) == {"tables_are_readable"} and names["tables_are_readable"].observed
    (lake.log("trajectories", "log-c") / "lineage.json").write_text("")
    assert set(failed(lake, "trajectories")) == {"tables_are_readable"}


def test_a_table_that_was_changed_in_place_is_read_again(lake):
    spoil_speed(lake, "log-c")
    assert set(failed(lake, "trajectories")) >= {"speed_in_range"}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": "0"}', "\xff"])
def test_a_damaged_record_counts_as_missing_and_is_made_again(lake, text):
    file = record_file(lake, "frames", "log-a")
    whole = file.read_bytes()
    file.write_bytes(text.encode("latin-1"))
    assert read_record(lake, "frames", "log-a", "0") is None
    assert failed(lake, "frames") == {} and file.read_bytes() == whole


def test_a_lake_that_is_only_looked_at_is_not_written_to(lake):
    shutil.rmtree(lake.root / "quality")
    shutil.rmtree(lake.root / "data_docs")
    before = sorted(lake.root.rglob("*"))
    assert failed(lake, "frames", keep=False) == failed(lake, "trajectories", keep=False) == {}
    assert sorted(lake.root.rglob("*")) == before


def test_pages_are_kept_by_version_and_the_latest_is_linked(lake):
    first = latest_pages(lake, "trajectories")
    assert {"trajectories", "agents", "map", "lights"} <= set(first)
    set_version(lake, "trajectories", "log-a", "1")
    check_logs(lake, "trajectories", ALL, RULES)
    second = latest_pages(lake, "trajectories")
    assert first["agents"].exists() and second["agents"] != first["agents"]
    assert (pages_folder(lake, "trajectories") / "latest").is_symlink()
    names = [path.name for path in pages_folder(lake, "trajectories").iterdir()]
    assert len(names) == 3 and not [name for name in names if name.startswith(".")]


def test_a_page_that_cannot_be_written_leaves_the_latest_as_it_was(lake):
    before = latest_pages(lake, "frames")
    with pytest.raises(UnicodeEncodeError):
        publish_pages(lake, "frames", "0" * 16, {"a": "whole", "b": "\ud800"})
    assert latest_pages(lake, "frames") == before
    assert len(list(pages_folder(lake, "frames").iterdir())) == 2


def test_old_pages_are_removed(lake, monkeypatch):
    from ops.quality import data_docs

    monkeypatch.setattr(data_docs, "KEPT_VERSIONS", 3)
    for number in range(6):
        publish_pages(lake, "frames", f"version{number}", {"images": str(number)})
    kept = {path.name for path in pages_folder(lake, "frames").iterdir()}
    assert len(kept) == 4 and {"version5", "latest"} <= kept
    assert latest_pages(lake, "frames")["images"].read_text() == "5"

    latest = pages_folder(lake, "frames") / "latest"
    latest.unlink()
    shutil.copytree(pages_folder(lake, "frames") / "version5", latest)  # as `cp -rL` leaves it
    publish_pages(lake, "frames", "version6", {"images": "6"})
    assert latest_pages(lake, "frames")["images"].read_text() == "6" and latest.is_symlink()


def test_every_record_of_a_log_is_found(lake):
    assert sorted(records_of(lake, "log-a")) == sorted(lake.root.glob("quality/*/log-a.json"))
    assert len(records_of(lake, "log-a")) == 2 and records_of(lake, "log-z") == []


def test_logs_of_two_splits_at_one_place_and_time_and_with_one_film_are_told(lake):
    copy_log(lake, "log-a", "log-d", split="train")
    results = lake_results(lake, [*ALL, "log-d"])
    assert results["splits_share_no_images"].failed_logs == ("log-d",)
    assert "100%" in results["splits_share_no_images"].findings[0]
    assert {"log-c", "log-d"} == set(results["splits_share_no_place_and_time"].failed_logs)
    assert results["no_log_is_a_copy"].passed
    assert results["new_logs_follow_the_training_set"].skipped == "there is no codebook yet"


def test_codes_are_counted_by_log_and_the_training_set_is_the_codebooks(lake):
    rows = pa.concat_tables(
        [pq.read_table(lake.log("trajectories", log) / "trajectories.parquet") for log in ALL[:2]]
    )
    codes = np.tile(np.array([3, 5], np.int16), (len(rows), 1))
    valid = np.ones_like(codes, bool)
    valid[0] = False
    for name, values in (("codes", codes), ("codes_valid", valid)):
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 2)
        rows = rows.append_column(name, column)
    rows = rows.append_column("codebook_version", pa.array(["v"] * len(rows)))
    lake.asset("relabeled").mkdir()
    schema = relabeled_schema(CodeLayout(1, 2, 8))
    pq.write_table(rows.cast(schema), lake.asset("relabeled") / "relabeled.parquet")
    counts = code_counts(lake)
    assert counts["log-a"].tolist() == [0, 0, 0, FRAMES - 1, 0, FRAMES - 1, 0, 0]
    assert set(counts) == {"log-a", "log-b"} and trained_on(lake) is None
    (lake.asset("relabeled") / "relabeled.parquet").write_bytes(b"no")
    assert code_counts(lake) == {}


def test_new_logs_that_drive_differently_are_told_by_column(lake):
    slow = [f"slow-{number}" for number in range(12)]
    fast = [f"fast-{number}" for number in range(3)]
    for number, log in enumerate((*slow, *fast)):
        copy_log(lake, "log-a", log, "train", speed=14.0 if log in fast else 5 + 0.1 * number)
    lake.asset("codebook").mkdir()
    lineage = json.loads((lake.log("frames", "log-a") / "lineage.json").read_text())
    parents = {f"trajectories/{log}": "0" for log in slow}
    (lake.asset("codebook") / "lineage.json").write_text(
        json.dumps(lineage | {"asset": "codebook", "parents": parents})
    )
    result = lake_results(lake, [*slow, *fast])["new_logs_follow_the_training_set"]
    assert [text.split(":")[0] for text in result.findings] == ["speed_mps"]
    assert result.failed_logs == tuple(fast)


def lake_results(lake: Lake, logs: list[str]) -> dict:
    frames, tables = (
        check_logs(lake, asset, logs, RULES, keep=False) for asset in ("frames", "trajectories")
    )
    return {item.rule.name: item for item in check_lake(lake, RULES, frames, tables)}


def spoil_speed(lake: Lake, log: str, speed: float = 90.0) -> None:
    file = lake.log("trajectories", log) / "trajectories.parquet"
    rows = pq.read_table(file)
    column = rows.schema.get_field_index("vx_mps")
    values = pa.array(np.full(len(rows), speed))
    pq.write_table(rows.set_column(column, rows.schema.field("vx_mps"), values), file)


def copy_log(lake: Lake, log: str, name: str, split: str, speed: float | None = None) -> None:
    """The same drive under another name and in another split."""
    for asset in ("frames", "trajectories"):
        shutil.copytree(lake.log(asset, log), lake.log(asset, name))
    file = lake.log("trajectories", name) / "trajectories.parquet"
    rows = pq.read_table(file)
    for column, value in (("log_id", name), ("split", split)):
        index = rows.schema.get_field_index(column)
        rows = rows.set_column(index, rows.schema.field(column), pa.array([value] * len(rows)))
    pq.write_table(rows, file)
    for table in ("agents", "lights"):
        file = lake.log("trajectories", name) / f"{table}.parquet"
        rows = pq.read_table(file)
        rows = rows.set_column(0, rows.schema.field("log_id"), pa.array([name] * len(rows)))
        pq.write_table(rows, file)
    if speed is not None:
        spoil_speed(lake, name, speed)
