"""The parts of a scene that no plan changes: indexed map, traffic at 10 Hz, PDM-Closed, the human
log.
"""

from dataclasses import dataclass, field

import numpy as np

from ops.pdm.config import Version
from ops.pdm.pipeline import KEY_FRAMES, Part, Simulated, examine, product_of
from ops.pdm.rules.aggregate import epdms, pdms, progress_v1, progress_v2
from ops.pdm.rules.map_index import DRIVABLE, INTERSECTION, LANE, ON_ROUTE, Polygons, index_polygons
from ops.pdm.rules.progress import Line, make_line
from ops.pdm.rules.quirks import DEVKIT, Quirks
from ops.pdm.rules.tracking import references, resampled, track
from ops.pdm.rules.vehicle import KEY_STEP_S, POSES, STATE_SIZE, STEP_S
from ops.pdm.scene.scene import Scene, check_scene
from ops.pdm.traffic.pdm_closed import PdmClosedProposals
from ops.pdm.traffic.policies import TrafficPolicy, simulated_traffic
from ops.pdm.traffic.traffic import Traffic, logged_traffic
from storage.trajectory_table import MapLayer

_NO_HISTORY = np.zeros((0, STATE_SIZE))
SUB_SCORES = ("nc", "dac", "ddc", "tlc", "ep", "ttc", "lk", "comfort")  # columns of `sub_scores`


@dataclass(frozen=True, slots=True)
class Reference:
    """PDM-Closed at one scene in one version; in v2 also the human log, for the human filter."""

    traffic: Traffic  # logged, as the version replays it
    poses: np.ndarray  # (51, 3) world poses of PDM-Closed over 5 s
    proposal_scores: np.ndarray  # (15,) of its proposals; the first highest was chosen
    simulated: Simulated  # its own results (K = 1)
    masked_m: float  # its raw progress times its product
    human: np.ndarray  # (8,) sub-scores of the human log, SUB_SCORES columns


@dataclass(slots=True, eq=False)
class PreparedScene:
    """A scene ready for scoring plans; the reference of a version is computed at its first use."""

    scene: Scene
    polygons: Polygons
    line: Line
    start: np.ndarray  # (11,) state now; steering and yaw rates are 0
    history: np.ndarray  # (h, 11) human states at 0.1 s before now
    quirks: Quirks = DEVKIT
    _proposals: PdmClosedProposals | None = None
    _references: dict[Version, Reference] = field(default_factory=dict)

    @property
    def proposals(self) -> PdmClosedProposals:
        """The proposals of PDM-Closed, the same in both versions."""
        if self._proposals is None:
            self._proposals = PdmClosedProposals(self.scene, self.quirks)
        return self._proposals

    def reference(self, version: Version) -> Reference:
        """PDM-Closed, the human and the traffic of a version."""
        if version not in self._references:
            self._references[version] = _make_reference(self, version)
        return self._references[version]

    def states_of(self, plans: np.ndarray, dt_s: float) -> np.ndarray:
        """States (K, 41, 11) of the car that tracks ego-frame plans (K, n, 3)."""
        return self.track(references(plans, self.scene.ego[:3], self.scene.time_us, dt_s))

    def track(self, poses: np.ndarray) -> np.ndarray:
        """States (K, 41, 11) of the car that tracks world poses (K, 41, 3) at 0.1 s."""
        return track(poses, self.start, self.quirks)

    def look_at(
        self, states: np.ndarray, traffic: Traffic, version: Version, *, with_history: bool = True
    ) -> Simulated:
        """Raw results of simulated states (K, 41, 11)."""
        history = self.history if with_history else _NO_HISTORY
        return examine(states, history, self.polygons, self.line, traffic, version, self.quirks)


def prepare(scene: Scene, quirks: Quirks = DEVKIT) -> PreparedScene:
    """Index the map and the centreline of a scene. Raises SourceError, naming log and frame, if it
    cannot be scored.

    With other `quirks` than the devkit's, the scores are neither PDMS nor EPDMS.
    """
    check_scene(scene)
    start = np.zeros(STATE_SIZE)
    start[:7] = scene.ego
    return PreparedScene(
        scene,
        index_polygons(scene.map_xy, scene.map_start, _polygon_kinds(scene)),
        make_line(scene.centerline[:, :2]),
        start,
        _history(scene, quirks),
        quirks,
    )


def sub_scores(parts: np.ndarray, ep: np.ndarray) -> np.ndarray:
    """(K, 8) SUB_SCORES columns from raw results and the progress score."""
    columns = [
        parts[:, Part.NC],
        parts[:, Part.DAC],
        parts[:, Part.DDC],
        parts[:, Part.TLC],
        ep,
        parts[:, Part.TTC],
        parts[:, Part.LK],
        parts[:, Part.COMFORT],
    ]
    return np.stack(columns, axis=1)


