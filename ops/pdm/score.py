"""Scores of plans at one scene: PDMS (v1, NAVSIM v1.1) or EPDMS (v2, NAVSIM v2.2).

The two are different metrics, so every call names its version. The rules are in ops/pdm/rules/.
K plans, n poses a plan.
"""

from dataclasses import dataclass

import numpy as np

from ops.pdm.config import VERSIONS, Version
from ops.pdm.pipeline import Part, Simulated
from ops.pdm.prepared import (
    PreparedScene,
    human_sub_scores,
    masked_progress,
    progress_score,
    sub_scores,
    total_score,
)
from ops.pdm.rules.aggregate import human_filter
from ops.pdm.rules.vehicle import KEY_STEP_S, POSES, STEP_S, to_ego
from ops.pdm.traffic.policies import POLICIES, TrafficPolicy, simulated_traffic
from storage.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PdmScores:
    """Scores of K plans at one scene; sub-scores are in [0, 1], higher is better."""

    version: Version
    nc: np.ndarray  # (K,) no at-fault collision: 1, 0.5 (static object), 0
    dac: np.ndarray  # (K,) drivable area compliance
    ddc: np.ndarray  # (K,) driving direction compliance: 1, 0.5, 0; weight 0 in v1
    tlc: np.ndarray  # (K,) traffic light compliance of v2; 1 in v1
    ep: np.ndarray  # (K,) ego progress
    ttc: np.ndarray  # (K,) time to collision within bound
    lk: np.ndarray  # (K,) lane keeping of v2; 1 in v1
    comfort: np.ndarray  # (K,) C of v1, HC of v2
    # (K,) PDMS, or EPDMS without the two-frame comfort and its weight
    score: np.ndarray
    progress_m: np.ndarray  # (K,) raw progress along the centreline
    collision_time_s: np.ndarray  # (K,) first at-fault collision, inf if none
    ttc_time_s: np.ndarray  # (K,) first infraction of the time to collision, inf if none
    comfort_parts: np.ndarray  # (K, 6) bool, comfort.Comfort columns
    states: np.ndarray  # (K, 41, 11) simulated states, vehicle.State columns
    areas: np.ndarray  # (K, 41, 5) bool, areas.Area columns

    @property
    def hc(self) -> np.ndarray:
        """(K,) history comfort: v2's name of `comfort`."""
        return self.comfort

    @property
    def sub_scores(self) -> np.ndarray:
        """(K, 8) columns of prepared.SUB_SCORES."""
        return np.stack(
            [self.nc, self.dac, self.ddc, self.tlc, self.ep, self.ttc, self.lk, self.comfort],
            axis=1,
        )

    def __len__(self) -> int:
        return len(self.score)


