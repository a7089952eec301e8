"""Ablation study: train the method, and the method without one of its parts, over several seeds,
and score all planners on the test scenes.

Planners that are trained together are one run. Each run of a seed is an artefact, and so are its
scores: what is current is not made again, and an interrupted training resumes.

    <lake>/ablation/<run>/<seed>            a run: the `vla` or `student` of that seed, or the
                                            changed VLA of ops/ablation/vary_vla.py, the oracle
                                            of ops/ablation/oracle.py, or a student with
                                            another teacher of ops/ablation/teach_student.py
    <lake>/ablation/scores/<run>/<seed>     its planners on the test scenes, as written by
                                            ops/evaluation/evaluate.py
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ops.ablation.ensemble import ensemble_teacher, open_ensemble
from ops.ablation.oracle import open_oracle, oracle_fusion, train_oracle
from ops.ablation.table import AblationTables, seed_cube, tables_of
from ops.ablation.teach_student import (
    Teacher,
    blind_teacher,
    recorded_codes,
    train_student,
)
from ops.ablation.vary_vla import open_varied, vary_vla
from ops.evaluation.config import EvaluationConfig
from ops.evaluation.evaluate import evaluate
from ops.evaluation.planners import open_planner
from ops.planners.planner import Planner
from ops.planners.scored_proposals import ScorePlans
from ops.student.config import StudentConfig
from ops.student.distill import distill
from ops.student.predict import Student, StudentPlanner
from ops.training.config import ComputeConfig
from ops.vla.config import VlaConfig
from ops.vla.finetune import finetune
from storage.artifact import (
    CHECKS_FILE,
    LINEAGE_FILE,
    Lineage,
    is_current,
    planned_lineage,
    write_artifact,
)
from storage.dataset import FrameSet
from storage.errors import unknown_name
from storage.lake import Lake
from storage.metrics_table import read_metrics
from storage.versions import Joined

# in training order: the later ones start from the `vla` run
RUNS = (
    "vla",
    "student",
    "no_latent_training",
    "average_pool",
    "oracle",
    "student_recorded_codes",
    "student_blind_teacher",
    "student_ensemble",
)
TEACHERS: dict[str, Teacher] = {  # of the runs that train a student with another teacher
    "student_recorded_codes": recorded_codes,
    "student_blind_teacher": blind_teacher,
    "student_ensemble": ensemble_teacher,
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A planner of the ablation table."""

    run: str  # of RUNS: the run that trains it
    description: str  # in the table
    compared_with: str = ""  # the planner it is compared with; "": it is the method itself


VARIANTS = {
    "vla": Variant("vla", "the planner that reads the VLM's hidden states"),
    "student": Variant("student", "the small planner distilled from the VLA, without a VLM"),
    "planner_alone": Variant("vla", "the planner of the VLA without a VLM", "vla"),
    "ego_status_mlp": Variant("vla", "no image: ego status and command only", "planner_alone"),
    "student_no_teacher": Variant(
        "student", "the student's network trained without the teacher's targets", "student"
    ),
    "student_recorded_codes": Variant(
        "student_recorded_codes",
        "the student taught the recorded codes, not the VLM's: what the codes themselves teach",
        "student_no_teacher",
    ),
    "student_blind_teacher": Variant(
        "student_blind_teacher",
        "the student taught the codes by an MLP that sees no image",
        "student_no_teacher",
    ),
    "student_ensemble": Variant(
        "student_ensemble",
        "the student taught the plans of an ensemble: the positive control",
        "student_no_teacher",
    ),
    "ensemble": Variant(
        "student_ensemble",
        "several planners' pooled and judged proposals: what the positive control's teacher knows",
        "student_no_teacher",
    ),
    "no_latent_training": Variant(
        "no_latent_training", "the VLA whose VLM is not trained on the codes", "vla"
    ),
    "average_pool": Variant(
        "average_pool", "the VLA that averages hidden states instead of attending to them", "vla"
    ),
    "oracle": Variant(
        "oracle",
        "the planner that is given the recorded codes: what codes could give at best",
        "planner_alone",
    ),
}
PAIRS = (
    ("student", "student_no_teacher"),
    ("student_recorded_codes", "student_no_teacher"),
    ("student_blind_teacher", "student_no_teacher"),
    ("student_ensemble", "student_no_teacher"),
    ("ensemble", "student_no_teacher"),
    ("student", "planner_alone"),
    ("student", "vla"),
    ("vla", "planner_alone"),
    ("vla", "no_latent_training"),
    ("vla", "average_pool"),
    ("oracle", "planner_alone"),
    ("planner_alone", "ego_status_mlp"),
)


