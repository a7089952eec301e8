"""Scores a file of plans from anywhere against the scenes of a lake: one row a plan and metric version. Not a planner.

A plans file is Parquet with the columns log_id, frame_index, planner, poses (24 or 120 numbers: x, y, heading in the
ego frame, row-major) and dt_s (0.5 or 0.1 s between poses; 0.5 without the column). A plan that cannot be scored keeps
its row with the reason, so a mean always says how many plans it stands on and how many it should.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ops.pdm.cache import cached_scenes
from ops.pdm.comfort import EXTENDED_MAX_GAP_S, extended_comfort
from ops.pdm.pipeline import VERSIONS, Version
from ops.pdm.prepared import PreparedScene, prepare, total_score
from ops.pdm.scene import Scene
from ops.pdm.score import METRIC_NAMES, score
from storage.errors import ConfigError, LatentVLAError, SourceError
from storage.lake import Lake

HORIZON_S = 4.0
_POSES = ("poses", "plan_xyyaw")        # names of the column of poses; the second is the one of our own evaluation
_PARTS = ("nc", "dac", "ddc", "tlc", "ep", "ttc", "lk", "comfort", "ec", "score")
_VALUES = (*_PARTS, "progress_m", "collision_time_s", "ttc_time_s")
RESULTS = pa.schema([
    pa.field("log_id", pa.string(), False), pa.field("frame_index", pa.int32(), False),
    pa.field("planner", pa.string(), False), pa.field("split", pa.string(), False),
    pa.field("metric_version", pa.string(), False),             # METRIC_NAMES: which score this row is
    pa.field("scored", pa.bool_(), False), pa.field("reason", pa.string(), False),      # why not, else ""
    *(pa.field(name, pa.float64()) for name in _VALUES),        # null: not scored, not in this version, did not happen
])


@dataclass(frozen=True, slots=True)
class PlanMean:
    """Means of one planner in one version over one split."""

    planner: str
    metric_version: str
    split: str
    n_scored: int
    n_expected: int
    means: dict[str, float]         # by column of RESULTS; only those that have values


@dataclass(frozen=True, slots=True)
class _Plan:
    """One row of a plans file; `place` is its number, or -1 for a plan that is missing."""

    place: int
    log_id: str
    frame_index: int
    planner: str
    poses: np.ndarray               # (n, 3)
    dt_s: float


@dataclass(frozen=True, slots=True)
class _Result:
    """One row of RESULTS."""

    plan: _Plan
    version: Version
    split: str
    reason: str
    values: dict[str, float] = field(default_factory=dict)

    def columns(self) -> dict[str, object]:
        """The row by column name."""
        known = {name: value if np.isfinite(value) else None for name, value in self.values.items()}
        return {"log_id": self.plan.log_id, "frame_index": self.plan.frame_index, "planner": self.plan.planner,
                "split": self.split, "metric_version": METRIC_NAMES[self.version], "scored": not self.reason,
                "reason": self.reason, **known}


def score_plans(plans: Path | pa.Table, lake: Lake, *, versions: Sequence[Version] = VERSIONS, expect_split: str = "",
                processes: int = 1) -> pa.Table:
    """Score every plan of a file or table: a table of RESULTS, one row a plan and version, in the order of the plans.

    `expect_split` (train, val, test) adds a row with the reason for every scene of that split that a planner of the
    file has no plan for. EPDMS rows include the two-frame comfort where the planner has a plan for the frame before.
    Raises ConfigError for a file without the columns, or an unknown version.
    """
    unknown = [version for version in versions if version not in VERSIONS]
    if unknown:
        raise ConfigError("there is no such version of the score", expected=" or ".join(VERSIONS), found=unknown)
    rows = sorted(_read(plans), key=lambda plan: (plan.log_id, plan.frame_index))
    by_log = {log_id: list(own) for log_id, own in groupby(rows, key=lambda plan: plan.log_id)}
    if expect_split:
        by_log |= {log_id: [] for log_id in lake.log_ids("trajectories") if log_id not in by_log}
    planners = tuple(dict.fromkeys(plan.planner for plan in rows))
    job = partial(_score_log, lake=lake, versions=tuple(versions), expect_split=expect_split, planners=planners)
    if processes > 1:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            parts = list(pool.map(job, by_log, by_log.values()))
    else:
        parts = [job(log_id, own) for log_id, own in by_log.items()]
    found = [result for part in parts for result in part]
    found.sort(key=lambda result: result.plan.place % (len(rows) + 1))      # those of missing plans, -1, come last
    return pa.Table.from_pylist([result.columns() for result in found], schema=RESULTS)


def means_of(results: pa.Table) -> list[PlanMean]:
    """Means of each planner, version and split, with how many plans they stand on and how many were expected."""
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for row in results.to_pylist():
        groups.setdefault((row["planner"], row["metric_version"], row["split"]), []).append(row)
    found = []
    for (planner, version, split), rows in groups.items():
        values = {name: [row[name] for row in rows if row[name] is not None] for name in _PARTS}
        means = {name: float(np.mean(value)) for name, value in values.items() if value}
        found.append(PlanMean(planner, version, split, sum(row["scored"] for row in rows), len(rows), means))
    return found


def _read(plans: Path | pa.Table) -> Iterator[_Plan]:
    """The rows of a plans file or table."""
    table = pq.read_table(plans) if isinstance(plans, Path) else plans
    column = next((name for name in _POSES if name in table.column_names), None)
    if column is None or not {"log_id", "frame_index", "planner"} <= set(table.column_names):
        raise ConfigError("this is not a file of plans", where=plans if isinstance(plans, Path) else None,
                          expected="log_id, frame_index, planner, poses, dt_s", found=", ".join(table.column_names),
                          do="see docs/metrics.md")
    columns = [table[name].to_pylist() for name in ("log_id", "frame_index", "planner", column)]
    spacing = table["dt_s"].to_pylist() if "dt_s" in table.column_names else [0.5] * len(table)
    for place, row in enumerate(zip(*columns, spacing, strict=True)):
        log_id, frame, planner, numbers, dt_s = row
        flat = np.array([np.nan if number is None else number for number in numbers or ()], dtype=np.float64)
        poses = flat.reshape(-1, 3) if len(flat) % 3 == 0 else np.zeros((0, 3))
        yield _Plan(place, str(log_id), int(frame), str(planner), poses, np.nan if dt_s is None else float(dt_s))


def _score_log(log_id: str, plans: list[_Plan], *, lake: Lake, versions: tuple[Version, ...], expect_split: str,
               planners: tuple[str, ...]) -> list[_Result]:
    """Results of one log's plans, in time order, and of the plans that are missing."""
    scenes: dict[int, Scene | SourceError] = {}
    reason = "the log has no scene at this frame: that takes 1.5 s before it and 5 s after"
    try:
        scenes = cached_scenes(lake, log_id)
    except LatentVLAError as error:
        reason = error.what
    split = next((scene.split for scene in scenes.values() if isinstance(scene, Scene)), "")
    log = _LogScorer(split, versions)
    for frame, own in groupby(plans, key=lambda plan: plan.frame_index):
        scene = scenes.get(frame)
        if isinstance(scene, Scene):
            log.score(prepare(scene), list(own))
        else:
            log.refuse(list(own), reason if scene is None else scene.what)
    if expect_split and split == expect_split:
        have = {(plan.frame_index, plan.planner) for plan in plans}
        wanted = [(frame, planner) for frame in scenes for planner in planners if (frame, planner) not in have]
        missing = [_Plan(-1, log_id, frame, planner, np.zeros((0, 3)), np.nan) for frame, planner in wanted]
        log.refuse(missing, "the file has no plan for this scene")
    return log.results


