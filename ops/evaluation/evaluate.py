"""Score every planner on every scene of the test logs, with confidence intervals of the means.

The input rows are all frames of the logs. A scene is a frame with enough past and future
(ops/pdm/score_rows.py); each expected scene gives one row per planner: its scores, or the reason
why it has none. Two rows need no planner: `human` is the recorded future, `pdm_closed` the
rule-based planner of the PDM score. Legend: N scenes, P planners, M measures, 8 steps of 0.5 s,
3 = x, y, heading in the ego frame.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ops.evaluation.config import EvaluationConfig
from ops.evaluation.scene_scores import plans_table, scores_table
from ops.evaluation.summarize import differences_table, summary_table
from ops.pdm.score_rows import ScoredPlans, scene_rows, score_scenes
from ops.planners.planner import Planner
from storage.dataset import FrameSet
from storage.errors import ConfigError
from storage.grouping import rows_by_log
from storage.lake import Lake
from storage.metrics_table import LATENCY, write_metrics
from storage.trajectory_table import FUTURE_STEPS

BLANK, SHUFFLED = "_blank", "_shuffled"
HUMAN, PDM_CLOSED = "human", "pdm_closed"


@dataclass(frozen=True, slots=True)
class Unscored:
    """A plan or a whole scene without a score."""

    log_id: str
    frame_index: int
    planner: str  # "" for every planner of the scene
    reason: str


@dataclass(frozen=True, slots=True)
class EvaluationSummary:
    """Counts and tables of an evaluation; the tables are also written to its folder."""

    metric_version: str
    split: str
    n_expected: int  # scenes of the split
    n_scored: int  # scenes with a score for every planner
    n_logs: int
    unscored: tuple[Unscored, ...]
    summary: pa.Table  # storage.metrics_table.SUMMARY
    differences: pa.Table  # DIFFERENCES
    latency: pa.Table  # LATENCY, empty if nothing was timed


def evaluate(
    rows: FrameSet,
    planners: Mapping[str, Planner],
    lake: Lake,
    out: Path,
    config: EvaluationConfig,
    *,
    split: str = "test",
    seeds: Mapping[str, int] | None = None,
    latency: pa.Table | None = None,
) -> EvaluationSummary:
    """Score `planners` on the scenes among `rows` and write scores, plans, summary, differences and
    latency to `out`.

    `rows` are all frames of the split's logs, with the images the planners read. `seeds` holds the
    training seed of each trained planner. Raises ConfigError if a planner returns plans of another
    shape or if the rows hold no scene.
    """
    chosen = strided_scenes(rows, config)
    if not len(chosen):
        raise ConfigError(
            "these logs hold no scene to score",
            where=lake.root,
            found=f"{len(rows)} frames",
            expected="frames with 1.5 s of past and 5 s of future",
            do="give longer logs, or another split",
        )
    scenes = rows.take(chosen)
    plans = all_plans(scenes, planners, config)
    plans_NP83 = np.stack([*plans.values()], axis=1)
    scored = score_scenes(lake, scenes, plans_NP83, config.scenes)
    return write_evaluation(
        out,
        scenes,
        (*plans,),
        plans_NP83,
        scored,
        event_tags(rows, chosen, config.event_horizon_s),
        config,
        split=split,
        seeds=seeds,
        latency=latency,
    )


def write_evaluation(
    out: Path,
    scenes: FrameSet,
    planners: Sequence[str],
    plans_NP83: np.ndarray,
    scored: ScoredPlans,
    tags: list[list[str]],
    config: EvaluationConfig,
    *,
    split: str = "test",
    seeds: Mapping[str, int] | None = None,
    latency: pa.Table | None = None,
) -> EvaluationSummary:
    """Write the tables of plans (N, P, 8, 3) that are already scored, with PDM-Closed added as the
    last planner.

    `tags` are the events of each scene.
    """
    names = (*planners, PDM_CLOSED)
    plans_NP83 = np.concatenate([plans_NP83, scored.pdm_closed_N83[:, None]], axis=1)
    scores = scores_table(
        scenes, names, plans_NP83, scored, tags, split, seeds or {}, config.scenes.metric_version
    )
    latency = latency if latency is not None else LATENCY.empty_table()
    result = EvaluationSummary(
        metric_version=config.scenes.metric_version,
        split=split,
        n_expected=len(scenes),
        n_scored=int(scored.valid_NP.all(axis=1).sum()),
        n_logs=len(np.unique(scenes.log_id.astype(str))),
        unscored=_unscored(scenes, names, scored),
        summary=summary_table(scores, config.interval),
        differences=differences_table(scores, config.controls, config.interval),
        latency=latency,
    )
    _write(out, result, scores, plans_table(scenes, names, plans_NP83))
    return result


def all_plans(
    scenes: FrameSet, planners: Mapping[str, Planner], config: EvaluationConfig
) -> dict[str, np.ndarray]:
    """Plans (N, 8, 3) of the human and of every planner, and those of the camera planners
    (`sight_ablations`) with black images and with images of other logs, each with the calibration
    of its camera.

    Raises ConfigError if a planner returns plans of another shape.
    """
    plans = {HUMAN: scenes.future} | {
        name: planner.plan(scenes) for name, planner in planners.items()
    }
    camera_planners = [name for name in config.sight_ablations if name in planners]
    if camera_planners:
        blank = replace(scenes, images=np.zeros_like(scenes.images))
        others = _other_logs(scenes.log_id, config.seed)
        shuffled = replace(scenes, images=scenes.images[others], camera=scenes.camera[others])
        for name in camera_planners:
            plans[name + BLANK] = planners[name].plan(blank)
            plans[name + SHUFFLED] = planners[name].plan(shuffled)
    for name, plan in plans.items():
        if plan.shape != (len(scenes), FUTURE_STEPS, 3):
            raise ConfigError(
                f"planner '{name}' returned plans of a wrong shape",
                expected=(len(scenes), FUTURE_STEPS, 3),
                found=plan.shape,
                do="return one plan of 8 poses (x, y, heading) per row",
            )
    return {name: np.asarray(plan, dtype=np.float64) for name, plan in plans.items()}


def strided_scenes(rows: FrameSet, config: EvaluationConfig) -> np.ndarray:
    """Row numbers of every `stride`-th scene of each log, counted within the log."""
    scenes = scene_rows(rows)
    by_log = rows_by_log(rows.log_id[scenes]).values()
    return np.concatenate([scenes[in_log[:: config.stride]] for in_log in by_log] or [scenes])


def _other_logs(log_id: np.ndarray, seed: int) -> np.ndarray:
    """For each row the index of a row of another log; of any row if there is only one log."""
    generator = np.random.default_rng(seed)
    picked = generator.permutation(len(log_id))
    for _ in range(64):
        same = np.flatnonzero(log_id[picked] == log_id)
        if not len(same):
            break
        picked[same] = generator.integers(0, len(log_id), len(same))
    return picked


def event_tags(rows: FrameSet, chosen: np.ndarray, horizon_s: float) -> list[list[str]]:
    """Tags active in [t, t + horizon] of the scene's log, sorted."""
    by_log, out = rows_by_log(rows.log_id), []
    for row in chosen:
        in_log = by_log[rows.log_id[row]]
        ahead_us = rows.timestamp_us[in_log] - rows.timestamp_us[row]
        within = in_log[(ahead_us >= 0) & (ahead_us <= horizon_s * 1e6 + 5e4)]
        out.append(sorted({tag for items in rows.tags[within] for tag in items}))
    return out


