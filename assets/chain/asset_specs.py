"""The nine assets of the pipeline: what each is made from, by which code and configuration. Not the
Dagster assets.

From this table come the assets' dependencies and code versions, every artefact's lineage, and the
decision whether an artefact is current, which is known before any work is done.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from assets.chain.code_version import _code_version_of_modules
from assets.chain.pipeline import Pipeline, RawLogs
from ops.ingest.quarantine import is_quarantined
from storage.artifact import LINEAGE_FILE, Lineage, is_current, plan, read_checks, read_lineage
from storage.errors import ArtifactError, ConfigError
from storage.lake import PER_LOG_ASSETS, Lake

WORLD_COUNTS = (
    "train_logs",
    "val_logs",
    "test_logs",
)  # how many logs the synthetic world has changes none of them
ALL_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class AssetSpec:
    """One asset. `code` names the modules that do the work; what they import of ours counts too."""

    deps: tuple[str, ...]  # assets it reads
    code: tuple[str, ...]  # files below the repository root
    needs: tuple[str, ...] = ()  # capabilities that at least one log must have
    seeded: bool = False  # its content depends on the run's seed
    checked: bool = True  # it has blocking checks, whose outcome is kept beside the artefact
    splits: tuple[str, ...] = ALL_SPLITS  # logs whose tables it reads


ASSET_SPECS: dict[str, AssetSpec] = {
    "raw_logs": AssetSpec((), ("ops/synthesize/world.py",), checked=False),
    "frames": AssetSpec(("raw_logs",), ("ops/ingest/decode.py", "storage/sources")),
    "trajectories": AssetSpec(("raw_logs", "frames"), ("ops/ingest/extract.py", "storage/sources")),
    "codebook": AssetSpec(
        ("frames", "trajectories"),
        ("ops/latent_actions/learn_actions.py",),
        seeded=True,
        splits=("train", "val"),
    ),
    "relabeled": AssetSpec(
        ("frames", "trajectories", "codebook"), ("ops/latent_actions/relabel.py",)
    ),
    "vla": AssetSpec(
        ("frames", "trajectories", "relabeled"),
        ("ops/vla/finetune.py",),
        ("map", "command"),
        seeded=True,
    ),
    "student": AssetSpec(
        ("frames", "trajectories", "relabeled", "vla"),
        ("ops/student/distill.py",),
        ("map", "command"),
        seeded=True,
    ),
    "evaluation": AssetSpec(
        ("frames", "trajectories", "relabeled", "vla", "student"),
        ("ops/evaluation/evaluate.py", "ops/planners/planner.py", "ops/evaluation/zero_shot.py"),
        ("map", "command", "agents"),
        seeded=True,
    ),
    "report": AssetSpec(
        ("frames", "codebook", "relabeled", "vla", "student", "evaluation"),
        ("ops/report/report.py",),
        ("map", "command", "agents"),
        checked=False,
    ),
}


def code_version(asset: str) -> str:
    """Version of the code that makes a asset: its modules and everything of ours that they import."""
    return _code_version_of_modules(ASSET_SPECS[asset].code)


def log_lineage(pipeline: Pipeline, logs: RawLogs, asset: str, log_id: str) -> Lineage:
    """The lineage that one log's artefact will have."""
    preset = pipeline.preset
    if asset == "raw_logs" and log_id in logs.splits_of_world:
        assert logs.world is not None
        config = {
            name: value for name, value in asdict(logs.world).items() if name not in WORLD_COUNTS
        }
        return plan(f"raw_logs/{log_id}", {}, config, code_version(asset))
    if asset == "raw_logs":
        code = _code_version_of_modules(("ops/ingest/inventory.py", "storage/sources"))
        return plan(
            f"raw_logs/{log_id}",
            {"bytes": logs.fingerprint(log_id)},
            {"source": pipeline.source},
            code,
        )
    parents = {
        f"{dep}/{log_id}": log_lineage(pipeline, logs, dep, log_id).version
        for dep in ASSET_SPECS[asset].deps
    }
    return plan(f"{asset}/{log_id}", parents, getattr(preset, asset), code_version(asset))


def asset_lineage(
    pipeline: Pipeline, asset: str, known: Mapping[str, str] | None = None
) -> Lineage:
    """The lineage that an unpartitioned asset's artefact will have, made from what its inputs are
    now.

    `known` holds versions of assets that are not made yet but will be. Raises ArtifactError for a
    missing input.
    """
    preset, lake = pipeline.preset, pipeline.lake
    parents: dict[str, str] = {}
    for dep in ASSET_SPECS[asset].deps:
        if dep == "frames":
            continue  # the version of a log's trajectories covers that of its frames
        if dep in PER_LOG_ASSETS:
            parents |= {
                f"{dep}/{log}": read_lineage(lake.log(dep, log)).version
                for log in usable_logs(pipeline, ASSET_SPECS[asset].splits)
            }
        else:
            parents[dep] = (known or {}).get(dep) or read_lineage(lake.asset(dep)).version
    if asset == "evaluation" and (elsewhere := zero_shot_lineage(pipeline)) is not None:
        parents[elsewhere.asset] = elsewhere.version
    config = getattr(preset, asset, None)
    return plan(
        asset,
        parents,
        config,
        code_version(asset),
        preset.seed if ASSET_SPECS[asset].seeded else None,
    )


