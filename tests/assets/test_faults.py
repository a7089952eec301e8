"""What the machine and people do to a lake, each kind once: the answer is clear, and the work goes
on. `python -m benchmarks.faults` tries the same at random moments of whole runs.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from assets.chain.ledger import Ledger
from assets.chain.pipeline import Pipeline
from pipelines.cli import main
from storage.artifact import planned_lineage, read_lineage, verify, write_artifact
from storage.asset_names import INGEST_ASSETS
from storage.writers import this_writer
from tests.worlds.tiny_pipeline import tiny_pipeline

LOGS = ["A-train-0000", "A-train-0001", "A-val-0000"]
DAYS_S = 86400.0


def is_whole(pipeline: Pipeline) -> bool:
    """True if all is current and undamaged."""
    ledger = Ledger(pipeline)
    paths = [ledger.lake.log(asset, log) for asset in INGEST_ASSETS for log in LOGS]
    return ledger.usable == LOGS and not ledger.todo() and not any(map(verify, paths))


def cli(pipeline: Pipeline, *words: str, largest: int | None = None) -> tuple[int, str]:
    """A command in a process that can write no file beyond `largest` bytes."""
    limits = (resource.RLIM_INFINITY if largest is None else largest, resource.RLIM_INFINITY)
    target = ("--raw", pipeline.raw, "--lake", pipeline.lake_root)
    process = subprocess.run(
        (sys.executable, "-m", "pipelines.cli", *words, *target),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
    )
    return process.returncode, process.stdout + process.stderr


def test_a_file_that_the_disk_has_no_room_for_is_told_and_leaves_nothing(pipeline):
    code, out = cli(pipeline, "quarantine", LOGS[0], "--why", "x", largest=0)
    assert code == 2 and "make room" in out and "Traceback" not in out
    assert not list(pipeline.lake.quarantine.glob("*")) and is_whole(pipeline)
    assert cli(pipeline, "quarantine", LOGS[0], "--why", "x")[0] == 0


def test_a_full_disk_under_an_artefact_leaves_the_old_one(pipeline):
    path = pipeline.lake.log("frames", LOGS[0])
    before = (read_lineage(path), path.resolve())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(OSError), write_artifact(path, replace(before[0], version="0" * 16)) as out:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            (out / "images").write_bytes(b"x" * 4000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (read_lineage(path), path.resolve()) == before and is_whole(pipeline)
    assert not list((path.parent / ".versions" / LOGS[0]).glob("*.part-*"))


@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_is_set_makes_nothing_stale_and_gc_keeps_what_is_used(pipeline, capsys, days):
    lake = pipeline.lake
    (lake.runs / "vla-0").mkdir(parents=True)
    for item in pipeline.lake.root.rglob("*"):
        if not item.is_symlink() and ".runs" not in item.parts:
            os.utime(item, (item.stat().st_mtime + days * DAYS_S,) * 2)
    assert is_whole(pipeline)
    with write_artifact(lake.asset("codebook"), planned_lineage("codebook", {}, {}, "a")):
        pass
    os.utime(lake.asset("codebook").resolve(), (0, 2**31 + days * DAYS_S))
    with write_artifact(lake.asset("codebook"), planned_lineage("codebook", {}, {}, "b")):
        pass
    assert read_lineage(lake.asset("codebook")).code_version == "b"
    assert main(["gc", "--keep", "1", "--lake", pipeline.lake_root]) == 0
    assert read_lineage(lake.asset("codebook")).code_version == "b" and is_whole(pipeline)
    assert (lake.runs / "vla-0").is_dir()


@pytest.mark.parametrize("how", ["renamed", "copied", "copied with its links followed"])
def test_a_lake_elsewhere_is_the_same_lake(pipeline, tmp_path, how):
    there = tmp_path / "elsewhere" / "a lake"
    there.parent.mkdir()
    if how == "renamed":
        Path(pipeline.lake_root).rename(there)
    else:
        shutil.copytree(pipeline.lake_root, there, symlinks=how == "copied")
    assert is_whole(tiny_pipeline(there, raw=pipeline.raw))


@pytest.mark.parametrize("other", [{"host": "elsewhere"}, {"boot": "before"}])
def test_a_lock_that_was_left_by_another_host_or_start_holds_nobody_up(pipeline, other):
    writer = replace(this_writer(), **other)
    line = {"writer": asdict(writer), "alone": True, "since_utc": "2020-01-01T00:00:00+00:00"}
    (pipeline.lake.root / ".lock").write_text(json.dumps(line) + "\n")
    part = pipeline.lake.root / "frames" / ".versions" / LOGS[0] / f"{'0' * 16}.part-{writer.tag}"
    part.mkdir()
    assert main(["gc", "--lake", pipeline.lake_root]) == 0
    # nobody knows whether a process of another host lives
    assert part.exists() == ("host" in other) and is_whole(pipeline)