@dataclass(frozen=True, slots=True)
class AblationConfig:
    """Variants and seeds of an ablation, and the configurations that are varied."""

    variants: tuple[str, ...]  # of VARIANTS, from choose_variants
    seeds: tuple[int, ...]
    num_codes: int  # of the codebook that labelled the rows
    vla: VlaConfig
    student: StudentConfig
    evaluation: EvaluationConfig
    compute: ComputeConfig

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that train these variants; the `vla` run is always one of them."""
        needed = {"vla", *(VARIANTS[name].run for name in self.variants)}
        return tuple(run for run in RUNS if run in needed)

    @property
    def scoring(self) -> EvaluationConfig:
        """The evaluation's configuration without its image ablations, differences and zero-shot
        logs.
        """
        return replace(self.evaluation, sight_ablations=(), controls=(), zero_shot=None)


@dataclass(frozen=True, slots=True)
class AblationData:
    """The rows that all runs are trained and scored on. They are read when a step first needs
    them.
    """

    lake: Lake
    training: Callable[[], tuple[FrameSet, FrameSet]]  # train and val
    test: Callable[[], FrameSet]
    score_plans: ScorePlans | None  # for training scenes; see ops.vla.finetune.finetune
    # (run, seed) -> folder, of runs that the pipeline has already trained
    pipeline_runs: Mapping[tuple[str, int], Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One artefact of the ablation."""

    run: str
    seed: int
    scores: bool  # True: the scores of the run; False: the run itself
    path: Path
    lineage: Lineage


def choose_variants(names: Sequence[str]) -> tuple[str, ...]:
    """These variants and those they are compared with, in the table's order; all if `names` is
    empty. Raises ConfigError for an unknown name.
    """
    for name in names:
        if name not in VARIANTS:
            raise unknown_name("variant", name, VARIANTS)
    chosen = {*(names or VARIANTS)}
    chosen |= {VARIANTS[name].compared_with for name in chosen}
    return tuple(name for name in VARIANTS if name in chosen)


def plan_steps(
    lake: Lake,
    config: AblationConfig,
    parents: Mapping[str, str],
    code: Mapping[str, str],
    scored_on: Mapping[str, str] | None = None,
) -> list[Step]:
    """Every artefact of the ablation, each after those it depends on, one seed after the other.

    `parents` are the parent versions of the pipeline's `vla`, `scored_on` those of the test rows
    (None: the same). `code` holds the code versions of
    the runs, of which `varied` (ops/ablation/vary_vla.py) makes several, and of `evaluation`.
    """
    steps = []
    students = dict.fromkeys(("student", *TEACHERS), config.student)
    for seed in config.seeds:
        base: dict[str, str] = {}
        for run in config.runs:
            recipe = ({"vla": config.vla} | students).get(run) or varied_config(run, config.vla)
            name = f"ablation/{run}/{seed}"
            settings = Joined(recipe, {"compute": config.compute})
            trained = planned_lineage(
                name, {**parents, **base}, settings, code.get(run, code["varied"]), seed
            )
            scored = planned_lineage(
                f"ablation/scores/{run}/{seed}",
                {**(parents if scored_on is None else scored_on), name: trained.version},
                config.scoring,
                code["evaluation"],
            )
            steps += [
                Step(run, seed, False, run_folder(lake, run, seed), trained),
                Step(run, seed, True, scores_folder(lake, run, seed), scored),
            ]
            if run == "vla":
                base = {name: trained.version}
    return steps


