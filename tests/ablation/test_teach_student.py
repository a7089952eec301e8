"""Students with another teacher than the VLA: what they are taught, and by whom."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.planners.config import ImitatorConfig
from models.planners.planner import PlannerNet
from models.planners.student import StudentNet
from ops.ablation import ensemble
from ops.ablation.ensemble import (
    MEMBERS,
    beside_recorded_futures,
    ensemble_teacher,
    member_folders,
    member_seeds,
    open_ensemble,
)
from ops.ablation.teach_student import (
    StudentTask,
    Teacher,
    blind_teacher,
    recorded_codes,
    train_student,
    without_targets,
)
from ops.planners.checkpoint import load_planner, save_planner
from ops.planners.config import without_teacher
from ops.planners.ensemble import PlannerEnsemble
from ops.planners.propose import plan_rows
from ops.planners.recipe import planner_job
from ops.planners.scored_proposals import score_proposals
from ops.planners.training_arrays import planner_frames
from ops.training import fit
from ops.training.config import ComputeConfig
from ops.training.runs import TrainingRuns
from ops.vla import blind_codes
from ops.vla.planner_rows import planner_rows
from ops.vla.teacher import TeacherTargets, student_parts
from tests.worlds.tiny_vla import (
    HEIGHT,
    RECIPE,
    SMALL_PLANNER,
    STUDENT,
    WIDTH,
    score_by_displacement,
    tiny_frames,
)

CODES, SLOTS, MEMORY, SEED = 16, 12, 4, 5
HERE = ComputeConfig(threads=1, at_once=1)


@pytest.fixture(scope="module")
def vla(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What students read of a finished VLA; it has no VLM."""
    folder = tmp_path_factory.mktemp("vla")
    torch.manual_seed(0)
    save_planner(folder / "planner_alone", PlannerNet(RECIPE.planner))
    (folder / "config.json").write_text(
        json.dumps({"recipe": asdict(RECIPE), "image_hw": [HEIGHT, WIDTH]})
    )
    train = tiny_frames()
    frames, mirrored = planner_frames(train, RECIPE.rows)
    scoring = RECIPE.proposal_scoring
    scored = score_proposals(train, frames, mirrored, score_by_displacement, scoring, SEED)
    assert scored is not None
    scored.save(folder / "teacher")
    shapes = ((len(frames), SLOTS, CODES), (len(frames), MEMORY, SMALL_PLANNER.width))
    TeacherTargets(
        frames.log_id.astype(str),
        frames.frame_index,
        mirrored,
        *(np.zeros(shape, np.float16) for shape in shapes),
    ).save(folder / "teacher")
    return folder


@pytest.fixture
def task(vla: Path, tmp_path: Path) -> StudentTask:
    train = tiny_frames()
    rows = planner_rows(train, vla, None, SEED, steps=STUDENT.steps, mirror=STUDENT.mirror)
    parts = student_parts(rows.recipe.planner, TeacherTargets.open(vla / "teacher"))
    training = TrainingRuns(HERE, tmp_path / "runs", "task", SEED)
    arrays = without_targets(rows.arrays, parts)
    return StudentTask(rows, parts, arrays, STUDENT.imitation, training, train, tmp_path / "out")


def taught(vla: Path, root: Path, teacher: Teacher) -> Path:
    train_student(
        tiny_frames(),
        vla,
        root / "out",
        STUDENT,
        teacher,
        score_plans=score_by_displacement,
        compute=HERE,
        runs=root / "runs",
        name="taught",
        seed=SEED,
    )
    assert not [*(root / "runs").iterdir()]
    return root / "out"


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    others = second.state_dict()
    return all(torch.equal(value, others[name]) for name, value in first.state_dict().items())


def without_teacher_at(task: StudentTask, seed: int) -> StudentNet:
    """The control of ops/student/distill.py, with targets that its loss does not count."""
    arrays = replace(
        task.arrays,
        code_logits=np.zeros_like(task.arrays.code_logits),
        memory=np.ones_like(task.arrays.memory),
    )
    training = replace(task.training, seed=seed)
    arrays.save(training.arrays("planner"))
    imitation = without_teacher(task.imitation)
    folder = task.out / "control"
    training.launch(
        planner_job(
            f"control_{seed}",
            "student",
            task.parts,
            folder,
            task.rows.recipe,
            training,
            imitation=imitation,
        )
    )
    return load_planner(folder, "student")


