"""The door to Ray Train: the same loop in this process and on real workers."""

import json
from pathlib import Path

import pytest
import torch
from ground_world import drive
from torch import nn

from ops.fit import FitConfig, fit
from ops.launch import LaunchConfig, Session, forget, launch, read_history
from ops.learn_actions import learn_actions, read_codebook

ONE = LaunchConfig(threads=1)


def straight_line(config: dict) -> dict:
    """A loop: one weight learns to be two."""
    session = Session(config)
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    data = torch.linspace(-1, 1, 64)[:, None]

    def loss_of(wrapped, rows):
        loss = (wrapped(data[rows]) - 2 * data[rows]).square().mean()
        if config.get("die_at") and len(read_history("line", Path(config["_run"]).parent)) >= config["die_at"]:
            raise RuntimeError("killed")
        return loss, {}

    plan = FitConfig(steps=30, batch=16, learning_rate=0.1, weight_decay=0.0, report_every=1, checkpoint_every=10)
    fit(session, model, loss_of, len(data), plan, seed=0)
    return {"weight": model.weight.item(), "ranks": session.world_size}


def test_a_loop_in_this_process_returns_and_keeps_its_history(tmp_path):
    returned = launch(straight_line, {}, name="line", runs=tmp_path, where=ONE)
    assert returned["weight"] == pytest.approx(2, abs=0.1) and returned["ranks"] == 1
    history = read_history("line", tmp_path)
    assert [row["step"] for row in history] == list(range(1, 31))
    assert history[-1]["loss"] < 0.1 * history[0]["loss"]
    forget("line", tmp_path)
    assert read_history("line", tmp_path) == []


def test_a_killed_loop_goes_on_from_its_last_checkpoint_to_the_same_end(tmp_path):
    whole = launch(straight_line, {}, name="line", runs=tmp_path / "whole", where=ONE)
    with pytest.raises(Exception, match="killed"):
        launch(straight_line, {"die_at": 17}, name="line", runs=tmp_path / "killed", where=ONE)
    assert launch(straight_line, {}, name="line", runs=tmp_path / "killed", where=ONE) == whole
    rows = [[row["loss"] for row in read_history("line", tmp_path / folder)] for folder in ("whole", "killed")]
    assert rows[0] == rows[1], "rows after the checkpoint are dropped, not doubled"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_real_workers_learn_a_codebook(workers, tmp_path):
    from test_learn_actions import recipe

    train, heldout = drive(4, seed=1), drive(2, seed=2)
    where = LaunchConfig(num_workers=workers, threads=1)
    health = learn_actions(train, heldout, tmp_path, recipe(8, 12), where=where, runs=tmp_path / "runs", name="x", seed=0)
    steps = [json.loads(line)["step"] for line in (tmp_path / "history_ego.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 8, 10, 12] and health.pairs == 2 * 11
    assert health.perplexity > 1
    codes = read_codebook(tmp_path)[0].encode(*(torch.from_numpy(heldout.images[side]) for side in ([0, 1], [1, 2])))
    assert codes.shape == (2, 4)
