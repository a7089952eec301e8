"""Scores a file of plans at the scenes of a lake: one row a plan and metric version.

A plan that cannot be scored keeps its row with the reason, so a mean always comes with the number
of plans scored and the number expected. plan_file.py reads the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa

from ops.pdm.config import METRIC_NAMES, VERSIONS, Version
from ops.pdm.log_scorer import NO_SCENE, BatchScores, LogScorer, OpenLog, PlanBatch
from ops.pdm.plan_file import Plan, missing_plan, read_plans
from ops.pdm.prepared import PreparedScene, prepare
from ops.pdm.scene.scene import Scene
from ops.pool import worker_pool
from storage.errors import ArtifactError, ConfigError, LatentVLAError, SourceError, unknown_name
from storage.lake import Lake
from storage.trajectory_table import read_table

SPLITS = ("train", "val", "test")
MAX_PROCESSES = 512
SCORE_PARTS = ("nc", "dac", "ddc", "tlc", "ep", "ttc", "lk", "comfort", "ec", "score")
_VALUES = (*SCORE_PARTS, "progress_m", "collision_time_s", "ttc_time_s")
RESULTS = pa.schema(
    [
        pa.field("log_id", pa.string(), False),
        pa.field("frame_index", pa.int32(), False),
        pa.field("planner", pa.string(), False),
        pa.field("split", pa.string(), False),
        # METRIC_NAMES: which score this row is
        pa.field("metric_version", pa.string(), False),
        pa.field("scored", pa.bool_(), False),
        # why it was not scored, else ""
        pa.field("reason", pa.string(), False),
        pa.field("n_scored", pa.int32(), False),  # of this planner, version and split
        pa.field("n_expected", pa.int32(), False),
        # null: not scored, not in this version, or (times) it did not happen
        *(pa.field(name, pa.float64()) for name in _VALUES),
    ]
)


@dataclass(frozen=True, slots=True)
class PlanMean:
    """Means of one planner in one version over one split."""

    planner: str
    metric_version: str
    split: str
    n_scored: int
    n_expected: int
    means: dict[str, float]  # by column of RESULTS; only those that have values


@dataclass(frozen=True, slots=True)
class Result:
    """One row of RESULTS without its counts."""

    plan: Plan
    version: Version
    split: str
    reason: str
    values: dict[str, float] = field(default_factory=dict)

    @property
    def group(self) -> tuple[str, str, str]:
        """Planner, metric version and split: what a mean is taken over."""
        return self.plan.planner, METRIC_NAMES[self.version], self.split

    def columns(self, n_scored: int, n_expected: int) -> dict[str, object]:
        """The row by column name."""
        known = {name: value if np.isfinite(value) else None for name, value in self.values.items()}
        return {
            "log_id": self.plan.log_id,
            "frame_index": self.plan.frame_index,
            "planner": self.plan.planner,
            "split": self.split,
            "metric_version": METRIC_NAMES[self.version],
            "scored": not self.reason,
            "reason": self.reason,
            "n_scored": n_scored,
            "n_expected": n_expected,
            **known,
        }


def score_plans(
    plans: Path | pa.Table,
    lake: Lake,
    *,
    versions: Sequence[Version] = VERSIONS,
    expect_split: str = "",
    processes: int = 1,
) -> pa.Table:
    """Score every plan of a file or table: a table of RESULTS, one row a plan and version, in the
    order of the plans.

    `expect_split` (train, val, test) adds an unscored row for every scene of that split for which a
    planner of the file has no plan. EPDMS rows include the two-frame comfort where the planner has
    a plan for the frame before. Of several plans of a planner at one frame the first sound one is
    scored, so that none counts twice. Raises ConfigError if `plans` is no file of plans, for an
    unknown version or split, or a number of processes that is not positive, and ArtifactError if
    the lake has no log.
    """
    unknown = [version for version in versions if version not in VERSIONS]
    if unknown or not versions:
        raise ConfigError(
            "there is no such version of the score",
            expected=" or ".join(VERSIONS),
            found=unknown or "none",
            do="leave --versions out for both",
        )
    if expect_split and expect_split not in SPLITS:
        raise unknown_name("split", expect_split, SPLITS)
    if not 1 <= processes <= MAX_PROCESSES:
        raise ConfigError(
            "this number of processes is not possible",
            expected=f"1 to {MAX_PROCESSES}",
            found=processes,
            do="give the number of cores: --processes 2",
        )
    rows = sorted(read_plans(plans), key=lambda plan: (plan.log_id, plan.frame_index))
    by_log = {log_id: list(group) for log_id, group in groupby(rows, key=lambda plan: plan.log_id)}
    # a log is looked up and never made a path of: its name comes from the file
    known = lake.log_ids("trajectories")
    if not known:
        raise ArtifactError(
            "this lake has no log to score plans on",
            where=lake.root,
            expected="trajectories/<log_id>",
            do="choose the lake with --lake, or make it: latentvla run --until trajectories",
        )
    unknown_logs = by_log.keys() - set(known)
    results = [
        result
        for log_id in unknown_logs
        for result in _unscored(by_log.pop(log_id), tuple(versions), "", _no_log(log_id))
    ]
    if expect_split:
        by_log |= {log_id: [] for log_id in known if log_id not in by_log}
    planners = tuple(dict.fromkeys(plan.planner for plan in rows))
    job = partial(
        _score_log,
        lake=lake,
        versions=tuple(versions),
        expect_split=expect_split,
        planners=planners,
    )
    if processes > 1 and len(by_log) > 1:
        with worker_pool(min(processes, len(by_log))) as pool:
            parts = list(pool.map(job, by_log, by_log.values()))
    else:
        parts = [job(log_id, log_plans) for log_id, log_plans in by_log.items()]
    results += [result for part in parts for result in part]
    # in the order of the file; missing plans, whose row is -1, come last
    results.sort(key=lambda result: result.plan.row % (len(rows) + 1))
    return results_table(results)


def results_table(results: Sequence[Result]) -> pa.Table:
    """Results as a table of RESULTS, with the numbers of plans scored and expected of each planner,
    version and split.
    """
    counts: dict[tuple[str, str, str], list[int]] = {}
    for result in results:
        count = counts.setdefault(result.group, [0, 0])
        count[0] += not result.reason
        count[1] += 1
    return pa.Table.from_pylist(
        [result.columns(*counts[result.group]) for result in results], schema=RESULTS
    )


def means_of(results: pa.Table) -> list[PlanMean]:
    """Means of each planner, version and split, with the numbers of plans scored and expected."""
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for row in results.to_pylist():
        groups.setdefault((row["planner"], row["metric_version"], row["split"]), []).append(row)
    plan_means = []
    for (planner, version, split), rows in groups.items():
        values = {
            name: [row[name] for row in rows if row[name] is not None] for name in SCORE_PARTS
        }
        means = {name: float(np.mean(value)) for name, value in values.items() if value}
        plan_means.append(
            PlanMean(planner, version, split, rows[0]["n_scored"], rows[0]["n_expected"], means)
        )
    return plan_means


def _score_log(
    log_id: str,
    plans: list[Plan],
    *,
    lake: Lake,
    versions: tuple[Version, ...],
    expect_split: str,
    planners: tuple[str, ...],
) -> list[Result]:
    """Results of the plans of one log, in time order, and of the missing plans."""
    scenes: dict[int, Scene | SourceError] = {}
    split, reason = "", NO_SCENE
    try:
        scenes = OpenLog(lake, log_id).scenes
        split = _split(scenes, lake, log_id)
    except LatentVLAError as error:
        reason = error.what
    scorer, results = LogScorer(versions), list[Result]()
    for frame, group in groupby(plans, key=lambda plan: plan.frame_index):
        scene, frame_plans = scenes.get(frame), list(group)
        if isinstance(scene, Scene):
            results += _score_frame(scorer, prepare(scene), frame_plans, split)
        else:
            why = reason if scene is None else scene.what
            results += _unscored(frame_plans, versions, split, why)
    if expect_split and split == expect_split:
        given = {(plan.frame_index, plan.planner) for plan in plans}
        missing = [
            missing_plan(log_id, frame, planner)
            for frame in scenes
            for planner in planners
            if (frame, planner) not in given
        ]
        results += _unscored(missing, versions, split, "the file has no plan for this scene")
    return results


def _score_frame(
    scorer: LogScorer, prepared: PreparedScene, plans: list[Plan], split: str
) -> list[Result]:
    """Results of the plans of one frame; plans of the same spacing are scored in one batch."""
    results: list[Result] = []
    groups: dict[tuple[int, float], list[Plan]] = {}
    first: dict[str, Plan] = {}  # sound plan of each planner
    for plan in plans:
        fault = plan.fault
        if not fault and (earlier := first.setdefault(plan.planner, plan)) is not plan:
            fault = f"row {earlier.row} of the file has this planner's plan for this scene"
        if fault:
            results += _unscored([plan], scorer.versions, split, fault)
        else:
            groups.setdefault((len(plan.poses), plan.dt_s), []).append(plan)
    batches = [
        PlanBatch([plan.planner for plan in group], np.stack([plan.poses for plan in group]), dt_s)
        for (_, dt_s), group in groups.items()
    ]
    scored = scorer.score(prepared, batches)
    for group, by_version in zip(groups.values(), scored, strict=True):
        for version, batch in by_version.items():
            for k, plan in enumerate(group):
                results.append(Result(plan, version, split, "", _values(batch, k)))
    return results


def _values(batch: BatchScores, k: int) -> dict[str, float]:
    """The columns of RESULTS that hold the scores of plan k; NaN where the version has none."""
    values = {name: float(getattr(batch.scores, name)[k]) for name in _VALUES if name != "ec"}
    if batch.scores.version == "v1":
        return values | {"tlc": np.nan, "lk": np.nan}
    return values | {"ec": float(batch.ec[k]), "score": float(batch.total[k])}


def _unscored(
    plans: list[Plan], versions: tuple[Version, ...], split: str, reason: str
) -> list[Result]:
    """Results of plans that cannot be scored."""
    return [Result(plan, version, split, reason) for plan in plans for version in versions]


def _no_log(log_id: str) -> str:
    name = log_id if len(log_id) <= 60 else f"{log_id[:57]}..."
    return f"there is no log '{name}' in the lake"


def _split(scenes: dict[int, Scene | SourceError], lake: Lake, log_id: str) -> str:
    """Split of a log, also of a log without a single scene, so that its missing plans count in the
    right mean.
    """
    known = next((scene.split for scene in scenes.values() if isinstance(scene, Scene)), "")
    return known or next(
        iter(read_table(lake.log("trajectories", log_id), "trajectories")["split"].to_pylist()), ""
    )
