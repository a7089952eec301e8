"""The nine assets of the pipeline: what each is made from, by which code and configuration.

The dependencies and code versions of the Dagster assets, the lineage of every artefact, and the
decision whether an artefact is current all follow from this table, before any work is done.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from assets.chain.code_version import code_version_of_modules
from assets.chain.pipeline import Pipeline, RawLogs
from assets.chain.preset import config_of
from ops.ablation.tables_version import ablation_tables_version
from ops.ingest.inventory import read_inventory
from ops.ingest.quarantine import is_quarantined, quarantined
from storage.artifact import (
    LINEAGE_FILE,
    Lineage,
    is_current,
    planned_lineage,
    read_checks,
    read_lineage,
)
from storage.asset_names import PER_LOG_ASSETS
from storage.errors import ArtifactError
from storage.lake import Lake

# Fields of WorldConfig that decide how many logs there are, not what is in a log.
WORLD_COUNTS = ("train_logs", "val_logs", "test_logs")
ALL_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class AssetSpec:
    """What the pipeline has to know of one asset."""

    deps: tuple[str, ...]  # assets it reads
    # the code that does the work, as assets/chain/code_version.py names it; what it imports counts.
    # First the module of the verb
    code: tuple[str, ...]
    needs: tuple[str, ...] = ()  # capabilities that at least one log must have
    seeded: bool = False  # its content depends on the run's seed
    checked: bool = True  # it has blocking checks, whose outcome is kept beside the artefact
    splits: tuple[str, ...] = ALL_SPLITS  # logs whose tables it reads


ASSET_SPECS: dict[str, AssetSpec] = {
    "raw_logs": AssetSpec((), ("ops/synthesize/world.py",), checked=False),
    "frames": AssetSpec(
        ("raw_logs",),
        ("ops/ingest/decode.py", "assets/frames.py::frames.work_of", "storage/sources"),
    ),
    "trajectories": AssetSpec(
        ("raw_logs", "frames"),
        (
            "ops/ingest/extract.py",
            "assets/trajectories.py::trajectories.work_of",
            "storage/sources",
        ),
    ),
    "codebook": AssetSpec(
        ("frames", "trajectories"),
        ("ops/latent_actions/learn_actions.py", "assets/codebook.py::codebook()"),
        seeded=True,
        splits=("train", "val"),
    ),
    "relabeled": AssetSpec(
        ("frames", "trajectories", "codebook"),
        ("ops/latent_actions/relabel.py", "assets/relabeled.py::relabeled()"),
    ),
    "vla": AssetSpec(
        ("frames", "trajectories", "relabeled"),
        ("ops/vla/finetune.py", "assets/vla.py::vla()"),
        ("map", "command"),
        seeded=True,
    ),
    "student": AssetSpec(
        ("frames", "trajectories", "relabeled", "vla"),
        ("ops/student/distill.py", "assets/student.py::student()"),
        ("map", "command"),
        seeded=True,
    ),
    "evaluation": AssetSpec(
        ("frames", "trajectories", "relabeled", "vla", "student"),
        (
            "ops/evaluation/evaluate.py",
            "assets/evaluation.py::evaluation()",
            "ops/planners/latency.py",
        ),
        ("map", "command", "agents"),
        seeded=True,
    ),
    "report": AssetSpec(
        ("frames", "codebook", "relabeled", "vla", "student", "evaluation"),
        ("ops/report/report.py", "assets/report.py::report()"),
        ("map", "command", "agents"),
        checked=False,
    ),
}


def code_version(asset: str) -> str:
    """Version of the code that makes an asset: its modules and our modules that they import."""
    return code_version_of_modules(ASSET_SPECS[asset].code)


def log_lineage(pipeline: Pipeline, logs: RawLogs, asset: str, log_id: str) -> Lineage:
    """The lineage that one log's artefact will have."""
    name = f"{asset}/{log_id}"
    if asset == "raw_logs" and log_id in logs.splits_of_world:
        assert logs.world is not None
        world = asdict(logs.world)
        config = {key: value for key, value in world.items() if key not in WORLD_COUNTS}
        return planned_lineage(name, {}, config, code_version(asset))
    if asset == "raw_logs":
        code = code_version_of_modules(("ops/ingest/inventory.py", "storage/sources"))
        content = {"bytes": logs.fingerprint(log_id)}
        return planned_lineage(name, content, {"source": pipeline.source}, code)
    parents = {
        f"{dep}/{log_id}": log_lineage(pipeline, logs, dep, log_id).version
        for dep in ASSET_SPECS[asset].deps
    }
    return planned_lineage(name, parents, getattr(pipeline.preset, asset), code_version(asset))


