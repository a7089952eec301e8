"""Score every planner on every scene of the held-out logs and say how sure the means are. Not training, not drawing.

The rows handed in are all frames of the logs. A scene is a frame with enough past and future (ops/scenes.py); each
expected scene gives one row a planner, scored or with the reason why not. Two rows need no planner: `human` is the
recorded future, `pdm_closed` the rule-based planner of the PDM score.
Legend: N scenes, P planners, M measures, 8 steps of 0.5 s, 3 = x, y, heading in the ego frame.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from ops.displacement import displacement
from ops.intervals import IntervalConfig
from ops.scenes import SCORE_COLUMNS, ScenesConfig, ScoredPlans, scene_rows, score_scenes
from ops.summarize import differences_table, summary_table
from storage.dataset import FrameSet
from storage.errors import ConfigError
from storage.lake import Lake
from storage.metrics_table import LATENCY, PLANS, SCORES, V1_PARTS, V2_PARTS, write_metrics
from storage.trajectory_table import FUTURE_STEPS

BLANK, SHUFFLED = "_blank", "_shuffled"
HUMAN, PDM_CLOSED = "human", "pdm_closed"


class Planner(Protocol):
    """Anything that plans for rows."""

    def plan(self, rows: FrameSet) -> np.ndarray:
        """(N, 8, 3) poses x, y, heading in the ego frame of each row at 0.5 s steps."""
        ...


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """What is scored and how the means are drawn up."""

    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    stride: int = 1                         # every how many scenes of a log; 1: all
    event_horizon_s: float = 4.0            # a scene carries the events that are active from now until then
    sight_ablations: tuple[str, ...] = ("planner_alone", "student_no_teacher", "vla",
                                        "student")   # also with blank and shuffled images
    controls: tuple[tuple[str, str], ...] = (   # (planner, control): paired differences
        ("student", "student_no_teacher"), ("student", "vla"), ("student", "planner_alone"),
        ("student", "ego_status_mlp"),
        ("student", "constant_velocity"), ("student", "student_blank"), ("student", "student_shuffled"),
        ("vla", "planner_alone"), ("vla", "ego_status_mlp"), ("vla", "constant_velocity"), ("vla", "vla_blank"),
        ("vla", "vla_shuffled"), ("planner_alone", "ego_status_mlp"), ("planner_alone", "planner_alone_blank"),
        ("human", "pdm_closed"))
    interval: IntervalConfig = field(default_factory=IntervalConfig)
    seed: int = 0                           # of the shuffled images


@dataclass(frozen=True, slots=True)
class Unscored:
    """A plan or a whole scene without a score."""

    log_id: str
    frame_index: int
    planner: str                            # "" for every planner of the scene
    reason: str


@dataclass(frozen=True, slots=True)
class EvaluationSummary:
    """What the evaluation found; the tables are those written beside it."""

    metric_version: str
    split: str
    n_expected: int                         # scenes of the split
    n_scored: int                           # scenes with a score for every planner
    n_logs: int
    unscored: tuple[Unscored, ...]
    summary: pa.Table                       # storage.metrics_table.SUMMARY
    differences: pa.Table                   # DIFFERENCES
    latency: pa.Table                       # LATENCY, empty when nothing was timed


def evaluate(rows: FrameSet, planners: Mapping[str, Planner], lake: Lake, out: Path, config: EvaluationConfig, *,
             split: str = "test", seeds: Mapping[str, int] | None = None,
             latency: pa.Table | None = None) -> EvaluationSummary:
    """Score `planners` on the scenes among `rows` and write scores, plans, summary, differences and latency to `out`.

    `rows` are all frames of the split's logs, with the images the planners read. `seeds` names the seed of each trained
    planner. Raises ConfigError if a planner returns another shape or if there is no scene at all.
    """
    chosen = _thinned(rows, config)
    if not len(chosen):
        raise ConfigError("these logs hold no scene to score", where=lake.root, found=f"{len(rows)} frames",
                          expected="frames with 1.5 s of past and 5 s of future",
                          do="give longer logs, or another split")
    scenes = rows.take(chosen)
    plans = all_plans(scenes, planners, config)
    plans_NP83 = np.stack([*plans.values()], axis=1)
    scored = score_scenes(lake, scenes, plans_NP83, config.scenes)
    return write_evaluation(out, scenes, (*plans,), plans_NP83, scored,
                            _event_tags(rows, chosen, config.event_horizon_s),
                            config, split=split, seeds=seeds, latency=latency)


def write_evaluation(out: Path, scenes: FrameSet, planners: Sequence[str], plans_NP83: np.ndarray, scored: ScoredPlans,
                     tags: list[list[str]], config: EvaluationConfig, *, split: str = "test",
                     seeds: Mapping[str, int] | None = None, latency: pa.Table | None = None) -> EvaluationSummary:
    """Draw up the tables of plans (N, P, 8, 3) that are scored already, PDM-Closed as one more, and write them."""
    names = (*planners, PDM_CLOSED)
    plans_NP83 = np.concatenate([plans_NP83, scored.pdm_closed_N83[:, None]], axis=1)
    scores = scores_table(scenes, names, plans_NP83, scored, tags, split, seeds or {}, config.scenes.metric_version)
    latency = latency if latency is not None else LATENCY.empty_table()
    result = EvaluationSummary(
        metric_version=config.scenes.metric_version, split=split, n_expected=len(scenes),
        n_scored=int(scored.valid_NP.all(axis=1).sum()), n_logs=len(np.unique(scenes.log_id.astype(str))),
        unscored=_unscored(scenes, names, scored), summary=summary_table(scores, config.interval),
        differences=differences_table(scores, config.controls, config.interval), latency=latency)
    _write(out, result, scores, _plans_table(scenes, names, plans_NP83))
    return result


def all_plans(scenes: FrameSet, planners: Mapping[str, Planner], config: EvaluationConfig) -> dict[str, np.ndarray]:
    """The human's plan, every planner's, and those of the sighted planners with blank and with shuffled images.

    Blank images are black; shuffled ones come from scenes of other logs where there are any.
    """
    plans = {HUMAN: scenes.future} | {name: planner.plan(scenes) for name, planner in planners.items()}
    sighted = [name for name in config.sight_ablations if name in planners]
    if sighted:
        blank = replace(scenes, images=np.broadcast_to(np.uint8(0), scenes.images.shape))
        shuffled = replace(scenes, images=scenes.images[_other_logs(scenes.log_id, config.seed)])
        for name in sighted:
            plans[name + BLANK] = planners[name].plan(blank)
            plans[name + SHUFFLED] = planners[name].plan(shuffled)
    for name, plan in plans.items():
        if plan.shape != (len(scenes), FUTURE_STEPS, 3):
            raise ConfigError(f"planner '{name}' returned plans of a wrong shape",
                              expected=(len(scenes), FUTURE_STEPS, 3),
                              found=plan.shape, do="return one plan of 8 poses (x, y, heading) a row")
    return {name: np.asarray(plan, dtype=np.float64) for name, plan in plans.items()}


def scores_table(scenes: FrameSet, names: tuple[str, ...], plans_NP83: np.ndarray, scored: ScoredPlans,
                 tags: list[list[str]], split: str, seeds: Mapping[str, int], metric_version: str) -> pa.Table:
    """One row a scene and planner in storage.metrics_table.SCORES, scenes outermost."""
    count, planners = len(scenes), len(names)
    finite = np.isfinite(plans_NP83).all(axis=(2, 3))
    error = displacement(np.where(finite[:, :, None, None], plans_NP83, 0.0), scenes.future, scenes.future_valid)

    def each(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, planners)

    def measured(values_NP: np.ndarray, known_NP: np.ndarray) -> pa.Array:
        return pa.array(values_NP.ravel(), pa.float64(), mask=~np.broadcast_to(known_NP, values_NP.shape).ravel())

    columns = {
        "log_id": each(scenes.log_id), "frame_index": each(scenes.frame_index), "split": [split] * (count * planners),
        "planner": [*names] * count, "metric_version": [metric_version] * (count * planners),
        "seed": [seeds.get(name) for name in names] * count, "scored": scored.valid_NP.ravel(),
        "reason": scored.reason_NP.ravel(),
        **{name: measured(scored.values_NPM[..., at], scored.valid_NP & np.isfinite(scored.values_NPM[..., at]))
           for at, name in enumerate(SCORE_COLUMNS)},
        "ade_m": measured(error.ade_m, finite & error.ade_valid[:, None]),
        "fde_m": measured(error.fde_m, finite & error.fde_valid[:, None]),
        "lateral_m": measured(error.lateral_m, finite & error.ade_valid[:, None]),
        "speed_mps": each(np.hypot(*scenes.velocity.T).astype(np.float64)),
        "command": each(scenes.command.astype(np.int8)),
        "tags": [item for item in tags for _ in names],
    }
    return pa.table({name: columns[name] for name in SCORES.names}, schema=SCORES)


@dataclass(frozen=True, slots=True)
class Recomputed:
    """How the stored scores agree with their parts."""

    rows: int                               # rows whose score was built again
    worst: float                            # largest absolute difference
    keys: tuple[str, ...]                   # the first rows that differ by more than 1e-9


def recompute(scores: pa.Table) -> Recomputed:
    """Build every PDMS and EPDMS of a scores table again from its columns (docs/metrics.md has the formulas)."""
    def column(name: str) -> np.ndarray:
        return scores[name].to_numpy(zero_copy_only=False).astype(np.float64)

    part = {name: column(name) for name in (*V1_PARTS, *V2_PARTS)}
    pdms = part["nc"] * part["dac"] * (5 * part["ttc"] + 5 * part["ep"] + 2 * part["comfort"]) / 12
    paired = np.isfinite(part["ec_v2"])     # a frame without a predecessor has no EC, and its weight is dropped
    weighted = 5 * part["ep_v2"] + 5 * part["ttc_v2"] + 2 * part["lk_v2"] + 2 * part["hc_v2"]
    weighted = (weighted + 2 * np.where(paired, part["ec_v2"], 0.0)) / np.where(paired, 16, 14)
    epdms = part["nc_v2"] * part["dac_v2"] * part["ddc_v2"] * part["tlc_v2"] * weighted
    off = np.stack([np.abs(pdms - column("pdms")), np.abs(epdms - column("epdms"))])
    known = np.isfinite(np.stack([column("pdms"), column("epdms")]))
    off = np.where(known, np.where(np.isfinite(off), off, np.inf),
                   0.0).max(axis=0)     # a score without its parts differs
    bad = np.flatnonzero(off > 1e-9)[:20]
    keys = tuple(f"{scores['log_id'][int(row)]}/{scores['frame_index'][int(row)]}/{scores['planner'][int(row)]}"
                 for row in bad)
    return Recomputed(int(known.any(axis=0).sum()), float(off.max(initial=0.0)), keys)


def _thinned(rows: FrameSet, config: EvaluationConfig) -> np.ndarray:
    """Every `stride`-th scene of each log, so that a log's share does not depend on the others'."""
    chosen = scene_rows(rows)
    return np.concatenate([mine[::config.stride] for log in np.unique(rows.log_id)
                           if len(mine := chosen[rows.log_id[chosen] == log])] or [chosen])


def _other_logs(log_id: np.ndarray, seed: int) -> np.ndarray:
    """A row index from another log for each row; from anywhere if there is one log only."""
    generator = np.random.default_rng(seed)
    picked = generator.permutation(len(log_id))
    for _ in range(64):
        same = np.flatnonzero(log_id[picked] == log_id)
        if not len(same):
            break
        picked[same] = generator.integers(0, len(log_id), len(same))
    return picked


def _event_tags(rows: FrameSet, chosen: np.ndarray, horizon_s: float) -> list[list[str]]:
    """Tags active in [t, t + horizon] of the scene's log, sorted."""
    out = []
    for row in chosen:
        ahead = rows.timestamp_us - rows.timestamp_us[row]
        within = (rows.log_id == rows.log_id[row]) & (ahead >= 0) & (ahead <= horizon_s * 1e6 + 5e4)
        out.append(sorted({tag for items in rows.tags[within] for tag in items}))
    return out


