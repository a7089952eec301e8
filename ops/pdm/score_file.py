"""Scores a file of plans from anywhere against the scenes of a lake: one row a plan and metric
version. Not a planner.

A plan that cannot be scored keeps its row with the reason, so a mean always says how many plans it
stands on and how many it should. The layout of a plans file is plan_file.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa

from ops.pdm.config import METRIC_NAMES, VERSIONS, Version
from ops.pdm.plan_file import Plan, missing_plan, read_plans
from ops.pdm.prepared import PreparedScene, prepare, total_score
from ops.pdm.rules.comfort import EXTENDED_MAX_GAP_S, extended_comfort
from ops.pdm.scene.cache import cached_scenes
from ops.pdm.scene.scene import Scene
from ops.pdm.score import PdmScores, score
from ops.pool import worker_pool
from storage.errors import ConfigError, LatentVLAError, SourceError, unknown_name
from storage.lake import Lake
from storage.trajectory_table import read_table

SPLITS = ("train", "val", "test")
PARTS = ("nc", "dac", "ddc", "tlc", "ep", "ttc", "lk", "comfort", "ec", "score")
_VALUES = (*PARTS, "progress_m", "collision_time_s", "ttc_time_s")
RESULTS = pa.schema(
    [
        pa.field("log_id", pa.string(), False),
        pa.field("frame_index", pa.int32(), False),
        pa.field("planner", pa.string(), False),
        pa.field("split", pa.string(), False),
        # METRIC_NAMES: which score this row is
        pa.field("metric_version", pa.string(), False),
        # why not, else ""
        pa.field("scored", pa.bool_(), False),
        pa.field("reason", pa.string(), False),
        pa.field("n_scored", pa.int32(), False),  # of this planner, version and split
        pa.field("n_expected", pa.int32(), False),
        # null: not scored, not in this version, did not happen
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
        """What a mean is taken over."""
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

    `expect_split` (train, val, test) adds a row with the reason for every scene of that split that
    a planner of the file has no plan for. EPDMS rows include the two-frame comfort where the
    planner has a plan for the frame before. Raises ConfigError for what is no file of plans, or an
    unknown version or split.
    """
    unknown = [version for version in versions if version not in VERSIONS]
    if unknown or not versions:
        raise ConfigError(
            "there is no such version of the score", expected=" or ".join(VERSIONS), found=unknown
        )
    if expect_split and expect_split not in SPLITS:
        raise unknown_name("split", expect_split, SPLITS)
    rows = sorted(read_plans(plans), key=lambda plan: (plan.log_id, plan.frame_index))
    by_log = {log_id: list(own) for log_id, own in groupby(rows, key=lambda plan: plan.log_id)}
    if expect_split:
        by_log |= {log_id: [] for log_id in lake.log_ids("trajectories") if log_id not in by_log}
    planners = tuple(dict.fromkeys(plan.planner for plan in rows))
    job = partial(
        _score_log,
        lake=lake,
        versions=tuple(versions),
        expect_split=expect_split,
        planners=planners,
    )
    if processes > 1:
        with worker_pool(processes) as pool:
            parts = list(pool.map(job, by_log, by_log.values()))
    else:
        parts = [job(log_id, own) for log_id, own in by_log.items()]
    found = [result for part in parts for result in part]
    # those of missing plans, -1, come last
    found.sort(key=lambda result: result.plan.place % (len(rows) + 1))
    return results_table(found)


def results_table(found: Sequence[Result]) -> pa.Table:
    """Results as a table of RESULTS, with how many of each planner, version and split were scored
    and expected.
    """
    counts: dict[tuple[str, str, str], list[int]] = {}
    for result in found:
        count = counts.setdefault(result.group, [0, 0])
        count[0] += not result.reason
        count[1] += 1
    return pa.Table.from_pylist(
        [result.columns(*counts[result.group]) for result in found], schema=RESULTS
    )


def means_of(results: pa.Table) -> list[PlanMean]:
    """Means of each planner, version and split, with how many plans they stand on and how many were
    expected.
    """
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for row in results.to_pylist():
        groups.setdefault((row["planner"], row["metric_version"], row["split"]), []).append(row)
    found = []
    for (planner, version, split), rows in groups.items():
        values = {name: [row[name] for row in rows if row[name] is not None] for name in PARTS}
        means = {name: float(np.mean(value)) for name, value in values.items() if value}
        found.append(
            PlanMean(planner, version, split, rows[0]["n_scored"], rows[0]["n_expected"], means)
        )
    return found


