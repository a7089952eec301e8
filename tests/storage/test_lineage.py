"""Lineage outlives its artefacts, is found by name, path and version, and is told to catalogues."""

import json
import shutil
import subprocess

import jsonschema
import pytest

from pipelines.cli import main
from storage.artifact import planned_lineage, read_lineage, record_checks, write_artifact
from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake
from storage.lineage import closure, find_record, read_ancestors, record_file
from storage.lineage_lookup import differences, find
from storage.openlineage import VARIABLE
from storage.provenance import ROOT

LOGS = [f"log-{number:02}" for number in range(12)]


def write(lake, name, parents=(), config=None, code="code", seed=None):
    """Make an artefact from the present versions of its parents; return its version."""
    versions = {parent: read_lineage(lake.root / parent).version for parent in parents}
    lineage = planned_lineage(name, versions, config, code, seed)
    with write_artifact(lake.root / name, lineage) as out:
        (out / "planner").mkdir()
        (out / "planner" / "model.safetensors").write_text(str(config))
    return lineage.version


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake with twelve logs, a codebook, one relabeled log, a vla and a student of them."""
    lake = Lake(tmp_path_factory.mktemp("lineage") / "lake")
    for log in LOGS:
        write(lake, f"frames/{log}", config={"fps": 2})
        write(lake, f"trajectories/{log}", [f"frames/{log}"], {"horizon": 4})
    tables = [f"trajectories/{log}" for log in LOGS]
    write(lake, "codebook", tables, {"num_codes": 16, "fit": {"steps": 5}}, seed=3)
    write(lake, f"relabeled/{LOGS[0]}", [f"trajectories/{LOGS[0]}", "codebook"], {})
    write(lake, "vla", [*tables, "codebook"], {"lora": 8})
    write(lake, "ablation/vla/0", [*tables, "codebook"], {"lora": 0})
    write(lake, "student", [*tables, "vla"], {"width": 32}, seed=3)
    record_checks(lake.asset("student"), {"onnx_parity": True})
    return lake


@pytest.fixture
def lake(made, tmp_path):
    shutil.copytree(made.root, tmp_path / "lake", symlinks=True)
    return Lake(tmp_path / "lake")


def call(capsys, lake, *words):
    code = main(["lineage", *words, "--lake", str(lake.root)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_lineage_names_commit_packages_machine_and_files(made):
    lineage = read_lineage(made.asset("student"))
    values = json.loads((made.asset("student") / "lineage.json").read_text())
    assert values["schema"] == lineage.schema == 2 and len(values["sha256"]) == 64
    head = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    if head.returncode == 0:
        assert lineage.git["commit"] == head.stdout.strip() and lineage.git["dirty"] in (
            True,
            False,
        )
    assert {"torch", "numpy", "zarr", "pyarrow", "transformers"} <= set(lineage.packages)
    assert lineage.machine["python"] and lineage.files["count"] == 1


def test_the_record_of_a_version_outlives_its_files_and_is_never_changed(lake):
    old = read_lineage(lake.asset("codebook"))
    record = record_file(lake.root, old.version).read_text()
    for codes in (32, 64, 128):
        write(lake, "codebook", config={"num_codes": codes})
    assert old.version not in str(list((lake.root / ".versions" / "codebook").iterdir()))
    kept = find_record(lake.root, old.version)
    assert kept is not None and kept.config == {"num_codes": 16, "fit": {"steps": 5}}
    with write_artifact(lake.asset("codebook"), old):
        pass
    assert record_file(lake.root, old.version).read_text() == record


def test_an_artefact_carries_its_ancestors_and_names_each_log_once(made):
    student = read_lineage(made.asset("student"))
    ancestors = read_ancestors(made.asset("student"))
    assert {item.asset for item in ancestors.values()} == {"vla", "codebook"}
    codebook = next(item for item in ancestors.values() if item.asset == "codebook")
    assert codebook == read_lineage(made.asset("codebook")), "with its twelve logs"
    text = (made.asset("student") / "ancestors.json").read_text()
    assert text.count('"trajectories/log-07"') == 1
    of_log = closure(made.root, read_lineage(made.log("relabeled", LOGS[0])))
    assert of_log["log_sets"] == {} and "log-07" not in json.dumps(of_log)
    assets = {record["asset"] for record in of_log["records"].values()}
    assert assets == {"codebook", "trajectories/log-00", "frames/log-00"}
    assert len(student.parents) == 13


def test_a_lineage_is_found_by_name_path_and_version(made, monkeypatch):
    student, ablation = (read_lineage(made.root / name) for name in ("student", "ablation/vla/0"))
    folder = made.asset("student")
    for target in (
        "student",
        str(folder),
        str(folder / "planner"),
        str(folder / "planner" / "model.safetensors"),
        str(folder.resolve() / "planner"),
        student.version,
        student.version[:7],
    ):
        found = find(made.root, target)
        assert found.lineage == student and found.root.resolve() == made.root.resolve()
        assert found.checks == {"onnx_parity": True} and len(found.closure()) == 2
    assert find(made.root, "ablation/vla/0").lineage == ablation
    assert find(made.root, "frames/log-03").lineage.asset == "frames/log-03"
    monkeypatch.chdir(made.root.parent)
    assert find(Lake("elsewhere").root, "lake/ablation/vla/0/planner").lineage == ablation


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("studnet", "did you mean 'student'"),
        ("evaluation", "latentvla run --until evaluation"),
        ("0123456789abcdef", "no version '0123456789abcdef' was made"),
        ("/", "belongs to no artefact"),
        ("../student", "there is no asset"),
        ("x" * 5000, "there is no asset"),
        ("", "there is no asset"),
        ("ablation/vla/7", "(?s)no 'ablation/vla/7' in this lake.*latentvla ablate"),
        ("study", "latentvla study unlabelled"),
    ],
)
def test_what_is_no_artefact_is_explained(made, target, message):
    with pytest.raises((ArtifactError, ConfigError), match=message):
        find(made.root, target)


def test_a_superseded_parent_is_told_as_it_was_and_never_as_the_newer_one(lake, capsys):
    old = read_lineage(lake.asset("codebook")).version
    for codes in (32, 64, 128):
        new = write(lake, "codebook", config={"num_codes": codes})
    code, out, _ = call(capsys, lake, "student")
    assert code == 0
    assert f"codebook (used version {old}; there is a newer one, {new})" in out
    assert "num_codes=16" in out and "num_codes=128" not in out
    assert "trajectories: 12 logs, log-00 ... log-11" in out and "checks: 1 passed" in out
    shutil.rmtree(lake.root / ".lineage")
    _, out, _ = call(capsys, lake, "student")
    assert "num_codes=16" in out, "the artefact carries its ancestors"
    (lake.asset("student") / "ancestors.json").unlink()
    _, out, _ = call(capsys, lake, "vla")
    assert "num_codes=16" in out and "num_codes=128" not in out
    (lake.asset("vla") / "ancestors.json").write_text("{")
    _, out, _ = call(capsys, lake, "vla")
    assert "its lineage is not in this lake" in out and "num_codes" not in out


def test_an_asset_that_each_log_was_made_from_is_told_once(lake, capsys):
    for log in LOGS:
        write(lake, f"relabeled/{log}", [f"trajectories/{log}", "codebook"], {})
    codebook = read_lineage(lake.asset("codebook")).version
    relabeled = [f"relabeled/{log}" for log in LOGS]
    write(lake, "vla", relabeled, {"lora": 8})
    _, out, _ = call(capsys, lake, "vla")
    assert "relabeled: 12 logs" in out and "from 12 x codebook" in out
    assert out.count(f"codebook {codebook}") == 1 and "num_codes=16" in out


def test_a_version_whose_files_are_gone_is_told_from_its_record(lake, capsys):
    old = read_lineage(lake.asset("student")).version
    for width in (33, 34, 35):
        write(lake, "student", config={"width": width})
    code, out, _ = call(capsys, lake, old)
    assert code == 0 and "width=32" in out and "its files are no longer in this lake" in out
    assert "checks: 1 passed" in out


def test_json_holds_the_lineage_its_checks_and_all_ancestors(made, capsys):
    code, out, _ = call(capsys, made, "student", "--json")
    told = json.loads(out)
    assert code == 0 and told["lineage"]["config"] == {"width": 32}
    assert told["checks"] == {"onnx_parity": True}
    assert {item["asset"] for item in told["ancestors"].values()} == {"vla", "codebook"}
    _, out, _ = call(capsys, made, "student", "--json", "--every-log")
    assert len(json.loads(out)["ancestors"]) == 2 + 2 * len(LOGS)


def test_diff_names_what_differs_and_nothing_else(lake, capsys):
    old = read_lineage(lake.asset("codebook"))
    tables = [f"trajectories/{log}" for log in LOGS[1:]]
    new = write(lake, "codebook", tables, {"num_codes": 16, "fit": {"steps": 9}}, "newer", seed=3)
    code, out, _ = call(capsys, lake, "--diff", old.version, "codebook")
    assert code == 0
    assert out.splitlines() == [
        f"codebook {old.version} -> codebook {new}",
        "  config.fit.steps: 5 -> 9",
        "  code_version: code -> newer",
        "  parents trajectories, removed: 1 logs (log-00)",
    ]
    _, out, _ = call(capsys, lake, "--json", "--diff", old.version, new)
    assert json.loads(out)["differences"]["config.fit.steps"] == [5, 9]
    _, out, _ = call(capsys, lake, "--diff", "vla", "vla")
    assert "no difference" in out and differences(old, old) == {}
    code, _, err = call(capsys, lake, "vla", "--diff", "vla", "vla")
    assert code == 2 and "give one of the two" in err


# the fields that the specification requires, of an event, a run, a job, a data set and a facet
NAMED = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {
        "namespace": {"type": "string"},
        "name": {"type": "string"},
        "facets": {"additionalProperties": {"$ref": "#/$defs/facet"}},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["eventTime", "producer", "schemaURL", "run", "job"],
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": {"type": "string", "format": "uri"},
        "schemaURL": {"type": "string", "format": "uri"},
        "run": {
            "type": "object",
            "required": ["runId"],
            "properties": {
                "runId": {"type": "string", "format": "uuid"},
                "facets": {"additionalProperties": {"$ref": "#/$defs/facet"}},
            },
        },
        "job": NAMED,
        "inputs": {"type": "array", "items": NAMED},
        "outputs": {"type": "array", "items": NAMED},
    },
    "$defs": {
        "facet": {
            "type": "object",
            "required": ["_producer", "_schemaURL"],
            "properties": {
                "_producer": {"type": "string", "format": "uri"},
                "_schemaURL": {"type": "string", "format": "uri"},
            },
        }
    },
}


def test_openlineage_events_are_written_where_they_are_asked_for_and_fit_the_specification(
    tmp_path, monkeypatch
):
    lake, file = Lake(tmp_path / "lake"), tmp_path / "events.jsonl"
    write(lake, "codebook")
    assert not file.exists()
    monkeypatch.setenv(VARIABLE, str(file))
    version = write(lake, "vla", ["codebook"], {"lora": 8})
    with (
        pytest.raises(RuntimeError),
        write_artifact(lake.asset("student"), planned_lineage("student", {}, None, "code")),
    ):
        raise RuntimeError("the disk hums")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    checker = jsonschema.FormatChecker()
    for event in events:
        jsonschema.validate(event, SCHEMA, format_checker=checker)
    assert [event["eventType"] for event in events] == ["START", "COMPLETE", "START", "FAIL"]
    assert events[0]["run"]["runId"] == events[1]["run"]["runId"] != events[2]["run"]["runId"]
    made = events[1]
    assert made["job"]["name"] == "vla" and made["inputs"][0]["name"] == "codebook"
    assert made["outputs"][0]["facets"]["version"]["datasetVersion"] == version
    assert events[3]["run"]["facets"]["errorMessage"]["message"] == "RuntimeError: the disk hums"


def test_an_event_that_cannot_be_written_ends_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no" / "folder" / "events.jsonl"))
    write(Lake(tmp_path / "lake"), "codebook")
    assert "could not be written" in caplog.text
