"""What `latentvla ablate` does: take the recipe of a chain apart over several seeds, and tell what each part is worth.

Not the training and scoring (ops/ablation/ablate.py). Chain and ablation share a lake, but the ablation is no link of the chain:
nothing depends on it.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from storage.artifact import code_version_of, is_current, require_checks, write_artifact
from storage.errors import ArtifactError, ConfigError
from storage.lake import PER_LOG_LINKS

if TYPE_CHECKING:
    from assets.chain.chain import Chain
    from ops.ablation.ablate import AblationConfig, Step


def ablate_chain(chain: "Chain", seeds: int, variants: str, tell: Callable[[str], None] = print) -> str:
    """Make what is missing of the ablation of `chain` with `seeds` seeds, from the run's own seed on, write its tables to
    `<lake>/ablation` and return them as text.

    `variants` are names with commas between, "" for all. Raises ConfigError for a name that does not exist or logs
    without a map, ArtifactError if codebook or relabeled are not current or failed a check.
    """
    from assets.chain.asset_specs import plan_link, require_capabilities
    from ops.ablation.ablate import AblationConfig, ablation_tables, choose_variants, make_steps, plan_steps, unfinished
    from ops.ablation.table import write_tables
    from pipelines.commands.run import only_run

    chosen = choose_variants([name.strip() for name in variants.split(",") if name.strip()])
    if seeds < 1:
        raise ConfigError("an ablation needs a seed", expected="--seeds 1 or more", found=seeds, do="give --seeds 5")
    preset = chain.preset()
    config = AblationConfig(chosen, tuple(range(preset.seed, preset.seed + seeds)), preset.vla, preset.student,
                            preset.evaluation)
    with only_run(chain):
        require_capabilities(chain, "evaluation")
        _require_current(chain)
        steps = plan_steps(chain.lake, config, plan_link(chain, "vla").parents, _code_versions())
        todo = unfinished(steps)
        tell(f"{len(chosen)} variants, seeds {', '.join(map(str, config.seeds))}: {len(todo)} of {len(steps)} steps to do")
        if todo:
            _make(chain, todo, config, tell, make_steps)
        tables, folder = ablation_tables(chain.lake, config), chain.lake.root / "ablation"
        write_tables(folder, tables)
        _show_in_the_report(chain)
    return f"\n{tables.markdown}\n\ntables: {folder.absolute()}"


def _make(chain: "Chain", todo: "list[Step]", config: "AblationConfig", tell: Callable[[str], None],
          make_steps: Callable[..., None]) -> None:
    from assets.chain.asset_specs import usable_logs
    from ops.ablation.ablate import Ground
    from ops.pdm.score_rows import PlanScorer
    from ops.training.heldout import train_and_heldout
    from storage.dataset import read_dataset

    lake, preset, logs = chain.lake, chain.preset(), usable_logs(chain)
    size_hw = preset.vla.image_hw
    with PlanScorer(lake, preset.processes) as score_plans:
        ground = Ground(lake, cache(lambda: train_and_heldout(lake, logs, size_hw, relabeled=True)),
                        cache(lambda: read_dataset(lake, "test", size_hw=size_hw, relabeled=True, log_ids=logs)),
                        score_plans, preset.where, _made_by_the_chain(chain))
        make_steps(todo, config, ground, tell)


def _show_in_the_report(chain: "Chain") -> None:
    """Draw the chain's report again, where it has a current one: its tables are there now."""
    from assets.chain.asset_specs import plan_link
    from ops.report.report import draw

    path = chain.lake.link("report")
    if path.exists() and is_current(path, (lineage := plan_link(chain, "report")).version):
        with write_artifact(path, lineage) as out:
            draw(chain.lake, out, chain.preset().report)


def _require_current(chain: "Chain") -> None:
    """Raise ArtifactError unless the rows that every run learns from are those of the present recipe, and sound."""
    from assets.chain.asset_specs import plan_link, usable_logs

    lake = chain.lake
    for link in ("codebook", "relabeled"):
        expected = plan_link(chain, link).version
        if not is_current(lake.link(link), expected):
            raise ArtifactError(f"'{link}' is not current", where=lake.link(link), expected=f"version {expected}",
                                do=f"make it: latentvla run --scale {chain.scale} --until relabeled")
        require_checks(lake.link(link))
    for link in PER_LOG_LINKS:
        for log in usable_logs(chain):
            require_checks(lake.log(link, log))


def _made_by_the_chain(chain: "Chain") -> dict[tuple[str, int], Path]:
    """The chain's own vla and student where they are current: the run of the first seed, which need not be made twice."""
    from assets.chain.asset_specs import plan_link

    made: dict[tuple[str, int], Path] = {}
    for link in ("vla", "student"):
        path = chain.lake.link(link)
        if not is_current(path, plan_link(chain, link).version):
            break       # a student of another vla is another student
        made[link, chain.preset().seed] = path
    return made


def _code_versions() -> dict[str, str]:
    from assets.chain.asset_specs import code_version
    from assets.chain.code_version import ROOT, modules_of

    varied = code_version_of([ROOT / name for name in modules_of(("ops/ablation/vary_vla.py",))])
    return {link: code_version(link) for link in ("vla", "student", "evaluation")} | {"varied": varied}
