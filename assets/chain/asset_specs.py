"""The nine links of the chain: what each is made from, by which code and configuration. Not the Dagster assets.

From this table come the assets' dependencies and code versions, every artefact's lineage, and the decision whether an
artefact is current, which is known before any work is done.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from assets.chain.chain import Chain, RawLogs
from assets.chain.code_version import _code_version_of_modules
from ops.ingest.quarantine import is_quarantined
from storage.artifact import LINEAGE_FILE, Lineage, is_current, plan, read_checks, read_lineage
from storage.errors import ArtifactError, ConfigError
from storage.lake import PER_LOG_LINKS, Lake

WORLD_COUNTS = ("train_logs", "val_logs", "test_logs")      # how many logs the embedded world has changes none of them
ALL_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Link:
    """One link. `code` names the modules that do the work; what they import of ours counts too."""

    deps: tuple[str, ...]               # links it reads
    code: tuple[str, ...]               # files below the repository root
    needs: tuple[str, ...] = ()         # capabilities that at least one log must have
    seeded: bool = False                # its content depends on the run's seed
    checked: bool = True                # it has blocking checks, whose outcome is kept beside the artefact
    splits: tuple[str, ...] = ALL_SPLITS      # logs whose tables it reads


LINKS: dict[str, Link] = {
    "raw_logs": Link((), ("ops/synthesize/world.py",), checked=False),
    "frames": Link(("raw_logs",), ("ops/ingest/decode.py", "storage/sources")),
    "trajectories": Link(("raw_logs", "frames"), ("ops/ingest/extract.py", "storage/sources")),
    "codebook": Link(("frames", "trajectories"), ("ops/latent_actions/learn_actions.py",), seeded=True, splits=("train", "val")),
    "relabeled": Link(("frames", "trajectories", "codebook"), ("ops/latent_actions/relabel.py",)),
    "vla": Link(("frames", "trajectories", "relabeled"), ("ops/vla/finetune.py",), ("map", "command"), seeded=True),
    "student": Link(("frames", "trajectories", "relabeled", "vla"), ("ops/student/distill.py",), ("map", "command"),
                    seeded=True),
    "evaluation": Link(("frames", "trajectories", "relabeled", "vla", "student"),
                       ("ops/evaluation/evaluate.py", "ops/planners/planner.py", "ops/evaluation/zero_shot.py"), ("map", "command", "agents"), seeded=True),
    "report": Link(("frames", "codebook", "relabeled", "vla", "student", "evaluation"), ("ops/report/report.py",),
                   ("map", "command", "agents"), checked=False),
}


def code_version(link: str) -> str:
    """Version of the code that makes a link: its modules and everything of ours that they import."""
    return _code_version_of_modules(LINKS[link].code)


def plan_log(chain: Chain, logs: RawLogs, link: str, log_id: str) -> Lineage:
    """The lineage that one log's artefact will have."""
    preset = chain.preset()
    if link == "raw_logs" and log_id in logs.splits_of_world:
        assert logs.world is not None
        config = {name: value for name, value in asdict(logs.world).items() if name not in WORLD_COUNTS}
        return plan(f"raw_logs/{log_id}", {}, config, code_version(link))
    if link == "raw_logs":
        code = _code_version_of_modules(("ops/ingest/inventory.py", "storage/sources"))
        return plan(f"raw_logs/{log_id}", {"bytes": logs.fingerprint(log_id)}, {"source": chain.source}, code)
    parents = {f"{dep}/{log_id}": plan_log(chain, logs, dep, log_id).version for dep in LINKS[link].deps}
    return plan(f"{link}/{log_id}", parents, getattr(preset, link), code_version(link))


def plan_link(chain: Chain, link: str, known: Mapping[str, str] | None = None) -> Lineage:
    """The lineage that an unpartitioned link's artefact will have, made from what its inputs are now.

    `known` holds versions of links that are not made yet but will be. Raises ArtifactError for a missing input.
    """
    preset, lake = chain.preset(), chain.lake
    parents: dict[str, str] = {}
    for dep in LINKS[link].deps:
        if dep == "frames":
            continue            # the version of a log's trajectories covers that of its frames
        if dep in PER_LOG_LINKS:
            parents |= {f"{dep}/{log}": read_lineage(lake.log(dep, log)).version
                        for log in usable_logs(chain, LINKS[link].splits)}
        else:
            parents[dep] = (known or {}).get(dep) or read_lineage(lake.link(dep)).version
    if link == "evaluation" and (elsewhere := plan_zero_shot(chain)) is not None:
        parents[elsewhere.asset] = elsewhere.version
    config = getattr(preset, link, None)
    return plan(link, parents, config, code_version(link), preset.seed if LINKS[link].seeded else None)


