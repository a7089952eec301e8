"""Time of the PDM score by stage, and a lower bound of it.

    python -m benchmarks.pdm_profile [CASES.npz]

Stages are the compiled functions of ops/pdm, each in a loop of its own over the plans; areas are
the difference to a call without map. The lower bound holds what a plan needs with any index:
interpolation, tracking, its boxes, its motion. One core. Other engines: pdm_engines.py.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.reference_cases import cases_of, read_cases, read_scene
from ops.pdm.config import Version
from ops.pdm.pipeline import examine
from ops.pdm.prepared import PreparedScene, prepare
from ops.pdm.rules.areas import swept_bounds
from ops.pdm.rules.collisions import (
    LOOK_AHEAD_STEPS,
    no_at_fault_collision,
    runs_red_light,
    time_to_collision,
    tracks_near,
)
from ops.pdm.rules.comfort import comfort_bounds, filters
from ops.pdm.rules.engine import kernel
from ops.pdm.rules.geometry import fill_ego_boxes
from ops.pdm.rules.map_index import index_polygons
from ops.pdm.rules.progress import keeps_lane, raw_progress
from ops.pdm.rules.tracking import references
from ops.pdm.rules.vehicle import POSES
from ops.pdm.score import score
from tests.worlds.tiny_pdm import Road, Track, road_scene

PLANS = 256
LOWER_BOUND = (
    "10 Hz references",
    "tracker and bicycle",
    "boxes",
    "progress, lane keeping",
    "comfort",
)


def seconds(
    works: dict[str, Callable[[], object]], at_least_s: float = 0.2, rounds: int = 6
) -> dict[str, float]:
    """CPU seconds per call of each of `works`, which take turns for `rounds` rounds.

    CPU time excludes other work on the machine, but its clock may tick only every few milliseconds,
    so each turn takes `at_least_s`.
    """
    spent, calls = dict.fromkeys(works, 0.0), dict.fromkeys(works, 0)
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            start = now = time.process_time()
            while now - start < at_least_s:
                work()
                calls[name] += 1
                now = time.process_time()
            spent[name] += now - start
    return {name: spent[name] / calls[name] for name in works}


def random_plans(count: int) -> np.ndarray:
    """(K, 8, 3) random plans with speeds up to 14 m/s, straight and curved."""
    rng = np.random.default_rng(0)
    along = rng.uniform(0.0, 14.0, (count, 1)) * 0.5 * np.arange(1, 9)
    bend = rng.normal(0.0, 0.01, (count, 1))
    return np.stack([along, 0.5 * bend * along**2, bend * along], axis=-1)


def crowded_road(tracks: int = 60) -> PreparedScene:
    """The road of the tests with many tracks around the ego."""
    rng = np.random.default_rng(1)
    agents = tuple(
        Track(float(x), float(y), speed_mps=float(v))
        for x, y, v in zip(
            rng.uniform(-30.0, 90.0, tracks),
            rng.choice([3.5, 7.0, -6.0, 10.0], tracks),
            rng.uniform(0.0, 9.0, tracks),
            strict=True,
        )
    )
    return prepare(
        road_scene(Road(agents=agents, intersection_x=(40.0, 60.0), light_x=(42.0, 58.0)))
    )


def profile_scenes(cases: Path | None) -> dict[str, PreparedScene]:
    """The crowded road, and the reference scene with the most tracks if a file is given."""
    scenes = {"road with 60 tracks": crowded_road()}
    if cases is not None:
        data = read_cases(cases)
        busiest = max(
            range(int(data["n_scenes"])),
            key=lambda index: data[f"s{index:02d}/agents_key"].shape[1],
        )
        scenes[f"reference scene {busiest}"] = prepare(read_scene(data, busiest))
    return scenes


@kernel
def _boxes(states, corners, facing):
    for k in range(states.shape[0]):
        fill_ego_boxes(states[k], corners[k], facing[k])


@kernel
def _other_road_users(states, corners, facing, areas, traffic, ttc_states):
    total, tracks = 0.0, np.empty(len(traffic.radius), dtype=np.int64)
    for k in range(states.shape[0]):
        bounds = swept_bounds(corners[k])
        near = tracks[: tracks_near(states[k], bounds, traffic, tracks)]
        total += no_at_fault_collision(states[k], corners[k], facing[k], areas[k], traffic, near)[0]
        total += time_to_collision(
            states[k], corners[k], facing[k], areas[k], traffic, near, ttc_states
        )[0]
        total += runs_red_light(corners[k], bounds, traffic)
    return total


@kernel
def _progress(corners, areas, line, is_v2):
    total = 0.0
    for k in range(corners.shape[0]):
        total += raw_progress(corners[k], line)
        total += is_v2 and keeps_lane(corners[k], areas[k], line, True)
    return total


@kernel
def _comfort(padded, filters_, is_v2):
    work, out = np.empty((3, padded.shape[1])), np.empty((padded.shape[0], 6), dtype=np.bool_)
    for k in range(padded.shape[0]):
        comfort_bounds(padded[k], filters_, is_v2, work, out[k])
    return out


def stage_times(prepared: PreparedScene, version: Version) -> dict[str, float]:
    """Seconds a plan of each stage, and of the whole call of `score` under "all"."""
    plans, scene, is_v2 = random_plans(PLANS), prepared.scene, version == "v2"
    traffic, polygons, line = prepared.reference(version).traffic, prepared.polygons, prepared.line
    states, world = (
        prepared.states_of(plans, 0.5),
        references(plans, scene.ego[:3], scene.time_us, 0.5),
    )
    corners, facing = np.empty((PLANS, POSES, 5, 2)), np.empty((PLANS, POSES, 2))
    no_polygons = index_polygons(np.zeros((0, 2)), np.zeros(1, np.int64), np.zeros(0, np.uint8))
    areas = examine(states, prepared.history, polygons, line, traffic, version).areas
    history = prepared.history if is_v2 else prepared.history[:0]
    padded = np.concatenate([np.broadcast_to(history, (PLANS, *history.shape)), states], axis=1)
    kernels = filters(padded.shape[1], not is_v2)
    ttc_states = POSES - LOOK_AHEAD_STEPS[-1] if is_v2 else POSES
    _boxes(states, corners, facing)
    times = seconds(
        {
            "10 Hz references": lambda: references(plans, scene.ego[:3], scene.time_us, 0.5),
            "tracker and bicycle": lambda: prepared.track(world),
            "boxes": lambda: _boxes(states, corners, facing),
            "areas": lambda: examine(states, prepared.history, polygons, line, traffic, version),
            "no areas": lambda: examine(
                states, prepared.history, no_polygons, line, traffic, version
            ),
            "collisions, TTC, lights": lambda: _other_road_users(
                states, corners, facing, areas, traffic, ttc_states
            ),
            "progress, lane keeping": lambda: _progress(corners, areas, line, is_v2),
            "comfort": lambda: _comfort(padded, kernels, is_v2),
            "all": lambda: score(prepared, plans, version=version),
        }
    )
    times["areas"] -= times.pop("no areas")
    return {name: part / PLANS for name, part in times.items()}


def print_stages(prepared: PreparedScene, version: Version) -> None:
    """One line per stage: microseconds a plan and share of the whole; then the lower bound."""
    times = stage_times(prepared, version)
    times["other: numpy, copies"] = 2 * times["all"] - sum(times.values())
    for name, part in times.items():
        print(f"  {version} {name:26}{part * 1e6:8.1f} us a plan{100 * part / times['all']:6.0f} %")
    bound = sum(times[name] for name in LOWER_BOUND)
    print(
        f"  {version} lower bound {bound * 1e6:.1f} us: without the cost of map, other road users "
        f"and copies the score would be {times['all'] / bound:.1f} times as fast"
    )


def main(arguments: list[str]) -> int:
    """Print the tables; a file of reference cases adds its busiest scene. Returns 0."""
    for name, prepared in profile_scenes(cases_of(arguments, __doc__)).items():
        print(name)
        for version in ("v1", "v2"):
            print_stages(prepared, version)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
