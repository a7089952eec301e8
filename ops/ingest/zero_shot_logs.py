"""The zero-shot logs: logs of a place that no planner is trained on, town B or real nuScenes data.

They are decoded and extracted as all logs, into a lake inside one artefact.
`ops/evaluation/zero_shot.py` evaluates planners on them.
"""

import json
from functools import partial
from pathlib import Path

from ops.ingest.config import ZeroShotLogsConfig
from ops.ingest.decode import decode
from ops.ingest.each_log import LogWork, each_log, make_from_raw_log
from ops.ingest.extract import extract
from storage.artifact import Lineage, digest, planned_lineage, write_artifact
from storage.errors import SourceError
from storage.lake import Lake
from storage.sources import open_source
from storage.sources.raw_files import raw_data_of

QUARANTINED_FILE = "quarantined.json"  # log id -> the message of its error


def zero_shot_logs_lineage(config: ZeroShotLogsConfig, code_version: str) -> Lineage:
    """The lineage of the artefact.

    For real data it includes names, sizes and modification times of tables and maps. Raises
    SourceError if the folder of real data holds no tables.
    """
    stamp = ""
    if config.nuscenes:
        raw = Path(config.nuscenes)
        files = sorted(
            [
                *raw.glob("v*/*.json"),
                *raw.glob("maps/expansion/*.json"),
                *raw.glob("can_bus/*_route.json"),
            ]
        )
        if not files:
            raise SourceError(
                "there are no nuScenes tables here",
                where=raw,
                expected="v1.0-<part>/scene.json",
                found="no file of that name",
                do="correct the folder (LATENTVLA_NUSCENES), or leave it out",
            )
        with raw_data_of("of nuScenes", "the state of its files"):
            states = [(str(file.relative_to(raw)), file.stat()) for file in files]
        stamp = digest([[name, state.st_size, state.st_mtime_ns] for name, state in states])
    return planned_lineage("zero_shot", {}, {"logs": config, "stamp": stamp}, code_version)


def make_zero_shot_logs(
    path: Path, lineage: Lineage, config: ZeroShotLogsConfig, processes: int = 1
) -> None:
    """Make the artefact `path`: `raw/` (town B only), and `frames/` and `trajectories/` of the test
    split.

    A real log that cannot be read is quarantined: its error is in `quarantined.json`. Raises
    SourceError if a log of town B, or every real log, cannot be read.
    """
    with write_artifact(path, lineage) as out:
        raw = Path(config.nuscenes) if config.nuscenes else out / "raw"
        if not config.nuscenes:
            from ops.synthesize.town_b import synthesize_town_b

            synthesize_town_b(raw, config.town)
        source = open_source("nuscenes", raw)
        logs = [ref.log_id for ref in source.logs() if ref.split == "test"]
        works = [
            LogWork(log, partial(_read_log, raw, Lake(out), log, config, lineage)) for log in logs
        ]
        failed = {log: str(error) for log, error in source.refused.items()}
        if failed and not config.nuscenes:
            raise next(iter(source.refused.values()))
        for outcome in each_log(works, processes if config.nuscenes else 1):
            if outcome.error is not None and not config.nuscenes:
                raise outcome.error
            if outcome.error is not None:
                failed[outcome.log_id] = str(outcome.error)
        if failed.keys() >= set(logs):
            raise SourceError(
                "no log of the test split can be read",
                where=raw,
                found=next(iter(failed.values()), "no log"),
                expected="scenes of the val split with front images",
                do="correct the folder, or leave it out",
            )
        (out / QUARANTINED_FILE).write_text(json.dumps(failed, indent=1))


def zero_shot_log_ids(path: Path) -> tuple[list[str], dict[str, str]]:
    """Usable logs of a finished artefact, and the quarantined ones with their errors."""
    quarantined = json.loads((path / QUARANTINED_FILE).read_text())
    usable = [log for log in Lake(path).log_ids("trajectories") if log not in quarantined]
    return usable, quarantined


def _read_log(
    raw: Path, lake: Lake, log_id: str, config: ZeroShotLogsConfig, whole: Lineage
) -> None:
    for asset, verb, settings in (
        ("frames", decode, config.frames),
        ("trajectories", extract, config.trajectories),
    ):
        lineage = planned_lineage(
            f"{asset}/{log_id}", {"zero_shot": whole.version}, settings, whole.code_version
        )
        make_from_raw_log(verb, "nuscenes", raw, log_id, settings, lake.log(asset, log_id), lineage)
