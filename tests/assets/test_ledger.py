"""The ledger: one state for each artefact, the usable logs, and how often files are read."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import dagster as dg
import pytest

from assets.chain.ledger import Ledger, State
from assets.chain.per_log import Ingested
from assets.chain.pipeline import Pipeline
from assets.raw_logs import set_copies_aside
from ops.ingest.copies import find_copies
from ops.ingest.quarantine import quarantine, quarantined
from ops.quality.records import record_file
from pipelines.cli import main
from storage.artifact import planned_lineage, read_checks, read_lineage, write_artifact
from storage.asset_names import INGEST_ASSETS
from storage.errors import ArtifactError, SourceError
from storage.sources.raw_files import unreadable
from tests.worlds.tiny_pipeline import TINY, ingest, tiny_pipeline

LOG, OTHER, VAL = "A-train-0000", "A-train-0001", "A-val-0000"
LOGS = [LOG, OTHER, VAL]


def state_of_all(pipeline: Pipeline) -> dict[tuple[str, str], State]:
    ledger = Ledger(pipeline)
    return {
        (asset, log): ledger.state(asset, log) for asset in INGEST_ASSETS for log in ledger.log_ids
    }


def again(pipeline: Pipeline, log_ids: list[str]) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return ingest(pipeline, instance, log_ids)


def test_a_finished_lake_is_current_and_all_its_logs_are_usable(pipeline):
    assert set(state_of_all(pipeline).values()) == {State.CURRENT}
    ledger = Ledger(pipeline)
    assert ledger.usable == LOGS and ledger.todo() == [] and ledger.is_current("trajectories")
    for asset in INGEST_ASSETS:
        assert ledger.version(asset, LOG) == ledger.lineage(asset, LOG).version
    assert Ledger(pipeline, as_made=True).usable == LOGS


@pytest.mark.parametrize(
    ("file", "text", "asset", "state"),
    [
        ("frames/{log}/lineage.json", None, "frames", State.MISSING),
        ("frames/{log}/lineage.json", '{"asset', "frames", State.MISSING),
        ("raw_logs/{log}/inventory.json", '{"log_', "raw_logs", State.MISSING),
        ("trajectories/{log}/checks.json", None, "trajectories", State.UNCHECKED),
        ("trajectories/{log}/checks.json", '{"a fo', "trajectories", State.UNCHECKED),
        (
            "trajectories/{log}/checks.json",
            '{"a former rule": true}',
            "trajectories",
            State.UNCHECKED,
        ),
        ("frames/{log}/checks.json", "failed", "frames", State.FAILED),
    ],
)
def test_a_lost_damaged_unchecked_or_failed_artefact_has_its_state_and_its_log_is_not_used(
    pipeline, capsys, file, text, asset, state
):
    path = pipeline.lake.root / file.format(log=LOG)
    if text is None:
        path.unlink()
    elif text == "failed":
        path.write_text(
            json.dumps(dict.fromkeys(json.loads(path.read_text()), False) | _rules(path))
        )
    else:
        path.write_text(text)
    states = state_of_all(pipeline)
    assert states[asset, LOG] is state
    assert {states[key] for key in states if key != (asset, LOG)} == {State.CURRENT}
    ledger = Ledger(pipeline)
    assert ledger.usable == [OTHER, VAL] and ledger.todo() == [LOG]
    words = ["status", "--raw", pipeline.raw, "--lake", pipeline.lake_root]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "2 of 3 logs current" in out
    cut = text is not None and text.startswith("{") and "}" not in text
    assert ("damaged: " in out) == (cut or file.endswith("lineage.json"))


def _rules(checks: Path) -> dict[str, bool]:
    """The entry that says by which rules an artefact was checked."""
    return {name: True for name in json.loads(checks.read_text()) if name.startswith("rules ")}


def test_what_was_not_checked_is_checked_and_not_made_again(pipeline):
    path = pipeline.lake.log("trajectories", LOG)
    (path / "checks.json").unlink()
    made = read_lineage(path).created_utc
    with pytest.raises(ArtifactError, match="not been checked"):
        ledger = Ledger(pipeline, as_made=True)
        raise ledger._input_error("trajectories", LOG, ledger.state("trajectories", LOG))
    assert again(pipeline, LOGS).success
    assert read_lineage(path).created_utc == made and read_checks(path)["speed_in_range"]
    assert Ledger(pipeline).usable == LOGS


def test_another_configuration_makes_stale_what_depends_on_it(pipeline):
    changed = replace(TINY, frames=replace(TINY.frames, black_below=9.0))
    ledger = Ledger(replace(pipeline, preset=changed))
    assert {ledger.state("raw_logs", log) for log in LOGS} == {State.CURRENT}
    assert ledger.states("frames") == ledger.states("trajectories") == {State.STALE: 3}
    assert ledger.todo() == LOGS and ledger.usable == LOGS  # it can still be read


def test_a_log_that_leaves_the_raw_folder_is_no_longer_used(pipeline):
    next(pipeline.raw_folder.rglob(f"{LOG}.pkl")).unlink()
    ledger = Ledger(pipeline)
    assert ledger.log_ids == ledger.usable == [OTHER, VAL] and ledger.todo() == []
    assert f"trajectories/{LOG}" not in ledger.lineage("codebook").parents


def test_logs_of_a_larger_synthetic_world_are_not_used_in_a_smaller_one(made, tmp_path):
    larger = tiny_pipeline(tmp_path / "lake")
    shutil.copytree(made / "lake", larger.lake.root, symlinks=True)
    shutil.copytree(made / "raw", larger.raw_folder)
    for log in LOGS:  # as if the world had been written here
        text = json.dumps(asdict(Ledger(larger).lineage("raw_logs", log)))
        (larger.lake.log("raw_logs", log) / "lineage.json").write_text(text)
    assert Ledger(larger).log_ids == Ledger(larger).usable == LOGS
    smaller = replace(larger, preset=replace(TINY, world=replace(TINY.world, train_logs=1)))
    assert Ledger(smaller).log_ids == Ledger(smaller).usable == [LOG, VAL]


def move_to_test(pipeline: Pipeline, log: str, name: str = "") -> None:
    """Move a log from train to test, or copy it there under another name."""
    raw, name = pipeline.raw_folder, name or log
    file, images = next(raw.rglob(f"{log}.pkl")), raw / "sensor_blobs" / "train" / log
    for path, place in (
        (file, file.parents[1] / "test" / f"{name}.pkl"),
        (images, raw / "sensor_blobs" / "test" / name),
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        if name == log:
            shutil.move(path, place)
        else:
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, place)


def test_a_log_that_moves_to_another_split_is_not_used_until_it_is_taken_again(pipeline):
    move_to_test(pipeline, LOG)
    before = Ledger(pipeline)
    assert before.todo() == [LOG] and before.usable == [OTHER, VAL]
    assert LOG not in Ledger(pipeline, as_made=True).usable
    assert again(pipeline, [LOG]).success
    ledger = Ledger(pipeline)
    assert ledger.usable == LOGS and ledger.todo() == []
    assert ledger.inventory(LOG).split == "test"
    assert f"trajectories/{LOG}" not in ledger.lineage("codebook").parents


def test_a_copy_in_another_split_is_refused_and_names_its_twin(pipeline):
    ledger = Ledger(pipeline)
    known = {log: ledger.inventory(log) for log in LOGS}
    refs = {ref.log_id: ref for ref in ledger.logs.opened.logs()}
    assert find_copies(LOGS, known, refs) == {}
    copy = replace(refs[LOG], log_id="copy", split="test")
    known["copy"], refs["copy"] = replace(known[LOG], log_id="copy", split="test"), copy
    # the map is shared by all logs, the pickle by these two only if it is the same file
    refs["copy"] = replace(copy, files=copy.files[1:])
    refs[LOG] = replace(refs[LOG], files=refs[LOG].files[1:])
    assert find_copies(["copy"], known, refs) == {"copy": LOG}
    assert find_copies([LOG], known, refs) == {LOG: "copy"}  # the one that was there first stays


@pytest.mark.parametrize(("copy", "refused"), [(VAL, True), (OTHER, False)])
def test_a_copied_log_is_set_aside_in_another_split_and_told_in_the_same(
    pipeline, tmp_path, copy, refused
):
    ledger = Ledger(pipeline)
    ingested = Ingested({log: ledger.lineage("raw_logs", log) for log in LOGS}, made=[copy])
    of_copy, of_log = ledger.logs.refs[copy], ledger.logs.refs[LOG]
    file = shutil.copy2(of_log.files[0], tmp_path / "copy.pkl")
    files = (Path(file), *of_copy.files[1:])  # the maps are shared
    ledger.logs.refs[copy] = replace(of_copy, files=files, image_files=of_log.image_files)
    size, count = ledger.inventory(LOG).bytes, ledger.inventory(LOG).files
    ledger._inventories[copy] = replace(ledger.inventory(copy), bytes=size, files=count)

    rows = set_copies_aside(dg.build_asset_context(), ledger, ingested)
    assert [row["same bytes as"] for row in rows] == [LOG]
    assert (copy in ingested.quarantined) is refused is (copy not in ingested.lineages)
    records = quarantined(pipeline.lake)
    assert set(records) == ({copy} if refused else set())
    if refused:
        reason = records[copy].reason
        assert f"same bytes as log '{LOG}'" in reason and "latentvla release" in reason
        assert Ledger(pipeline).state("frames", copy) is State.QUARANTINED


def test_a_log_whose_file_cannot_be_read_is_set_aside_and_the_others_go_on(pipeline):
    image = next(pipeline.raw_folder.rglob(f"{LOG}/CAM_F0/*.jpg"))
    image.unlink()
    image.symlink_to("nowhere.jpg")
    ledger = Ledger(pipeline)
    assert ledger.usable == [OTHER, VAL] and ledger.todo() == []
    assert image.name in ledger.quarantined[LOG].reason
    result = again(pipeline, [OTHER, VAL])
    assert result.success and image.name in quarantined(pipeline.lake)[LOG].reason
    image.unlink()
    shutil.copy(next(pipeline.raw_folder.rglob(f"{LOG}/CAM_F0/*.jpg")), image)
    assert Ledger(pipeline).todo() == [LOG]  # another log now


def test_a_log_whose_file_could_not_be_read_is_tried_again_once_it_can(pipeline, monkeypatch):
    ledger, file = Ledger(pipeline), next(pipeline.raw_folder.rglob(f"{LOG}.pkl"))
    error = unreadable(PermissionError(13, "Permission denied", str(file)), file)
    quarantine(pipeline.lake, LOG, "frames", error, ledger.version("frames", LOG))
    assert Ledger(pipeline).quarantined == {} and Ledger(pipeline).usable == LOGS
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != file)  # for root it is True
    assert list(Ledger(pipeline).quarantined) == [LOG]


def test_when_every_log_is_bad_the_run_lists_them_and_says_that_no_log_is_left(
    pipeline, capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    for file in pipeline.raw_folder.rglob("*.pkl"):
        file.write_bytes(b"no pickle")
    target = ["--scale", "smoke", "--raw", pipeline.raw, "--lake", pipeline.lake_root]
    for until in ("trajectories", "trajectories", "codebook"):  # also where nothing is to be done
        assert main(["run", "--until", until, *target]) == 1
        out = capsys.readouterr().out
        assert "no log is left: all 3 logs are quarantined" in out and "3 logs quarantined" in out
        assert all(f"    {log}: " in out for log in LOGS)
    with pytest.raises(ArtifactError, match="no log is left"):
        Ledger(pipeline).logs_of("codebook")
    assert main(["status", *target]) == 0


def test_status_says_how_many_logs_an_asset_of_logs_waits_for(pipeline, capsys):
    words = ["status", "--raw", pipeline.raw, "--lake", pipeline.lake_root]
    for log in LOGS:
        assert main(words) == 0
        line = next(item for item in capsys.readouterr().out.splitlines() if "relabeled" in item)
        (pipeline.lake.log("frames", log) / "checks.json").unlink()
    assert "0 of 1 logs current, 2 wait until they are ingested and checked" in line
    assert main(words) == 0
    out = capsys.readouterr().out
    assert (
        "relabeled     waits until its logs are made and checked" in out and " 0 of 0 " not in out
    )


@pytest.mark.parametrize("text", ["", "{}"])
def test_status_names_emptied_files(pipeline, capsys, text):
    lake, words = pipeline.lake, ["status", "--raw", pipeline.raw, "--lake", pipeline.lake_root]
    with write_artifact(
        lake.asset("evaluation"), planned_lineage("evaluation", {}, {}, "c")
    ) as out:
        (out / "scores.parquet").write_bytes(b"scores")
    assert main(words) == 0 and "damaged" not in capsys.readouterr().out
    record = record_file(lake, "frames", LOG)
    record.write_text("")
    (lake.asset("evaluation") / "files.json").write_text(text)
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"damaged: {record}: it is empty" in said
    assert f"damaged: {lake.asset('evaluation') / 'files.json'}: " in said
    assert "latentvla run --again evaluation" in said


def test_a_run_with_nothing_to_do_loads_no_dagster(pipeline):
    code = f"""
