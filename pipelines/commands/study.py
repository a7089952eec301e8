"""`latentvla study unlabelled`: what latent actions are worth where few logs have labels.

The study lies in `<lake>/study`, with lakes of its own for its towns, and is no asset: nothing
depends on it. The work is in ops/study.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.commands.target import add_target_arguments, pipeline_of
from storage.errors import ConfigError

if TYPE_CHECKING:
    from assets.chain.pipeline import Pipeline
    from ops.study.config import StudyConfig

MAX_SEEDS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", choices=["unlabelled"], help="the study")
    parser.add_argument(
        "--teachers", type=int, metavar="N", help="seeds of codebook and VLM; default: the scale's"
    )
    parser.add_argument(
        "--students",
        type=int,
        metavar="N",
        help="seeds of the students, each crossed with every teacher; default: the scale's",
    )
    parser.add_argument(
        "--split",
        choices=["val", "test"],
        default="test",
        help="logs whose scenes are scored: val for choices; default: test",
    )
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Learn latent actions from logs without labels, distil them into students that have few
    labelled logs, and print what that is worth.
    """
    pipeline = pipeline_of(options)
    config = _study_config(pipeline, options.teachers, options.students, options.split)
    print(make_study(pipeline, config))
    return 0


def make_study(
    pipeline: "Pipeline", config: "StudyConfig", log: Callable[[str], None] = print
) -> str:
    """Make what is missing of the study, write its tables to `<lake>/study/tables/<split>`, and
    return them as text.
    """
    from ops.ablation.table import write_tables
    from ops.study.study import Study
    from ops.study.table import study_tables
    from storage.lake import Lake

    root = pipeline.lake.root / "study"
    with Lake(root).lock():
        study = Study(
            root,
            config,
            _code_versions(),
            pipeline.preset.compute,
            pipeline.preset.processes,
            log,
        )
        log(
            f"{config.size.teachers} teachers, {config.size.students} students: "
            f"{len(study.students)} trainings, scored on {config.split} logs"
        )
        study.make()
        tables, folder = study_tables(root, config), root / "tables" / config.split
        write_tables(folder, tables, "study.md")
    return f"\n{tables.markdown}\n\ntables: {folder.absolute()}"


def _study_config(
    pipeline: "Pipeline", teachers: int | None, students: int | None, split: str
) -> "StudyConfig":
    from ops.study.config import StudyConfig

    preset = pipeline.preset
    if preset.world is None or pipeline.raw:
        raise ConfigError(
            "the study draws its own logs in synthetic towns",
            found=f"scale '{pipeline.scale}'" + (f", --raw {pipeline.raw}" if pipeline.raw else ""),
            expected="a scale with a synthetic world, and no --raw",
            do="latentvla study unlabelled --scale synthetic",
        )
    for name, number in (("teachers", teachers), ("students", students)):
        if number is not None and not 1 <= number <= MAX_SEEDS:
            raise ConfigError(
                f"the study needs at least one of its {name}",
                expected=f"--{name} 1 to {MAX_SEEDS}",
                found=number,
                do=f"give --{name} 3",
            )
    size = replace(
        preset.study,
        teachers=teachers or preset.study.teachers,
        students=students or preset.study.students,
    )
    return StudyConfig(
        size,
        preset.world,
        preset.frames,
        preset.trajectories,
        preset.codebook,
        preset.relabeled,
        preset.vla,
        preset.evaluation,
        split,
    )


def _code_versions() -> dict[str, str]:
    from assets.chain.code_version import code_version_of_modules

    return {
        name: code_version_of_modules((f"ops/study/{name}.py",))
        for name in ("towns", "teachers", "students", "scores")
    }
