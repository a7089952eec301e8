"""The command line: each command on a small lake, its error messages, and what it imports."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import cv2
import dagster as dg
import numpy as np
import pytest

from assets.chain.pipeline import RawLogs
from ops.student.predict import Student
from pipelines.cli import main
from pipelines.environment import run_target
from storage.artifact import planned_lineage, read_lineage, write_artifact
from tests.worlds.lineage import logs_behind
from tests.worlds.tiny_pipeline import ingest, tiny_pipeline
from tests.worlds.tiny_vla import trained_artifacts

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A lake with the tiny world, and a codebook and a student with lineage but no content."""
    pipeline = tiny_pipeline(tmp_path_factory.mktemp("cli") / "lake")
    with dg.DagsterInstance.ephemeral() as instance:
        assert ingest(pipeline, instance).success
    lake = pipeline.lake
    tables = {
        f"trajectories/{log}": read_lineage(lake.log("trajectories", log)).version
        for log in RawLogs(pipeline).ids
    }
    with write_artifact(
        lake.asset("codebook"),
        planned_lineage("codebook", tables, {"num_codes": 16}, "c0de", seed=3),
    ):
        pass
    parents = {"codebook": read_lineage(lake.asset("codebook")).version}
    with write_artifact(
        lake.asset("student"), planned_lineage("student", parents, {"steps": 5}, "c0de", seed=3)
    ):
        pass
    return lake


