"""`latentvla doctor`: every check on a lake and on raw logs, in each form, and its exit status."""

import json
import os
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.quality import log_checks
from ops.synthesize.world import synthesize_log, world_log_ids
from pipelines.cli import main
from storage.lake import Lake
from storage.metrics_table import PLANS, SCORES
from tests.quality.test_log_checks import spoil_speed, write_varied_lake
from tests.quality.test_rules import scene
from tests.worlds.tiny_lake import LOGS
from tests.worlds.tiny_pipeline import TINY


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_varied_lake(tmp_path_factory.mktemp("doctor") / "lake")


@pytest.fixture
def lake(sound, tmp_path):
    shutil.copytree(sound.root, tmp_path / "lake", symlinks=True)
    return Lake(tmp_path / "lake")


def doctor(capsys, *arguments, files: bool = False) -> tuple[int, str, str]:
    code = main(["doctor", *map(str, arguments), *([] if files else ["--no-files"])])
    text = capsys.readouterr()
    return code, text.out, text.err


def examined(capsys, *arguments, files: bool = False) -> tuple[int, dict]:
    code, out, _ = doctor(capsys, *arguments, "--json", files=files)
    found = json.loads(out)
    return code, found | {"by_rule": {item["rule"]: item for item in found["outcomes"]}}


def test_a_lake_is_examined_without_writing_and_its_table_fits_the_terminal(lake, capsys):
    before = {path: path.stat().st_mtime_ns for path in lake.root.rglob("*")}
    code, out, err = doctor(capsys, lake.root)
    # the tiny lake's train and test logs drive one road at one time
    assert code == 0 and err == "" and "splits_share_no_place_and_time" in out
    assert max(map(len, out.splitlines())) <= 100
    assert "trajectories.speed_in_range" in out and "what to do: " in out
    assert {path: path.stat().st_mtime_ns for path in lake.root.rglob("*")} == before
    assert doctor(capsys, lake.root, "--fail-on", "warn")[0] == 1
    assert doctor(capsys, lake.root, "--fail-on", "never")[0] == 0


def test_the_images_of_a_log_are_measured_once(lake, capsys, monkeypatch):
    shutil.rmtree(lake.root / "quality", ignore_errors=True)
    folders, measure = [], log_checks.measure_images

    def counted(folder):
        folders.append(folder.name)
        return measure(folder)

    monkeypatch.setattr(log_checks, "measure_images", counted)
    _, found = examined(capsys, lake.root)
    assert sorted(folders) == lake.log_ids("frames")
    assert found["kind"] == "lake" and found["logs"] == len(folders)


def test_a_lake_in_which_nothing_is_made_yet_is_a_lake(capsys, tmp_path):
    with Lake(tmp_path / "lake").lock():
        code, found = examined(capsys, tmp_path / "lake")
    assert code == 0 and (found["kind"], found["logs"]) == ("lake", 0)


def test_a_broken_rule_is_an_error_with_its_rows_in_every_form(lake, capsys):
    spoil_speed(lake, "log-b")
    code, found = examined(capsys, lake.root)
    speed = found["by_rule"]["speed_in_range"]
    assert code == 1 and found["worst"] == "error" and found["logs"] == len(LOGS)
    assert speed["state"] == "error" and speed["failed"] == 1 and speed["value"] == "90.0"
    assert speed["examples"][0] == "log-b/0" and speed["hint"]
    code, out, _ = doctor(capsys, lake.root, "--ci")
    first = next(line for line in out.splitlines() if "speed_in_range" in line)
    assert code == 1 and first.startswith("error: trajectories.speed_in_range: 1 failed: log-b/0")
    assert doctor(capsys, lake.root, "--fail-on", "never")[0] == 0


def test_rules_of_a_file_hold_for_the_doctor_too(lake, capsys, tmp_path, monkeypatch):
    (tmp_path / "rules.toml").write_text("[trajectories.speed_in_range]\nhigh = 7.0\n")
    monkeypatch.setenv("LATENTVLA_RULES", str(tmp_path / "rules.toml"))
    code, found = examined(capsys, lake.root)
    assert code == 1 and found["by_rule"]["speed_in_range"]["failed"] == 2
    monkeypatch.setenv("LATENTVLA_RULES", str(tmp_path / "gone.toml"))
    code, _, err = doctor(capsys, lake.root)
    assert code == 2 and "the file of rules cannot be read" in err


