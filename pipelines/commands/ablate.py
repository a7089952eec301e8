"""`latentvla ablate`: train the method and variants of it over several seeds and compare them.

The ablation lies in the pipeline's lake but is no asset: nothing depends on it. The training and
the scoring are in ops/ablation/ablate.py.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.commands.target import add_target_arguments, pipeline_of
from storage.artifact import is_current, require_checks, write_artifact
from storage.asset_names import PER_LOG_ASSETS
from storage.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from assets.chain.pipeline import Pipeline
    from ops.ablation.ablate import AblationConfig, AblationData

MAX_SEEDS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--seeds",
        type=int,
        default=5,
        metavar="N",
        help="number of seeds, counted up from the run's own; default: 5",
    )
    parser.add_argument(
        "--variants",
        default="",
        metavar="NAMES",
        help="variants separated by commas, such as average_pool; default: all",
    )
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Train the method, and the method without each of its parts, over several seeds, and print the
    differences.
    """
    pipeline = pipeline_of(options)
    if not 1 <= options.seeds <= MAX_SEEDS:
        raise ConfigError(
            "an ablation needs a seed, and each costs a training",
            expected=f"--seeds 1 to {MAX_SEEDS}",
            found=options.seeds,
            do="give --seeds 5",
        )
    print(ablate_pipeline(pipeline, options.seeds, options.variants))
    return 0


def ablate_pipeline(
    pipeline: "Pipeline", seeds: int, variants: str, log: Callable[[str], None] = print
) -> str:
    """Make what is missing of the ablation of `pipeline`, write its tables to `<lake>/ablation`,
    and return them as text.

    `seeds` is the number of seeds, counted up from the run's own; `variants` are names separated by
    commas, "" for all. Raises ConfigError for a name that does not exist or logs without a map,
    ArtifactError if codebook or relabeled are not current or failed a check.
    """
    from assets.chain.asset_specs import asset_lineage, usable_logs
    from assets.chain.capabilities import require_capabilities
    from assets.chain.weights import require_weights
    from ops.ablation.ablate import ablation_tables, make_steps, plan_steps, unfinished
    from ops.ablation.table import write_tables

    config = _ablation_config(pipeline, seeds, variants)
    require_weights(pipeline.preset, ["vla"])
    lake = pipeline.lake
    with lake.lock():
        log_ids = usable_logs(pipeline)
        require_capabilities(pipeline, "evaluation", log_ids)
        _require_current(pipeline, log_ids)
        parents = asset_lineage(pipeline, "vla", log_ids).parents
        steps = plan_steps(lake, config, parents, _code_versions())
        todo = unfinished(steps)
        log(
            f"{len(config.variants)} variants, seeds {', '.join(map(str, config.seeds))}: "
            f"{len(todo)} of {len(steps)} steps to do"
        )
        if todo:
            with _ablation_data(pipeline, log_ids) as data:
                make_steps(todo, config, data, log)
        tables, folder = ablation_tables(lake, config), lake.root / "ablation"
        write_tables(folder, tables)
        _redraw_report(pipeline, log_ids)
    return f"\n{tables.markdown}\n\ntables: {folder.absolute()}"


def _ablation_config(pipeline: "Pipeline", seeds: int, variants: str) -> "AblationConfig":
    from ops.ablation.ablate import AblationConfig, choose_variants

    names = [name.strip() for name in variants.split(",") if name.strip()]
    chosen = choose_variants(names)
    preset = pipeline.preset
    return AblationConfig(
        chosen,
        tuple(range(preset.seed, preset.seed + seeds)),
        preset.codebook.num_codes,
        preset.vla,
        preset.student,
        preset.evaluation,
    )


@contextmanager
def _ablation_data(pipeline: "Pipeline", log_ids: Sequence[str]) -> "Iterator[AblationData]":
    from ops.ablation.ablate import AblationData
    from ops.pdm.score_rows import PlanScorer
    from ops.training.heldout import train_and_heldout
    from storage.dataset import read_dataset

    lake, preset = pipeline.lake, pipeline.preset
    size_hw = preset.vla.image_hw
    with PlanScorer(lake, preset.processes) as score_plans:
        yield AblationData(
            lake,
            cache(lambda: train_and_heldout(lake, log_ids, size_hw, relabeled=True)),
            cache(
                lambda: read_dataset(lake, "test", size_hw=size_hw, relabeled=True, log_ids=log_ids)
            ),
            score_plans,
            preset.compute,
            _pipeline_runs(pipeline, log_ids),
        )


def _redraw_report(pipeline: "Pipeline", log_ids: Sequence[str]) -> None:
    """Draw the pipeline's report again if it is current: it shows the tables of the ablation."""
    from assets.chain.asset_specs import asset_lineage
    from ops.report.report import draw

    path = pipeline.lake.asset("report")
    if not path.exists():
        return
    lineage = asset_lineage(pipeline, "report", log_ids)
    if is_current(path, lineage.version):
        with write_artifact(path, lineage) as out:
            draw(pipeline.lake, out, pipeline.preset.report)


def _require_current(pipeline: "Pipeline", log_ids: Sequence[str]) -> None:
    """Raise ArtifactError unless the training rows are those of the present configuration and code,
    and passed their checks.
    """
    from assets.chain.asset_specs import asset_lineage

    lake = pipeline.lake
    for asset in ("codebook", "relabeled"):
        expected = asset_lineage(pipeline, asset, log_ids).version
        if not is_current(lake.asset(asset), expected):
            raise ArtifactError(
                f"'{asset}' is not current",
                where=lake.asset(asset),
                expected=f"version {expected}",
                do=f"make it: latentvla run --scale {pipeline.scale} --until relabeled",
            )
        require_checks(lake.asset(asset))
    for asset in PER_LOG_ASSETS:
        for log in log_ids:
            require_checks(lake.log(asset, log))


def _pipeline_runs(pipeline: "Pipeline", log_ids: Sequence[str]) -> dict[tuple[str, int], Path]:
    """The pipeline's own vla and student if they are current: the runs of the first seed, which
    need not be trained twice.
    """
    from assets.chain.asset_specs import asset_lineage

    runs: dict[tuple[str, int], Path] = {}
    for asset in ("vla", "student"):
        path = pipeline.lake.asset(asset)
        if not is_current(path, asset_lineage(pipeline, asset, log_ids).version):
            break  # a student of another vla is another student
        runs[asset, pipeline.preset.seed] = path
    return runs


def _code_versions() -> dict[str, str]:
    from assets.chain.asset_specs import code_version
    from assets.chain.code_version import code_version_of_modules

    return {
        **{asset: code_version(asset) for asset in ("vla", "student", "evaluation")},
        **{
            run: code_version_of_modules((f"ops/ablation/{module}.py",))
            for run, module in {
                "varied": "vary_vla",
                "oracle": "oracle",
                "student_recorded_codes": "teach_student",
                "student_blind_teacher": "teach_student",
                "student_ensemble": "ensemble",
            }.items()
        },
    }
