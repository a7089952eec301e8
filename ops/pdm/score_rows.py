"""Open the scenes of a lake for the PDM score, and score plans on them with several processes. Not
the score's rules.

A scene is a frame with enough recorded past and future, a map and a route. A frame that should be
one but cannot be prepared keeps its place with the reason. Work is shared out by log: each worker
process opens the logs it is given from the lake itself, so no map travels between processes.
Legend: N rows, P or K plans a row, M = 17 columns of SCORE_COLUMNS, S = 6 columns of
TRAINING_COLUMNS.
"""

import zlib
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from ops.pdm.config import ScenesConfig, Version
from ops.pdm.prepared import PreparedScene, prepare
from ops.pdm.rules.aggregate import epdms
from ops.pdm.rules.comfort import extended_comfort
from ops.pdm.scene.from_tables import LogScenes, key_rows
from ops.pdm.scene.scene import HISTORY_POSES, KEY_FRAMES
from ops.pdm.score import PdmScores, pdm_closed_plan, score
from ops.pool import worker_pool
from storage.dataset import FrameSet
from storage.errors import SourceError
from storage.lake import Lake
from storage.metrics_table import V1_PARTS, V2_PARTS
from storage.trajectory_table import FUTURE_STEPS, read_table

SCORE_COLUMNS = (*V1_PARTS, "pdms", *V2_PARTS, "epdms", "progress_m")
# targets of a planner's learned score
TRAINING_COLUMNS = ("nc", "dac", "ttc", "ep", "comfort", "score")
# logs a process keeps open between calls; their prepared scenes take 20 MB each
OPEN_LOGS = 4
# longest distance to the frame before for the two-frame comfort
_EC_GAP_S = 0.55


@dataclass(frozen=True, slots=True)
class ScoredPlans:
    """Scores of P plans and of PDM-Closed, the last, on each of N rows; NaN where a column has no
    value.
    """

    values_NPM: np.ndarray  # (N, P + 1, 17) SCORE_COLUMNS
    valid_NP: np.ndarray  # (N, P + 1) bool: scored
    reason_NP: np.ndarray  # (N, P + 1) object: why not, else ""
    # (N, 8, 3) ego frame, NaN where the scene could not be prepared
    pdm_closed_N83: np.ndarray


@dataclass(frozen=True, slots=True)
class _LogJob:
    """One log's share: n rows with Q plans each."""

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
    out = []
    for log in np.unique(rows.log_id.astype(str)):
        mine = np.flatnonzero(rows.log_id == log)
        mine = mine[np.argsort(rows.timestamp_us[mine], kind="stable")]
        whole = (key_rows(rows.timestamp_us[mine], HISTORY_POSES - 1, KEY_FRAMES - 1) >= 0).all(
            axis=1
        )
        out.append(mine[whole & rows.has_image[mine]])
    return np.concatenate(out) if out else np.zeros(0, np.int64)


def open_scenes(lake: Lake, rows: FrameSet) -> list[PreparedScene | str]:
    """The prepared scene of each row, or the reason why there is none."""
    return [
        _open_log(lake, str(log)).scene(int(frame))
        for log, frame in zip(rows.log_id, rows.frame_index, strict=True)
    ]