def call(capsys, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of one command."""
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


def test_lineage_of_the_student_leads_to_the_raw_logs_without_a_dagster_instance(
    lake, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "dagster", None)  # importing Dagster would fail
    code, out, _ = call(capsys, "lineage", "student", "--lake", str(lake.root))
    assert code == 0
    for word in (
        "student",
        "codebook",
        "trajectories: 3 logs",
        "raw_logs",
        "seed 3",
        "num_codes=16",
    ):
        assert word in out
    assert logs_behind(lake, "student") == lake.log_ids("raw_logs")


def test_lineage_names_every_log_when_asked(lake, capsys):
    _, out, _ = call(capsys, "lineage", "student", "--every-log", "--lake", str(lake.root))
    for log in lake.log_ids("raw_logs"):
        assert f"raw_logs/{log}" in out and f"frames/{log}" in out


def test_lineage_says_when_an_artefact_was_made_from_an_older_version(lake, capsys):
    version = read_lineage(lake.asset("codebook")).version
    with write_artifact(
        lake.asset("codebook"), planned_lineage("codebook", {}, {"num_codes": 32}, "c0de", seed=3)
    ):
        pass
    _, out, _ = call(capsys, "lineage", "student", "--lake", str(lake.root))
    assert f"used version {version}; there is a newer one" in out


def test_sql_queries_the_tables(lake, capsys):
    code, out, _ = call(
        capsys,
        "sql",
        "select split, count(distinct log_id) as logs from trajectories group by split "
        "order by split",
        "--lake",
        str(lake.root),
    )
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["split", "logs"],
        ["train", "2"],
        ["val", "1"],
    ]


def test_show_draws_a_log(lake, capsys, tmp_path):
    log = lake.log_ids("trajectories")[0]
    code, _, _ = call(
        capsys, "show", log, "--lake", str(lake.root), "--out", str(tmp_path / "log.html")
    )
    assert code == 0 and "<html" in (tmp_path / "log.html").read_text()


def test_show_without_a_log_lists_every_log_and_draws_their_pages_when_asked(
    lake, capsys, tmp_path
):
    logs, index = lake.log_ids("trajectories"), tmp_path / "index.html"
    words = ("show", "--lake", str(lake.root), "--out", str(index))
    code, out, _ = call(capsys, *words)
    assert (
        code == 0
        and out.split() == [str(index)]
        and [item.name for item in tmp_path.iterdir()] == ["index.html"]
    )
    assert all(f"latentvla show {log} --lake" in index.read_text() for log in logs)
    code, out, _ = call(capsys, *words, "--pages")
    assert code == 0 and len(out.split()) == len(logs) + 1
    assert all(
        f'href="./{log}.html"' in index.read_text() and (tmp_path / f"{log}.html").exists()
        for log in logs
    )


@pytest.mark.parametrize("source", ["nuscenes", "kitti_raw"])
def test_only_openscene_has_a_synthetic_world_and_a_refused_run_leaves_nothing_behind(
    source, capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LATENTVLA_RAW", raising=False)
    monkeypatch.chdir(tmp_path)
    for verb in ("run", "status", "logs"):
        code, _, err = call(capsys, verb, "--scale", "smoke", "--source", source)
        assert code == 2 and "Traceback" not in err
        assert (
            "the synthetic world is written as 'openscene'" in err
            and f"--source {source} --raw PATH" in err
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("lineage", "studnet"), "did you mean 'student'"),
        (("run", "--scale", "smok"), "did you mean 'smoke'"),
        (("run", "--scale", "smoke", "--until", "reprot"), "did you mean 'report'"),
        (
            ("run", "--scale", "smoke", "--source", "openscen", "--raw", "."),
            "did you mean 'openscene'",
        ),
        (("score",), "latentvla run --until evaluation"),
        (("run", "--scale", "navsim"), "--raw"),
        (("run", "--scale", "smoke", "--source", "nuscene"), "did you mean 'nuscenes'"),
        (("run", "--scale", "smoke", "--raw", "/nowhere"), "the raw folder does not exist"),
        (("show", "--frame", "3"), "latentvla show LOG --frame 3"),
        (("show",), "latentvla run --until trajectories"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(words, hint, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    code, _, err = call(capsys, *words, "--lake", str(tmp_path / "lake"))
    assert code == 2
    assert hint in err and "Traceback" not in err


def test_a_raw_folder_without_logs_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    (tmp_path / "raw").mkdir()
    code, _, err = call(
        capsys, "run", "--raw", str(tmp_path / "raw"), "--lake", str(tmp_path / "lake")
    )
    assert code == 2 and "there is no log" in err


def test_config_prints_the_whole_preset(capsys):
    code, out, _ = call(capsys, "config", "--scale", "navsim")
    assert code == 0
    assert {"codebook", "vla", "student", "evaluation", "compute"} <= set(json.loads(out))


def test_the_command_line_overrules_the_environment_and_the_environment_the_defaults():
    assert run_target({}).lake == "lake/synthetic"
    environment = {
        "LATENTVLA_SCALE": "smoke",
        "LATENTVLA_RAW": "/logs",
        "LATENTVLA_SOURCE": "kitti_raw",
    }
    assert run_target(environment).lake == "lake/kitti_raw-smoke"
    assert run_target(environment, scale="synthetic", lake="here").lake == "here"


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--scale", "embedded"], {}),
        ([], {"LATENTVLA_SCALE": "embedded"}),
        (["--scale", "embedded"], {"LATENTVLA_SCALE": "embedded"}),
    ],
)
def test_the_former_name_of_a_scale_works_with_one_notice(arguments, environment):
    process = subprocess.run(
        [BIN / "latentvla", "config", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(process.stdout)["scale"] == "synthetic"
    assert process.stderr.count("notice:") == 1
    assert "'embedded' is now called 'synthetic'" in process.stderr


def test_the_notice_appears_once_though_the_definitions_read_the_environment_too():
    code = (
        "from pipelines.environment import run_target; run_target(); import pipelines.definitions"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"LATENTVLA_SCALE": "embedded"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stderr.count("notice:") == 1


def test_a_closed_pipe_gives_no_traceback(lake):
    words = (
        f"{BIN / 'latentvla'} sql 'select * from trajectories' --rows 5000 --lake {lake.root} "
        "| true; exit ${PIPESTATUS[0]}"
    )
    process = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert process.returncode == 141 and process.stderr == ""


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["status"], ["config"], ["logs"]], ids=" ".join
)
def test_a_quick_command_imports_no_heavy_library(lake, words):
    """They answer in less than a second; torch, Dagster or matplotlib alone take longer."""
    target = [] if "--help" in words else ["--scale", "smoke", "--lake", str(lake.root)]
    heavy = ["torch", "dagster", "matplotlib"]
    code = f"""
import sys
from pipelines.cli import main
try:
    code = main({[*words, *target]})
except SystemExit as ended:
    code = ended.code
print(code, [name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stderr.splitlines()[-1] == "0 []" and process.stdout


def test_the_command_without_arguments_prints_its_help():
    process = subprocess.run([BIN / "latentvla"], capture_output=True, text=True, check=True)
    assert "usage: latentvla" in process.stdout and "run the pipeline" in process.stdout.lower()


def test_the_version_is_that_of_the_installed_package(capsys):
    assert call(capsys, "--version")[:2] == (0, f"latentvla {metadata.version('latentvla')}\n")


def test_a_log_that_does_not_exist_is_answered_without_the_list_of_all(lake, capsys):
    code, _, err = call(capsys, "show", "nope", "--lake", str(lake.root))
    assert code == 2 and "one of 3 logs" in err and "A-" not in err and "latentvla logs" in err


def test_predict_prints_the_plan_of_the_student_for_one_image(tmp_path, capsys):
    file = tmp_path / "front.png"
    cv2.imwrite(str(file), trained_artifacts().val.images[0][:, :, ::-1])
    words = (
        "predict",
        str(file),
        "--speed",
        "6.0",
        "--command",
        "left",
        "--model",
        str(trained_artifacts().student),
    )
    code, out, _ = call(capsys, *words)
    expected = Student.from_pretrained(trained_artifacts().student).plan(
        trained_artifacts().val.images[:1], np.array([[6.0, 0, 0, 0]]), ["left"]
    )[0]
    assert code == 0 and np.allclose(json.loads(out), expected, atol=1e-3)
    code, _, err = call(capsys, *words[:-3], "strait", *words[-2:])
    assert code != 0 and "did you mean 'straight'" in err
