"""Train the method, and the method without one of its parts, over several seeds, and score all on
the test scenes.

Not the statistics (ops/ablation/table.py), nor the choice of a lake. Planners that are trained
together are one run. Each run of a seed is an artefact, and so are its scores: what is current is
not made again, and a killed training goes on.

    <lake>/ablation/<run>/<seed>            a run: the `vla` or `student` of that seed, or ops/ablation/vary_vla.py
    <lake>/ablation/scores/<run>/<seed>     its planners on the test scenes, as ops/evaluation/evaluate.py writes them
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ops.ablation.table import AblationTables, seed_cube, tables_of
from ops.ablation.vary_vla import open_varied, vary_vla
from ops.evaluation.config import EvaluationConfig
from ops.evaluation.evaluate import Planner, evaluate
from ops.evaluation.planners import open_planner
from ops.planners.scored_proposals import ScorePlans
from ops.student.config import StudentConfig
from ops.student.distill import distill
from ops.training.config import ComputeConfig
from ops.vla.config import VlaConfig
from ops.vla.finetune import finetune
from storage.artifact import CHECKS_FILE, LINEAGE_FILE, Lineage, is_current, plan, write_artifact
from storage.dataset import FrameSet
from storage.errors import unknown_name
from storage.lake import Lake
from storage.metrics_table import read_metrics

RUNS = (
    "vla",
    "student",
    "no_latent_training",
    "average_pool",
)  # in the order in which they can be made


@dataclass(frozen=True, slots=True)
class Variant:
    """A planner of the table."""

    run: str  # which of RUNS leaves it behind
    what: str  # in words
    beside: str = ""  # the planner that it says something about; "": it is the method itself


VARIANTS = {
    "vla": Variant("vla", "the planner that reads the VLM's hidden states"),
    "student": Variant("student", "the small planner that imitates the VLM instead of asking it"),
    "planner_alone": Variant("vla", "the planner of the VLA without a VLM", "vla"),
    "ego_status_mlp": Variant("vla", "no image: ego status and command alone", "planner_alone"),
    "student_no_teacher": Variant(
        "student", "the student's network without the teacher's word", "student"
    ),
    "no_latent_training": Variant(
        "no_latent_training", "the VLA whose VLM never learned the codes", "vla"
    ),
    "average_pool": Variant(
        "average_pool", "the VLA that averages hidden states instead of attending to them", "vla"
    ),
}
PAIRS = (
    ("student", "student_no_teacher"),
    ("student", "planner_alone"),
    ("student", "vla"),
    ("vla", "planner_alone"),
    ("vla", "no_latent_training"),
    ("vla", "average_pool"),
    ("planner_alone", "ego_status_mlp"),
)


@dataclass(frozen=True, slots=True)
class AblationConfig:
    """Which variants with which seeds, and the recipe that they vary."""

    variants: tuple[str, ...]  # of VARIANTS, as choose_variants gives them
    seeds: tuple[int, ...]
    vla: VlaConfig
    student: StudentConfig
    evaluation: EvaluationConfig

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that these variants need; all others start from the VLA of their seed."""
        needed = {"vla", *(VARIANTS[name].run for name in self.variants)}
        return tuple(run for run in RUNS if run in needed)

    @property
    def scoring(self) -> EvaluationConfig:
        """How the planners are scored: as in the evaluation, without what only the evaluation asks."""
        return replace(self.evaluation, sight_ablations=(), controls=(), zero_shot=None)


@dataclass(frozen=True, slots=True)
class AblationData:
    """What all runs learn from and are scored on. Rows are read when the first step asks for them."""

    lake: Lake
    training: Callable[[], tuple[FrameSet, FrameSet]]  # train and val
    test: Callable[[], FrameSet]
    score_plans: ScorePlans | None  # of training scenes; see ops.finetune.finetune
    compute: ComputeConfig
    made: Mapping[tuple[str, int], Path] = field(
        default_factory=dict
    )  # (run, seed) that the pipeline has made already


@dataclass(frozen=True, slots=True)
class Step:
    """One artefact of the ablation."""

    run: str
    seed: int
    scores: bool  # the scores of the run, not the run
    path: Path
    lineage: Lineage


def choose_variants(names: Sequence[str]) -> tuple[str, ...]:
    """These variants and those that they stand beside, in the table's order; all if none is named.
    Raises ConfigError.
    """
    for name in names:
        if name not in VARIANTS:
            raise unknown_name("variant", name, VARIANTS)
    chosen = {*(names or VARIANTS)}
    chosen |= {VARIANTS[name].beside for name in chosen}
    return tuple(name for name in VARIANTS if name in chosen)