def _unscored(
    scenes: FrameSet, names: tuple[str, ...], scored: ScoredPlans
) -> tuple[Unscored, ...]:
    out = []
    for row in np.flatnonzero(~scored.valid_NP.all(axis=1)):
        reasons = scored.reason_NP[row]
        log_id, frame = str(scenes.log_id[row]), int(scenes.frame_index[row])
        if not scored.valid_NP[row].any() and len({*reasons}) == 1:
            out.append(Unscored(log_id, frame, "", reasons[0]))
        else:
            out += [
                Unscored(log_id, frame, names[at], reasons[at])
                for at in np.flatnonzero(~scored.valid_NP[row])
            ]
    return tuple(out)


def _write(out: Path, result: EvaluationSummary, scores: pa.Table, plans: pa.Table) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, table in (
        ("scores", scores),
        ("plans", plans),
        ("summary", result.summary),
        ("differences", result.differences),
        ("latency", result.latency),
    ):
        write_metrics(out, name, table)
    head = {
        key: getattr(result, key)
        for key in ("metric_version", "split", "n_expected", "n_scored", "n_logs")
    }
    tables = {
        key: [row for row in getattr(result, key).to_pylist() if row.get("subset", "all") == "all"]
        for key in ("summary", "differences", "latency")
    }
    (out / "summary.json").write_text(
        json.dumps(
            head | {"unscored": [asdict(item) for item in result.unscored]} | tables, indent=1
        )
    )
