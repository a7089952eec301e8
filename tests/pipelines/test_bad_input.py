"""Every kind of broken log in one raw folder: each is quarantined with its reason, and the valid
one is ingested.

Mistyped folders, scales, sources and assets are tested in test_cli.py; checkpoints in
tests/storage/test_checkpoint.py and tests/student/test_export.py.
"""

import ast
import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from assets.chain.ledger import Ledger
from assets.chain.pipeline import Pipeline
from ops.ingest.quarantine import QuarantineRecord, quarantined
from pipelines.cli import main
from storage.errors import SourceError
from storage.sources import SOURCES
from tests.worlds import tiny_openscene as tiny
from tests.worlds.tiny_pipeline import checks_of, ingest, tiny_pipeline

VALID = "log_valid"
LONG_AGO_US = 1_500_000_000_000_000
# log -> fields of its frame 7 that are changed
BROKEN_FRAMES = {
    "log_nan": {"ego2global_translation": np.array([np.nan, 0.0, 0.0])},
    "log_jump": {"ego2global_translation": np.array([900.0, 0.0, 0.0])},
    "log_back": {"timestamp": LONG_AGO_US},
}
CUT_FRAME = 3


@dataclass(frozen=True)
class Reason:
    """A part of each line of the message that a quarantined log must have."""

    asset: str  # at which it is quarantined
    what: str
    where: str  # after the name of the log
    expected: str
    found: str
    do: str


REPAIR = "correct or leave out this log"
EXPECTED = {
    "log_nan": Reason(
        "frames", "pose_world is not a number", "frame 7, file", "finite values", "nan", REPAIR
    ),
    "log_jump": Reason(
        "frames",
        "the pose jumps",
        "frame 7, file",
        "agrees with the speed",
        "(2 frames are bad)",
        REPAIR,
    ),
    "log_back": Reason(
        "frames", "time stamps go back", "frame 7, file", "strictly increasing", "-", REPAIR
    ),
    "log_cut": Reason(
        "frames",
        "an image cannot be read",
        f"frame {CUT_FRAME}, file",
        "a whole JPEG",
        "without its end marker",
        "download or write the image again",
    ),
    "log_evil": Reason(
        "raw_logs",
        "more than plain data",
        "log_evil.pkl",
        "numpy arrays",
        "system",
        "do not open it",
    ),
    "log_half": Reason(
        "raw_logs",
        "this pickle cannot be read",
        "log_half.pkl",
        "a whole pickle",
        "Error",
        "download or write the file again",
    ),
    "log_short": Reason(
        "trajectories",
        "shorter than one window",
        "",
        "at least 5.5 s",
        "2.50 s, 6 frames",
        "join it with its neighbours",
    ),
}
LAYOUTS = {
    "openscene": "navsim_logs/<split>/<log>.pkl",
    "kitti_raw": "<date>/<date>_drive_<number>_sync",
    "nuscenes": "v1.0-<part>/scene.json",
    "kitti_odometry": "[dataset/]sequences/<NN>",
    "comma2k19": "[Chunk_N/]<dongle>|<time>/<segment>/video.hevc",
    "video": "<log>/ with a video",
}
ROOT = Path(__file__).parents[2]


class Evil:
    """Touches a file when it is unpickled by a reader that trusts its input."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.file}",)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A raw folder with one valid log and one of every broken kind, ingested once."""
    folder = tmp_path_factory.mktemp("bad")
    raw = folder / "raw"
    for log in (VALID, *EXPECTED):
        frames = tiny.write_log(raw, log, frames=6 if log == "log_short" else 16)
        frames[min(7, len(frames) - 1)] |= BROKEN_FRAMES.get(log, {})
        file = tiny.write_frames_file(raw, log, "train", frames)
        if log == "log_evil":
            file.write_bytes(pickle.dumps([Evil(folder / "it_ran"), *frames]))
        elif log == "log_half":
            file.write_bytes(file.read_bytes()[:-2000])
        elif log == "log_cut":
            image = (
                raw / "sensor_blobs" / "train" / frames[CUT_FRAME]["cams"]["CAM_F0"]["data_path"]
            )
            image.write_bytes(image.read_bytes()[:-200])
    pipeline = tiny_pipeline(folder / "lake", raw=raw)
    with dg.DagsterInstance.ephemeral() as instance:
        result = ingest(pipeline, instance)
        assert result.success and checks_of(result)["logs_are_readable"] is False
    return pipeline


