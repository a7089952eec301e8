"""Plans per second of the PDM score on one core, against the devkit's."""

import time

import numpy as np

from benchmarks.reference_cases import Cases, read_scene
from ops.pdm.config import VERSIONS, Version
from ops.pdm.prepared import PreparedScene, prepare
from ops.pdm.score import score

# range of the devkit's seconds per plan on one core; v2 with the human filter
DEVKIT_S = {"v1": (0.075, 0.100), "v2": (0.130, 0.170)}
MANY = 4096


def print_speed(data: Cases, seconds: float = 1.0) -> None:
    """Print plans per second on one core: singly, by scene, and 4,096 plans of one scene."""
    # plans of one scene, spacing and length
    groups: dict[tuple[int, float, int], list[np.ndarray]] = {}
    for case, (index, dt_s) in enumerate(zip(data["case_scene"], data["case_dt"], strict=True)):
        poses = data[f"c{case:03d}/poses"]
        groups.setdefault((int(index), float(dt_s), len(poses)), []).append(poses)
    if not groups:
        return
    scenes = {index: prepare(read_scene(data, index)) for index, *_ in groups}
    busiest = max(groups, key=lambda key: scenes[key[0]].scene.agents.shape[1])
    poses = np.stack(groups[busiest])
    many = np.random.default_rng(0).normal(1.0, 0.1, (MANY, 1, 3)) * np.resize(
        poses, (MANY, *poses.shape[1:])
    )
    for version in VERSIONS:
        for prepared in scenes.values():
            prepared.reference(version)
        single = [
            (scenes[key[0]], plan[None], key[1]) for key, plans in groups.items() for plan in plans
        ]
        batches = [(scenes[key[0]], np.stack(plans), key[1]) for key, plans in groups.items()]
        large = [(scenes[busiest[0]], many, busiest[1])]
        rates = {
            "one plan at a time": _rate(single, version, seconds),
            "all plans of a scene": _rate(batches, version, seconds),
            f"{MANY:,} of a scene": _rate(large, version, seconds),
        }
        devkit_rate = 2 / sum(DEVKIT_S[version])
        for what, rate in rates.items():
            print(
                f"{version}: {what:21}{rate:8.0f} plans/s per core, "
                f"{rate / devkit_rate:6.0f} times the devkit"
            )
        start = time.process_time()
        for index in scenes:
            prepare(read_scene(data, index)).reference(version)
        preparing_ms = (time.process_time() - start) / len(scenes) * 1e3
        print(
            f"{version}: {MANY:,} plans of a scene take {MANY / rate:.2f} s; "
            f"preparing a scene {preparing_ms:.1f} ms"
        )


def _rate(
    jobs: list[tuple[PreparedScene, np.ndarray, float]], version: Version, seconds: float
) -> float:
    """Plans per second of CPU time over the jobs, repeated for at least `seconds`."""
    done, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        for prepared, plans, dt_s in jobs:
            score(prepared, plans, version=version, dt_s=dt_s)
            done += len(plans)
    return done / (time.process_time() - start)
