"""The logs of another place that planners are tried on without ever being trained there: town B, or
real nuScenes data.

They go through the same decoding and extraction as every log and lie in a small lake of their own,
inside one artefact. Not the driving: that is ops/evaluation/zero_shot.py.
"""

import json
from functools import partial
from pathlib import Path

from ops.ingest.config import ZeroShotLogsConfig
from ops.ingest.decode import decode
from ops.ingest.each_log import LogWork, each_log, make_from_raw_log
from ops.ingest.extract import extract
from ops.synthesize.town_b import synthesize_town_b
from storage.artifact import Lineage, digest, plan, write_artifact
from storage.errors import SourceError
from storage.lake import Lake
from storage.sources import open_source

QUARANTINED_FILE = "quarantined.json"  # log -> why it could not be read


def zero_shot_logs_lineage(config: ZeroShotLogsConfig, code_version: str) -> Lineage:
    """The lineage that the artefact will have; for real data it covers names, sizes and dates of
    the tables and maps.

    Raises SourceError if the folder of real data holds no tables.
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
        stamp = digest(
            [
                [str(file.relative_to(raw)), file.stat().st_size, file.stat().st_mtime_ns]
                for file in files
            ]
        )
    return plan("zero_shot", {}, {"logs": config, "stamp": stamp}, code_version)


def make_zero_shot_logs(
    path: Path, lineage: Lineage, config: ZeroShotLogsConfig, processes: int = 1
) -> None:
    """Make the artefact `path`: `raw/` (town B only), and `frames/` and `trajectories/` of each log
    of the test split.

    A real log that cannot be read is left out, with its reason in `quarantined.json`; one of town B
    stops the work.
    """
    with write_artifact(path, lineage) as out:
        raw = Path(config.nuscenes) if config.nuscenes else out / "raw"
        if not config.nuscenes:
            synthesize_town_b(raw, config.town)
        logs = [ref.log_id for ref in open_source("nuscenes", raw).logs() if ref.split == "test"]
        works = [
            LogWork(log, partial(_read_log, raw, Lake(out), log, config, lineage)) for log in logs
        ]
        failed: dict[str, str] = {}
        for outcome in each_log(works, processes if config.nuscenes else 1):
            if outcome.error is not None and not config.nuscenes:
                raise outcome.error
            if outcome.error is not None:
                failed[outcome.log_id] = str(outcome.error)
        if len(failed) == len(logs):
            raise SourceError(
                "no log of the test split can be read",
                where=raw,
                found="; ".join([*failed.values()][:1]),
                expected="scenes of the val split with front images",
                do="correct the folder, or leave it out",
            )
        (out / QUARANTINED_FILE).write_text(json.dumps(failed, indent=1))


def zero_shot_log_ids(path: Path) -> tuple[list[str], dict[str, str]]:
    """Logs of a finished artefact that can be driven, and those left out with their reasons."""
    failed = json.loads((path / QUARANTINED_FILE).read_text())
    return [log for log in Lake(path).log_ids("trajectories") if log not in failed], failed


def _read_log(
    raw: Path, lake: Lake, log_id: str, config: ZeroShotLogsConfig, whole: Lineage
) -> None:
    for asset, verb, settings in (
        ("frames", decode, config.frames),
        ("trajectories", extract, config.trajectories),
    ):
        lineage = plan(
            f"{asset}/{log_id}", {"zero_shot": whole.version}, settings, whole.code_version
        )
        make_from_raw_log(verb, "nuscenes", raw, log_id, settings, lake.log(asset, log_id), lineage)
