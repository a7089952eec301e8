"""Scores plans at the rows of a table, log by log in several processes: for the evaluation and as
training targets.

A scene is a frame with enough recorded past and future, a map and a route. A frame that cannot be
prepared keeps its row with the reason. Each worker process opens its logs from the lake, so no map
travels between processes. Legend: N rows, P or K plans a row, M = 18 columns of SCORE_COLUMNS,
S = 6 columns of TRAINING_COLUMNS.
"""

import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from ops.pdm.config import ScenesConfig, Version
from ops.pdm.log_scorer import BatchScores, LogScorer, PlanBatch, open_log
from ops.pdm.scene.from_tables import key_rows
from ops.pdm.scene.scene import HISTORY_POSES, KEY_FRAMES
from ops.pdm.score import pdm_closed_plan
from ops.pool import worker_pool
from storage.dataset import FrameSet
from storage.errors import ConfigError
from storage.grouping import rows_by_log
from storage.lake import Lake
from storage.metrics_table import V1_PARTS, V2_PARTS
from storage.trajectory_table import FUTURE_STEPS

SCORE_COLUMNS = (*V1_PARTS, "pdms", *V2_PARTS, "epdms", "progress_m")
# targets of a planner's learned score; `score` is PDMS
TRAINING_COLUMNS = ("nc", "dac", "ttc", "ep", "comfort", "score")


@dataclass(frozen=True, slots=True)
class ScoredPlans:
    """Scores of P plans and of PDM-Closed, the last, on each of N rows; NaN where a column has no
    value.
    """

    values_NPM: np.ndarray  # (N, P + 1, 18) SCORE_COLUMNS
    valid_NP: np.ndarray  # (N, P + 1) bool: scored
    reason_NP: np.ndarray  # (N, P + 1) object: why not, else ""
    # (N, 8, 3) ego frame, NaN where the scene could not be prepared
    pdm_closed_N83: np.ndarray

    @classmethod
    def empty(cls, rows: int, plans: int) -> "ScoredPlans":
        """Nothing scored yet; `plans` counts PDM-Closed."""
        return cls(
            np.full((rows, plans, len(SCORE_COLUMNS)), np.nan),
            np.zeros((rows, plans), bool),
            np.full((rows, plans), "", object),
            np.full((rows, FUTURE_STEPS, 3), np.nan),
        )


@dataclass(frozen=True, slots=True)
class _LogJob:
    """The rows of one log, n of them, with Q plans each."""

    lake: Lake
    log_id: str
    frame_index: np.ndarray  # (n,)
    timestamp_us: np.ndarray  # (n,)
    plans: np.ndarray  # (n, Q, 8, 3)
    versions: tuple[Version, ...]
    with_closed: bool  # score PDM-Closed as one more plan


def scene_rows(rows: FrameSet) -> np.ndarray:
    """Indices of the rows that are scenes: with an image, and with key frames 0.5 s apart from -1.5
    s to 5 s in the log.

    `rows` must hold every frame of its logs.
    """
    scenes = []
    for in_log in rows_by_log(rows.log_id).values():
        in_log = in_log[np.argsort(rows.timestamp_us[in_log], kind="stable")]
        keys = key_rows(rows.timestamp_us[in_log], HISTORY_POSES - 1, KEY_FRAMES - 1)
        scenes.append(in_log[(keys >= 0).all(axis=1) & rows.has_image[in_log]])
    return np.concatenate(scenes) if scenes else np.zeros(0, np.int64)


