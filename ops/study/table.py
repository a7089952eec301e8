"""The tables of the study: means over scenes, teachers and students, and paired differences.

Intervals are crossed bootstraps over teachers, students and logs (ops/evaluation/intervals.py). An
arm without a teacher has the same students beside every teacher. Legend: N scenes, A arms, T
teachers, S student seeds.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from ops.ablation.table import (
    AblationTables,
    SeedCube,
    cell,
    differences_table,
    grid,
    planners_table,
)
from ops.evaluation.config import IntervalConfig
from ops.study.arms import ARMS, PAIRS, StudentKey
from ops.study.config import StudyConfig, StudySize
from ops.study.scores import read_scores


def study_tables(root: Path, config: StudyConfig) -> AblationTables:
    """The tables of a finished study, with their Markdown."""
    cube = study_cube(root, config)
    interval = config.evaluation.interval
    planners = planners_table(cube, interval)
    differences = differences_table(cube, PAIRS, interval)
    return AblationTables(
        planners, differences, _markdown(cube, planners, differences, config, interval)
    )


def study_cube(root: Path, config: StudyConfig) -> SeedCube:
    """The scores of all students, arranged by scene, arm, teacher and seed."""
    size = config.size
    tables = {
        (arm, teacher, seed): read_scores(
            root, config.split, StudentKey(arm, seed, teacher if ARMS[arm].taught else None)
        )
        for arm in ARMS
        for teacher in range(size.teachers)
        for seed in range(size.students)
    }
    first = next(iter(tables.values()))
    assert all(
        table["log_id"].equals(first["log_id"])
        and table["frame_index"].equals(first["frame_index"])
        for table in tables.values()
    )

    def values(column: str) -> np.ndarray:
        shape = (len(ARMS), size.teachers, size.students, len(first))
        flat = [table[column].to_numpy(zero_copy_only=False) for table in tables.values()]
        return np.moveaxis(np.stack(flat).astype(np.float64).reshape(shape), -1, 0)

    town = first["town"].to_numpy()
    return SeedCube(
        tuple(ARMS),
        tuple(range(size.students)),
        first["log_id"].to_numpy(zero_copy_only=False),
        {
            "all": np.ones(len(first), dtype=bool),
            "rare": first["event"].to_numpy(zero_copy_only=False),
            **{f"town {seed}": town == seed for seed in size.town_seeds},
        },
        {"pdms": values("pdms"), "ade_m": values("ade_m")},
    )


def _markdown(
    cube: SeedCube,
    planners: pa.Table,
    differences: pa.Table,
    config: StudyConfig,
    interval: IntervalConfig,
) -> str:
    size = config.size
    towns = [name for name in cube.subsets if name.startswith("town")]
    columns = [("all", "pdms"), ("rare", "pdms"), ("all", "ade_m")]
    heads = ["PDMS, all scenes", "PDMS, event scenes", "ADE, m"]
    lines = [
        f"{len(cube.log_id)} scenes of {len(np.unique(cube.log_id.astype(str)))} {config.split} "
        f"logs in {len(towns)} towns, {int(cube.subsets['rare'].sum())} of them with an event; "
        f"{size.teachers} teachers crossed with {size.students} students; {size.labelled_logs} "
        f"labelled logs, {size.unlabelled_logs} with video and odometry alone. PDMS in %. In "
        f"brackets the {100 * interval.confidence:g} % interval, bootstrapped over "
        f"{_interval_source(size)}. Differences are paired by scene, teacher and student. ± is the "
        "standard deviation over students on the same scenes.",
        "",
    ]
    means = {(row["planner"], row["subset"], row["measure"]): row for row in planners.to_pylist()}
    lines += grid(
        ["student", *heads, "learns from"],
        [
            [arm, *(cell(means.get((arm, *column))) for column in columns), ARMS[arm].description]
            for arm in cube.planners
        ],
    )
    rows = {
        (row["planner"], row["control"], row["subset"], row["measure"]): row
        for row in differences.to_pylist()
    }
    by_town = [*columns, *((town, "pdms") for town in towns)]
    lines += [
        "",
        *grid(
            ["difference", *heads, *(f"PDMS, {town}" for town in towns)],
            [
                [" - ".join(pair), *(cell(rows.get((*pair, *column))) for column in by_town)]
                for pair in PAIRS
            ],
        ),
    ]
    return "\n".join(lines)


def _interval_source(size: StudySize) -> str:
    """What the intervals cover, and what they cannot."""
    counts = {"teachers": size.teachers, "students": size.students}
    drawn = [name for name, count in counts.items() if count > 1]
    single = " and ".join(name for name, count in counts.items() if count == 1)
    source = f"{', '.join(drawn)} and logs" if drawn else "logs"
    note = f" (one seed of the {single}: how much they differ is not covered)" if single else ""
    return source + note