def varied_config(run: str, config: VlaConfig) -> VlaConfig:
    """The VLA's configuration without one of its parts; for the oracle, with its fusion."""
    if run == "oracle":
        return replace(config, fusion=oracle_fusion(config.fusion))
    if run == "average_pool":
        return replace(config, fusion=replace(config.fusion, pool="average"))
    assert run == "no_latent_training", run
    return replace(config, vlm_fit=replace(config.vlm_fit, steps=0))


def unfinished(steps: Sequence[Step]) -> list[Step]:
    """The steps whose artefact is missing or stale."""
    return [step for step in steps if not is_current(step.path, step.lineage.version)]


def make_steps(
    steps: Sequence[Step], config: AblationConfig, data: AblationData, log: Callable[[str], None]
) -> None:
    """Make these steps one after the other, with one log line each. Each artefact is written
    atomically, so an interruption loses at most the current step.
    """
    for number, step in enumerate(steps, 1):
        start = time.monotonic()
        with write_artifact(step.path, step.lineage) as out:
            if step.scores:
                _score(step, config, data, out)
            elif (step.run, step.seed) in data.pipeline_runs:
                shutil.copytree(
                    data.pipeline_runs[step.run, step.seed],
                    out,
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns(LINEAGE_FILE, CHECKS_FILE),
                )
            else:
                _train(step, config, data, out)
        name = step.run + (", scores" if step.scores else "")
        log(
            f"  {number:3d} of {len(steps)}  seed {step.seed}  {name:<31}"
            f"{time.monotonic() - start:8.1f} s"
        )


def ablation_tables(lake: Lake, config: AblationConfig) -> AblationTables:
    """The tables over all seeds. Raises ArtifactError if scores are missing."""
    scores = {
        seed: [read_metrics(scores_folder(lake, run, seed), "scores") for run in config.runs]
        for seed in config.seeds
    }
    descriptions = {name: variant.description for name, variant in VARIANTS.items()}
    return tables_of(
        seed_cube(scores, config.variants), PAIRS, descriptions, config.evaluation.interval
    )


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
        "compute": config.compute,
        "runs": data.lake.runs,
        "seed": step.seed,
        "name": f"ablation-{step.run}-{step.seed}-{step.lineage.version}",
    }
    if step.run == "vla":
        finetune(train, val, out, config.vla, num_codes=config.num_codes, **shared)
    elif step.run == "student":
        distill(train, val, vla, out, config.student, **shared)
    elif step.run == "oracle":
        fusion = varied_config(step.run, config.vla).fusion
        train_oracle(train, vla, out, fusion, num_codes=config.num_codes, **shared)
    elif step.run in TEACHERS:
        train_student(train, vla, out, config.student, TEACHERS[step.run], **shared)
    else:
        vary_vla(train, vla, out, varied_config(step.run, config.vla), **shared)


def _score(step: Step, config: AblationConfig, data: AblationData, out: Path) -> None:
    folder = run_folder(data.lake, step.run, step.seed)
    vla = run_folder(data.lake, "vla", step.seed)
    names = [name for name, variant in VARIANTS.items() if variant.run == step.run]
    planners = {name: _open(name, step.run, vla, folder, config.num_codes) for name in names}
    evaluate(
        data.test(),
        planners,
        data.lake,
        out,
        config.scoring,
        seeds=dict.fromkeys(planners, step.seed),
    )


def _open(name: str, run: str, vla: Path, folder: Path, num_codes: int) -> Planner:
    if run in ("vla", "student"):
        return open_planner(name, vla, folder)
    if name == "ensemble":
        return open_ensemble(folder)
    if run in TEACHERS:
        student = Student.from_pretrained(folder, runtime="torch")
        return StudentPlanner(student, student.parameters)
    return open_oracle(folder, num_codes) if run == "oracle" else open_varied(folder, vla)