@dataclass(slots=True)
class _LogScorer:
    """Scores the plans of one log in time order, and remembers each planner's last states for the two-frame comfort."""

    split: str
    versions: tuple[Version, ...]
    results: list[_Result] = field(default_factory=list)
    _before: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict)     # planner -> time_us, states (41, 11)

    def refuse(self, plans: list[_Plan], reason: str) -> None:
        """Note why plans cannot be scored."""
        self.results += [_Result(plan, version, self.split, reason) for plan in plans for version in self.versions]

    def score(self, prepared: PreparedScene, plans: list[_Plan]) -> None:
        """Score the plans of one frame."""
        for plan in plans:
            reason = _fault(plan)
            if reason:
                self.refuse([plan], reason)
                continue
            for version in self.versions:
                values = self._values(prepared, plan, version)
                self.results.append(_Result(plan, version, self.split, "", values))

    def _values(self, prepared: PreparedScene, plan: _Plan, version: Version) -> dict[str, float]:
        found = score(prepared, plan.poses[None], version=version, dt_s=plan.dt_s)
        values = {name: float(getattr(found, name)[0]) for name in _VALUES if name != "ec"}
        if version == "v1":
            return values | {"tlc": np.nan, "lk": np.nan}       # not in this version
        ec, time_us = np.nan, prepared.scene.time_us
        if plan.planner in self._before:
            time_before_us, states = self._before[plan.planner]
            gap_s = (time_us - time_before_us) * 1e-6
            ec = extended_comfort(found.states[0], states, gap_s)[0] if 0 < gap_s < EXTENDED_MAX_GAP_S else np.nan
        self._before[plan.planner] = (time_us, found.states[0])
        return values | {"ec": ec, "score": float(total_score(found.sub_scores, "v2", np.array([ec]))[0])}


def _fault(plan: _Plan) -> str:
    """Why a plan cannot be scored at any scene, or ""."""
    if not len(plan.poses):
        return "the plan has no poses, or not three numbers a pose"
    if not np.isfinite(plan.poses).all():
        return "the plan holds NaN or infinity"
    if not np.isclose(len(plan.poses) * plan.dt_s, HORIZON_S):
        return f"{len(plan.poses)} poses {plan.dt_s} s apart do not make {HORIZON_S} s"
    return ""
