"""Logs of other rates, with pauses or without motion: what ingest makes of each."""

from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from assets.chain.ledger import Ledger
from assets.chain.pipeline import Pipeline
from ops.ingest.each_log import read_summary
from ops.ingest.quarantine import QuarantineRecord, quarantined
from storage.dataset import read_dataset
from storage.trajectory_table import FUTURE_STEPS, HISTORY_STEPS, STEP_S, read_table
from tests.worlds import tiny_openscene as tiny
from tests.worlds.tiny_pipeline import checks_of, ingest, tiny_pipeline

SPAN_S, PAUSE_S = 9.0, 10.0
RATES = {"log_3hz": 3.0, "log_600ms": 1 / 0.6, "log_12hz": 12.0}


def write_paused(raw: Path, log: str, pause_s: float) -> None:
    frames = tiny.write_log(raw, log, frames=20)
    for frame in frames[10:]:
        frame["timestamp"] += round(pause_s * 1e6)
        frame["ego2global_translation"] += pause_s * 5.0 * np.array([np.cos(0.3), np.sin(0.3), 0])
    tiny.write_frames_file(raw, log, "train", frames)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """One raw folder with a log of each kind, ingested once."""
    folder = tmp_path_factory.mktemp("time")
    raw = folder / "raw"
    for log, hz in RATES.items():
        tiny.write_log(raw, log, frames=round(SPAN_S * hz) + 1, hz=hz)
    tiny.write_log(raw, "log_stands", frames=20, speed_mps=0.0)
    write_paused(raw, "log_paused", PAUSE_S)
    write_paused(raw, "log_skips", 1.0)
    pipeline = tiny_pipeline(folder / "lake", raw=raw)
    with dg.DagsterInstance.ephemeral() as instance:
        result = ingest(pipeline, instance)
        assert result.success and checks_of(result)["time_increases"] is False
    return pipeline


@pytest.fixture(scope="module")
def records(pipeline: Pipeline) -> dict[str, QuarantineRecord]:
    return quarantined(pipeline.lake)


def valid_of(pipeline: Pipeline, log: str) -> tuple[np.ndarray, np.ndarray]:
    """Valid masks (T, K) of history and future."""
    table = read_table(pipeline.lake.log("trajectories", log), "trajectories")
    history, future = (
        np.array(table[f"{name}_valid"].to_pylist()) for name in ("history", "future")
    )
    return history, future


def notes_of(pipeline: Pipeline, log: str) -> str:
    return " ".join(read_summary(pipeline.lake.log("trajectories", log))["notes"])


def test_a_pause_sets_that_log_aside_with_the_frame_and_the_others_go_on(pipeline, records):
    assert set(records) == {"log_paused"}
    reason = records["log_paused"].reason
    assert "time_increases" in reason and "10.5 in row log_paused/10" in reason, reason
    others = ["log_12hz", "log_3hz", "log_600ms", "log_skips", "log_stands"]
    assert Ledger(pipeline).usable == others


def test_a_short_gap_is_no_history_and_no_future(pipeline):
    history, future = valid_of(pipeline, "log_skips")
    # steps that fall between frames 9 and 10, 1.5 s apart, are not valid; those on a frame are
    assert future[9].tolist() == [False, False, True, True, True, True, True, True]
    assert history[10].tolist() == [True, True, False, False]


@pytest.mark.parametrize("log", RATES)
def test_history_and_future_are_at_exact_times_at_any_rate(pipeline, log):
    history, future = valid_of(pipeline, log)
    middle = len(history) // 2
    assert history[middle].all() and future[middle].all()
    table = read_table(pipeline.lake.log("trajectories", log), "trajectories")
    ahead = np.array(table["future_xyyaw"][middle].as_py()).reshape(FUTURE_STEPS, 3)[:, 0]
    assert np.allclose(ahead, 5.0 * STEP_S * np.arange(1, FUTURE_STEPS + 1), atol=1e-3)
    assert history.shape[1] == HISTORY_STEPS


@pytest.mark.parametrize(
    ("log", "pairs", "apart"),
    [("log_3hz", 0, "0.33"), ("log_600ms", 0, "0.60"), ("log_12hz", 1, "")],
)
def test_a_rate_without_image_pairs_is_told(pipeline, log, pairs, apart):
    frames = read_dataset(pipeline.lake, "train", size_hw=None, log_ids=[log])
    assert bool(len(frames.pairs(STEP_S))) == bool(pairs)
    told = f"images are {STEP_S} s apart (they are {apart} s apart)"
    assert (told in notes_of(pipeline, log)) == (not pairs)


def test_a_drive_that_only_stands_is_a_log_as_any_other(pipeline):
    summary = read_summary(pipeline.lake.log("trajectories", "log_stands"))
    assert summary["path_m"] == 0.0 and summary["max_speed_mps"] == 0.0
    frames = read_dataset(pipeline.lake, "train", size_hw=None, log_ids=["log_stands"])
    assert len(frames.pairs(STEP_S)) == 19 and not frames.future.any()