import sys
from pipelines.cli import main
code = main(["run", "--scale", "smoke", "--until", "trajectories",
             "--raw", {pipeline.raw!r}, "--lake", {pipeline.lake_root!r}])
print(code, [name for name in ("dagster", "torch") if name in sys.modules])
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert "nothing to do" in process.stdout and process.stdout.splitlines()[-1] == "0 []"


def test_every_file_of_the_lake_is_read_at_most_once(pipeline):
    code = f"""
import sys
from collections import Counter
from assets.chain.ledger import Ledger
from tests.worlds.tiny_pipeline import tiny_pipeline
ledger = Ledger(tiny_pipeline({pipeline.lake_root!r}, raw={pipeline.raw!r}))
reads = Counter()
def count(event, words):
    if event == "open" and str(words[0]).startswith({pipeline.lake_root!r}):
        reads[str(words[0])] += 1
sys.addaudithook(count)
for _ in range(2):
    assert ledger.todo() == [] and len(ledger.usable) == 3
    assert ledger.lineage("codebook").parents
print(len(reads), max(reads.values()))
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    files, most = map(int, process.stdout.split())
    assert files >= 3 * 6 and most == 1  # lineages, inventories and checks of three logs


def test_a_log_that_the_source_refuses_is_set_aside_with_its_reason(pipeline):
    ledger = Ledger(pipeline)
    error = SourceError("two files are called alike", where="a.pkl, b.pkl", do="rename one")
    ledger.logs.refs  # noqa: B018
    ledger.logs.opened.refused = {"alike": error}
    assert ledger.log_ids == sorted([*LOGS, "alike"]) and "alike" not in ledger.usable
    assert ledger.state("frames", "alike") is State.QUARANTINED
    ledger.keep_refusals()
    assert "two files are called alike" in quarantined(pipeline.lake)["alike"].reason
    assert "alike" not in Ledger(pipeline).log_ids  # it is no longer refused
