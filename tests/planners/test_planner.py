"""Tests of the host planner, its fusion with the VLM, its score head, and their training."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.ground_config import GroundConfig
from models.ground_view import GroundView, project_ground, sample_ground
from models.planners.config import SUBSCORES, EgoMlpConfig, FusionConfig
from models.planners.ego_mlp import EgoMlp
from models.planners.fusion import FusedPlannerNet, VlmFusion
from models.planners.plan_feature_sampler import PlanFeatureSampler
from models.planners.planner import (
    PlannerNet,
    Proposals,
    compose_log_score,
    constant_velocity_anchor,
    offset_scale,
    plan_loss,
    score_loss,
)
from ops.planners.checkpoint import load_planner, save_planner
from ops.planners.config import ProposalScoringConfig, RowChoice
from ops.planners.fit_planner import PlannerTraining, planner_loop
from ops.planners.propose import plan_rows
from ops.planners.recipe import planner_arrays
from ops.planners.scored_proposals import ScoredProposals, draw_plans, score_proposals
from ops.planners.training_arrays import TrainingArrays, mirrored, planner_frames
from ops.training.config import ComputeConfig, FitConfig
from ops.training.fit import batch_rows, fit, group_rows, learning_rate_factor
from ops.training.muon import Muon, orthogonal
from ops.training.runs import TrainingJob, TrainingRuns
from storage.camera import camera_numbers
from storage.errors import ArtifactError, ConfigError
from tests.worlds.local_session import LocalSession
from tests.worlds.tiny_vla import CAMERA, SMALL_PLANNER, score_by_displacement, tiny_frames

FUSION = FusionConfig(vlm_width=12, width=16, heads=2)


def arrays_of(frames) -> TrainingArrays:
    return planner_arrays(frames, SMALL_PLANNER)


def batch_of(rows: int):
    frames = tiny_frames(1, rows)
    arrays = arrays_of(frames)
    return tuple(
        map(torch.from_numpy, (arrays.images, arrays.camera, arrays.status, arrays.future))
    )


def test_a_planner_proposes_plans_and_chooses_one_of_them():
    images, camera, status, _ = batch_of(5)
    planner = PlannerNet(SMALL_PLANNER).eval()
    proposals, scene = planner(images, camera, status)
    assert proposals.plans_BK83.shape == (5, 3, 8, 3) and proposals.mode_logits_BK.shape == (5, 3)
    assert len(proposals.aux_layer_outputs) == 1
    assert scene.tokens_BTD.shape == (5, 2 * 4 + 7 * 6 + 1, 16)
    assert scene.ground_BFXY.shape == (5, 8, 7, 6)
    assert planner.scorer(proposals.plans_BK83, scene).shape == (5, 3, len(SUBSCORES))
    chosen = planner.choose(proposals, scene)
    best = proposals.mode_logits_BK.argmax(dim=1)
    assert torch.equal(chosen, proposals.plans_BK83[torch.arange(5), best])


def test_the_anchor_keeps_the_present_forward_speed_and_heading():
    plan = constant_velocity_anchor(torch.tensor([[4.0, 1.0, 2.0, 0.0, 0, 1, 0, 0]]))[0]
    assert plan[:, 0].tolist() == [2, 4, 6, 8, 10, 12, 14, 16] and not plan[:, 1:].any()


def test_the_scale_of_the_offsets_is_their_root_mean_square():
    status = torch.zeros(2, 8)
    future = torch.zeros(2, 8, 3)
    future[:, 3, 0] = torch.tensor([3.0, -3.0])
    scale = offset_scale(status, future)
    assert scale[3][0] == 3.0 and scale[0][0] == 0.02


def test_the_nearest_proposal_after_the_first_gets_nearly_all_of_the_gradient():
    plans = torch.zeros(1, 3, 8, 3)
    plans[0, :, :, 0] = torch.tensor([1.0, 2.0, 9.0])[:, None]
    plans.requires_grad_()
    proposals = Proposals(plans, torch.zeros(1, 3))
    loss, best = plan_loss(proposals, torch.zeros(1, 8, 3), torch.ones(8, 3))
    loss.backward()
    gradient = plans.grad[0, :, :, 0].sum(dim=1)
    assert best == 1.0
    # first proposal, nearest of the others, the remaining one
    assert torch.allclose(gradient / gradient[0], torch.tensor([1.0, 0.975, 0.025]))


def test_rows_without_a_target_plan_do_not_count():
    proposals = Proposals(torch.randn(3, 4, 8, 3), torch.randn(3, 4))
    future = torch.randn(3, 8, 3)
    first, ade = plan_loss(
        Proposals(proposals.plans_BK83[:2], proposals.mode_logits_BK[:2]),
        future[:2],
        torch.ones(8, 3),
    )
    future[2] = torch.nan
    loss, ade_of_known = plan_loss(proposals, future, torch.ones(8, 3))
    assert loss == first and ade_of_known == ade


def test_each_step_draws_the_rows_with_a_target_plan_of_a_training_on_them_alone(
    tmp_path, monkeypatch
):
    arrays = arrays_of(tiny_frames(1, 10))
    arrays.future[4:] = np.nan
    arrays.save(tmp_path / "arrays")
    drawn = []
    monkeypatch.setattr(
        "ops.planners.fit_planner.fit",
        lambda session, model, loss_of, rows, config, seed: drawn.append(
            (rows, loss_of(model, group_rows(seed, 3, rows, config.batch))[0].item())
        ),
    )
    job = PlannerTraining(
        "planner",
        {"planner": SMALL_PLANNER},
        tmp_path / "arrays",
        tmp_path / "out",
        FitConfig(steps=1, batch=2),
        ProposalScoringConfig(),
        0,
        labelled_rows=4,
    )
    planner_loop(job, LocalSession())
    ((rows, loss),) = drawn
    assert rows == (4, 6) and np.isfinite(loss)
    batch = group_rows(0, 3, rows, 2)
    assert np.array_equal(batch[:2], batch_rows(0, 3, 4, 2))
    assert np.array_equal(batch[2:], 4 + batch_rows(0, 3, 6, 2))


def test_the_mode_learns_to_prefer_the_nearest_proposal():
    logits = torch.zeros(1, 3, requires_grad=True)
    plans = torch.zeros(1, 3, 8, 3)
    plans[0, :, :, 0] = torch.tensor([5.0, 0.0, 9.0])[:, None]
    plan_loss(Proposals(plans, logits), torch.zeros(1, 8, 3), torch.ones(8, 3))[0].backward()
    assert logits.grad.argmin() == 1 and logits.grad[0, 1] < 0


def test_the_composed_score_is_pdms():
    parts = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    expected = 0.9 * 0.8 * (5 * 0.7 + 5 * 0.6 + 2 * 0.5) / 12
    assert torch.allclose(compose_log_score(parts.logit()[None]).exp(), torch.tensor([expected]))


def test_a_trained_scorer_can_overrule_the_mode():
    images, camera, status, _ = batch_of(4)
    planner = PlannerNet(SMALL_PLANNER).eval()
    planner.config = replace(planner.config, score_weight=1.0)
    proposals, scene = planner(images, camera, status)
    logits = torch.full((4, 3, 5), -3.0)
    logits[:, 2] = 3.0
    planner.scorer.forward = lambda *_: logits
    assert torch.equal(planner.choose(proposals, scene), proposals.plans_BK83[:, 2])


def test_a_plan_without_a_score_does_not_contribute_to_the_loss():
    logits, target = torch.zeros(1, 2, 5, requires_grad=True), torch.full((1, 2, 5), float("nan"))
    target[0, 1] = 1.0
    score_loss(logits, target).backward()
    assert not logits.grad[0, 0].any() and (logits.grad[0, 1] < 0).all()
    assert score_loss(logits, torch.full((1, 2, 5), float("nan"))) == 0


def test_a_point_on_the_ground_is_projected_to_the_pixel_that_shows_it():
    points = torch.tensor([[10.0, 0.0], [10.0, 2.0], [-3.0, 0.0], [3.0, 20.0]])
    location, visible = project_ground(torch.from_numpy(camera_numbers(CAMERA))[None], points)
    pixel = (location[0] + 1) * torch.tensor([112.0, 56.0]) / 2 - 0.5
    assert visible[0].tolist() == [True, True, False, False]
    depth = 10.0 - 1.5
    assert torch.allclose(pixel[0], torch.tensor([55.5, 20.0 + 67.0 * 1.6 / depth]), atol=1e-3)
    assert torch.allclose(
        pixel[1], torch.tensor([55.5 - 67.0 * 2.0 / depth, 20.0 + 67.0 * 1.6 / depth]), atol=1e-3
    )
    distorted = replace(CAMERA, distortion=(-0.3, 0.1, 0.0, 0.0, 0.0))
    location, _ = project_ground(torch.from_numpy(camera_numbers(distorted))[None], points)
    expected, _ = cv2.projectPoints(
        np.array([[-2.0, 1.6, depth]]),
        np.zeros(3),
        np.zeros(3),
        distorted.intrinsics,
        np.array(distorted.distortion),
    )
    assert np.allclose((location[0, 1].numpy() + 1) * [56, 28] - 0.5, expected[0, 0], atol=1e-3)


def test_autocast_changes_neither_image_locations_nor_the_points_that_a_plan_samples():
    view = GroundView(SMALL_PLANNER.ground)
    camera = torch.from_numpy(tiny_frames(1, 3).camera)
    plans = torch.from_numpy(tiny_frames(1, 3).future)[:, None]
    sampler = PlanFeatureSampler(SMALL_PLANNER.ground, 16, 8)
    # features that grow with the distance: what is sampled tells where
    ahead = torch.linspace(-1, 1, 40).expand(3, 1, 20, 40).transpose(2, 3)

    def geometry() -> list[torch.Tensor]:
        points = sampler.sample_points(plans)
        sampled = sample_ground(ahead, points, SMALL_PLANNER.ground)
        return [*view.image_locations(camera), points, sampled]

    exact = geometry()
    with torch.autocast("cpu", torch.bfloat16):
        narrow = geometry()
        # autocast is on: a product is rounded
        assert (plans @ torch.eye(3)).dtype == torch.bfloat16
        rounded = sampler.sample_points(plans.bfloat16())
    assert all(torch.equal(one, two) for one, two in zip(exact, narrow, strict=True))
    assert all(item.dtype == torch.float32 for item in narrow)
    # from a rounded plan the points are computed in float32
    assert torch.equal(rounded, sampler.sample_points(plans.bfloat16().float()))


def test_features_are_sampled_at_their_position_on_the_ground_and_zero_outside_the_grid():
    view = GroundView(GroundConfig(cell_m=1.0, channels=(4,), features=4))
    points = view.points_P2[None]
    ahead = (points[..., 0:1] - 20.0) / 10.0
    # a map whose feature is the distance ahead
    features = ahead.unflatten(1, view.config.cells).permute(0, 3, 1, 2)
    sampled = sample_ground(
        features, torch.tensor([[[[12.0, 3.0], [30.25, -5.0], [80.0, 0.0]]]]), view.config
    )
    assert torch.allclose(sampled[0, 0, :, 0], torch.tensor([-0.8, 1.025, 0.0]), atol=1e-5)


def test_a_mirrored_row_shows_the_mirrored_ground():
    frames = tiny_frames(1, 2)
    yawed = CAMERA.camera_to_ego.copy()
    yawed[:3, :3] = cv2.Rodrigues(np.array([0.02, -0.03, 0.2]))[0] @ yawed[:3, :3]
    frames = replace(
        frames, camera=np.tile(camera_numbers(replace(CAMERA, camera_to_ego=yawed)), (2, 1))
    )
    points = torch.tensor([[10.0, 2.0], [20.0, -3.0]])
    location, _ = project_ground(torch.from_numpy(frames.camera), points)
    mirrored_location, _ = project_ground(
        torch.from_numpy(mirrored(frames).camera), points * torch.tensor([1.0, -1.0])
    )
    assert torch.allclose(mirrored_location, location * torch.tensor([-1.0, 1.0]), atol=1e-5)


@pytest.mark.parametrize("pool", ["attention", "average"])
def test_fusion_pools_both_streams_into_memory_tokens(pool):
    fusion = VlmFusion(replace(FUSION, pool=pool))
    visual, action = torch.randn(3, 7, 12), torch.randn(3, 12, 12)
    memory = fusion(visual, action)
    assert memory.shape == (3, 4, 16)
    # pooling does not depend on the order of the tokens
    assert torch.allclose(fusion(visual.flip(1), action), memory, atol=1e-5)
    assert not torch.allclose(fusion(visual, action + 1), memory)


@pytest.mark.parametrize("kind", ["planner", "fused"])
def test_the_gradient_reaches_every_parameter(kind):
    images, camera, status, future = batch_of(4)
    if kind == "planner":
        model = planner = PlannerNet(SMALL_PLANNER)
        proposals, scene = model(images, camera, status)
    else:
        model = FusedPlannerNet(replace(SMALL_PLANNER, second_memory=True), FUSION)
        streams = torch.randn(4, 7, 12), torch.randn(4, 12, 12)
        proposals, scene = model(images, camera, status, *streams)
        planner = model.planner
    loss = (
        plan_loss(proposals, future, planner.scale_83)[0]
        + planner.scorer(proposals.plans_BK83, scene).sum()
    )
    loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_planner_overfits_eight_rows():
    images, camera, status, future = batch_of(8)
    torch.manual_seed(0)
    planner = PlannerNet(replace(SMALL_PLANNER, offset_scale=offset_scale(status, future)))
    planner.scorer.requires_grad_(False)

    def loss_of(model, rows):
        loss, best = plan_loss(
            model(images[rows], camera[rows], status[rows])[0], future[rows], planner.scale_83
        )
        return loss, {"best_ade_m": float(best)}

    fit(
        LocalSession(),
        planner,
        loss_of,
        8,
        FitConfig(steps=120, batch=8, learning_rate=1e-2, weight_decay=0.0),
        seed=0,
    )
    with torch.no_grad():
        error = (
            (planner.choose(*planner(images, camera, status)) - future)[..., :2].norm(dim=-1).mean()
        )
    assert error < 0.1 * (constant_velocity_anchor(status) - future)[..., :2].norm(dim=-1).mean()


@pytest.mark.parametrize("kind", ["planner", "fused_planner", "ego_mlp"])
def test_it_saves_and_loads_the_same_bits(kind, tmp_path):
    torch.manual_seed(1)
    scale = tuple((float(step), 2.0, 0.5) for step in range(1, 9))
    sizes = replace(SMALL_PLANNER, offset_scale=scale)
    model = {
        "planner": lambda: PlannerNet(sizes),
        "ego_mlp": lambda: EgoMlp(EgoMlpConfig(hidden=8, offset_scale=scale)),
        "fused_planner": lambda: FusedPlannerNet(replace(sizes, second_memory=True), FUSION),
    }[kind]().eval()
    frames = tiny_frames(1, 4)
    streams = {
        "visual": np.ones((4, 7, 12), np.float16),
        "action": np.ones((4, 12, 12), np.float16),
    }
    arrays = replace(arrays_of(frames), **streams)
    save_planner(tmp_path, model)
    assert np.array_equal(plan_rows(load_planner(tmp_path, kind), arrays), plan_rows(model, arrays))
    with pytest.raises(ArtifactError, match="another kind"):
        load_planner(tmp_path, "student")


def test_mirroring_swaps_left_and_right_and_twice_restores_the_rows():
    frames = tiny_frames(1, 6)
    frames = replace(
        frames,
        command=np.array([0, 1, 2, 3, 0, 2]),
        acceleration=np.arange(12, dtype=np.float32).reshape(6, 2),
    )
    once = mirrored(frames)
    assert once.command.tolist() == [2, 1, 0, 3, 2, 0]
    assert np.array_equal(once.future[..., 1], -frames.future[..., 1])
    assert np.array_equal(once.images[:, :, 0], frames.images[:, :, -1])
    assert np.array_equal(once.status[:, 3], -frames.status[:, 3]) and not once.codes_valid.any()
    twice = mirrored(once)
    assert np.array_equal(twice.images, frames.images)
    assert np.array_equal(twice.future, frames.future)


def test_planners_learn_only_from_rows_with_an_image_and_a_complete_future():
    frames = tiny_frames(1, 10)
    frames.future_valid[3, 7] = False
    frames.has_image[5] = False
    rows, flipped = planner_frames(frames, RowChoice(stride=2, mirror=True))
    assert rows.frame_index.tolist() == [0, 2, 6, 8] * 2
    assert flipped.tolist() == [False] * 4 + [True] * 4
    frames.future_valid[:] = False
    with pytest.raises(ArtifactError, match="no rows to train a planner on"):
        planner_frames(frames, RowChoice())


def test_only_scenes_are_scored_and_a_mirrored_row_has_the_mirrored_plans():
    frames = tiny_frames(1, 20)
    both, flipped = planner_frames(frames, RowChoice(mirror=True))
    config = ProposalScoringConfig(num_retrieved=3, num_perturbed=2, neighbor_window=4)
    scored = score_proposals(frames, both, flipped, score_by_displacement, config, seed=0)
    assert scored.plans.shape == (40, 6, 8, 3) and scored.subscores.shape == (40, 6, len(SUBSCORES))
    is_scored = np.isfinite(scored.subscores).all(axis=(1, 2))
    # a scene needs 3 rows before it and 10 after it; score_by_displacement skips the first scene
    assert np.flatnonzero(is_scored).tolist() == [*range(4, 10), *range(24, 30)]
    assert np.array_equal(scored.plans[20:, :, :, 1], -scored.plans[:20, :, :, 1])
    assert np.array_equal(scored.plans[:20, -1], frames.future)
    assert np.allclose(scored.subscores[4:10, -1], 1.0)
    assert score_proposals(frames, both, flipped, None, config, seed=0) is None


def test_scored_plans_start_at_the_speed_of_their_row_and_are_drawn_from_the_seed():
    frames = tiny_frames(1, 20)
    config = ProposalScoringConfig(num_retrieved=8, num_perturbed=4, neighbor_window=3)
    plans = draw_plans(frames, config, np.random.default_rng(1))
    along = plans[:, :8, 0, 0] - 0.5 * frames.velocity[:, :1]
    assert np.abs(along).max() < 0.2 and len(np.unique(plans[5, :, -1, 1].round(3))) > 4
    assert np.array_equal(plans, draw_plans(frames, config, np.random.default_rng(1)))


def test_a_score_head_learns_the_sub_scores_of_scored_plans(tmp_path):
    frames = tiny_frames(1, 30)
    whole, flipped = planner_frames(frames, RowChoice())
    scored = score_proposals(
        frames,
        whole,
        flipped,
        score_by_displacement,
        ProposalScoringConfig(num_retrieved=6, num_perturbed=3, neighbor_window=20),
        seed=0,
    )
    training = TrainingRuns(ComputeConfig(threads=1), tmp_path / "runs", "scored", 0)
    planner_arrays(whole, SMALL_PLANNER, scored).save(training.arrays("planner"))
    config = PlannerTraining(
        "planner",
        {"planner": SMALL_PLANNER},
        training.arrays("planner"),
        tmp_path / "out",
        FitConfig(steps=150, batch=16, learning_rate=1e-2),
        ProposalScoringConfig(weight=2.0),
        seed=0,
    )
    training.launch(TrainingJob("planner", planner_loop, config))
    planner = load_planner(tmp_path / "out", "planner")
    arrays = planner_arrays(whole, SMALL_PLANNER)
    with torch.no_grad():
        images, camera, status = map(
            torch.from_numpy, (arrays.images, arrays.camera, arrays.status)
        )
        scene = planner.scene(images, planner.ground.image_locations(camera), status)
        predicted = planner.scorer(torch.from_numpy(scored.plans), scene).sigmoid().numpy()
    valid = np.isfinite(scored.subscores)
    target = scored.subscores[valid]
    assert planner.config.score_weight == 2.0
    assert np.abs(predicted[valid] - target).mean() < 0.6 * np.abs(target - target.mean()).mean()


def test_a_scorer_that_scores_nothing_is_an_error():
    frames = tiny_frames(1, 20)
    whole, flipped = planner_frames(frames, RowChoice())
    for scores in (
        lambda rows, plans: np.full((*plans.shape[:2], 6), np.nan),
        lambda rows, plans: np.ones((2, 3, 6)),
    ):
        with pytest.raises(ConfigError, match="no usable sub-scores"):
            score_proposals(frames, whole, flipped, scores, ProposalScoringConfig(), 0)


def test_scored_proposals_are_saved_and_loaded(tmp_path):
    assert ScoredProposals.open(tmp_path) is None
    plans, subscores = np.ones((2, 3, 8, 3), np.float32), np.full((2, 3, 5), np.nan, np.float32)
    ScoredProposals(plans, subscores).save(tmp_path)
    assert np.array_equal(ScoredProposals.open(tmp_path).plans, plans)


def test_images_with_another_aspect_ratio_than_the_vlms_are_refused():
    with pytest.raises(ConfigError, match="aspect ratio"):
        planner_arrays(tiny_frames(1, 4), replace(SMALL_PLANNER, image_hw=(28, 28)))


def test_an_epoch_visits_every_row_once_and_each_epoch_has_another_order():
    steps = [batch_rows(5, step, rows=10, batch=4) for step in range(5)]
    flat = np.concatenate(steps)
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10].tolist() != flat[10:].tolist()
    assert len(batch_rows(5, 0, rows=3, batch=8)) == 8  # more than an epoch in one step


def test_the_learning_rate_warms_up_and_falls_to_a_fiftieth():
    config = FitConfig(steps=100, warmup=0.1)
    factors = [learning_rate_factor(step, config) for step in range(100)]
    assert factors[0] == 0.1 and factors[9] == 1.0
    assert max(factors) == 1.0 and 0.02 < factors[-1] < 0.03


def trained(session: LocalSession, steps: int = 6) -> dict:
    frames = tiny_frames(1, 12)
    torch.manual_seed(3)
    model = PlannerNet(replace(SMALL_PLANNER, dropout=0.2))
    model.scorer.requires_grad_(False)
    arrays = arrays_of(frames)

    def loss_of(wrapped, rows):
        inputs = (arrays.images, arrays.camera, arrays.status)
        proposals, _ = wrapped(*(torch.from_numpy(values[rows]) for values in inputs))
        return plan_loss(proposals, torch.from_numpy(frames.future[rows]), model.scale_83)[0], {}

    fit(
        session,
        model,
        loss_of,
        12,
        FitConfig(steps=steps, batch=5, checkpoint_every=3, report_every=1),
        seed=3,
    )
    return model.state_dict()


def test_a_resumed_run_gives_the_same_bits_as_an_uninterrupted_one():
    uninterrupted = trained(LocalSession())
    killed = LocalSession(killed_at=4)
    with pytest.raises(KeyboardInterrupt):
        trained(killed)
    assert killed.state["step"] == 3
    resumed = LocalSession(state=killed.state)
    assert all(torch.equal(value, uninterrupted[name]) for name, value in trained(resumed).items())
    assert len(resumed.losses) == 3


class TwoLayers(torch.nn.Module):
    """A network with one hidden matrix."""

    def __init__(self):
        super().__init__()
        self.hidden, self.head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)

    def hidden_matrices(self):
        return [self.hidden.weight]


def trained_with_muon(session: LocalSession) -> TwoLayers:
    torch.manual_seed(5)
    model = TwoLayers()
    inputs = torch.randn(8, 4)
    config = FitConfig(
        steps=6, batch=4, checkpoint_every=3, report_every=1, optimizer="muon", muon_factor=3.0
    )

    def loss_of(wrapped, rows):
        return wrapped.head(wrapped.hidden(inputs[rows]).relu()).square().mean(), {}

    fit(session, model, loss_of, 8, config, seed=5)
    return model


def test_muon_trains_all_parameters_and_resumes_with_the_same_bits():
    torch.manual_seed(5)
    before = TwoLayers()
    uninterrupted = trained_with_muon(LocalSession())
    killed = LocalSession(killed_at=4)
    with pytest.raises(KeyboardInterrupt):
        trained_with_muon(killed)
    resumed = trained_with_muon(LocalSession(state=killed.state))
    assert all(
        torch.equal(value, uninterrupted.state_dict()[name])
        for name, value in resumed.state_dict().items()
    )
    moved = dict(uninterrupted.named_parameters())
    assert not any(torch.equal(value, moved[name]) for name, value in before.named_parameters())


def test_muon_moves_a_matrix_as_the_library_does_and_equally_in_all_directions():
    torch.manual_seed(2)
    start = torch.randn(6, 4)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizers = (
        Muon([ours], lr=0.1, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        gradient = torch.randn(6, 4)
        for optimizer, matrix in zip(optimizers, (ours, theirs), strict=True):
            matrix.grad = gradient.clone()
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=0.02 * float((ours - start).abs().max()))
    strengths = torch.linalg.svdvals(orthogonal(torch.randn(3, 4, 6)))
    assert strengths.shape == (3, 4) and strengths.min() > 0.5 and strengths.max() < 1.3


def test_muon_keeps_the_momentum_of_bfloat16_matrices_in_float32_when_it_resumes():
    torch.manual_seed(4)
    start, gradients = torch.randn(3, 5), torch.randn(4, 3, 5).bfloat16()

    def run(matrix, optimizer, steps):
        for step in steps:
            matrix.grad = gradients[step].clone()
            optimizer.step()

    whole = torch.nn.Parameter(start.bfloat16())
    run(whole, Muon([whole], 0.1, 0.0), range(4))
    first = torch.nn.Parameter(start.bfloat16())
    optimizer = Muon([first], 0.1, 0.0)
    run(first, optimizer, range(2))
    second = torch.nn.Parameter(first.detach().clone())
    resumed = Muon([second], 0.1, 0.0)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    run(second, resumed, range(2, 4))
    assert torch.equal(second, whole)


def test_muon_needs_a_network_that_names_its_hidden_matrices():
    with pytest.raises(ConfigError, match="hidden_matrices"):
        fit(
            LocalSession(),
            torch.nn.Linear(1, 1),
            lambda wrapped, rows: (wrapped(torch.ones(1, 1)).sum(), {}),
            4,
            FitConfig(steps=1, optimizer="muon"),
            0,
        )
    with pytest.raises(ConfigError, match="muon"):
        fit(
            LocalSession(),
            TwoLayers(),
            lambda wrapped, rows: (wrapped.hidden(torch.ones(1, 4)).sum(), {}),
            4,
            FitConfig(steps=1, optimizer="moun"),
            0,
        )


def test_a_loss_that_is_nan_stops_the_run():
    model = torch.nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="diverged"):
        fit(
            LocalSession(),
            model,
            lambda wrapped, rows: (wrapped(torch.tensor([[float("nan")]])).sum(), {}),
            4,
            FitConfig(steps=3),
            0,
        )


def test_a_finished_run_is_not_run_again(tmp_path):
    frames = tiny_frames(1, 12)
    training = TrainingRuns(ComputeConfig(threads=1), tmp_path / "runs", "once", 0)
    arrays_of(frames).save(training.arrays("planner"))
    for out in ("first", "second"):
        config = PlannerTraining(
            "planner",
            {"planner": SMALL_PLANNER},
            training.arrays("planner"),
            tmp_path / out,
            FitConfig(steps=3, batch=4, report_every=1),
            ProposalScoringConfig(),
            seed=0,
        )
        training.launch(TrainingJob("planner_alone", planner_loop, config))
    history = (tmp_path / "runs" / "once-planner_alone" / "history.jsonl").read_text().splitlines()
    assert len(history) == 3
    first, second = (load_planner(tmp_path / out, "planner") for out in ("first", "second"))
    assert np.array_equal(plan_rows(first, arrays_of(frames)), plan_rows(second, arrays_of(frames)))
    training.finish(("planner_alone", "planner"), tmp_path / "history")
    assert (
        not list((tmp_path / "runs").iterdir())
        and Path(tmp_path / "history" / "planner_alone.jsonl").exists()
    )