def test_damaged_and_quarantined_logs_are_named(lake, capsys):
    (lake.log("trajectories", "log-a") / "agents.parquet").write_bytes(b"PAR1")
    lake.quarantine.mkdir()
    record = {"log_id": "log-x", "asset": "frames", "reason": "an image\nis cut", "since_utc": ""}
    (lake.quarantine / "log-x.json").write_text(json.dumps(record | {"fingerprint": "0"}))
    code, found = examined(capsys, lake.root)
    assert code == 1
    assert found["by_rule"]["tables_are_readable"]["examples"] == ["log-a"]
    assert found["by_rule"]["logs_are_readable"]["examples"] == ["log-x"]
    assert found["by_rule"]["logs_are_readable"]["value"] == "an image\nis cut"
    assert found["by_rule"]["speed_in_range"]["state"] == "ok"


def test_artefacts_that_are_not_what_was_published_are_named(lake, capsys):
    code, found = examined(capsys, lake.root, files=True)
    files = found["by_rule"]["files_are_whole"]  # the tiny lake's lineage is written by hand
    assert code == 1 and files["state"] == "error" and files["tested"] == 2 * len(LOGS)
    assert any(text.startswith("frames/log-a: ") for text in files["examples"])


def test_scores_and_plans_of_the_evaluation_are_examined(lake, capsys):
    folder = lake.asset("evaluation")
    folder.mkdir()
    shutil.copy(lake.log("frames", "log-a") / "lineage.json", folder)
    rows = [scene("a", 1), scene("b", 1, pdms=float("nan"))]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCORES), folder / "scores.parquet")
    code, found = examined(capsys, lake.root)
    assert code == 1 and found["by_rule"]["scores_in_range"]["examples"] == ["drive/1 b"]
    assert "cannot be read" in found["by_rule"]["plans_are_finite"]["value"]
    plan = {"log_id": "drive", "frame_index": 1, "planner": "a", "plan_xyyaw": [0.0] * 24}
    pq.write_table(pa.Table.from_pylist([plan], schema=PLANS), folder / "plans.parquet")
    assert examined(capsys, lake.root)[1]["by_rule"]["plans_are_finite"]["state"] == "ok"


def test_hostile_names_stay_on_their_line(lake, capsys):
    name = "red\x1b[31m\nlog"
    for asset in ("frames", "trajectories"):
        os.rename(lake.log(asset, "log-a"), lake.log(asset, name))
    spoil_speed(lake, name)
    _, out, _ = doctor(capsys, lake.root)
    assert "\x1b" not in out and "red?[31m log" in out


def test_what_is_no_place_is_an_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "none", tmp_path / "file"):
        code, _, err = doctor(capsys, place)
        assert code == 2 and "there is nothing to examine" in err
    code, _, err = doctor(capsys, tmp_path, "--source", "kitti_raw")
    assert code == 2 and "there is no log in the raw folder" in err


def test_raw_logs_are_examined_before_anything_is_made_of_them(tmp_path, capsys):
    raw = tmp_path / "raw"
    world = replace(TINY.world, train_logs=1)
    logs = dict(world_log_ids(world))
    for log in logs:
        synthesize_log(raw, world, log)
    code, found = examined(capsys, raw)
    assert code == 0 and found["kind"] == "raw logs" and found["logs"] == len(logs) == 2
    assert {item["state"] for item in found["outcomes"]} <= {"ok", "skipped", "warn"}
    assert found["by_rule"]["agent_is_finite"]["tested"] > 0
    broken = sorted(logs)[0]
    image = sorted(raw.rglob(f"{broken}/CAM_F0/*.jpg"))[3]
    image.write_bytes(image.read_bytes()[:200])
    code, out, _ = doctor(capsys, raw, "--ci")
    assert code == 1 and "logs_are_readable: 1 failed: " + broken in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]