@pytest.fixture(scope="module")
def records(pipeline: Pipeline) -> dict[str, QuarantineRecord]:
    return quarantined(pipeline.lake)


def test_only_the_broken_logs_are_quarantined_and_the_valid_one_is_ingested(
    pipeline: Pipeline, records: dict[str, QuarantineRecord]
) -> None:
    assert set(records) == set(EXPECTED)
    assert Ledger(pipeline).usable == pipeline.lake.log_ids("trajectories") == [VALID]
    assert Ledger(pipeline).todo() == []  # the same bytes fail again


@pytest.mark.parametrize("log", EXPECTED)
def test_the_reason_says_what_is_wrong_where_and_what_to_do(
    records: dict[str, QuarantineRecord], log: str
) -> None:
    wanted, record = EXPECTED[log], records[log]
    what, *lines = record.reason.split("\n")
    parts = dict(line.strip().split(": ", 1) for line in lines)
    assert list(parts) == ["where", "expected", "found", "what to do"], record.reason
    assert record.asset == wanted.asset and wanted.what in what
    assert parts["where"].startswith(f"log {log}") and wanted.where in parts["where"], record.reason
    assert wanted.expected in parts["expected"] and wanted.found in parts["found"], record.reason
    assert wanted.do in parts["what to do"], record.reason


def test_a_pickle_with_code_in_it_is_never_run(pipeline: Pipeline) -> None:
    assert not (pipeline.lake.root.parent / "it_ran").exists()


def test_a_person_sees_every_reason_on_the_index_page(pipeline: Pipeline, tmp_path: Path) -> None:
    index = tmp_path / "index.html"
    assert main(["show", "--lake", str(pipeline.lake.root), "--out", str(index)]) == 0
    text = index.read_text()
    assert all(
        f"quarantined at {reason.asset}" in text and reason.what in text
        for reason in EXPECTED.values()
    )


@pytest.mark.parametrize("source", SOURCES)
def test_a_raw_folder_that_is_missing_a_file_or_without_logs_says_what_is_expected_there(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "holiday.mp4").touch()
    for raw, what, found in (
        ("nowhere", "does not exist", "nothing"),
        ("dagster.yaml", "does not exist", "a file"),
        ("empty", "there is no log", "an empty folder"),
        ("other", "there is no log", "holiday.mp4"),
    ):
        assert (
            main(
                [
                    "run",
                    "--scale",
                    "smoke",
                    "--source",
                    source,
                    "--raw",
                    str(tmp_path / raw),
                    "--lake",
                    str(tmp_path / "lake"),
                ]
            )
            == 2
        )
        error = capsys.readouterr().err
        assert what in error and f"where: {tmp_path / raw}" in error and "Traceback" not in error
        assert LAYOUTS[source] in error and f"found: {found}" in error and "--raw" in error


@pytest.mark.parametrize(
    "file",
    [
        *sorted((ROOT / "storage" / "sources").glob("*.py")),
        ROOT / "ops" / "ingest" / "decode.py",
        ROOT / "ops" / "ingest" / "extract.py",
    ],
    ids=lambda file: file.name,
)
def test_every_refusal_of_a_log_says_where_what_was_expected_what_was_found_and_what_to_do(
    file: Path,
) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "SourceError"
        ):
            assert {word.arg for word in node.keywords} == {"where", "expected", "found", "do"}, (
                f"line {node.lineno}"
            )


def test_the_log_is_named_once_whether_or_not_the_reader_names_it() -> None:
    named = SourceError("bad", where="log a, frame 3", expected="good", found="bad", do="repair")
    assert named.of_log("a") is named
    assert str(named.of_log("a2").where) == "log a2, log a, frame 3"
    assert str(SourceError("bad", where="/raw/a.pkl").of_log("a").where) == "log a, /raw/a.pkl"
    assert str(SourceError("bad").of_log("a").where) == "log a"
