"""Runs that ask for themselves: when the sensors ask again for one that failed, and when no more.

What has to be done has a name, in the tag WORK_TAG of each run that tries it; the history of runs
is the only memory, so a restart forgets nothing.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import takewhile

import dagster as dg

WORK_TAG = "latentvla/work"  # digest of what a run has to do
LIMIT = 5  # runs for the same work
FACTOR, LONGEST_S = 4.0, 6 * 3600.0  # each wait is longer than the last one
FAILURE, CANCELED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED
FINISHED = [FAILURE, CANCELED, dg.DagsterRunStatus.SUCCESS]
UNFINISHED = [status for status in dg.DagsterRunStatus if status not in FINISHED]


def is_under_way(instance: dg.DagsterInstance, jobs: Sequence[str], assets: Sequence[str]) -> bool:
    """True if a run of one of these jobs, or of one of these assets, is queued or running."""
    keys = {dg.AssetKey(asset) for asset in assets}
    return any(
        run.job_name in jobs or not keys.isdisjoint(run.asset_selection or ())
        for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    )


def request(
    instance: dg.DagsterInstance,
    job: str,
    work: str,
    retry_s: float,
    tags: Mapping[str, str] | None = None,
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run of this job that does `work`, or say why not now: the last run failed a moment
    ago, a person canceled this work, or LIMIT runs have tried it.
    """
    if (reason := given_up(instance, job, work)) is not None:
        return dg.SkipReason(reason)
    tried = len(_tried(instance, job, work))
    last = finished(instance, job)
    failures = len(list(takewhile(lambda item: item.dagster_run.status is FAILURE, last)))
    if failures := max(failures, tried):
        wait = min(retry_s * FACTOR ** (failures - 1), LONGEST_S)
        left = wait - (time.time() - (last[0].end_time or 0.0)) if last else 0.0
        if 0 < left <= wait:  # more than the whole wait: the clock was set back
            return dg.SkipReason(f"attempt {failures} failed; asked again in {left:.0f} s")
    return dg.RunRequest(run_key=f"{work}-{tried}", tags={WORK_TAG: work, **(tags or {})})


def given_up(instance: dg.DagsterInstance, job: str, work: str) -> str | None:
    """Why no run is asked for any more that does `work`; None if one may be."""
    tried = _tried(instance, job, work)
    if tried and tried[0].dagster_run.status is CANCELED:
        return (
            f"run {tried[0].dagster_run.run_id} was canceled: its work is not asked for again "
            "until logs, code or configuration change"
        )
    if len(tried) >= LIMIT:
        return (
            f"{LIMIT} runs have tried this in vain, the last is {tried[0].dagster_run.run_id}: "
            f"mend the cause and start the job '{job}' by hand, or `latentvla run`"
        )
    return None


def finished(instance: dg.DagsterInstance, job: str) -> Sequence[dg.RunRecord]:
    """The last LIMIT runs of a job that have ended, the newest first."""
    return instance.get_run_records(dg.RunsFilter(job_name=job, statuses=FINISHED), LIMIT)


def failed_work(instance: dg.DagsterInstance, job: str) -> str | None:
    """What the last run of this job should have done, if it was asked for by itself and failed."""
    last = finished(instance, job)[:1]
    if last and last[0].dagster_run.status is FAILURE:
        return last[0].dagster_run.tags.get(WORK_TAG)
    return None


def _tried(instance: dg.DagsterInstance, job: str, work: str) -> Sequence[dg.RunRecord]:
    """The last LIMIT runs for this work, the newest first."""
    return instance.get_run_records(dg.RunsFilter(job_name=job, tags={WORK_TAG: work}), LIMIT)
