"""The host planner, its fusion with the VLM, its score head, and the fit that trains them all."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.ego_mlp import EgoMlp, EgoMlpConfig
from models.fusion import FusedPlanner, FusionConfig, VlmFusion
from models.planner import SUBSCORES, Planner, Proposals, compose_log_score, offset_scale, plan_loss, straight_on
from ops.fit import FitConfig, RunPlace, batch_rows, fit, learning_rate_factor
from ops.fit_planner import planner_loop
from ops.fit_score import ScoreHeadConfig, train_scorer
from ops.launch import LaunchConfig
from ops.load_planner import load_planner, save_planner
from ops.make_planner import judging_of
from ops.predict import fit_images
from ops.propose import plan_rows, propose
from ops.training_arrays import RowChoice, TrainingArrays, mirrored, planner_frames
from storage.errors import ArtifactError, ConfigError
from tests.tiny_vla import SMALL_PLANNER, near_the_human, tiny_frames

FUSION = FusionConfig(vlm_width=12, width=16, heads=2)


def arrays_of(frames) -> TrainingArrays:
    return TrainingArrays(frames.status, frames.future, fit_images(frames.images, SMALL_PLANNER.image_hw))


def batch_of(rows: int):
    frames = tiny_frames(1, rows)
    arrays = arrays_of(frames)
    return torch.from_numpy(arrays.images), torch.from_numpy(frames.status), torch.from_numpy(frames.future)


class Here:
    """A session in this process; keeps the last state, and can be killed after a number of steps."""

    rank, world_size, device = 0, 1, torch.device("cpu")

    def __init__(self, state=None, killed_at=None):
        self.state, self.killed_at, self.losses = state, killed_at, []

    def resume(self):
        return self.state

    def prepare(self, model):
        return model

    def report(self, step, metrics, state=None):
        self.losses.append(metrics["loss"])
        if state is not None:
            self.state = {"step": step, **deepcopy(state)}
        if step == self.killed_at:
            raise KeyboardInterrupt


def test_a_planner_proposes_plans_and_chooses_one_of_them():
    images, status, _ = batch_of(5)
    planner = Planner(SMALL_PLANNER).eval()
    found = planner(images, status)
    assert found.plans_BK83.shape == (5, 3, 8, 3) and found.mode_logits_BK.shape == (5, 3)
    assert found.scene_BTD.shape == (5, 2 * 4 + 1, 16) and planner.score(found).shape == (5, 3, len(SUBSCORES))
    chosen = planner.choose(found)
    best = found.mode_logits_BK.argmax(dim=1)
    assert torch.equal(chosen, found.plans_BK83[torch.arange(5), best])


def test_the_anchor_is_straight_on_at_the_present_speed():
    plan = straight_on(torch.tensor([[4.0, 1.0, 2.0, 0.0, 0, 1, 0, 0]]))[0]
    assert plan[:, 0].tolist() == [2, 4, 6, 8, 10, 12, 14, 16] and not plan[:, 1:].any()


def test_the_scale_of_the_offsets_is_their_root_mean_square():
    status = torch.zeros(2, 8)
    future = torch.zeros(2, 8, 3)
    future[:, 3, 0] = torch.tensor([3.0, -3.0])
    scale = offset_scale(status, future)
    assert scale[3][0] == 3.0 and scale[0][0] == 0.02


def test_the_nearest_of_the_competing_proposals_gets_nearly_all_of_the_gradient():
    plans = torch.zeros(1, 3, 8, 3)
    plans[0, :, :, 0] = torch.tensor([1.0, 2.0, 9.0])[:, None]
    plans.requires_grad_()
    found = Proposals(plans, torch.zeros(1, 3), torch.zeros(1, 3, 16), torch.zeros(1, 9, 16))
    loss, best = plan_loss(found, torch.zeros(1, 8, 3), torch.ones(8, 3))
    loss.backward()
    pull = plans.grad[0, :, :, 0].sum(dim=1)
    assert best == 1.0
    assert torch.allclose(pull / pull[0], torch.tensor([1.0, 0.975, 0.025]))  # the middle, the winner, the other


def test_the_mode_learns_to_prefer_the_proposal_that_is_near():
    logits = torch.zeros(1, 3, requires_grad=True)
    plans = torch.zeros(1, 3, 8, 3)
    plans[0, :, :, 0] = torch.tensor([5.0, 0.0, 9.0])[:, None]
    plan_loss(
        Proposals(plans, logits, torch.zeros(1, 3, 16), torch.zeros(1, 9, 16)), torch.zeros(1, 8, 3), torch.ones(8, 3)
    )[0].backward()
    assert logits.grad.argmin() == 1 and logits.grad[0, 1] < 0


def test_the_composed_score_is_pdms():
    parts = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    expected = 0.9 * 0.8 * (5 * 0.7 + 5 * 0.6 + 2 * 0.5) / 12
    assert torch.allclose(compose_log_score(parts.logit()[None]).exp(), torch.tensor([expected]))


def test_a_trained_scorer_can_overrule_the_mode():
    images, status, _ = batch_of(4)
    planner = Planner(SMALL_PLANNER).eval()
    planner.config = replace(planner.config, score_weight=1.0)
    found = planner(images, status)
    with torch.no_grad():
        planner.scorer.out.weight.zero_()
    sure = torch.full((4, 3, 5), -3.0)
    sure[:, 2] = 3.0
    planner.score = lambda _: sure
    assert torch.equal(planner.choose(found), found.plans_BK83[:, 2])


@pytest.mark.parametrize("pool", ["attention", "average"])
def test_fusion_pools_both_streams_into_memory_tokens(pool):
    fusion = VlmFusion(replace(FUSION, pool=pool))
    visual, action = torch.randn(3, 7, 12), torch.randn(3, 12, 12)
    memory = fusion(visual, action)
    assert memory.shape == (3, 4, 16)
    assert torch.allclose(fusion(visual.flip(1), action), memory, atol=1e-5)  # a pool knows no order
    assert not torch.allclose(fusion(visual, action + 1), memory)


@pytest.mark.parametrize("kind", ["planner", "fused"])
def test_every_trained_number_gets_a_gradient(kind):
    images, status, future = batch_of(4)
    if kind == "planner":
        model = Planner(SMALL_PLANNER)
        found, planner = model(images, status), model
    else:
        model = FusedPlanner(replace(SMALL_PLANNER, second_memory=True), FUSION)
        found, planner = model(images, status, torch.randn(4, 7, 12), torch.randn(4, 12, 12)), model.planner
    (plan_loss(found, future, planner.scale_83)[0] + planner.score(found).sum()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_planner_overfits_eight_rows():
    images, status, future = batch_of(8)
    torch.manual_seed(0)
    planner = Planner(replace(SMALL_PLANNER, offset_scale=offset_scale(status, future)))
    planner.scorer.requires_grad_(False)

    def loss_of(model, rows):
        loss, best = plan_loss(model(images[rows], status[rows]), future[rows], planner.scale_83)
        return loss, {"best_ade_m": float(best)}

    fit(Here(), planner, loss_of, 8, FitConfig(steps=120, batch=8, learning_rate=1e-2, weight_decay=0.0), seed=0)
    with torch.no_grad():
        error = (planner.choose(planner(images, status)) - future)[..., :2].norm(dim=-1).mean()
    assert error < 0.1 * (straight_on(status) - future)[..., :2].norm(dim=-1).mean()


@pytest.mark.parametrize("kind", ["planner", "fused_planner", "ego_mlp"])
def test_it_saves_and_loads_the_same_bits(kind, tmp_path):
    torch.manual_seed(1)
    scale = tuple((float(step), 2.0, 0.5) for step in range(1, 9))
    sizes = replace(SMALL_PLANNER, offset_scale=scale)
    model = {
        "planner": lambda: Planner(sizes),
        "ego_mlp": lambda: EgoMlp(EgoMlpConfig(hidden=8, offset_scale=scale)),
        "fused_planner": lambda: FusedPlanner(replace(sizes, second_memory=True), FUSION),
    }[kind]().eval()
    frames = tiny_frames(1, 4)
    streams = {"visual": np.ones((4, 7, 12), np.float16), "action": np.ones((4, 12, 12), np.float16)}
    arrays = replace(arrays_of(frames), **streams)
    save_planner(tmp_path, model)
    assert np.array_equal(plan_rows(load_planner(tmp_path, kind), arrays), plan_rows(model, arrays))
    with pytest.raises(ArtifactError, match="another kind"):
        load_planner(tmp_path, "student")


def test_the_mirror_turns_left_into_right_and_back():
    frames = tiny_frames(1, 6)
    frames = replace(
        frames, command=np.array([0, 1, 2, 3, 0, 2]), acceleration=np.arange(12, dtype=np.float32).reshape(6, 2)
    )
    once = mirrored(frames)
    assert once.command.tolist() == [2, 1, 0, 3, 2, 0]
    assert np.array_equal(once.future[..., 1], -frames.future[..., 1])
    assert np.array_equal(once.images[:, :, 0], frames.images[:, :, -1])
    assert np.array_equal(once.status[:, 3], -frames.status[:, 3]) and not once.codes_valid.any()
    twice = mirrored(once)
    assert np.array_equal(twice.images, frames.images) and np.array_equal(twice.future, frames.future)


def test_planners_learn_only_from_rows_with_an_image_and_a_whole_future():
    frames = tiny_frames(1, 10)
    frames.future_valid[3, 7] = False
    frames.has_image[5] = False
    own, flipped = planner_frames(frames, RowChoice(stride=2, mirror=True))
    assert own.frame_index.tolist() == [0, 2, 6, 8] * 2 and flipped.tolist() == [False] * 4 + [True] * 4
    frames.future_valid[:] = False
    with pytest.raises(ArtifactError, match="nothing to plan from"):
        planner_frames(frames, RowChoice())


def test_only_unmirrored_scenes_are_judged():
    frames = tiny_frames(1, 20)
    both, flipped = planner_frames(frames, RowChoice(mirror=True))
    judging = judging_of(frames, both, flipped, arrays_of(both), near_the_human, count=100)
    assert judging.rows.frame_index.tolist() == list(range(3, 10))  # 3 frames before, 10 after
    assert np.array_equal(judging.rows.images, frames.images[3:10])
    assert judging_of(frames, both, flipped, arrays_of(both), None, count=100) is None


def test_the_scorer_learns_and_leaves_the_proposals_alone(tmp_path):
    frames = tiny_frames(1, 24)
    torch.manual_seed(0)
    planner = Planner(SMALL_PLANNER).eval()
    arrays = arrays_of(frames)
    before = propose(planner, arrays)
    place = RunPlace(LaunchConfig(threads=1), tmp_path, "test", 0)
    config = ScoreHeadConfig(rows=24, weight=2.0, fit=FitConfig(steps=120, batch=23, learning_rate=1e-2))
    train_scorer(planner, before, frames, near_the_human, config, place, "score")
    after = propose(planner, arrays)
    assert torch.equal(after.plans_BK83, before.plans_BK83) and planner.config.score_weight == 2.0
    target = near_the_human(frames, before.plans_BK83.numpy())[1:, :, 0]
    said = planner.score(after).sigmoid()[1:, :, 0].detach().numpy()
    assert np.abs(said - target).mean() < 0.6 * np.abs(target - target.mean()).mean()


def test_a_scorer_that_scores_nothing_is_an_error(tmp_path):
    frames = tiny_frames(1, 4)
    planner = Planner(SMALL_PLANNER).eval()
    found = propose(planner, arrays_of(frames))
    place = RunPlace(LaunchConfig(threads=1), tmp_path, "test", 0)
    for scores in (lambda rows, plans: np.full((*plans.shape[:2], 6), np.nan), lambda rows, plans: np.ones((2, 3, 6))):
        with pytest.raises(ConfigError, match="no usable sub-scores"):
            train_scorer(planner, found, frames, scores, ScoreHeadConfig(), place, "score")


def test_an_epoch_visits_every_row_once_and_every_epoch_in_another_order():
    steps = [batch_rows(5, step, rows=10, batch=4) for step in range(5)]
    flat = np.concatenate(steps)
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10].tolist() != flat[10:].tolist()
    assert len(batch_rows(5, 0, rows=3, batch=8)) == 8  # more than an epoch in one step


def test_the_learning_rate_warms_up_and_falls_to_a_fiftieth():
    config = FitConfig(steps=100, warmup=0.1)
    factors = [learning_rate_factor(step, config) for step in range(100)]
    assert factors[0] == 0.1 and factors[9] == 1.0 and max(factors) == 1.0 and 0.02 < factors[-1] < 0.03


def trained(session: Here, steps: int = 6) -> dict:
    frames = tiny_frames(1, 12)
    torch.manual_seed(3)
    model = Planner(replace(SMALL_PLANNER, dropout=0.2))
    model.scorer.requires_grad_(False)
    arrays = arrays_of(frames)

    def loss_of(wrapped, rows):
        found = wrapped(torch.from_numpy(arrays.images[rows]), torch.from_numpy(frames.status[rows]))
        return plan_loss(found, torch.from_numpy(frames.future[rows]), model.scale_83)[0], {}

    fit(session, model, loss_of, 12, FitConfig(steps=steps, batch=5, checkpoint_every=3, report_every=1), seed=3)
    return model.state_dict()


def test_a_killed_run_ends_in_the_same_bits_as_one_that_was_not():
    whole = trained(Here())
    killed = Here(killed_at=4)
    with pytest.raises(KeyboardInterrupt):
        trained(killed)
    assert killed.state["step"] == 3
    resumed = Here(state=killed.state)
    assert all(torch.equal(value, whole[name]) for name, value in trained(resumed).items())
    assert len(resumed.losses) == 3


def test_a_loss_that_is_no_number_stops_the_run():
    model = torch.nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="diverged"):
        fit(
            Here(),
            model,
            lambda wrapped, rows: (wrapped(torch.tensor([[float("nan")]])).sum(), {}),
            4,
            FitConfig(steps=3),
            0,
        )


def test_a_finished_run_is_not_run_again(tmp_path):
    frames = tiny_frames(1, 12)
    place = RunPlace(LaunchConfig(threads=1), tmp_path / "runs", "once", 0)
    arrays_of(frames).save(place.arrays("planner"))
    config = {
        "kind": "planner",
        "parts": {"planner": SMALL_PLANNER},
        "arrays": str(place.arrays("planner")),
        "fit": FitConfig(steps=3, batch=4, report_every=1),
        "imitation": None,
    }
    for out in ("first", "second"):
        place.launch("planner_alone", planner_loop, config | {"out": str(tmp_path / out)})
    history = (tmp_path / "runs" / "once-planner_alone" / "history.jsonl").read_text().splitlines()
    assert len(history) == 3
    first, second = (load_planner(tmp_path / out, "planner") for out in ("first", "second"))
    assert np.array_equal(plan_rows(first, arrays_of(frames)), plan_rows(second, arrays_of(frames)))
    place.finish(("planner_alone", "planner"), tmp_path / "history")
    assert not list((tmp_path / "runs").iterdir()) and Path(tmp_path / "history" / "planner_alone.jsonl").exists()