def test_recorded_codes_are_taught_for_certain_where_they_are_valid(task):
    frames = task.rows.frames
    valid = frames.codes_valid.copy()
    valid[3, 5:] = False
    task = replace(task, rows=replace(task.rows, frames=replace(frames, codes_valid=valid)))
    targets = recorded_codes(task)
    logits = targets.arrays.code_logits
    assert logits.dtype == np.float16 and np.isnan(targets.arrays.memory).all()
    assert np.isnan(logits[~valid]).all() and np.isfinite(logits[valid]).all()
    assert np.isnan(logits[task.rows.mirrored]).all() and task.rows.mirrored.sum() == 48
    taught = torch.from_numpy(logits[valid]).float() / STUDENT.imitation.temperature
    assert np.array_equal(taught.softmax(dim=-1).numpy(), np.eye(CODES)[frames.codes[valid]])
    assert targets.imitation == STUDENT.imitation and targets.fit == task.rows.recipe.fit


def test_the_blind_teacher_is_fit_on_the_rows_of_the_vlm_and_knows_mirror_images(task, monkeypatch):
    fitted = []

    def blind(status, codes, valid, log_id, num_codes, seed):
        fitted.append((status, seed))
        return lambda status: status[:, 8, None, None].expand(-1, codes.shape[1], num_codes)

    monkeypatch.setattr(blind_codes, "fit_blind_codes", blind)
    without_code = task.train.codes_valid.copy()
    without_code[7] = False
    train = replace(task.train, codes_valid=without_code)
    turning = task.rows.frames.history.copy()
    turning[:, -1, 2] = np.where(task.rows.mirrored, -1.0, 1.0)
    frames = replace(task.rows.frames, history=turning)
    task = replace(task, train=train, rows=replace(task.rows, frames=frames))
    logits = blind_teacher(task).arrays.code_logits
    ((status, seed),) = fitted
    assert np.array_equal(status, np.delete(train.motion_status, 7, axis=0)) and seed == SEED
    assert logits.shape == (len(frames), SLOTS, CODES) and logits.dtype == np.float16
    assert np.array_equal(logits[:, 0, 0] > 0, task.rows.mirrored)


def test_the_blind_teacher_learns_the_codes_of_the_speed(task):
    task = replace(task, train=tiny_frames(logs=12))  # enough logs to hold one out
    arrays, originals = blind_teacher(task).arrays, ~task.rows.mirrored
    codes = arrays.code_logits[originals].argmax(-1)
    assert (codes == task.rows.frames.codes[originals]).mean() > 0.3
    assert np.isnan(arrays.memory).all()


def networks(count: int, weight: float) -> list[StudentNet]:
    """Random networks whose choice counts the predicted score with this weight."""
    config = replace(SMALL_PLANNER, score_weight=weight)
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(StudentNet(config, ImitatorConfig(MEMORY, SLOTS, CODES)).eval())
    return made


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_one_member_alone_chooses_as_it_always_does(task, weight):
    (network,) = networks(1, weight)
    plans = PlannerEnsemble([network]).plan(task.arrays)
    assert np.allclose(plans, plan_rows(network, task.arrays), atol=1e-6)


