"""A training resumes from what is sound: a damaged checkpoint or history starts it afresh, and one
that would run code is refused.
"""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ops.training.config import ComputeConfig
from ops.training.launch import Session, launch, read_history, read_state, run_lock
from storage.errors import ArtifactError, ConfigError

STEPS, KILLED_AT = 6, 5


@dataclass(frozen=True)
class Counting:
    """Configuration of counting_loop."""

    killed_at: int = 0


def counting_loop(config: Counting, session: Session) -> dict:
    """Counts to STEPS with a checkpoint every second step; ends with an error at `killed_at`."""
    state = session.resume()
    start = state["step"] if state else 0
    for step in range(start + 1, STEPS + 1):
        if step == config.killed_at:
            raise KeyboardInterrupt
        tensors = {"value": torch.full((3,), float(step)), "groups": [{"lr": 0.5, "on": None}]}
        session.report(step, {"value": float(step)}, tensors if step % 2 == 0 else None)
    return {"began_at": start}


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_checkpoint_that_would_run_code_is_refused_by_name_and_runs_none(tmp_path):
    marker, file = tmp_path / "ran", tmp_path / "run" / "state.pt"
    file.parent.mkdir()
    for value in (Evil(marker), np.dtype("float32"), ComputeConfig()):
        torch.save({"step": 1, "model": value}, file)
        with pytest.raises(ArtifactError, match=r"not read[\s\S]*state.pt[\s\S]*what to do"):
            read_state(file)
    file.write_bytes(pickle.dumps({"step": 1, "model": Evil(marker)}))
    assert read_state(file) is None, "no zip archive: set aside, not unpickled"
    torch.save({"step": 1, "model": Evil(marker)}, file, _use_new_zipfile_serialization=False)
    assert read_state(file) is None
    assert not marker.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.98, None])
def test_a_cut_or_changed_checkpoint_is_named_and_counts_as_none(tmp_path, share, caplog):
    file = tmp_path / "state.pt"
    assert read_state(file) is None and not caplog.text
    torch.save({"step": 4, "model": {"w": torch.arange(2000.0)}}, file)
    data = file.read_bytes()
    state = read_state(file)
    assert state is not None and state["step"] == 4
    if share is None:  # one byte of a tensor
        file.write_bytes(data[: len(data) // 2] + b"\x99" + data[len(data) // 2 + 1 :])
    else:
        file.write_bytes(data[: int(len(data) * share)])
    assert read_state(file) is None
    assert "'state.pt' is damaged" in caplog.text and str(file) in caplog.text


def test_half_a_line_of_a_history_is_left_out_and_named(tmp_path, caplog):
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "history.jsonl"
    file.write_bytes(b'{"step": 1, "loss": 2.0}\n[3]\nnull\n{"loss": 1}\n\xff\xfe\n{"step": 2, "lo')
    assert read_history("run", tmp_path) == [{"step": 1, "loss": 2.0}]
    assert "line 6" in caplog.text and read_history("none", tmp_path) == []


@pytest.mark.slow
def test_a_run_resumes_from_a_sound_checkpoint_and_starts_afresh_from_a_damaged_one(tmp_path):
    def train(killed_at=0):
        compute = ComputeConfig()
        return launch(
            counting_loop, Counting(killed_at), name="run", runs=tmp_path, compute=compute
        )

    def killed():
        with pytest.raises(BaseException):  # noqa: B017 - Ray may wrap it
            train(KILLED_AT)

    folder = tmp_path / "run"
    state, history = folder / "state.pt", folder / "history.jsonl"
    killed()
    assert not list(folder.glob(".*.part-*"))
    with history.open("a") as file:
        file.write('{"step": 5, "va')  # the process died while it wrote this line
    assert train() == {"began_at": 4}
    assert [row["step"] for row in read_history("run", tmp_path)] == list(range(1, STEPS + 1))

    for damage in (
        lambda: state.write_bytes(state.read_bytes()[:100]),
        lambda: history.write_text(""),
        lambda: history.write_text(json.dumps({"step": 1, "value": 1.0}) + "\n"),
    ):
        state.unlink()
        killed()
        damage()
        assert train() == {"began_at": 0}
        assert [row["step"] for row in read_history("run", tmp_path)] == list(range(1, STEPS + 1))
        assert (folder / "state.pt.damaged").exists()


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    script = (
        "import sys; from pathlib import Path; from ops.training.launch import run_lock\n"
        "with run_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with (
            pytest.raises(ConfigError, match=rf"training 'run'[\s\S]*process {other.pid} on"),
            run_lock(tmp_path / "run"),
        ):
            pass
        other.kill()
    with run_lock(tmp_path / "run"):
        pass
