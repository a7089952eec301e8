"""`latentvla ablate`: train the method and variants of it over several seeds and compare them.

The ablation lies in the pipeline's lake but is no asset: nothing depends on it. The training and
the scoring are in ops/ablation/ablate.py.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.commands.target import add_target_arguments, pipeline_of
from storage.artifact import write_artifact
from storage.errors import ConfigError

if TYPE_CHECKING:
    from assets.chain.ledger import Ledger
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
    from assets.chain.capabilities import require_capabilities
    from assets.chain.ledger import Ledger
    from assets.chain.weights import require_weights
    from ops.ablation.ablate import ablation_tables, make_steps, plan_steps, unfinished
    from ops.ablation.table import write_tables

    config = _ablation_config(pipeline, seeds, variants)
    require_weights(pipeline.preset, ["vla"])
    lake = pipeline.lake
    with lake.lock():
        ledger = Ledger(pipeline, as_made=True)
        require_capabilities(ledger, "evaluation")
        ledger.require_current("codebook", "relabeled")
        parents, scored_on = ledger.lineage("vla").parents, ledger.parents_by_log("evaluation")
        steps = plan_steps(lake, config, parents, _code_versions(), scored_on)
        todo = unfinished(steps)
        log(
            f"{len(config.variants)} variants, seeds {', '.join(map(str, config.seeds))}: "
            f"{len(todo)} of {len(steps)} steps to do"
        )
        if todo:
            with _ablation_data(ledger) as data:
                make_steps(todo, config, data, log)
        tables, folder = ablation_tables(lake, config), lake.root / "ablation"
        redraw = ledger.made("report") == ledger.version("report")
        write_tables(folder, tables)
        if redraw:
            _draw_report(ledger)
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
        preset.compute,
    )


@contextmanager
def _ablation_data(ledger: "Ledger") -> "Iterator[AblationData]":
    from ops.ablation.ablate import AblationData
    from ops.pdm.score_rows import PlanScorer
    from ops.training.heldout import train_and_heldout
    from storage.dataset import read_dataset

    lake, preset, log_ids = ledger.lake, ledger.pipeline.preset, ledger.usable
    size_hw = preset.vla.image_hw
    with PlanScorer(lake, preset.processes) as score_plans:
        yield AblationData(
            lake,
            cache(lambda: train_and_heldout(lake, log_ids, size_hw, relabeled=True)),
            cache(
                lambda: read_dataset(lake, "test", size_hw=size_hw, relabeled=True, log_ids=log_ids)
            ),
            score_plans,
            _pipeline_runs(ledger),
        )


def _draw_report(ledger: "Ledger") -> None:
    """Draw the pipeline's report with the ablation's new tables, which are one of its parents."""
    from ops.report.report import draw

    ledger.changed("report")
    path, lineage = ledger.lake.asset("report"), ledger.lineage("report")
    if ledger.made("report") != lineage.version:
        with write_artifact(path, lineage) as out:
            draw(ledger.lake, out, ledger.pipeline.preset.report)


def _pipeline_runs(ledger: "Ledger") -> dict[tuple[str, int], Path]:
    """The pipeline's own vla and student if they are current: the runs of the first seed, which
    need not be trained twice.
    """
    runs: dict[tuple[str, int], Path] = {}
    for asset in ("vla", "student"):
        if not ledger.is_current(asset):
            break  # a student of another vla is another student
        runs[asset, ledger.pipeline.preset.seed] = ledger.lake.asset(asset)
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
