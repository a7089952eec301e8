"""The oracle: what it is given, and that its plan follows the recorded codes."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.planners.planner import PlannerNet
from ops.ablation.oracle import open_oracle, oracle_fusion, train_oracle, with_recorded_codes
from ops.planners.checkpoint import load_planner, save_planner
from ops.planners.scored_proposals import score_proposals
from ops.planners.training_arrays import TrainingArrays
from ops.training.config import ComputeConfig
from storage.dataset import FrameSet
from storage.errors import ArtifactError
from tests.worlds.tiny_vla import HEIGHT, RECIPE, VLA, WIDTH, score_by_displacement, tiny_frames

CODES, SLOTS = 16, 12


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An oracle, trained for a few steps with the recipe of a VLA that has no VLM."""
    root = tmp_path_factory.mktemp("oracle")
    torch.manual_seed(0)
    save_planner(root / "vla" / "planner_alone", PlannerNet(RECIPE.planner))
    (root / "vla" / "config.json").write_text(
        json.dumps({"recipe": asdict(RECIPE), "image_hw": [HEIGHT, WIDTH]})
    )

    def newly_scored(vla, *arguments):
        return score_proposals(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ops.vla.planner_rows.scored_proposals_for", newly_scored)
        train_oracle(
            tiny_frames(),
            root / "vla",
            root / "out",
            oracle_fusion(VLA.fusion),
            num_codes=CODES,
            score_plans=score_by_displacement,
            compute=ComputeConfig(threads=1, at_once=1),
            runs=root / "runs",
            name="oracle-test",
            seed=0,
        )
    assert not [*(root / "runs").iterdir()]
    return root / "out"


def arrays_of(rows: FrameSet) -> TrainingArrays:
    return with_recorded_codes(TrainingArrays(rows.status, rows.future), rows, CODES)


def test_the_arrays_hold_the_code_and_the_slot_and_nothing_of_a_vlm():
    rows = tiny_frames(1)
    valid = rows.codes_valid.copy()
    valid[:, 9:] = False
    arrays = arrays_of(replace(rows, codes_valid=valid))
    assert arrays.visual.shape == (len(rows), 1, CODES + SLOTS) and not arrays.visual.any()
    code, slot = arrays.action[..., :CODES], arrays.action[..., CODES:]
    assert arrays.action.dtype == arrays.visual.dtype == np.float16
    assert np.array_equal(code[:, :9].argmax(axis=-1), rows.codes[:, :9])
    assert (code[:, :9].sum(axis=-1) == 1).all() and not code[:, 9:].any()
    assert (slot == np.eye(SLOTS)).all()


def test_rows_without_codes_or_with_codes_of_another_codebook_are_refused():
    rows = tiny_frames(1)
    without = replace(rows, codes=rows.codes[:, :0], codes_valid=rows.codes_valid[:, :0])
    with pytest.raises(ArtifactError, match="until relabeled"):
        arrays_of(without)
    with pytest.raises(ArtifactError, match="largest is 16"):
        arrays_of(replace(rows, codes=np.full_like(rows.codes, CODES)))


def test_the_plan_follows_the_recorded_codes_alone(trained):
    planner, rows = open_oracle(trained, CODES), tiny_frames(1, seed=1)
    plans = planner.plan(rows)
    assert plans.shape == (len(rows), 8, 3) and np.isfinite(plans).all() and planner.parameters > 0
    other = planner.plan(replace(rows, codes=(rows.codes + 5) % CODES))
    assert (np.abs(other - plans).max(axis=(1, 2)) > 0).all()
    hidden = replace(rows, codes_valid=np.zeros_like(rows.codes_valid))
    without = [planner.plan(replace(hidden, codes=codes)) for codes in (rows.codes, 0 * rows.codes)]
    assert np.array_equal(*without)


def test_rows_with_another_number_of_codes_are_refused(trained):
    rows = tiny_frames(1)
    fewer = replace(rows, codes=rows.codes[:, :8], codes_valid=rows.codes_valid[:, :8])
    with pytest.raises(ArtifactError, match="12 codes a row"):
        open_oracle(trained, CODES).plan(fewer)


def test_the_planner_is_that_of_the_recipe_with_four_pooled_tokens(trained):
    model = load_planner(trained / "planner", "fused_planner")
    assert model.fusion_config.tokens == 4 and model.fusion_config.vlm_width == CODES + SLOTS
    assert model.planner.config.width == RECIPE.planner.width
    assert (trained / "history" / "planner.jsonl").exists()
