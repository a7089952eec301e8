"""`latentvla quarantine`, `release` and `forget`: a person sets a log aside, takes it back, and
removes it.
"""

import shlex
import shutil
import subprocess
import sys

import dagster as dg
import pytest

from assets.chain.ledger import Ledger, State, ledger_of_run
from assets.chain.pipeline import Pipeline
from ops.quality.records import records_of
from pipelines.cli import main
from pipelines.commands.run import format_run_summary
from pipelines.work import RunSummary
from storage.artifact import planned_lineage, read_lineage, write_artifact
from storage.asset_names import INGEST_ASSETS
from tests.worlds.tiny_pipeline import ingest

LOG, OTHER = "A-train-0000", "A-train-0001"


@pytest.fixture
def call(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]):
    """One command on the lake: its exit code, and what it printed."""

    def run(*words: str) -> tuple[int, str]:
        code = main([*words, "--raw", pipeline.raw, "--lake", pipeline.lake_root])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def make(pipeline: Pipeline, asset: str, parents: dict[str, str]) -> None:
    with write_artifact(pipeline.lake.asset(asset), planned_lineage(asset, parents, {}, "c0de")):
        pass


def test_a_log_set_aside_by_hand_is_unusable_until_it_is_released(pipeline, call):
    code, out = call("quarantine", LOG, "--why", "the camera was turned")
    assert code == 0 and f"latentvla release {LOG}" in out
    ledger = Ledger(pipeline)
    assert LOG not in ledger.usable and OTHER in ledger.usable and ledger.todo() == []
    assert {ledger.state(asset, LOG) for asset in INGEST_ASSETS} == {State.QUARANTINED}
    assert "the camera was turned" in call("status")[1]
    assert "quarantined by hand" in call("logs")[1]

    image = next(pipeline.raw_folder.rglob(f"{LOG}/CAM_F0/*.jpg"))
    image.write_bytes(image.read_bytes() + b" ")  # other bytes do not release it
    with dg.DagsterInstance.ephemeral() as instance:
        result = ingest(pipeline, instance, [OTHER])
        shown = [
            event.partition
            for event in result.all_events
            if event.event_type_value == "ASSET_OBSERVATION"
        ]
        assert result.success and LOG in shown
        assert LOG not in Ledger(pipeline).usable

        code, out = call("release", LOG)
        assert code == 0 and "the camera was turned" in out
        assert Ledger(pipeline).todo() == [LOG]
        assert ingest(pipeline, instance).success
    assert LOG in Ledger(pipeline).usable


def test_forgetting_a_log_removes_all_of_it_and_names_what_was_made_from_it(pipeline, call):
    lake = pipeline.lake
    tables = {
        f"trajectories/{log}": read_lineage(lake.log("trajectories", log)).version
        for log in (LOG, OTHER)
    }
    make(pipeline, "codebook", tables)
    make(pipeline, "vla", {"codebook": read_lineage(lake.asset("codebook")).version})
    make(pipeline, "report", {})
    lake.scenes.mkdir()
    for log in (LOG, OTHER):
        (lake.scenes / f"{log}.arrow").write_bytes(b"scenes")
    (lake.runs / "codebook-0").mkdir(parents=True)
    assert len(records_of(lake, LOG)) == len(records_of(lake, OTHER)) == 2

    code, out = call("forget", LOG)
    assert not records_of(lake, LOG) and len(records_of(lake, OTHER)) == 2
    assert code == 0, out
    assert not [path for path in lake.root.rglob(f"*{LOG}*") if path.parent != lake.quarantine]
    assert not list(lake.runs.iterdir())
    assert all((lake.log(asset, OTHER) / "lineage.json").exists() for asset in INGEST_ASSETS)
    assert (lake.scenes / f"{OTHER}.arrow").exists()
    told = out[out.index("made from it") :]
    assert "codebook" in told and "vla" in told and "report" not in told.split("stale")[0]
    assert f"{LOG}.pkl" in told and list(pipeline.raw_folder.rglob(f"{LOG}.pkl"))
    # its raw files are still there, so only the quarantine keeps the next run from reading them
    assert Ledger(pipeline).todo() == [] and LOG not in Ledger(pipeline).usable
    next(pipeline.raw_folder.rglob(f"{LOG}.pkl")).unlink()
    assert LOG not in Ledger(pipeline).log_ids
    assert call("forget", LOG)[0] == 0  # again, as after a kill in the middle