def plan_zero_shot(chain: Chain) -> Lineage | None:
    """The lineage that the logs of another place will have, which the evaluation drives too; None where it does not."""
    from ops.ingest.zero_shot_logs import plan_zero_shot_logs

    config = chain.preset().evaluation.zero_shot
    code = _code_version_of_modules(("ops/ingest/zero_shot_logs.py",))
    return None if config is None else plan_zero_shot_logs(config.logs, code)


def is_done(path: Path, link: str, version: str) -> bool:
    """True if `path` holds this version and its blocking checks have been run: a run can die between the two."""
    return is_current(path, version) and (not LINKS[link].checked or bool(read_checks(path)))


def usable_logs(chain: Chain, splits: Collection[str] = ALL_SPLITS) -> list[str]:
    """Logs of these splits with finished trajectories, out of quarantine. Raises ArtifactError if there is none."""
    from ops.ingest.inventory import read_inventory

    lake = chain.lake
    set_aside = {file.stem for file in lake.quarantine.glob("*.json")} if lake.quarantine.exists() else set()
    logs = [log for log in lake.log_ids("trajectories") if log not in set_aside
            and (splits is ALL_SPLITS or read_inventory(lake.log("raw_logs", log)).split in splits)]
    if not logs:
        raise ArtifactError("no log has been ingested", where=lake.root, expected="trajectories/<log_id>",
                            do="make them: latentvla run --until trajectories; quarantine: latentvla status")
    return logs


def needs_work(chain: Chain, logs: RawLogs, log_id: str, links: Collection[str] = PER_LOG_LINKS) -> bool:
    """True if one of these links of a log is not current. A log that failed with these bytes stays in quarantine."""
    lineages = {link: plan_log(chain, logs, link, log_id) for link in links}
    if log_id in logs.splits_of_world and not logs.is_intact(log_id):
        return True
    if any(is_quarantined(chain.lake, log_id, lineage.version) for lineage in lineages.values()):
        return False
    return not all(is_done(chain.lake.log(link, log_id), link, lineage.version) for link, lineage in lineages.items())


def new_logs_since_codebook(chain: Chain) -> list[str] | None:
    """Ingested logs that the codebook has not seen, or None if there is no codebook."""
    path = chain.lake.link("codebook")
    if not (path / LINEAGE_FILE).exists():
        return None
    seen = read_lineage(path).parents
    return [log for log in usable_logs(chain, LINKS["codebook"].splits) if f"trajectories/{log}" not in seen]


def missing_capabilities(lake: Lake, link: str, log_ids: list[str]) -> list[str]:
    """What this link needs and no log has, from the inventories."""
    from ops.ingest.inventory import read_inventory

    have = [read_inventory(lake.log("raw_logs", log)).capabilities for log in log_ids]
    return [name for name in LINKS[link].needs if not any(getattr(item, name) for item in have)]


def require_capabilities(chain: Chain, link: str) -> None:
    """Raise ConfigError if the logs of this chain cannot carry this link."""
    missing = missing_capabilities(chain.lake, link, usable_logs(chain))
    if missing:
        raise does_not_apply(chain, link, missing)


def does_not_apply(chain: Chain, link: str, missing: list[str]) -> ConfigError:
    """Why a link has no meaning for the logs of this source."""
    before = next(name for name in reversed(list(LINKS)[:list(LINKS).index(link)]) if not set(missing) & {*LINKS[name].needs})
    return ConfigError(f"'{link}' does not apply to these logs: they have no {' and no '.join(missing)}",
                       where=f"{chain.source} logs in {chain.raw_folder}", expected=", ".join(LINKS[link].needs),
                       found=", ".join(["images", "ego motion", *held(chain)]),
                       do=f"the chain of such logs ends at '{before}'")


def held(chain: Chain) -> list[str]:
    """What at least one usable log of the chain holds beside images and ego motion."""
    from ops.ingest.inventory import read_inventory

    have = [read_inventory(chain.lake.log("raw_logs", log)).capabilities for log in usable_logs(chain)]
    names = ("agents", "map", "traffic_lights", "command")
    return [name.replace("_", " ") for name in names if any(getattr(item, name) for item in have)]