def score_scenes(
    lake: Lake, rows: FrameSet, plans_NP83: np.ndarray, config: ScenesConfig
) -> ScoredPlans:
    """Score all plans of each row and PDM-Closed beside them. Unscorable rows and plans carry their
    reason.
    """
    jobs, places = [], []
    for log in np.unique(rows.log_id.astype(str)):
        mine = np.flatnonzero(rows.log_id == log)
        places.append(mine)
        jobs.append(
            _LogJob(
                lake,
                log,
                rows.frame_index[mine],
                rows.timestamp_us[mine],
                plans_NP83[mine],
                config.versions,
                True,
            )
        )
    processes = min(config.processes, len(rows) // config.rows_a_process)
    if processes <= 1:
        parts = [_score_log(job) for job in jobs]
    else:
        with worker_pool(processes) as pool:
            parts = list(pool.map(_score_log, jobs))
    shape = (len(rows), plans_NP83.shape[1] + 1)
    out = ScoredPlans(
        np.full((*shape, len(SCORE_COLUMNS)), np.nan),
        np.zeros(shape, bool),
        np.full(shape, "", object),
        np.full((len(rows), FUTURE_STEPS, 3), np.nan),
    )
    for mine, part in zip(places, parts, strict=True):
        for name in ScoredPlans.__slots__:
            getattr(out, name)[mine] = getattr(part, name)
    return out


class PlanScorer:
    """PDMS v1 targets for training: `scorer(rows, plans)`; scenes stay open in the worker processes
    between calls.

    Each log belongs to one worker, so that it is prepared once. Use it in a `with` block, or call
    `close`.
    """

    def __init__(self, lake: Lake, processes: int = 2) -> None:
        self._lake = lake
        self._workers = [worker_pool(1) for _ in range(processes)] if processes > 1 else []

    def __call__(self, rows: FrameSet, plans_NK83: np.ndarray) -> np.ndarray:
        """(N, K, 6) float32 TRAINING_COLUMNS; NaN in every row whose scene cannot be scored."""
        out_NKS = np.full((*plans_NK83.shape[:2], len(TRAINING_COLUMNS)), np.nan, np.float32)
        jobs: list[tuple[np.ndarray, Future[np.ndarray] | np.ndarray]] = []
        for log in np.unique(rows.log_id.astype(str)):
            mine = np.flatnonzero(rows.log_id == log)
            job = _LogJob(
                self._lake,
                log,
                rows.frame_index[mine],
                rows.timestamp_us[mine],
                plans_NK83[mine],
                ("v1",),
                False,
            )
            worker = (
                self._workers[zlib.crc32(log.encode()) % len(self._workers)]
                if self._workers
                else None
            )
            jobs.append(
                (mine, worker.submit(_training_targets, job) if worker else _training_targets(job))
            )
        for mine, part in jobs:
            out_NKS[mine] = part.result() if isinstance(part, Future) else part
        return out_NKS

    def close(self) -> None:
        """End the worker processes."""
        for worker in self._workers:
            worker.shutdown()

    def __enter__(self) -> "PlanScorer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _OpenLog:
    """The scenes of one log, each prepared when it is first asked for."""

    def __init__(self, lake: Lake, log_id: str) -> None:
        folder = lake.log("trajectories", log_id)
        self._scenes = LogScenes(
            *(read_table(folder, name) for name in ("trajectories", "agents", "lights", "map"))
        )
        self._prepared: dict[int, PreparedScene | str] = {}

    def scene(self, frame_index: int) -> PreparedScene | str:
        """The prepared scene at a frame, or the reason why it cannot be scored."""
        if frame_index not in self._prepared:
            try:
                self._prepared[frame_index] = prepare(self._scenes.scene(frame_index))
            except SourceError as error:
                self._prepared[frame_index] = str(error)
        return self._prepared[frame_index]


# of this process, in order of use; a worker keeps the logs it has opened last
_OPEN: dict[tuple[Lake, str], _OpenLog] = {}


def _open_log(lake: Lake, log_id: str) -> _OpenLog:
    found = _OPEN.pop((lake, log_id), None) or _OpenLog(lake, log_id)
    _OPEN[lake, log_id] = found
    while len(_OPEN) > OPEN_LOGS:
        del _OPEN[next(iter(_OPEN))]
    return found


def _score_log(job: _LogJob) -> ScoredPlans:
    """Score one log's rows, in time order, so that each finds the simulated states of the frame
    before.
    """
    rows, plans = job.plans.shape[:2]
    shape = (rows, plans + job.with_closed)
    out = ScoredPlans(
        np.full((*shape, len(SCORE_COLUMNS)), np.nan),
        np.zeros(shape, bool),
        np.full(shape, "", object),
        np.full((rows, FUTURE_STEPS, 3), np.nan),
    )
    log = _open_log(job.lake, job.log_id)
    before: tuple[int, np.ndarray] | None = None  # time and simulated states of the last row
    for row in np.argsort(job.timestamp_us):
        scene = log.scene(int(job.frame_index[row]))
        if isinstance(scene, str):
            out.reason_NP[row] = scene
            before = None
            continue
        own = job.plans[row].astype(np.float64)
        if job.with_closed:
            out.pdm_closed_N83[row] = pdm_closed_plan(scene)
            own = np.concatenate([own, out.pdm_closed_N83[row][None]])
        out.valid_NP[row] = np.isfinite(own).all(axis=(1, 2))
        out.reason_NP[row] = np.where(out.valid_NP[row], "", "the plan holds NaN or infinity")
        own = np.where(out.valid_NP[row][:, None, None], own, 0.0)
        found = {version: score(scene, own, version=version) for version in job.versions}
        values, before = _columns(found, int(job.timestamp_us[row]), before)
        out.values_NPM[row] = np.where(out.valid_NP[row][:, None], values, np.nan)
    return out


def _columns(
    found: dict[Version, PdmScores], time_us: int, before: tuple[int, np.ndarray] | None
) -> tuple[np.ndarray, tuple[int, np.ndarray] | None]:
    """(Q, M) SCORE_COLUMNS of one row, and what the next row needs for its two-frame comfort."""
    first = found[next(iter(found))]
    nan = np.full(len(first), np.nan)
    column = dict.fromkeys(SCORE_COLUMNS, nan) | {"progress_m": first.progress_m}
    if "v1" in found:
        one = found["v1"]
        column |= {
            "nc": one.nc,
            "dac": one.dac,
            "ddc": one.ddc,
            "ttc": one.ttc,
            "ep": one.ep,
            "comfort": one.comfort,
            "pdms": one.score,
        }
    if "v2" in found:
        two, two_frame = found["v2"], nan
        gap_s = (time_us - before[0]) / 1e6 if before else 0.0
        if before and 0 < gap_s < _EC_GAP_S:
            two_frame = np.array(
                [
                    extended_comfort(now, then, gap_s)[0]
                    for now, then in zip(two.states, before[1], strict=True)
                ]
            )
        total = epdms(
            two.nc * two.dac * two.ddc * two.tlc, two.ep, two.ttc, two.lk, two.hc, two_frame
        )
        column |= {
            "nc_v2": two.nc,
            "dac_v2": two.dac,
            "ddc_v2": two.ddc,
            "tlc_v2": two.tlc,
            "ep_v2": two.ep,
            "ttc_v2": two.ttc,
            "lk_v2": two.lk,
            "hc_v2": two.hc,
            "ec_v2": two_frame,
            "epdms": total,
        }
        before = time_us, two.states
    return np.stack([column[name] for name in SCORE_COLUMNS], axis=1), before


def _training_targets(job: _LogJob) -> np.ndarray:
    """(n, K, 6) TRAINING_COLUMNS of one log's rows."""
    names = [name if name != "score" else "pdms" for name in TRAINING_COLUMNS]
    return (
        _score_log(job)
        .values_NPM[..., [SCORE_COLUMNS.index(name) for name in names]]
        .astype(np.float32)
    )