def _score_log(
    log_id: str,
    plans: list[Plan],
    *,
    lake: Lake,
    versions: tuple[Version, ...],
    expect_split: str,
    planners: tuple[str, ...],
) -> list[Result]:
    """Results of one log's plans, in time order, and of the plans that are missing."""
    scenes: dict[int, Scene | SourceError] = {}
    split, reason = (
        "",
        "the log has no scene at this frame: that takes 1.5 s before it and 5 s after",
    )
    try:
        scenes = cached_scenes(lake, log_id)
        split = _split(scenes, lake, log_id)
    except LatentVLAError as error:
        reason = error.what
    log = _LogScorer(split, versions)
    for frame, own in groupby(plans, key=lambda plan: plan.frame_index):
        scene = scenes.get(frame)
        if isinstance(scene, Scene):
            log.score(prepare(scene), list(own))
        else:
            log.refuse(list(own), reason if scene is None else scene.what)
    if expect_split and split == expect_split:
        have = {(plan.frame_index, plan.planner) for plan in plans}
        missing = [
            missing_plan(log_id, frame, planner)
            for frame in scenes
            for planner in planners
            if (frame, planner) not in have
        ]
        log.refuse(missing, "the file has no plan for this scene")
    return log.results


def _split(scenes: dict[int, Scene | SourceError], lake: Lake, log_id: str) -> str:
    """Split of a log, also of one whose frames all lack something, so that they are missed in the
    right mean.
    """
    known = next((scene.split for scene in scenes.values() if isinstance(scene, Scene)), "")
    return known or next(
        iter(read_table(lake.log("trajectories", log_id), "trajectories")["split"].to_pylist()), ""
    )


@dataclass(slots=True)
class _LogScorer:
    """Scores the plans of one log in time order, and remembers each planner's last states for the
    two-frame comfort.
    """

    split: str
    versions: tuple[Version, ...]
    results: list[Result] = field(default_factory=list)
    # planner -> time_us, states (41, 11)
    _before: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict)

    def refuse(self, plans: list[Plan], reason: str) -> None:
        """Note why plans cannot be scored."""
        self.results += [
            Result(plan, version, self.split, reason) for plan in plans for version in self.versions
        ]

    def score(self, prepared: PreparedScene, plans: list[Plan]) -> None:
        """Score the plans of one frame, those of the same spacing in one batch."""
        for plan in plans:
            if plan.fault:
                self.refuse([plan], plan.fault)
        alike: dict[tuple[int, float], list[Plan]] = {}
        for plan in plans:
            if not plan.fault:
                alike.setdefault((len(plan.poses), plan.dt_s), []).append(plan)
        now: dict[str, tuple[int, np.ndarray]] = {}
        for (_, dt_s), own in alike.items():
            poses = np.stack([plan.poses for plan in own])
            for version in self.versions:
                found = score(prepared, poses, version=version, dt_s=dt_s)
                self.results += [
                    Result(plan, version, self.split, "", self._values(prepared, plan, found, k))
                    for k, plan in enumerate(own)
                ]
                now |= {
                    plan.planner: (prepared.scene.time_us, found.states[k])
                    for k, plan in enumerate(own)
                }
        self._before |= now

    def _values(
        self, prepared: PreparedScene, plan: Plan, found: PdmScores, k: int
    ) -> dict[str, float]:
        """Values of row k of what was found."""
        values = {name: float(getattr(found, name)[k]) for name in _VALUES if name != "ec"}
        if found.version == "v1":
            return values | {"tlc": np.nan, "lk": np.nan}  # not in this version
        ec = np.nan
        if plan.planner in self._before:
            time_before_us, states = self._before[plan.planner]
            gap_s = (prepared.scene.time_us - time_before_us) * 1e-6
            ec = (
                extended_comfort(found.states[k], states, gap_s)[0]
                if 0 < gap_s < EXTENDED_MAX_GAP_S
                else np.nan
            )
        return values | {
            "ec": ec,
            "score": float(total_score(found.sub_scores[k : k + 1], "v2", np.array([ec]))[0]),
        }
