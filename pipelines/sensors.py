"""The sensors: one ingests new logs in the raw folder, one starts retraining after enough new logs.
Both ask again for a run that failed.

Both are off by default, so that opening the UI starts no hours of work.
"""

import time
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import dagster as dg

from assets.chain.ledger import Ledger
from assets.chain.per_log import LOGS, PARTITIONS, range_tags
from assets.chain.pipeline import Pipeline, RawLogs
from assets.log_sets import observe_log_sets
from ops.ingest.inventory import Inventory, stamp_of
from pipelines.attempts import failed_work, given_up, is_under_way, request
from pipelines.dead_runs import fail_dead_runs
from pipelines.environment import sensor_timing
from pipelines.jobs import INGEST_JOBS, TRAINING_ASSETS, TRAINING_JOBS, ingest, training
from storage.artifact import digest
from storage.asset_names import INGEST_ASSETS
from storage.errors import ArtifactError

if TYPE_CHECKING:
    from storage.sources.contract import LogRef

POLL_EVERY_S = int(sensor_timing().poll_s)
MOST_RUNS = 10  # that one look into the raw folder asks for


@dg.sensor(
    job=ingest,
    minimum_interval_seconds=POLL_EVERY_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Ingests the logs in the raw folder that are new or whose bytes changed, and no "
    "others, once their files rest. Off until it is turned on here.",
)
def new_logs(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SensorResult | dg.SkipReason:
    """Request ingest of the logs in the raw folder that are new or whose bytes changed."""
    fail_dead_runs(context.instance)
    if is_under_way(context.instance, INGEST_JOBS, INGEST_ASSETS):
        return dg.SkipReason("an ingest run is queued or running")
    timing, ledger = sensor_timing(), Ledger(pipeline)
    ledger.logs = logs = SeenRawLogs(pipeline)
    changed = [log for log in ledger.todo() if log in logs.refs]
    todo = {
        log
        for log in changed
        if log in logs.splits_of_world or rests(logs.refs[log], timing.settle_s)
    }
    if not todo:
        return dg.SkipReason(
            f"{len(changed)} logs may still be being copied: their newest file is younger than "
            f"{timing.settle_s:.0f} s"
            if changed
            else f"all {len(ledger.log_ids)} logs in {pipeline.raw_folder} are ingested or "
            "quarantined"
        )
    known = list(context.instance.get_dynamic_partitions(PARTITIONS))
    new = sorted(todo.difference(known))
    answers = []
    for part in neighbours(todo, [*known, *new]):
        work = digest({log: ledger.version("trajectories", log) for log in part})
        answers.append(
            request(context.instance, ingest.name, work, timing.retry_s, range_tags(part))
        )
    requests = [answer for answer in answers if isinstance(answer, dg.RunRequest)]
    if not requests:
        return next(answer for answer in answers if isinstance(answer, dg.SkipReason))
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[LOGS.build_add_request(new)] if new else [],
    )


class SeenRawLogs(RawLogs):
    """The logs of a pipeline, whose bytes are read again only when the stamp of their files (names,
    sizes, times) has changed since an earlier look of this process.
    """

    def fingerprint(self, log_id: str, inventory: Inventory | None) -> str:
        """Fingerprint of the log's bytes. Raises SourceError as RawLogs does."""
        try:
            stamp = stamp_of(self.refs[log_id])
        except (OSError, UnicodeError):
            return super().fingerprint(log_id, inventory)  # which names the file
        key = (str(self._pipeline.raw_folder.absolute()), log_id)
        if key not in _SEEN or _SEEN[key][0] != stamp:
            _SEEN[key] = (stamp, super().fingerprint(log_id, inventory))
        return _SEEN[key][1]


_SEEN: dict[tuple[str, str], tuple[str, str]] = {}  # (raw folder, log) -> (stamp, fingerprint)


def rests(ref: "LogRef", settle_s: float) -> bool:
    """False if a file of the log was written or moved there less than `settle_s` ago.

    The time of the last change of the file itself counts: copying programs set the other times as
    they please. A file that cannot be asked does not hold the log back; ingest will name it.
    """
    try:
        newest = max(file.stat().st_ctime for file in (*ref.files, *ref.image_files))
    except OSError:
        return True
    return not 0 <= time.time() - newest < settle_s  # a time to come is a wrong clock


def neighbours(
    todo: Collection[str], order: Sequence[str], most: int = MOST_RUNS
) -> list[list[str]]:
    """The logs to do in at most `most` parts, each one Dagster run over a range of the set of
    partitions; the ranges are cut at the longest stretches of other logs.
    """
    places = [place for place, log in enumerate(order) if log in todo]
    gaps = [(right - left, index) for index, (left, right) in enumerate(pairwise(places), start=1)]
    cuts = sorted(index for gap, index in sorted(gaps, reverse=True)[: most - 1] if gap > 1)
    bounds = pairwise([0, *cuts, len(places)]) if places else ()
    return [[order[place] for place in places[start:end]] for start, end in bounds]


@dg.sensor(
    job=training,
    minimum_interval_seconds=POLL_EVERY_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Starts retraining when enough logs were ingested since the codebook was learned, "
    "and again when it failed. Off until it is turned on here.",
)
def enough_new_logs(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.RunRequest | dg.SkipReason:
    """Request retraining when enough logs were ingested since the codebook was learned, or when the
    last retraining failed.
    """
    instance = context.instance
    fail_dead_runs(instance)
    ledger = Ledger(pipeline)
    observe_log_sets(instance, ledger)
    if is_under_way(instance, TRAINING_JOBS, TRAINING_ASSETS):
        return dg.SkipReason("a training run is queued or running")
    work = failed_work(instance, training.name)
    if work is None or given_up(instance, training.name, work):
        try:
            new, enough = ledger.new_logs_since_codebook(), pipeline.preset.retrain_after_logs
        except ArtifactError as error:  # no log is left
            return dg.SkipReason(error.what)
        if new is None:
            return dg.SkipReason("there is no codebook yet: run the training job once")
        if len(new) < enough:
            return dg.SkipReason(
                f"{len(new)} new logs since the codebook was learned; retraining starts at {enough}"
            )
        work = digest(sorted(new))
    return request(instance, training.name, work, sensor_timing().retry_s)


SENSORS = [new_logs, enough_new_logs]