def score(
    prepared: PreparedScene,
    plans: np.ndarray,
    *,
    version: Version = "v1",
    dt_s: float = KEY_STEP_S,
    human_penalty_filter: bool = True,
    traffic: TrafficPolicy = "log_replay",
) -> PdmScores:
    """Score plans (K, n, 3): x, y, heading in the ego frame, `dt_s` apart, the first one `dt_s`
    from now.

    After its end a plan shorter than 4 s stands still. `human_penalty_filter` (v2 only) sets
    sub-scores to 1 where the human log itself gets 0, as the devkit's configuration does. `traffic`
    (v2 only) is how other vehicles move: as logged, at constant velocity, or reacting to the plan
    (`idm`, which simulates the traffic for every plan). Raises ConfigError for an unknown
    version or traffic, a wrong shape, a plan without poses, a spacing that is not positive, or
    poses that are not finite.
    """
    plans = _checked(plans, version, dt_s)
    if traffic not in POLICIES or (version == "v1" and traffic != "log_replay"):
        known = POLICIES if version == "v2" else POLICIES[:1]
        raise ConfigError(
            "there is no such traffic",
            expected=" or ".join(known),
            found=traffic,
            do="v1 replays the log; v2 also takes constant_velocity and idm",
        )
    reference, states = prepared.reference(version), prepared.states_of(plans, dt_s)
    if traffic == "log_replay":
        result = prepared.look_at(states, reference.traffic, version)
        masked_m, human = np.full(len(plans), reference.masked_m), reference.human
    else:
        result, masked_m = _in_simulated_traffic(prepared, states, traffic)
        human = human_sub_scores(prepared, traffic, reference.traffic)
    best = np.maximum(masked_m, masked_progress(result, version))
    subs = sub_scores(result.parts, progress_score(result.parts, best, version))
    if version == "v2" and human_penalty_filter:
        subs = human_filter(subs, human)
    raw = np.ascontiguousarray(result.parts.T)
    nc, dac, ddc, tlc, ep, ttc, lk, comfort = np.ascontiguousarray(subs.T)
    return PdmScores(
        version,
        nc,
        dac,
        ddc,
        tlc,
        ep,
        ttc,
        lk,
        comfort,
        total_score(subs, version),
        raw[Part.PROGRESS_M],
        raw[Part.COLLISION_STEP] * STEP_S,
        raw[Part.TTC_STEP] * STEP_S,
        result.comfort,
        result.states,
        result.areas,
    )


def _in_simulated_traffic(
    prepared: PreparedScene, states: np.ndarray, policy: TrafficPolicy
) -> tuple[Simulated, np.ndarray]:
    """Raw results of states (K, 41, 11), each in the traffic that reacts to it, and the masked
    progress (K,) of PDM-Closed in that traffic.

    The devkit scores PDM-Closed in the traffic that reacted to the plan, so a plan that obstructs
    the traffic can also lower the progress it is measured against.
    """
    closed = prepared.reference("v2").simulated.states
    pairs, masked = [], np.empty(len(states))
    for k, ego in enumerate(states):
        traffic = simulated_traffic(prepared.scene, policy, ego, prepared.quirks)
        pair = prepared.look_at(np.concatenate([closed, ego[None]]), traffic, "v2")
        masked[k] = masked_progress(pair, "v2")[0]
        pairs.append(pair)
    empty = prepared.look_at(states[:0], prepared.reference("v2").traffic, "v2")
    parts, comfort, areas = (
        np.concatenate([getattr(empty, name), *(getattr(pair, name)[1:] for pair in pairs)])
        for name in ("parts", "comfort", "areas")
    )
    return Simulated(parts, comfort, states, areas), masked


def pdm_closed_plan(prepared: PreparedScene, *, version: Version = "v1") -> np.ndarray:
    """(8, 3) ego-frame poses of PDM-Closed at 0.5 s steps."""
    stride = round(KEY_STEP_S / STEP_S)
    return to_ego(prepared.reference(version).poses[stride:POSES:stride], prepared.scene.ego)


def _checked(plans: np.ndarray, version: str, dt_s: float) -> np.ndarray:
    if version not in VERSIONS:
        raise ConfigError(
            "there is no such version of the score", expected=" or ".join(VERSIONS), found=version
        )
    plans = np.ascontiguousarray(plans, dtype=np.float64)
    if plans.ndim != 3 or plans.shape[1] < 1 or plans.shape[2] != 3:
        raise ConfigError(
            "plans have a wrong shape",
            expected="(K, n, 3): x, y, heading; n >= 1",
            found=plans.shape,
        )
    if not (np.isfinite(dt_s) and dt_s > 0):
        raise ConfigError(
            "the spacing of a plan must be positive", expected="seconds between poses", found=dt_s
        )
    not_finite = np.flatnonzero(~np.isfinite(plans).all(axis=(1, 2)))
    if len(not_finite):
        raise ConfigError(
            "a plan holds NaN or infinity",
            where=f"plans {not_finite[:5].tolist()} of {len(plans)}",
            do="drop or correct those plans; they are not scored as zero",
        )
    return plans
