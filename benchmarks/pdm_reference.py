"""Compares this project's PDM score with a file of reference cases, and measures its speed.

    python -m benchmarks.pdm_reference CASES.npz

Every case is scored from its inputs alone (scene and poses); the outputs in the file are only
compared against. Exits with 1 if anything differs: a discrete value at all, a score, a state or a
progress by more than 1e-6, or a case that cannot be scored.
"""

import re
import sys

import numpy as np

from benchmarks.pdm_speed import print_speed
from benchmarks.reference_cases import Cases, cases_of, read_cases, read_scene
from ops.pdm.config import VERSIONS, Version
from ops.pdm.pipeline import KEY_FRAMES, Part
from ops.pdm.prepared import PreparedScene, prepare, sub_scores, total_score
from ops.pdm.rules.aggregate import second_stage_weights, two_stage_score
from ops.pdm.rules.areas import Area
from ops.pdm.rules.comfort import extended_comfort
from ops.pdm.rules.tracking import references, resampled
from ops.pdm.rules.vehicle import STEP_S, State
from ops.pdm.score import score
from ops.pdm.traffic.traffic import interpolated
from storage.errors import ConfigError, SourceError

TOLERANCE = 1e-6
_AREAS = [Area.MULTIPLE_LANES, Area.NON_DRIVABLE, Area.ONCOMING]
_POSE = [State.X, State.Y, State.YAW]
_SUBS = {
    "v1": ("nc", "dac", "ddc", "ep", "ttc", "comfort"),  # columns of the file's `sub`
    "v2": ("nc", "dac", "ddc", "tlc", "ep", "ttc", "lk", "comfort"),
}
_CANNOT = "cases that cannot be scored"
_DISCRETE = {"nc", "dac", "ddc", "tlc", "ttc", "lk", "comfort"}


