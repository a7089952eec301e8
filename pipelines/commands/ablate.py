"""What `latentvla ablate` does: take the recipe of a pipeline apart over several seeds, and tell
what each part is worth.

Not the training and scoring (ops/ablation/ablate.py). Pipeline and ablation share a lake,
but the ablation is no asset of the pipeline: nothing depends on it.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from storage.artifact import code_version_of, is_current, require_checks, write_artifact
from storage.errors import ArtifactError, ConfigError
from storage.lake import PER_LOG_ASSETS

if TYPE_CHECKING:
    from assets.chain.pipeline import Pipeline
    from ops.ablation.ablate import AblationConfig, Step


def ablate_pipeline(
    pipeline: "Pipeline", seeds: int, variants: str, tell: Callable[[str], None] = print
) -> str:
    """Make what is missing of the ablation of `pipeline` with `seeds` seeds, from the run's own
    seed on, write its tables to `<lake>/ablation` and return them as text.

    `variants` are names with commas between, "" for all. Raises ConfigError for a name that does
    not exist or logs without a map, ArtifactError if codebook or relabeled are not current or
    failed a check.
    """
    from assets.chain.asset_specs import asset_lineage, require_capabilities
    from ops.ablation.ablate import (
        AblationConfig,
        ablation_tables,
        choose_variants,
        make_steps,
        plan_steps,
        unfinished,
    )
    from ops.ablation.table import write_tables
    from pipelines.commands.run import only_run

    chosen = choose_variants([name.strip() for name in variants.split(",") if name.strip()])
    if seeds < 1:
        raise ConfigError(
            "an ablation needs a seed",
            expected="--seeds 1 or more",
            found=seeds,
            do="give --seeds 5",
        )
    preset = pipeline.preset
    config = AblationConfig(
        chosen,
        tuple(range(preset.seed, preset.seed + seeds)),
        preset.vla,
        preset.student,
        preset.evaluation,
    )
    with only_run(pipeline):
        require_capabilities(pipeline, "evaluation")
        _require_current(pipeline)
        steps = plan_steps(
            pipeline.lake, config, asset_lineage(pipeline, "vla").parents, _code_versions()
        )
        todo = unfinished(steps)
        tell(
            f"{len(chosen)} variants, seeds {', '.join(map(str, config.seeds))}: {len(todo)} of {len(steps)} steps to do"
        )
        if todo:
            _make(pipeline, todo, config, tell, make_steps)
        tables, folder = ablation_tables(pipeline.lake, config), pipeline.lake.root / "ablation"
        write_tables(folder, tables)
        _show_in_the_report(pipeline)
    return f"\n{tables.markdown}\n\ntables: {folder.absolute()}"


def _make(
    pipeline: "Pipeline",
    todo: "list[Step]",
    config: "AblationConfig",
    tell: Callable[[str], None],
    make_steps: Callable[..., None],
) -> None:
    from assets.chain.asset_specs import usable_logs
    from ops.ablation.ablate import AblationData
    from ops.pdm.score_rows import PlanScorer
    from ops.training.heldout import train_and_heldout
    from storage.dataset import read_dataset

    lake, preset, logs = pipeline.lake, pipeline.preset, usable_logs(pipeline)
    size_hw = preset.vla.image_hw
    with PlanScorer(lake, preset.processes) as score_plans:
        data = AblationData(
            lake,
            cache(lambda: train_and_heldout(lake, logs, size_hw, relabeled=True)),
            cache(
                lambda: read_dataset(lake, "test", size_hw=size_hw, relabeled=True, log_ids=logs)
            ),
            score_plans,
            preset.compute,
            _made_by_the_pipeline(pipeline),
        )
        make_steps(todo, config, data, tell)


def _show_in_the_report(pipeline: "Pipeline") -> None:
    """Draw the pipeline's report again, where it has a current one: its tables are there now."""
    from assets.chain.asset_specs import asset_lineage
    from ops.report.report import draw

    path = pipeline.lake.asset("report")
    if path.exists() and is_current(path, (lineage := asset_lineage(pipeline, "report")).version):
        with write_artifact(path, lineage) as out:
            draw(pipeline.lake, out, pipeline.preset.report)


def _require_current(pipeline: "Pipeline") -> None:
    """Raise ArtifactError unless the rows that every run learns from are those of the present
    recipe, and sound.
    """
    from assets.chain.asset_specs import asset_lineage, usable_logs

    lake = pipeline.lake
    for asset in ("codebook", "relabeled"):
        expected = asset_lineage(pipeline, asset).version
        if not is_current(lake.asset(asset), expected):
            raise ArtifactError(
                f"'{asset}' is not current",
                where=lake.asset(asset),
                expected=f"version {expected}",
                do=f"make it: latentvla run --scale {pipeline.scale} --until relabeled",
            )
        require_checks(lake.asset(asset))
    for asset in PER_LOG_ASSETS:
        for log in usable_logs(pipeline):
            require_checks(lake.log(asset, log))


def _made_by_the_pipeline(pipeline: "Pipeline") -> dict[tuple[str, int], Path]:
    """The pipeline's own vla and student where they are current: the run of the first seed, which
    need not be made twice.
    """
    from assets.chain.asset_specs import asset_lineage

    made: dict[tuple[str, int], Path] = {}
    for asset in ("vla", "student"):
        path = pipeline.lake.asset(asset)
        if not is_current(path, asset_lineage(pipeline, asset).version):
            break  # a student of another vla is another student
        made[asset, pipeline.preset.seed] = path
    return made


def _code_versions() -> dict[str, str]:
    from assets.chain.asset_specs import code_version
    from assets.chain.code_version import ROOT, modules_of

    varied = code_version_of([ROOT / name for name in modules_of(("ops/ablation/vary_vla.py",))])
    return {asset: code_version(asset) for asset in ("vla", "student", "evaluation")} | {
        "varied": varied
    }
