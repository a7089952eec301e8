"""The sensors: new logs in the raw folder are ingested, and enough new logs ask for retraining."""

import dagster as dg

from assets.chain import Chain, RawLogs
from assets.links import needs_work, new_logs_since_codebook
from assets.per_log import LOGS, PARTITIONS, range_tags
from pipelines.jobs import ingest, training
from storage.artifact import digest

LOOK_EVERY_S = 30


@dg.sensor(job=ingest, minimum_interval_seconds=LOOK_EVERY_S)
def new_logs(context: dg.SensorEvaluationContext, chain: Chain) -> dg.SensorResult | dg.SkipReason:
    """Find logs in the raw folder that are new or whose bytes changed, and ingest just those."""
    logs = RawLogs(chain)
    todo = [log for log in logs.refs if needs_work(chain, logs, log)]
    if not todo:
        return dg.SkipReason(f"all {len(logs.refs)} logs in {chain.raw_folder} are ingested or in quarantine")
    known = set(context.instance.get_dynamic_partitions(PARTITIONS))
    fresh = [log for log in todo if log not in known]
    parts = [fresh] if fresh else []        # new partitions are added at the end, so one run takes them all as a range
    parts += [[log] for log in todo if log in known]
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=digest({log: logs.fingerprint(log) for log in part}), tags=range_tags(part))
                      for part in parts],
        dynamic_partitions_requests=[LOGS.build_add_request(fresh)] if fresh else [])


@dg.sensor(job=training, minimum_interval_seconds=LOOK_EVERY_S)
def enough_new_logs(chain: Chain) -> dg.RunRequest | dg.SkipReason:
    """Ask for retraining when enough logs were ingested since the codebook was learned."""
    fresh, enough = new_logs_since_codebook(chain), chain.preset().retrain_after_logs
    if fresh is None:
        return dg.SkipReason("there is no codebook yet: run the training job once")
    if len(fresh) < enough:
        return dg.SkipReason(f"{len(fresh)} new logs since the codebook was learned; retraining at {enough}")
    return dg.RunRequest(run_key=digest(sorted(fresh)))


SENSORS = [new_logs, enough_new_logs]