def asset_lineage(
    pipeline: Pipeline,
    asset: str,
    log_ids: Sequence[str],
    planned: Mapping[str, str] | None = None,
) -> Lineage:
    """The lineage that an unpartitioned asset's artefact will have with its present inputs.

    `log_ids` are those of usable_logs(); `planned` holds versions of assets that are not made yet
    but will be. Raises ArtifactError for a missing input.
    """
    spec, preset, lake = ASSET_SPECS[asset], pipeline.preset, pipeline.lake
    parents: dict[str, str] = {}
    for dep in spec.deps:
        if dep == "frames":
            continue  # the version of a log's trajectories covers that of its frames
        if dep in PER_LOG_ASSETS:
            parents |= {
                f"{dep}/{log}": read_lineage(lake.log(dep, log)).version
                for log in logs_of_splits(lake, log_ids, spec.splits)
            }
        else:
            parents[dep] = (planned or {}).get(dep) or read_lineage(lake.asset(dep)).version
    if asset == "evaluation" and (zero_shot := zero_shot_lineage(pipeline)) is not None:
        parents[zero_shot.asset] = zero_shot.version
    if asset == "report" and (tables := ablation_tables_version(lake)):
        parents["ablation"] = tables
    seed = preset.seed if spec.seeded else None
    return planned_lineage(asset, parents, config_of(preset, asset), code_version(asset), seed)


def zero_shot_lineage(pipeline: Pipeline) -> Lineage | None:
    """The lineage that the evaluation's zero-shot logs will have; None if the preset has none."""
    from ops.ingest.zero_shot_logs import zero_shot_logs_lineage

    config = pipeline.preset.evaluation.zero_shot
    if config is None:
        return None
    code = code_version_of_modules(("ops/ingest/zero_shot_logs.py",))
    return zero_shot_logs_lineage(config.logs, code)


def is_done(path: Path, asset: str, version: str) -> bool:
    """True if `path` holds this version and its blocking checks have run: a run can be killed
    between the two.
    """
    return is_current(path, version) and (not ASSET_SPECS[asset].checked or bool(read_checks(path)))


def usable_logs(pipeline: Pipeline) -> list[str]:
    """Logs that have trajectories and are not quarantined, sorted. Raises ArtifactError if there
    is none.
    """
    lake = pipeline.lake
    excluded = quarantined(lake)
    return _some_logs(lake, [log for log in lake.log_ids("trajectories") if log not in excluded])


def logs_of_splits(lake: Lake, log_ids: Sequence[str], splits: Collection[str]) -> list[str]:
    """Those of `log_ids` that are in these splits, in their order. Raises ArtifactError if there
    is none.
    """
    if set(splits) == set(ALL_SPLITS):
        return list(log_ids)
    return _some_logs(
        lake, [log for log in log_ids if read_inventory(lake.log("raw_logs", log)).split in splits]
    )


def needs_work(
    pipeline: Pipeline, logs: RawLogs, log_id: str, assets: Collection[str] = PER_LOG_ASSETS
) -> bool:
    """True if one of these assets of a log is not current. A log that failed with the same bytes
    and code stays quarantined and needs none.
    """
    lineages = {asset: log_lineage(pipeline, logs, asset, log_id) for asset in assets}
    if log_id in logs.splits_of_world and not logs.is_intact(log_id):
        return True
    if any(is_quarantined(pipeline.lake, log_id, lineage.version) for lineage in lineages.values()):
        return False
    return not all(
        is_done(pipeline.lake.log(asset, log_id), asset, lineage.version)
        for asset, lineage in lineages.items()
    )


def new_logs_since_codebook(pipeline: Pipeline) -> list[str] | None:
    """Ingested logs that the codebook was not trained on; None if there is no codebook."""
    path = pipeline.lake.asset("codebook")
    if not (path / LINEAGE_FILE).exists():
        return None
    trained_on = read_lineage(path).parents
    splits = ASSET_SPECS["codebook"].splits
    log_ids = logs_of_splits(pipeline.lake, usable_logs(pipeline), splits)
    return [log for log in log_ids if f"trajectories/{log}" not in trained_on]


def _some_logs(lake: Lake, log_ids: list[str]) -> list[str]:
    if not log_ids:
        raise ArtifactError(
            "no log has been ingested",
            where=lake.root,
            expected="trajectories/<log_id>",
            do="make them: latentvla run --until trajectories; quarantine: latentvla status",
        )
    return log_ids