def test_a_log_whose_name_begins_like_the_forgotten_one_stays(pipeline, call):
    lake, longer = pipeline.lake, f"{LOG}-0123456789abcdef"
    for log in (LOG, longer):
        with write_artifact(lake.log("frames", log), planned_lineage(f"frames/{log}", {}, {}, "1")):
            pass
    assert call("forget", LOG)[0] == 0
    assert lake.log_ids("frames").count(longer) == 1


def test_a_log_that_a_run_holds_is_not_forgotten(pipeline, call):
    hold = (
        "import sys; from storage.lake import Lake\n"
        "with Lake(sys.argv[1]).lock(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, pipeline.lake_root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None and run.stdout.readline() == "held\n"
        code, out = call("forget", LOG)
        aside, released = (call("quarantine", OTHER, "--why", "x"), call("release", OTHER))
        run.communicate()
    assert code == 2 and "another run is using this lake" in out
    assert f"latentvla quarantine --why TEXT {LOG}" in out
    assert LOG in Ledger(pipeline).usable
    assert aside[0] == 0 and f"process {run.pid}" in aside[1] and "next asset on" in aside[1]
    assert released[0] == 0 and "next asset on" in released[1]
    assert "in use" not in call("quarantine", LOG, "--why", "x")[1]


def test_a_log_that_is_set_aside_during_a_run_is_left_out_from_the_next_asset_on(pipeline, call):
    ledger = ledger_of_run("run", pipeline, as_made=True)
    before = ledger.lineage("codebook")
    assert call("quarantine", LOG, "--why", "the camera was turned")[0] == 0
    assert ledger.lineage("codebook") == before  # within an asset nothing changes

    after = ledger_of_run("run", pipeline, as_made=True)
    assert (
        LOG not in after.usable and f"trajectories/{LOG}" not in after.lineage("codebook").parents
    )
    assert call("release", LOG)[0] == 0
    assert ledger_of_run("run", pipeline, as_made=True).lineage("codebook") == before


def test_the_end_of_a_run_names_the_logs_that_were_set_aside_meanwhile(pipeline, call):
    ledger = Ledger(pipeline)
    assert ledger.usable and not ledger.reread_quarantine()
    call("quarantine", LOG, "--why", "the camera was turned")
    assert ledger.reread_quarantine() and not ledger.quarantined.keys() - {LOG}
    summary = RunSummary({"codebook": 1.0}, [], ledger.quarantined, {}, [LOG], seconds=1.0)
    text = format_run_summary(pipeline.lake, summary, "codebook", 100.0)
    assert f"set aside during this run: {LOG}; what was made of it before is stale" in text


@pytest.mark.parametrize("name", ["-rf", "--lake", "a b; ls"])
def test_a_log_with_the_name_of_an_option_is_named_after_two_dashes(pipeline, call, capsys, name):
    with pytest.raises(SystemExit):
        main(["quarantine", "--why", "x", "-rf"])
    assert "follows '--'" in capsys.readouterr().err
    for asset in INGEST_ASSETS:
        shutil.copytree(pipeline.lake.log(asset, LOG), pipeline.lake.log(asset, name))
    target = ["--raw", pipeline.raw, "--lake", pipeline.lake_root]
    assert main(["quarantine", "--why", "x", *target, "--", name]) == 0
    hint = capsys.readouterr().out.partition("until: ")[2].splitlines()[0]
    verb, *words = shlex.split(hint)[1:]
    assert main([verb, *target, *words]) == 0
    assert f"{name} is released" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["quarantine", "release", "forget"])
def test_an_unknown_log_is_answered_with_the_three_nearest_names(pipeline, call, verb):
    why = ["--why", "x"] if verb == "quarantine" else []
    code, out = call(verb, "A-trian-0000", *why)
    assert code == 2 and f"did you mean '{LOG}' or " in out and out.count("A-") == 5
    assert "one of 3 logs" in out
    code, out = call(verb, "nope", *why)
    assert code == 2 and "A-" not in out and "list them: latentvla logs" in out
    for name in ("..", ".versions", "a/../../raw", ""):
        code, out = call(verb, name, *why)
        assert code == 2 and "there is no log" in out
    assert len(Ledger(pipeline).usable) == 3


def test_a_log_that_is_not_set_aside_cannot_be_released(call):
    code, out = call("release", LOG)
    assert code == 2 and "no record in the quarantine" in out


def test_a_log_is_set_aside_with_a_reason(call):
    code, out = call("quarantine", LOG, "--why", "  ")
    assert code == 2 and "--why" in out