def score_scenes(
    lake: Lake, rows: FrameSet, plans_NP83: np.ndarray, config: ScenesConfig
) -> ScoredPlans:
    """Score the plans of each row, and PDM-Closed as the last one. Rows and plans that cannot be
    scored carry the reason.
    """
    jobs = list(_log_jobs(lake, rows, plans_NP83, config.versions, with_closed=True))
    processes = min(config.processes, len(rows) // config.rows_a_process)
    if processes <= 1:
        parts = [_score_log(job) for _, job in jobs]
    else:
        with worker_pool(processes) as pool:
            parts = list(pool.map(_score_log, [job for _, job in jobs]))
    scored = ScoredPlans.empty(len(rows), plans_NP83.shape[1] + 1)
    for (in_log, _), part in zip(jobs, parts, strict=True):
        for name in ScoredPlans.__slots__:
            getattr(scored, name)[in_log] = getattr(part, name)
    return scored


class PlanScorer:
    """PDMS v1 targets for training: `scorer(rows, plans)`. Scenes stay open in the worker processes
    between calls.

    Each log belongs to one worker, so that it is prepared once. Use it in a `with` block, or call
    `close`.
    """

    def __init__(self, lake: Lake, processes: int = 2) -> None:
        self._lake = lake
        self._workers = [worker_pool(1) for _ in range(processes)] if processes > 1 else []

    def __call__(self, rows: FrameSet, plans_NK83: np.ndarray) -> np.ndarray:
        """(N, K, 6) float32 TRAINING_COLUMNS; NaN in every row whose scene cannot be scored.

        Raises ConfigError if a plan holds NaN or infinity.
        """
        _require_finite(rows, plans_NK83)
        targets_NKS = np.full(
            (*plans_NK83.shape[:2], len(TRAINING_COLUMNS)), np.nan, dtype=np.float32
        )
        pending: list[tuple[np.ndarray, Future[np.ndarray] | np.ndarray]] = []
        for in_log, job in _log_jobs(self._lake, rows, plans_NK83, ("v1",), with_closed=False):
            if self._workers:
                worker = self._workers[zlib.crc32(job.log_id.encode()) % len(self._workers)]
                pending.append((in_log, worker.submit(_training_targets, job)))
            else:
                pending.append((in_log, _training_targets(job)))
        for in_log, part in pending:
            targets_NKS[in_log] = part.result() if isinstance(part, Future) else part
        return targets_NKS

    def close(self) -> None:
        """End the worker processes."""
        self.__exit__(None, None, None)

    def __enter__(self) -> "PlanScorer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the workers; after an exception without the scores that nobody will collect."""
        for worker in self._workers:
            worker.__exit__(kind, error, trace)


def _require_finite(rows: FrameSet, plans_NK83: np.ndarray) -> None:
    """Raise ConfigError that names the first plan with NaN or infinity, if there is one."""
    faulty = np.argwhere(~np.isfinite(plans_NK83).all(axis=(2, 3)))
    if len(faulty):
        row, plan = faulty[0]
        raise ConfigError(
            "a plan holds NaN or infinity",
            where=f"log {rows.log_id[row]}, frame {rows.frame_index[row]}, "
            f"plan {plan} of {plans_NK83.shape[1]}",
            expected="8 poses of finite x, y, heading",
            found=f"{len(faulty)} such plans in {len(np.unique(faulty[:, 0]))} of {len(rows)} rows",
            do="look for NaN in this row's images, ego status and calibration, then in the weights "
            "of the planner",
        )


def _log_jobs(
    lake: Lake,
    rows: FrameSet,
    plans: np.ndarray,
    versions: tuple[Version, ...],
    *,
    with_closed: bool,
) -> Iterator[tuple[np.ndarray, _LogJob]]:
    """The work of each log, with the indices of its rows."""
    for log, in_log in rows_by_log(rows.log_id).items():
        frame_index, timestamp_us = rows.frame_index[in_log], rows.timestamp_us[in_log]
        yield (
            in_log,
            _LogJob(lake, log, frame_index, timestamp_us, plans[in_log], versions, with_closed),
        )


def _score_log(job: _LogJob) -> ScoredPlans:
    """Score the rows of one log in time order, PDM-Closed last in each."""
    scored = ScoredPlans.empty(len(job.plans), job.plans.shape[1] + job.with_closed)
    log, scorer = open_log(job.lake, job.log_id), LogScorer(job.versions)
    for row in np.argsort(job.timestamp_us):
        scene = log.prepared(int(job.frame_index[row]))
        if isinstance(scene, str):
            scored.reason_NP[row] = scene
            scorer.forget()
            continue
        plans = job.plans[row].astype(np.float64)
        if job.with_closed:
            scored.pdm_closed_N83[row] = pdm_closed_plan(scene)
            plans = np.concatenate([plans, scored.pdm_closed_N83[row][None]])
        valid = np.isfinite(plans).all(axis=(1, 2))
        scored.valid_NP[row] = valid
        scored.reason_NP[row] = np.where(valid, "", "the plan holds NaN or infinity")
        planners = np.flatnonzero(valid)
        (by_version,) = scorer.score(scene, [PlanBatch(planners.tolist(), plans[planners])])
        scored.values_NPM[row, planners] = _columns(by_version)
    return scored


def _columns(by_version: dict[Version, BatchScores]) -> np.ndarray:
    """(Q, M) SCORE_COLUMNS of the plans of one row."""
    first = next(iter(by_version.values())).scores
    column = dict.fromkeys(SCORE_COLUMNS, np.full(len(first), np.nan))
    column["progress_m"] = first.progress_m
    if "v1" in by_version:
        v1 = by_version["v1"]
        column |= {name: getattr(v1.scores, name) for name in V1_PARTS} | {"pdms": v1.total}
    if "v2" in by_version:
        v2 = by_version["v2"]
        column |= {
            name: v2.ec if name == "ec_v2" else getattr(v2.scores, name.removesuffix("_v2"))
            for name in V2_PARTS
        }
        column["epdms"] = v2.total
    return np.stack([column[name] for name in SCORE_COLUMNS], axis=1)


def _training_targets(job: _LogJob) -> np.ndarray:
    """(n, K, 6) TRAINING_COLUMNS of one log's rows."""
    names = ["pdms" if name == "score" else name for name in TRAINING_COLUMNS]
    columns = [SCORE_COLUMNS.index(name) for name in names]
    return _score_log(job).values_NPM[..., columns].astype(np.float32)
