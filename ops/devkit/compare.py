"""Scores plans with the installed NAVSIM devkit, from its metric cache, and compares the results
with those of score_file.py.

Scenes of the metric cache are matched by log name and time. The cache is a folder of pickles, and
loading a pickle runs the code in it: use only a cache that you built yourself (the devkit's
run_metric_caching.py).
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ops.devkit.find import incomplete_devkit, require_devkit
from ops.pdm.config import Version
from ops.pdm.plan_file import Plan, read_plans
from ops.pdm.scene.cache import cached_scenes
from ops.pdm.scene.scene import Scene
from ops.pdm.score_file import SCORE_PARTS, Result, results_table
from storage.errors import ConfigError, LatentVLAError
from storage.lake import Lake

TOLERANCE = 1e-6
_COLUMNS = {
    "nc": "no_at_fault_collisions",
    "dac": "drivable_area_compliance",
    "ddc": "driving_direction_compliance",
    "ep": "ego_progress",
    "ttc": "time_to_collision_within_bound",
    "score": "score",
}
COLUMNS: dict[Version, dict[str, str]] = {  # our columns -> those of the devkit
    "v1": _COLUMNS | {"comfort": "comfort"},
    "v2": _COLUMNS
    | {
        "tlc": "traffic_light_compliance",
        "lk": "lane_keeping",
        "comfort": "history_comfort",
        "ec": "two_frame_extended_comfort",
    },
}


@dataclass(frozen=True, slots=True)
class Difference:
    """Comparison of one column of the results."""

    column: str
    compared: int  # plans that both scored
    differing: int  # by more than TOLERANCE, or with a value on one side only
    largest: float  # infinity where one side has no value
    where: str  # planner, log and frame of the largest difference, or ""


def devkit_results(plans: Path | pa.Table, lake: Lake, metric_cache: Path) -> pa.Table:
    """Score every plan with the devkit: a table of score_file.RESULTS in the installed version.

    A plan that the devkit or its cache cannot score keeps its row with the reason. Raises
    ConfigError without the devkit and for a folder that is no metric cache.
    """
    version = require_devkit()
    rows = read_plans(plans)
    devkit = _devkit(version, metric_cache, {plan.log_id for plan in rows})
    by_row: dict[int, Result] = {}
    for planner in dict.fromkeys(plan.planner for plan in rows):
        planner_plans = [plan for plan in rows if plan.planner == planner]
        for result in _score_planner(devkit, planner_plans, lake, version):
            by_row[result.plan.row] = result
    return results_table([by_row[plan.row] for plan in rows])


def differences(ours: pa.Table, theirs: pa.Table) -> list[Difference]:
    """Differences by column between two tables of results of the same plans in the same order."""
    pairs = [
        (a, b)
        for a, b in zip(ours.to_pylist(), theirs.to_pylist(), strict=True)
        if a["scored"] and b["scored"]
    ]
    by_column = []
    for column in SCORE_PARTS:
        values = np.array(
            [[np.nan if row[column] is None else row[column] for row in pair] for pair in pairs]
        ).reshape(-1, 2)
        has_value = np.isfinite(values)
        if not has_value.any():
            continue
        difference = np.where(
            has_value.all(axis=1),
            np.abs(values[:, 0] - values[:, 1]),
            np.where(has_value.any(axis=1), np.inf, 0.0),
        )
        row = pairs[int(difference.argmax())][0]
        where = (
            f"{row['planner']} at log {row['log_id']}, frame {row['frame_index']}"
            if difference.max() > TOLERANCE
            else ""
        )
        by_column.append(
            Difference(
                column,
                len(pairs),
                int((difference > TOLERANCE).sum()),
                float(difference.max()),
                where,
            )
        )
    return by_column


@dataclass(slots=True)
class _Devkit:
    """The devkit's scorer as its scripts configure it, and the scenes of its cache."""

    loader: Any  # MetricCacheLoader
    tokens: dict[tuple[str, int], str]  # (log, time in us) -> token
    sampling: Any  # of the simulation: 40 steps of 0.1 s
    call: dict[str, Any]  # arguments of pdm_score that are the same for every plan

    def trajectory(self, plan: Plan) -> Any:
        """A plan as the devkit's Trajectory."""
        from navsim.common.dataclasses import Trajectory

        return Trajectory(
            plan.poses, type(self.sampling)(num_poses=len(plan.poses), interval_length=plan.dt_s)
        )