class Tally:
    """Number of comparisons and differences, and the largest difference, by version and name."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[float]] = {}

    def add(
        self,
        version: str,
        name: str,
        ours: object,
        theirs: object,
        tolerance: float = TOLERANCE,
        yaw: bool = False,
    ) -> None:
        """Compare one value; NaN equals NaN, infinity equals infinity, other shapes differ.

        `yaw`: column State.YAW is an angle, for which -pi equals pi.
        """
        a, b = np.array(ours, dtype=np.float64), np.array(theirs, dtype=np.float64)
        worst = np.inf
        if a.shape == b.shape:
            if yaw:
                turns = np.rint((a[..., State.YAW] - b[..., State.YAW]) / (2 * np.pi))
                a[..., State.YAW] -= 2 * np.pi * turns
            with np.errstate(invalid="ignore"):
                apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
            worst = float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
        row = self.rows.setdefault((version, name), [0, 0, 0.0])
        row[0] += 1
        row[1] += worst > tolerance
        row[2] = max(row[2], worst)

    @property
    def differing(self) -> int:
        """Comparisons that differ."""
        return int(sum(row[1] for row in self.rows.values()))

    def print(self) -> None:
        """Print one line per version and name."""
        print(f"{'version':8}{'value':34}{'compared':>9}{'differ':>8}{'largest difference':>20}")
        for (version, name), (cases, differ, worst) in self.rows.items():
            print(f"{version:8}{name:34}{int(cases):9d}{int(differ):8d}{worst:20.3g}")


def compare_scene(
    tally: Tally, data: Cases, index: int, prepared: PreparedScene, version: Version
) -> None:
    """Compare PDM-Closed and the tracks of one scene."""
    key = f"s{index:02d}/{version}"
    closed = prepared.reference(version)
    tally.add(
        version, "PDM-Closed poses", closed.poses, data[f"{key}/pdm_states"][:, _POSE], yaw=True
    )
    tally.add(
        version,
        "PDM-Closed proposal scores",
        closed.proposal_scores,
        data[f"{key}/pdm_proposal_scores"],
    )
    tally.add(
        version,
        "PDM-Closed choice",
        closed.proposal_scores.argmax(),
        data[f"{key}/pdm_argmax"],
        0.0,
    )
    present, pose, _ = interpolated(prepared.scene.agents[: KEY_FRAMES[version]])
    theirs = data[f"{key}/agents_10hz"]
    tally.add(version, "tracks present at 10 Hz", present, theirs[..., 0], 0.0)
    in_both = present[..., None] & (theirs[..., :1] > 0)
    theirs = np.where(in_both, theirs[..., 1:], 0.0)
    tally.add(version, "tracks' poses at 10 Hz", np.where(in_both, pose, 0.0), theirs, yaw=True)


def compare_case(
    tally: Tally, data: Cases, case: int, prepared: PreparedScene, dt_s: float, version: Version
) -> None:
    """Compare everything that the file holds of one case in one version."""
    key, poses = f"c{case:03d}/{version}", data[f"c{case:03d}/poses"][None]
    plain = score(prepared, poses, version=version, dt_s=dt_s, human_penalty_filter=False)
    theirs = data[f"{key}/sub"]
    for column, name in enumerate(_SUBS[version]):
        tolerance = 0.0 if name in _DISCRETE else TOLERANCE
        tally.add(version, name, getattr(plain, name)[0], theirs[column], tolerance)
    tally.add(version, "score", plain.score[0], theirs[len(_SUBS[version])])
    closed = prepared.reference(version)
    simulated = closed.simulated
    scene, parts = prepared.scene, simulated.parts[0]
    ours = [
        resampled(closed.poses[None], scene.time_us)[0],
        references(poses, scene.ego[:3], scene.time_us, dt_s)[0],
    ]
    tally.add(version, "reference poses", ours, data[f"{key}/traj_states"][..., _POSE], yaw=True)
    tally.add(
        version,
        "simulated states",
        [simulated.states[0], plain.states[0]],
        data[f"{key}/sim_states"],
        yaw=True,
    )
    areas = [simulated.areas[0][:, _AREAS], plain.areas[0][:, _AREAS]]
    tally.add(version, "ego areas", areas, data[f"{key}/ego_areas"], 0.0)
    tally.add(
        version,
        "raw progress",
        [parts[Part.PROGRESS_M], plain.progress_m[0]],
        data[f"{key}/progress_raw"],
    )
    first = [parts[Part.COLLISION_STEP], _steps(plain.collision_time_s[0])]
    tally.add(version, "collision index", first, data[f"{key}/collision_idx"], 0.0)
    first = [parts[Part.TTC_STEP], _steps(plain.ttc_time_s[0])]
    tally.add(version, "ttc index", first, data[f"{key}/ttc_idx"], 0.0)
    tally.add(
        version,
        "comfort bounds",
        [simulated.comfort[0], plain.comfort_parts[0]],
        data[f"{key}/comfort6"],
        0.0,
    )
    if version == "v2":
        _compare_v2(tally, data, key, prepared, poses, dt_s)


def _compare_v2(
    tally: Tally, data: Cases, key: str, prepared: PreparedScene, poses: np.ndarray, dt_s: float
) -> None:
    closed = prepared.reference("v2")
    filtered = score(prepared, poses, version="v2", dt_s=dt_s)
    subs = filtered.sub_scores
    closed_m = float(closed.simulated.parts[0, Part.PROGRESS_M])
    best_m = max(
        closed.masked_m, float(filtered.progress_m[0]) * _multiplier(prepared, poses, dt_s)
    )
    ep = np.clip(closed_m / best_m, 0.0, 1.0) if best_m > 5.0 else 1.0
    closed_subs = sub_scores(closed.simulated.parts, np.array([ep]))[0]
    tally.add("v2", "PDM-Closed sub-scores", closed_subs, data[f"{key}/pdm_self_sub"])
    tally.add("v2", "sub-scores after human filter", subs[0], data[f"{key}/sub_filtered"])
    totals = [total_score(subs, "v2", np.array([ec]))[0] for ec in (np.nan, 0.0, 1.0)]
    tally.add("v2", "EPDMS with EC none, 0, 1", totals, data[f"{key}/epdms_ec_nan_0_1"])
    tally.add("v2", "history states", prepared.history, data[f"{key}/history_states"], yaw=True)


def _multiplier(prepared: PreparedScene, poses: np.ndarray, dt_s: float) -> float:
    """Product of the multiplicative sub-scores."""
    plain = score(prepared, poses, version="v2", dt_s=dt_s, human_penalty_filter=False)
    return float((plain.nc * plain.dac * plain.ddc * plain.tlc)[0])


def _steps(time_s: float) -> float:
    return float(np.rint(time_s / STEP_S)) if np.isfinite(time_s) else np.inf


def compare_pairs(tally: Tally, data: Cases, index: int, prepared: PreparedScene) -> None:
    """Compare the two-frame comfort of pairs of plans of one scene, planned 0.5 s apart."""
    for before, now, passed, *rms in data.get(f"s{index:02d}/v2/ec_pairs", ()):
        states = [
            score(
                prepared,
                data[f"c{int(case):03d}/poses"][None],
                version="v2",
                dt_s=float(data["case_dt"][int(case)]),
            ).states[0]
            for case in (now, before)
        ]
        ours, ours_rms = extended_comfort(states[0], states[1], 0.5)
        tally.add("v2", "ec", ours, passed, 0.0)
        tally.add("v2", "ec RMS differences", ours_rms, rms)


def compare_stages(tally: Tally, data: Cases) -> None:
    """Compare the two-stage aggregation."""
    for key in sorted(
        name.removesuffix("/scores") for name in data if re.fullmatch(r"agg\d+/scores", name)
    ):
        ends, scores = data[f"{key}/endpoints"], data[f"{key}/scores"]
        weights = [
            second_stage_weights(end, data[f"{key}/{name}"])
            for end, name in zip(ends, ("starts_now", "starts_prev"), strict=True)
        ]
        tally.add(
            "v2",
            "second-stage weights",
            np.concatenate(weights),
            np.concatenate([data[f"{key}/weights_now"], data[f"{key}/weights_prev"]]),
        )
        second = np.split(scores[2:], [len(weights[0])])
        combined = two_stage_score(
            scores[0], scores[1], second[0], second[1], weights[0], weights[1]
        )
        tally.add("v2", "two-stage scores", combined, data[f"{key}/combined_stage1_stage2"])


def prepared_scenes(tally: Tally, data: Cases) -> dict[int, PreparedScene]:
    """Every scene that can be scored; others are printed and count as a difference."""
    scenes = {}
    for index in range(int(data["n_scenes"])):
        try:
            scenes[index] = prepare(read_scene(data, index))
        except SourceError as error:
            print(f"scene {index}: {error}")
            tally.add("both", "scenes that cannot be scored", np.nan, 0.0)
    return scenes


def compare(data: Cases) -> Tally:
    """All comparisons of this project's score with the outputs of reference cases."""
    tally = Tally()
    scenes = prepared_scenes(tally, data)
    for version in VERSIONS:
        for index, prepared in scenes.items():
            compare_scene(tally, data, index, prepared, version)
        for case, (index, dt_s) in enumerate(zip(data["case_scene"], data["case_dt"], strict=True)):
            if int(index) not in scenes:
                tally.add(version, _CANNOT, np.nan, 0.0)
                continue
            try:
                compare_case(tally, data, case, scenes[int(index)], float(dt_s), version)
            except ConfigError as error:
                print(f"case {case}: {error}")
                tally.add(version, _CANNOT, np.nan, 0.0)
    for index, prepared in scenes.items():
        compare_pairs(tally, data, index, prepared)
    compare_stages(tally, data)
    return tally


def main(arguments: list[str]) -> int:
    """Print the comparisons of a file; returns 1 if any differ, 2 for an invalid file."""
    file = cases_of(arguments, __doc__, required=True)
    assert file is not None
    try:
        data = read_cases(file)
    except ConfigError as error:
        print(f"error: {error}")
        return 2
    try:
        tally = compare(data)
    except KeyError as error:
        print(f"error: the file lacks the array {error} of the layout of reference cases")
        return 2
    tally.print()
    if not any(name.endswith("cannot be scored") for _, name in tally.rows):
        print_speed(data)
    print(f"{tally.differing} comparisons differ" if tally.differing else "nothing differs")
    return 1 if tally.differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