def total_score(subs: np.ndarray, version: Version, ec: np.ndarray | None = None) -> np.ndarray:
    """(K,) PDMS or EPDMS from SUB_SCORES columns; `ec` is v2's two-frame comfort, NaN without an
    earlier frame.
    """
    nc, dac, ddc, tlc, ep, ttc, lk, comfort = subs.T
    return (
        pdms(nc, dac, ttc, ep, comfort)
        if version == "v1"
        else epdms(nc * dac * ddc * tlc, ep, ttc, lk, comfort, ec)
    )


def progress_score(parts: np.ndarray, best_m: np.ndarray, version: Version) -> np.ndarray:
    """(K,) EP against the best masked progress (K,) in m: the higher one of plan and PDM-Closed."""
    raw = parts[:, Part.PROGRESS_M]
    return (
        progress_v1(raw, product_of(parts, version), best_m)
        if version == "v1"
        else progress_v2(raw, best_m)
    )


def masked_progress(result: Simulated, version: Version) -> np.ndarray:
    """(K,) raw progress times the product of the multiplicative sub-scores."""
    return result.parts[:, Part.PROGRESS_M] * product_of(result.parts, version)


def human_sub_scores(prepared: PreparedScene, policy: TrafficPolicy, logged: Traffic) -> np.ndarray:
    """(8,) sub-scores of the human log in v2. It is scored alone: its progress is measured against
    itself.
    """
    states = prepared.states_of(prepared.scene.human[None], KEY_STEP_S)
    traffic = logged
    if policy != "log_replay":
        traffic = simulated_traffic(prepared.scene, policy, states[0], prepared.quirks)
    result = prepared.look_at(states, traffic, "v2", with_history=False)
    result.parts[:, Part.COMFORT] = 1.0  # v2 does not score comfort without a history
    return sub_scores(
        result.parts, progress_score(result.parts, masked_progress(result, "v2"), "v2")
    )[0]


def _make_reference(prepared: PreparedScene, version: Version) -> Reference:
    scene, proposals, is_v2 = prepared.scene, prepared.proposals, version == "v2"
    states = prepared.track(proposals.poses[:, :POSES])
    result = prepared.look_at(states, proposals.traffic, version, with_history=False)
    if is_v2:
        result.parts[:, Part.COMFORT] = 1.0
    best = np.full(len(states), masked_progress(result, version).max())
    scores = total_score(
        sub_scores(result.parts, progress_score(result.parts, best, version)), version
    )
    poses = proposals.finish(int(scores.argmax())).copy()
    quirks = prepared.quirks
    key_frames = KEY_FRAMES[version if quirks.ttc_until_traffic_ends else "v1"]
    traffic = logged_traffic(scene, key_frames, drop_overlapping=is_v2, lights=is_v2, quirks=quirks)
    tracked = prepared.track(resampled(poses[None], scene.time_us))
    simulated = prepared.look_at(tracked, traffic, version)
    masked_m = float(masked_progress(simulated, version)[0])
    human = human_sub_scores(prepared, "log_replay", traffic) if is_v2 else np.ones(len(SUB_SCORES))
    return Reference(traffic, poses, scores, simulated, masked_m, human)


def _polygon_kinds(scene: Scene) -> np.ndarray:
    """(M,) bits of map_index for the polygons of a scene."""
    layer = scene.map_layer
    lane = (layer == MapLayer.LANE) | (layer == MapLayer.LANE_CONNECTOR)
    drivable = np.isin(layer, (MapLayer.ROADBLOCK, MapLayer.INTERSECTION, MapLayer.CARPARK_AREA))
    on_route = lane & np.isin(scene.map_token, scene.route_lane_token)
    return (
        LANE * lane
        + DRIVABLE * drivable
        + ON_ROUTE * on_route
        + INTERSECTION * (layer == MapLayer.INTERSECTION)
    ).astype(np.uint8)


def _history(scene: Scene, quirks: Quirks) -> np.ndarray:
    """(h, 11) human states at 0.1 s before now: h = 14 if the logged span is at most 1.5 s, 15 if
    it is longer.

    The devkit samples [start, now) and drops the last sample, so with 14 samples a gap of 0.2 s
    remains before now. Steering and yaw rates are 0.
    """
    time = scene.past_time_us
    query = np.arange(time[0], time[-1], round(STEP_S * 1e6))
    query = query[:-1] if quirks.history_ends_early else query
    states = np.zeros((len(query), STATE_SIZE))
    past = scene.past.copy()
    past[:, 2] = np.unwrap(past[:, 2])
    for column in range(past.shape[1]):
        states[:, column] = np.interp(query, time, past[:, column])
    states[:, 2] = (states[:, 2] + np.pi) % (2 * np.pi) - np.pi
    return states
