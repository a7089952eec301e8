"""The study on logs without labels: arms, targets, tables, and one whole study."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.ablation.recorded_codes import recorded_code_logits
from ops.evaluation.config import IntervalConfig
from ops.study.arms import ARMS, CONTROL, PAIRS, StudentKey, students_of
from ops.study.scores import FILE, SCORES, scores_folder
from ops.study.table import study_cube, study_tables
from ops.study.teachers import vlm_streams
from ops.study.towns import towns
from ops.vla.vlm import VlmOutputs
from pipelines.cli import main
from pipelines.commands.study import _study_config
from pipelines.environment import open_pipeline, run_target


def study_config(scale="synthetic", **sizes):
    config = _study_config(open_pipeline(run_target(scale=scale)), None, None, "test")
    return replace(config, size=replace(config.size, **sizes))


def test_only_taught_students_are_trained_once_for_every_teacher():
    keys = students_of(4, teachers=3)
    assert len({key.name for key in keys}) == len(keys)
    assert {key.seed for key in keys} == {4}
    for name, arm in ARMS.items():
        assert sum(key.arm == name for key in keys) == (3 if arm.taught else 1)
    assert {arm for pair in PAIRS for arm in pair} == set(ARMS)


def test_logs_are_spread_over_the_towns_and_no_log_is_in_two_groups():
    config = study_config()
    groups = ("labelled", "unlabelled", "val", "test")
    counts, least = dict.fromkeys(groups, 0), dict(zip(groups, (11, 140, 8, 42), strict=True))
    for town in towns(Path("nowhere"), config.towns):
        logs = {group: town.logs(group) for group in groups}
        assert len({log for of_group in logs.values() for log in of_group}) == sum(
            map(len, logs.values())
        )
        for group in groups:
            counts[group] += len(logs[group])
            assert len(logs[group]) >= least[group]
    assert list(counts.values()) == [35, 420, 24, 128]


def test_recorded_codes_are_certain_and_missing_ones_are_no_target():
    codes, valid = np.array([[2, 0, 1]]), np.array([[True, True, False]])
    logits = recorded_code_logits(codes, valid, 4).astype(np.float64)
    probability = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert np.array_equal(probability[0, :2], [[0, 0, 1, 0], [1, 0, 0, 0]])
    assert np.isnan(logits[0, 2]).all()


def test_a_planner_that_reads_codes_is_given_their_distributions_and_their_slots():
    logits = np.log(np.array([[[1, 1, 2, 4], [8, 4, 2, 2]]], np.float32)).astype(np.float16)
    outputs = VlmOutputs(
        np.array([[3, 0]]), logits, np.ones((1, 2, 5), np.float16), np.ones((1, 7, 5), np.float16)
    )
    read = vlm_streams(outputs, "codes")
    assert read["action"].shape == (1, 2, 6) and not read["visual"].any()
    assert np.allclose(
        read["action"][0, :, :4],
        [[1 / 8, 1 / 8, 1 / 4, 1 / 2], [1 / 2, 1 / 4, 1 / 8, 1 / 8]],
        atol=1e-3,
    )
    assert np.array_equal(read["action"][0, :, 4:], np.eye(2))
    assert vlm_streams(outputs, "hidden")["visual"] is outputs.visual


def write_scores(root: Path, config, gain: dict[str, float]) -> None:
    """Scores that differ by arm, teacher, student and log as chosen."""
    generator = np.random.default_rng(0)
    logs, scenes = 12, 4
    of_log = np.repeat(generator.normal(0, 0.02, logs), scenes)
    for seed in range(config.size.students):
        for key in students_of(seed, config.size.teachers):
            teacher = 0.0 if key.teacher is None else 0.01 * (key.teacher - 1)
            pdms = 0.7 + gain.get(key.arm, 0.0) + teacher + of_log
            table = pa.table(
                {
                    "town": np.repeat([13, 31, 47], logs * scenes // 3).astype(np.int32),
                    "log_id": [f"log-{row // scenes}" for row in range(logs * scenes)],
                    "frame_index": np.arange(logs * scenes, dtype=np.int32),
                    "event": np.arange(logs * scenes) % 2 == 0,
                    "pdms": pdms,
                    "ade_m": np.ones(logs * scenes),
                },
                SCORES,
            )
            folder = scores_folder(root, config.split, key)
            folder.mkdir(parents=True)
            pq.write_table(table, folder / FILE)


def test_differences_are_paired_over_teachers_students_and_towns(tmp_path):
    config = study_config(teachers=3, students=2)
    config = replace(
        config, evaluation=replace(config.evaluation, interval=IntervalConfig(resamples=300))
    )
    write_scores(tmp_path, config, {"distilled": 0.05, "ensemble": 0.02})
    cube = study_cube(tmp_path, config)
    assert cube.values["pdms"].shape == (48, len(ARMS), 3, 2)
    tables = study_tables(tmp_path, config)
    rows = {
        (row["planner"], row["subset"]): row
        for row in tables.differences.to_pylist()
        if row["control"] == CONTROL and row["measure"] == "pdms"
    }
    distilled, ensemble = rows["distilled", "all"], rows["ensemble", "all"]
    assert distilled["mean"] == pytest.approx(0.05)
    # teachers differ by 0.01, students and logs not at all: the interval is that of three teachers
    assert 0.035 < distilled["low"] < 0.045 and 0.055 < distilled["high"] < 0.065
    assert ensemble["low"] == pytest.approx(0.02) == ensemble["high"]
    assert rows["distilled", "town 47"]["mean"] == pytest.approx(0.05)
    assert "PDMS, town 31" in tables.markdown and ARMS["distilled"].description in tables.markdown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--students", "0"], "give --students 3"),
        (["--teachers", "-1"], "give --teachers 3"),
        (["--scale", "navsim"], "latentvla study unlabelled --scale synthetic"),
        (["--raw", "somewhere"], "--raw somewhere"),
    ],
)
def test_what_the_study_cannot_do_is_an_error_before_any_work(
    arguments, expected, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "unlabelled", *arguments]) == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.rglob("*study*"))


def versions(folder: Path) -> dict[str, Path]:
    """The version that each artefact of a folder points to."""
    return {path.name: path.readlink() for path in folder.iterdir() if path.is_symlink()}


@pytest.mark.slow
def test_a_whole_study_is_made_once_and_can_be_continued(tmp_path, capsys):
    arguments = ["study", "unlabelled", "--scale", "smoke", "--lake", str(tmp_path)]
    small = [*arguments, "--teachers", "1"]
    assert main(small) == 0
    root = tmp_path / "study"
    first = {
        path.name: path.readlink() for path in (root / "students").iterdir() if path.is_symlink()
    }
    assert StudentKey("distilled", 0, 0).name in first and len(first) == len(ARMS) + 2
    verdict = json.loads((root / "teachers" / "0" / "vlm" / "verdict.json").read_text())
    assert all(np.isfinite(value) for value in verdict.values())
    assert pq.read_table(root / "tables" / "test" / "differences.parquet").num_rows
    assert not list((root / ".runs").iterdir())
    capsys.readouterr()
    assert main(small) == 0
    assert "trained" not in capsys.readouterr().out  # nothing is made again
    assert main([*small, "--split", "val"]) == 0
    out = capsys.readouterr().out
    assert "val logs" in out and "ensemble trained" not in out
    assert first == versions(root / "students")
