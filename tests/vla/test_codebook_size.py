"""A codebook of another size: 64 codes, 2 tokens, 3 transitions, from the labels to the deployed
student.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.latent_action.config import QuantizerConfig
from ops.latent_actions.config import RelabelConfig
from ops.latent_actions.learn_actions import learn_actions
from ops.latent_actions.probe import code_usage
from ops.latent_actions.relabel import relabel
from ops.planners.checkpoint import load_planner
from ops.student.distill import distill
from ops.student.predict import Student
from ops.training.config import ComputeConfig
from ops.vla.finetune import finetune
from ops.vla.planner import open_vla
from storage.trajectory_table import CodeLayout, code_layout
from tests.latent_actions.test_learn_actions import recipe
from tests.latent_actions.test_relabel import table_of
from tests.worlds.ground_world import drive
from tests.worlds.tiny_vla import STUDENT, VLA, score_by_displacement, tiny_frames

COMPUTE = ComputeConfig(threads=1)
LAYOUT = CodeLayout(transitions=3, tokens=2, codes=64)


def test_the_codebook_and_the_labels_have_its_size(tmp_path):
    import pyarrow.parquet as pq

    base = recipe(4, 6)
    quantizer = replace(base.model.ego_quantizer, codes=LAYOUT.codes, tokens=LAYOUT.tokens)
    config = replace(base, model=replace(base.model, ego_quantizer=quantizer))
    assert isinstance(quantizer, QuantizerConfig) and config.num_codes == 64
    out = tmp_path / "codebook"
    out.mkdir()
    learn_actions(
        drive(2, seed=1),
        drive(1, seed=2),
        out,
        config,
        compute=COMPUTE,
        runs=tmp_path / "runs",
        name="codebook",
        seed=0,
    )
    rows = drive(2, seed=3, frames=8)
    config_of_labels = RelabelConfig(transitions=LAYOUT.transitions, threads=1)
    relabel(rows, table_of(rows), out, "v", tmp_path, config_of_labels)
    table = pq.read_table(tmp_path / "relabeled.parquet")
    assert code_layout(table) == LAYOUT and code_usage(table).counts_KC.shape == (2, 64)


@pytest.mark.slow
def test_vla_and_student_follow_the_rows_and_the_size_of_the_codebook(tmp_path):
    def rows_of(frames):
        codes = np.random.default_rng(0).integers(0, LAYOUT.codes, (len(frames), LAYOUT.slots))
        return replace(frames, codes=codes, codes_valid=np.ones_like(codes, dtype=bool))

    train, val = rows_of(tiny_frames()), rows_of(tiny_frames(1, seed=1, prefix="val"))
    assert train.codes.max() > 16
    shared = {"score_plans": score_by_displacement, "compute": COMPUTE, "seed": 0}
    folders = {name: tmp_path / name for name in ("vla", "student")}
    for folder in folders.values():
        folder.mkdir()
    finetune(
        train,
        val,
        folders["vla"],
        VLA,
        num_codes=LAYOUT.codes,
        runs=tmp_path / "runs",
        name="vla",
        **shared,
    )
    vla = open_vla(folders["vla"])
    assert vla.vlm.processor.codes == LAYOUT.codes and vla.vlm.slots == LAYOUT.slots
    distill(
        train,
        val,
        *folders.values(),
        STUDENT,
        runs=tmp_path / "runs",
        name="student",
        **shared,
    )
    config = json.loads((folders["student"] / "config.json").read_text())["imitator"]
    assert (config["code_slots"], config["codes"]) == (LAYOUT.slots, LAYOUT.codes)
    student = load_planner(folders["student"], "student")
    inputs = (
        torch.from_numpy(val.images[:2, ::2, ::2].copy()),
        *map(torch.from_numpy, (val.camera[:2], val.status[:2])),
    )
    with torch.no_grad():
        assert student(*inputs).code_logits_BSK.shape == (2, LAYOUT.slots, LAYOUT.codes)
    deployed = Student.from_pretrained(folders["student"])
    status = np.tile([[5.0, 0.0, 0.0, 0.0]], (2, 1))
    assert deployed.plan(val.images[:2], status, ["left", "right"]).shape == (2, 8, 3)
