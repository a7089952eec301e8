"""`latentvla run --again`: what is current is made again, of one log or of all; and a run that only
checks says so.
"""

import shutil
from pathlib import Path

import pytest

from assets.chain.ledger import Ledger, State
from assets.chain.pipeline import Pipeline
from pipelines.cli import main
from storage.artifact import read_lineage
from storage.asset_names import INGEST_ASSETS

ROOT = Path(__file__).parents[2]
LOGS = ("A-train-0000", "A-train-0001", "A-val-0000")


@pytest.fixture
def run(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    """`latentvla run` over the three logs: its exit code, and what it printed."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    target = ["--scale", "smoke", "--raw", pipeline.raw, "--lake", pipeline.lake_root]

    def call(*words: str, until: str = "trajectories") -> tuple[int, str]:
        code = main(["run", *target, "--until", until, *words])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    assert call()[0] == 0
    return call


def made(pipeline: Pipeline, asset: str) -> dict[str, tuple[str, Path]]:
    paths = {log: pipeline.lake.log(asset, log) for log in LOGS}
    return {log: (read_lineage(path).version, path.resolve()) for log, path in paths.items()}


def test_one_log_or_all_of_an_asset_are_made_again_with_the_same_version(pipeline, run):
    before = {asset: made(pipeline, asset) for asset in INGEST_ASSETS}
    code, out = run("--again", "raw_logs", "--again", f"frames/{LOGS[1]}")
    assert code == 0 and "  frames " in out and "  trajectories " not in out
    after = {asset: made(pipeline, asset) for asset in INGEST_ASSETS}
    changed = {
        asset: [log for log in LOGS if after[asset][log] != before[asset][log]]
        for asset in INGEST_ASSETS
    }
    assert changed == {"raw_logs": list(LOGS), "frames": [LOGS[1]], "trajectories": []}
    assert after["frames"][LOGS[1]][0] == before["frames"][LOGS[1]][0]
    assert Ledger(pipeline).usable == list(LOGS) and "nothing to do" in run()[1]


def test_a_run_that_only_checks_says_so(pipeline, run):
    (pipeline.lake.log("frames", LOGS[0]) / "checks.json").unlink()
    code, out = run()
    assert code == 0 and "only checked, as it was made before: frames (1 log)" in out
    assert Ledger(pipeline).state("frames", LOGS[0]) is not State.UNCHECKED


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("studnet", "did you mean 'student'"),
        ("student", "comes after 'trajectories'"),
        ("frames/A-trian-0000", "did you mean 'A-train-0000'"),
        ("frames/", "there is no log ''"),
        ("frames/../../raw", "there is no log '../../raw'"),
    ],
)
def test_what_cannot_be_made_again_is_explained(run, name, message):
    code, out = run("--again", name)
    assert code == 2 and message in out


def test_a_quarantined_log_and_one_log_of_what_is_made_of_all_are_refused(pipeline, run):
    code, out = run("--again", f"codebook/{LOGS[0]}", until="codebook")
    assert code == 2 and "is made for all logs at once" in out
    target = ["--raw", pipeline.raw, "--lake", pipeline.lake_root]
    assert main(["quarantine", LOGS[0], "--why", "x", *target]) == 0
    code, out = run("--again", f"frames/{LOGS[0]}")
    assert code == 2 and "is quarantined" in out and "latentvla release" in out