def plan_steps(
    lake: Lake, config: AblationConfig, parents: Mapping[str, str], code: Mapping[str, str]
) -> list[Step]:
    """Every artefact that the ablation needs, in an order in which they can be made: seed after
    seed.

    `parents` are the versions of the rows, as of the pipeline's `vla`. `code` holds the versions of
    the code of `vla`, `student`, `varied` (ops/ablation/vary_vla.py) and `evaluation`.
    """
    steps = []
    for seed in config.seeds:
        base: dict[str, str] = {}
        for run in config.runs:
            own = {"vla": config.vla, "student": config.student}.get(run) or varied(run, config.vla)
            name = f"ablation/{run}/{seed}"
            made = plan(name, {**parents, **base}, own, code.get(run, code["varied"]), seed)
            scored = plan(
                f"ablation/scores/{run}/{seed}",
                {**parents, name: made.version},
                config.scoring,
                code["evaluation"],
            )
            steps += [
                Step(run, seed, False, run_folder(lake, run, seed), made),
                Step(run, seed, True, scores_folder(lake, run, seed), scored),
            ]
            if run == "vla":
                base = {name: made.version}
    return steps


def varied(run: str, config: VlaConfig) -> VlaConfig:
    """The recipe of the VLA without one of its parts."""
    if run == "average_pool":
        return replace(config, fusion=replace(config.fusion, pool="average"))
    assert run == "no_latent_training", run
    return replace(config, vlm_fit=replace(config.vlm_fit, steps=0))


def unfinished(steps: Sequence[Step]) -> list[Step]:
    """The steps that have to be made."""
    return [step for step in steps if not is_current(step.path, step.lineage.version)]


def make_steps(
    steps: Sequence[Step], config: AblationConfig, data: AblationData, tell: Callable[[str], None]
) -> None:
    """Make these steps one after the other; each appears whole, so that a killed call loses at most
    the one at work.
    """
    for number, step in enumerate(steps, 1):
        start = time.monotonic()
        with write_artifact(step.path, step.lineage) as out:
            if step.scores:
                _score(step, config, data, out)
            elif (step.run, step.seed) in data.made:
                shutil.copytree(
                    data.made[step.run, step.seed],
                    out,
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns(LINEAGE_FILE, CHECKS_FILE),
                )
            else:
                _train(step, config, data, out)
        tell(
            f"  {number:3d} of {len(steps)}  seed {step.seed}  {step.run + (', scores' if step.scores else ''):<27}"
            f"{time.monotonic() - start:8.1f} s"
        )


def ablation_tables(lake: Lake, config: AblationConfig) -> AblationTables:
    """The tables over all seeds. Raises ArtifactError if scores are missing."""
    scores = {
        seed: [read_metrics(scores_folder(lake, run, seed), "scores") for run in config.runs]
        for seed in config.seeds
    }
    what = {name: variant.what for name, variant in VARIANTS.items()}
    return tables_of(seed_cube(scores, config.variants), PAIRS, what, config.evaluation.interval)


def run_folder(lake: Lake, run: str, seed: int) -> Path:
    """Folder of a run."""
    return lake.root / "ablation" / run / str(seed)


def scores_folder(lake: Lake, run: str, seed: int) -> Path:
    """Folder of the scores of a run."""
    return lake.root / "ablation" / "scores" / run / str(seed)


def _train(step: Step, config: AblationConfig, data: AblationData, out: Path) -> None:
    train, val = data.training()
    vla = run_folder(data.lake, "vla", step.seed)
    shared: dict[str, Any] = {
        "score_plans": data.score_plans,
        "compute": data.compute,
        "runs": data.lake.runs,
        "seed": step.seed,
        "name": f"ablation-{step.run}-{step.seed}-{step.lineage.version}",
    }
    if step.run == "vla":
        finetune(train, val, out, config.vla, **shared)
    elif step.run == "student":
        distill(train, val, vla, out, config.student, **shared)
    else:
        vary_vla(train, vla, out, varied(step.run, config.vla), **shared)


def _score(step: Step, config: AblationConfig, data: AblationData, out: Path) -> None:
    folder, vla = (
        run_folder(data.lake, step.run, step.seed),
        run_folder(data.lake, "vla", step.seed),
    )
    names = [name for name, variant in VARIANTS.items() if variant.run == step.run]
    whole = step.run in ("vla", "student")
    planners: dict[str, Planner] = {
        name: open_planner(name, vla, folder) if whole else open_varied(folder, vla)
        for name in names
    }
    evaluate(
        data.test(),
        planners,
        data.lake,
        out,
        config.scoring,
        seeds=dict.fromkeys(planners, step.seed),
    )