def _devkit(version: Version, metric_cache: Path, wanted_logs: set[str]) -> _Devkit:
    """The devkit's scorer with the values of its configuration, and the scenes of some logs in its
    cache.
    """
    if not (metric_cache / "metadata").is_dir():
        raise ConfigError(
            "this is no metric cache of the NAVSIM devkit",
            where=metric_cache,
            expected="a folder 'metadata'",
            do="build one with the devkit's run_metric_caching.py, for the logs of the plans",
        )
    try:
        from navsim.common.dataloader import MetricCacheLoader
        from navsim.planning.simulation.planner.pdm_planner.scoring.pdm_scorer import (
            PDMScorer,
            PDMScorerConfig,
        )
        from navsim.planning.simulation.planner.pdm_planner.simulation.pdm_simulator import (
            PDMSimulator,
        )
        from nuplan.planning.simulation.trajectory.trajectory_sampling import TrajectorySampling

        sampling = TrajectorySampling(num_poses=40, interval_length=0.1)
        call: dict[str, Any] = {"future_sampling": sampling, "simulator": PDMSimulator(sampling)}
        if version == "v2":
            from navsim.traffic_agents_policies.log_replay_traffic_agents import (
                LogReplayTrafficAgents,
            )

            call["scorer"] = PDMScorer(sampling, PDMScorerConfig(human_penalty_filter=True))
            call["traffic_agents_policy"] = LogReplayTrafficAgents(sampling)
        else:
            call["scorer"] = PDMScorer(sampling, PDMScorerConfig())
    except ModuleNotFoundError as error:
        raise incomplete_devkit(error) from error
    loader = MetricCacheLoader(metric_cache)
    logs = {token: Path(str(file)).parts[-4] for token, file in loader.metric_cache_paths.items()}
    logs = {token: log_id for token, log_id in logs.items() if log_id in wanted_logs}
    times = {
        token: int(loader.get_from_token(token).ego_state.time_point.time_us) for token in logs
    }
    return _Devkit(loader, {(logs[token], times[token]): token for token in logs}, sampling, call)


def _score_planner(
    devkit: _Devkit, plans: list[Plan], lake: Lake, version: Version
) -> Iterable[Result]:
    """Results of one planner. The two-frame comfort of v2 needs all its plans at once."""
    from navsim.evaluate.pdm_score import pdm_score

    rows: dict[int, Any] = {}
    used_tokens: set[str] = set()
    for plan in plans:
        token, split, reason = _token(devkit, plan, lake)
        if version == "v2" and token in used_tokens and not reason:
            reason = "the devkit scores one plan of a planner at a scene, and this is a second one"
        if not reason:
            used_tokens.add(token)
            cache, trajectory = devkit.loader.get_from_token(token), devkit.trajectory(plan)
            try:
                scored = pdm_score(metric_cache=cache, model_trajectory=trajectory, **devkit.call)
            # any error of the devkit: its own scripts continue as well
            except Exception as error:
                reason = f"the devkit failed: {type(error).__name__}: {error}"
            else:
                rows[plan.row] = (plan, split, _row(scored, cache, token, version))
        if reason:
            yield Result(plan, version, split, reason)
    values = (
        _final_v2([row for _, _, row in rows.values()], devkit)
        if version == "v2"
        else [row for _, _, row in rows.values()]
    )
    for (plan, split, _), row in zip(rows.values(), values, strict=True):
        yield Result(
            plan,
            version,
            split,
            "",
            {ours: float(row[name]) for ours, name in COLUMNS[version].items()},
        )


def _token(devkit: _Devkit, plan: Plan, lake: Lake) -> tuple[str, str, str]:
    """Token of the scene in the cache, split, and the reason why the plan cannot be scored,
    or "".
    """
    if plan.fault:
        return "", "", plan.fault
    try:
        scene = cached_scenes(lake, plan.log_id).get(plan.frame_index)
    except LatentVLAError as error:
        return "", "", error.what
    if not isinstance(scene, Scene):
        return "", "", "the lake has no scene at this frame"
    token = devkit.tokens.get((plan.log_id, scene.time_us), "")
    return (
        token,
        scene.split,
        "" if token else "the metric cache has no scene of this log at this time",
    )


def _row(scored: Any, cache: Any, token: str, version: Version) -> Any:
    """The devkit's row of one plan: a dictionary in v1, in v2 a data frame with one row as in
    run_pdm_score_one_stage.py.
    """
    if version == "v1":
        return asdict(scored)
    row, states = scored
    row["token"], row["log_name"], row["frame_type"] = token, cache.log_name, cache.scene_type
    row["valid"], row["start_time"], row["ego_simulated_states"] = (
        True,
        cache.timepoint.time_s,
        [states],
    )
    return row


def _final_v2(rows: list[Any], devkit: _Devkit) -> list[Any]:
    """The last steps of the devkit's script: pairs of frames, their two-frame comfort, the score.

    One mapping for each row, in their order.
    """
    if not rows:
        return []
    import pandas as pd
    from navsim.planning.script import run_pdm_score_one_stage as script

    table = pd.concat(rows, ignore_index=True)
    pairs = script.infer_start_adjacent_mapping(table)
    if pairs:
        table = script.create_scene_aggregators(pairs, table, devkit.sampling)
    else:  # without pairs the devkit's script fails
        table = table.drop(columns=["ego_simulated_states"]).assign(
            two_frame_extended_comfort=np.nan
        )
    by_token = script.compute_final_scores(table).set_index("token")
    return [by_token.loc[row["token"].iloc[0]] for row in rows]