@torch.no_grad()
def test_the_plan_is_of_the_pool_and_all_members_judge_it(task):
    arrays = task.arrays
    members = networks(3, 50.0)  # so large that the score alone decides
    plans = PlannerEnsemble(members).plan(arrays)
    inputs = [torch.from_numpy(item) for item in (arrays.images, arrays.camera, arrays.status)]
    outputs = [member(*inputs) for member in members]
    pool = torch.cat([output.proposals.plans_BK83 for output in outputs], dim=1)
    judged = torch.stack(
        [
            member.planner.judge(pool, output.scene)
            for member, output in zip(members, outputs, strict=True)
        ]
    )
    distance = np.abs(pool.numpy() - plans[:, None]).max(axis=(2, 3))
    assert plans.shape == (len(arrays), 8, 3) and (distance.min(axis=1) < 1e-4).all()
    chosen = distance.argmin(axis=1)
    mode = torch.cat([out.proposals.mode_logits_BK.log_softmax(-1) for out in outputs], dim=1)
    together = (mode + judged.mean(dim=0)).numpy()
    assert np.allclose(together[np.arange(len(plans)), chosen], together.max(axis=1), atol=1e-3)
    assert (judged.mean(dim=0).argmax(dim=1) != judged[0].argmax(dim=1)).any()


def test_no_two_trainings_of_many_seeds_share_a_seed():
    seeds = [seed for run in range(50) for seed in (run, *member_seeds(run))]
    assert len(set(seeds)) == 50 * (MEMBERS + 1)


def test_rows_come_with_their_future_and_then_with_the_plan_of_the_ensemble(task):
    arrays, count = task.arrays, len(task.arrays)
    plans = np.arange(count, dtype=float)[:, None, None] + np.zeros((8, 3))
    both = beside_recorded_futures(arrays, plans, SEED)
    order = both.future[count:, 0, 0].astype(int)
    assert sorted(order) == [*range(count)] and (order != np.arange(count)).mean() > 0.9
    assert np.array_equal(both.future[:count], arrays.future)
    for name in ("images", "camera", "status", "proposals"):
        values, expected = getattr(both, name), getattr(arrays, name)
        assert np.array_equal(values[:count], expected)
        assert np.array_equal(values[count:], expected[order])
    assert np.array_equal(both.subscores[:count], arrays.subscores, equal_nan=True)
    assert np.isnan(both.subscores[count:]).all() and np.isfinite(arrays.subscores).any()


@pytest.mark.parametrize("teacher", [recorded_codes, blind_teacher])
def test_a_student_taught_codes_differs_from_one_without_a_teacher(vla, task, tmp_path, teacher):
    folder = taught(vla, tmp_path, teacher)
    control = without_teacher_at(task, SEED)
    network = load_planner(folder, "student")
    assert not same_weights(network, control) and network.imitator_config == task.parts["imitator"]
    assert (folder / "history" / "student.jsonl").exists()


def test_a_member_is_the_student_without_a_teacher_with_another_seed(vla, task, tmp_path):
    folder = taught(vla, tmp_path, ensemble_teacher)
    members = [load_planner(member, "student") for member in member_folders(folder)]
    assert len(members) == MEMBERS
    for number in (0, MEMBERS - 1):
        assert same_weights(members[number], without_teacher_at(task, member_seeds(SEED)[number]))
    assert not same_weights(members[0], members[1])
    assert not same_weights(load_planner(folder, "student"), without_teacher_at(task, SEED))
    histories = {path.stem for path in (folder / "history").iterdir()}
    assert histories == {"student", *(f"member_{member}" for member in range(MEMBERS))}

    planner, rows = open_ensemble(folder), tiny_frames(1, seed=1)
    plans = planner.plan(rows)
    assert plans.shape == (len(rows), 8, 3) and np.isfinite(plans).all()
    assert planner.parameters == sum(
        sum(parameter.numel() for parameter in member.parameters()) for member in members
    )


def test_a_killed_run_keeps_the_members_that_are_trained(vla, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ensemble, "beside_recorded_futures", killed)
        with pytest.raises(KeyboardInterrupt):
            taught(vla, tmp_path, ensemble_teacher)
    first = open_ensemble(tmp_path / "out").ensemble.members
    seeds, real = [], fit.group_rows

    def counted(seed, *arguments):
        seeds.append(seed)
        return real(seed, *arguments)

    monkeypatch.setattr(fit, "group_rows", counted)
    taught(vla, tmp_path, ensemble_teacher)
    assert seeds == [SEED] * RECIPE.fit.steps  # the student's steps alone
    assert all(map(same_weights, first, open_ensemble(tmp_path / "out").ensemble.members))