def _unscored(scenes: FrameSet, names: tuple[str, ...], scored: ScoredPlans) -> tuple[Unscored, ...]:
    out = []
    for row in np.flatnonzero(~scored.valid_NP.all(axis=1)):
        reasons = scored.reason_NP[row]
        log_id, frame = str(scenes.log_id[row]), int(scenes.frame_index[row])
        if not scored.valid_NP[row].any() and len({*reasons}) == 1:
            out.append(Unscored(log_id, frame, "", reasons[0]))
        else:
            out += [Unscored(log_id, frame, names[at], reasons[at]) for at in np.flatnonzero(~scored.valid_NP[row])]
    return tuple(out)


def _plans_table(scenes: FrameSet, names: tuple[str, ...], plans_NP83: np.ndarray) -> pa.Table:
    count, planners = plans_NP83.shape[:2]
    flat = pa.array(plans_NP83.astype(np.float32).ravel())
    return pa.table({"log_id": np.repeat(scenes.log_id, planners),
                     "frame_index": np.repeat(scenes.frame_index, planners),
                     "planner": [*names] * count,
                     "plan_xyyaw": pa.FixedSizeListArray.from_arrays(flat, 3 * FUTURE_STEPS)}, schema=PLANS)


def _write(out: Path, result: EvaluationSummary, scores: pa.Table, plans: pa.Table) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, table in (("scores", scores), ("plans", plans), ("summary", result.summary),
                        ("differences", result.differences), ("latency", result.latency)):
        write_metrics(out, name, table)
    head = {key: getattr(result, key) for key in ("metric_version", "split", "n_expected", "n_scored", "n_logs")}
    tables = {key: getattr(result, key).to_pylist() for key in ("summary", "differences", "latency")}
    (out / "summary.json").write_text(json.dumps(
        head | {"unscored": [asdict(item) for item in result.unscored]} | tables, indent=1))
