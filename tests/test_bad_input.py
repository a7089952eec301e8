"""Every kind of broken log in one raw folder: each is set aside with its reason, and the sound one goes on.

What a person can mistype (a folder, a scale, a source, a link) stands in test_cli.py; checkpoints in test_checkpoint.py
and test_export.py.
"""

import os
import pickle
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import tiny_openscene as tiny
from tiny_chain import checks_of, ingest, tiny_chain

from assets.chain import Chain, RawLogs
from assets.links import needs_work, usable_logs
from ops.quarantine import QuarantineRecord, quarantined
from pipelines.cli import main

SOUND = "log_sound"
LONG_AGO_US = 1_500_000_000_000_000
# log -> fields of its frame 7 that are changed
BROKEN_FRAMES = {
    "log_nan": {"ego2global_translation": np.array([np.nan, 0.0, 0.0])},
    "log_jump": {"ego2global_translation": np.array([900.0, 0.0, 0.0])},
    "log_back": {"timestamp": LONG_AGO_US},
}
# log -> link at which it is set aside, words of the reason
EXPECTED = {
    "log_nan": ("frames", ("pose_world is not a number", "frame 7")),
    "log_jump": ("frames", ("the pose jumps", "frame 7")),
    "log_back": ("frames", ("time stamps go back", "frame 7")),
    "log_cut": ("frames", ("an image cannot be read", ".jpg")),
    "log_evil": ("raw_logs", ("more than plain data", "log_evil.pkl")),
    "log_half": ("raw_logs", ("cannot be read", "log_half.pkl")),
    "log_short": ("trajectories", ("shorter than one window", "5.5 s")),
}


class Evil:
    """Touches a file when it is unpickled by a reader that trusts its input."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.file}",)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A chain over a raw folder with one sound log and one of every broken kind, ingested once."""
    folder = tmp_path_factory.mktemp("bad")
    raw = folder / "raw"
    for log in (SOUND, *EXPECTED):
        frames = tiny.write_log(raw, log, frames=6 if log == "log_short" else 16)
        frames[min(7, len(frames) - 1)] |= BROKEN_FRAMES.get(log, {})
        file = tiny.write_frames_file(raw, log, "train", frames)
        if log == "log_evil":
            file.write_bytes(pickle.dumps([Evil(folder / "it_ran"), *frames]))
        elif log == "log_half":
            file.write_bytes(file.read_bytes()[:-2000])
        elif log == "log_cut":
            image = raw / "sensor_blobs" / "train" / frames[3]["cams"]["CAM_F0"]["data_path"]
            image.write_bytes(image.read_bytes()[:-200])
    chain = tiny_chain(folder / "lake", raw=raw)
    with dg.DagsterInstance.ephemeral() as instance:
        result = ingest(chain, instance)
        assert result.success and checks_of(result)["logs_are_readable"] is False
    return chain


@pytest.fixture(scope="module")
def records(chain: Chain) -> dict[str, QuarantineRecord]:
    return quarantined(chain.lake)


def test_only_the_broken_logs_are_set_aside_and_the_sound_one_goes_on(chain: Chain,
                                                                      records: dict[str, QuarantineRecord]) -> None:
    assert set(records) == set(EXPECTED)
    assert usable_logs(chain) == chain.lake.log_ids("trajectories") == [SOUND]
    assert not any(needs_work(chain, RawLogs(chain), log) for log in RawLogs(chain).ids)    # the same bytes fail again


@pytest.mark.parametrize("log", EXPECTED)
def test_the_reason_says_what_is_wrong_where_and_what_to_do(records: dict[str, QuarantineRecord], log: str) -> None:
    link, words = EXPECTED[log]
    assert records[log].link == link
    assert all(word in records[log].reason for word in (*words, "what to do")), records[log].reason


def test_a_pickle_with_code_in_it_is_never_run(chain: Chain) -> None:
    assert not (chain.lake.root.parent / "it_ran").exists()


def test_a_person_sees_every_reason_on_the_index_page(chain: Chain, tmp_path: Path) -> None:
    index = tmp_path / "index.html"
    assert main(["show", "--lake", str(chain.lake.root), "--out", str(index)]) == 0
    text = index.read_text()
    assert all(f"set aside at {link}" in text and words[0] in text for link, words in EXPECTED.values())