def zero_shot_lineage(pipeline: Pipeline) -> Lineage | None:
    """The lineage that the logs of another place will have, which the evaluation drives too; None
    where it does not.
    """
    from ops.ingest.zero_shot_logs import zero_shot_logs_lineage

    config = pipeline.preset.evaluation.zero_shot
    code = _code_version_of_modules(("ops/ingest/zero_shot_logs.py",))
    return None if config is None else zero_shot_logs_lineage(config.logs, code)


def is_done(path: Path, asset: str, version: str) -> bool:
    """True if `path` holds this version and its blocking checks have been run: a run can die
    between the two.
    """
    return is_current(path, version) and (not ASSET_SPECS[asset].checked or bool(read_checks(path)))


def usable_logs(pipeline: Pipeline, splits: Collection[str] = ALL_SPLITS) -> list[str]:
    """Logs of these splits with finished trajectories, out of quarantine. Raises ArtifactError if
    there is none.
    """
    from ops.ingest.inventory import read_inventory

    lake = pipeline.lake
    quarantined = (
        {file.stem for file in lake.quarantine.glob("*.json")}
        if lake.quarantine.exists()
        else set()
    )
    logs = [
        log
        for log in lake.log_ids("trajectories")
        if log not in quarantined
        and (splits is ALL_SPLITS or read_inventory(lake.log("raw_logs", log)).split in splits)
    ]
    if not logs:
        raise ArtifactError(
            "no log has been ingested",
            where=lake.root,
            expected="trajectories/<log_id>",
            do="make them: latentvla run --until trajectories; quarantine: latentvla status",
        )
    return logs


def needs_work(
    pipeline: Pipeline, logs: RawLogs, log_id: str, assets: Collection[str] = PER_LOG_ASSETS
) -> bool:
    """True if one of these assets of a log is not current. A log that failed with these bytes stays
    in quarantine.
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
    """Ingested logs that the codebook has not seen, or None if there is no codebook."""
    path = pipeline.lake.asset("codebook")
    if not (path / LINEAGE_FILE).exists():
        return None
    seen = read_lineage(path).parents
    return [
        log
        for log in usable_logs(pipeline, ASSET_SPECS["codebook"].splits)
        if f"trajectories/{log}" not in seen
    ]


def missing_capabilities(lake: Lake, asset: str, log_ids: list[str]) -> list[str]:
    """What this asset needs and no log has, from the inventories."""
    from ops.ingest.inventory import read_inventory

    have = [read_inventory(lake.log("raw_logs", log)).capabilities for log in log_ids]
    return [
        name for name in ASSET_SPECS[asset].needs if not any(getattr(item, name) for item in have)
    ]


def require_capabilities(pipeline: Pipeline, asset: str) -> None:
    """Raise ConfigError if the logs of this pipeline cannot carry this asset."""
    missing = missing_capabilities(pipeline.lake, asset, usable_logs(pipeline))
    if missing:
        raise does_not_apply(pipeline, asset, missing)


def does_not_apply(pipeline: Pipeline, asset: str, missing: list[str]) -> ConfigError:
    """Why a asset has no meaning for the logs of this source."""
    before = next(
        name
        for name in reversed(list(ASSET_SPECS)[: list(ASSET_SPECS).index(asset)])
        if not set(missing) & {*ASSET_SPECS[name].needs}
    )
    return ConfigError(
        f"'{asset}' does not apply to these logs: they have no {' and no '.join(missing)}",
        where=f"{pipeline.source} logs in {pipeline.raw_folder}",
        expected=", ".join(ASSET_SPECS[asset].needs),
        found=", ".join(["images", "ego motion", *available_capabilities(pipeline)]),
        do=f"the pipeline of such logs ends at '{before}'",
    )


def available_capabilities(pipeline: Pipeline) -> list[str]:
    """What at least one usable log of the pipeline holds beside images and ego motion."""
    from ops.ingest.inventory import read_inventory

    have = [
        read_inventory(pipeline.lake.log("raw_logs", log)).capabilities
        for log in usable_logs(pipeline)
    ]
    names = ("agents", "map", "traffic_lights", "command")
    return [name.replace("_", " ") for name in names if any(getattr(item, name) for item in have)]
