"""Statistics of the ablation over several seeds: means of the planners, and paired differences.

An interval is a crossed bootstrap over seeds and whole logs (crossed_intervals of
ops/evaluation/intervals.py), so it covers seed variance and the sampling of logs; with one seed it
covers the sampling of logs alone. A difference is taken on the same scene with the same seed. `std`
is the standard deviation of the seeds' means on the same scenes. Legend: N scenes, P planners, S
seeds, D pairs.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from ops.evaluation.config import IntervalConfig
from ops.evaluation.intervals import Interval, crossed_intervals
from ops.evaluation.summarize import ScoreCube, score_cube
from storage.output_file import write_output

MEASURES = {"pdms": "PDMS", "ade_m": "ADE, m"}
SUBSETS = {"all": "all scenes", "rare": "event scenes"}

_STATISTICS = [
    pa.field("low", pa.float64(), False),  # bounds of the interval over seeds and logs
    pa.field("high", pa.float64(), False),
    pa.field("std", pa.float64(), True),  # of the seeds' means; null for one seed
    pa.field("seeds", pa.int32(), False),
    pa.field("n_scored", pa.int32(), False),  # scenes with a value for every seed
    pa.field("logs", pa.int32(), False),  # logs of these scenes
]
PLANNERS = pa.schema(
    [
        pa.field("planner", pa.string(), False),
        pa.field("subset", pa.string(), False),  # all | rare: scenes with an event
        pa.field("measure", pa.string(), False),  # pdms in 0 ... 1, ade_m in metres
        pa.field("mean", pa.float64(), False),  # over scenes and seeds
        *_STATISTICS,
    ]
)
DIFFERENCES = pa.schema(
    [
        pa.field("planner", pa.string(), False),
        pa.field("control", pa.string(), False),
        pa.field("subset", pa.string(), False),
        pa.field("measure", pa.string(), False),
        pa.field("mean", pa.float64(), False),  # planner minus control
        *_STATISTICS,
    ]
)


@dataclass(frozen=True, slots=True)
class SeedCube:
    """Scores arranged by scene, planner and seed."""

    planners: tuple[str, ...]
    seeds: tuple[int, ...]
    log_id: np.ndarray  # (N,) object
    subsets: dict[str, np.ndarray]  # name -> (N,) bool
    # measure -> (N, P, S) float64, NaN where there is no score; (N, P, T, S) over T teachers too
    values: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class AblationTables:
    """Tables of an ablation."""

    planners: pa.Table  # PLANNERS
    differences: pa.Table  # DIFFERENCES
    markdown: str


def seed_cube(scores: Mapping[int, Sequence[pa.Table]], planners: Sequence[str]) -> SeedCube:
    """Arrange scores tables {seed: tables} (storage.metrics_table.SCORES) of the same scenes; each
    planner is in one table of each seed.
    """
    cubes = {seed: [score_cube(table) for table in tables] for seed, tables in scores.items()}
    first = next(iter(cubes.values()))[0]
    for cube in (cube for seed_cubes in cubes.values() for cube in seed_cubes):
        assert np.array_equal(cube.log_id, first.log_id) and np.array_equal(
            cube.frame_index, first.frame_index
        )
    values = {
        measure: np.stack(
            [
                np.stack([_values(seed_cubes, planner, measure) for planner in planners], axis=1)
                for seed_cubes in cubes.values()
            ],
            axis=2,
        )
        for measure in MEASURES
    }
    return SeedCube(
        tuple(planners),
        tuple(cubes),
        first.log_id,
        {name: first.subsets[name] for name in SUBSETS},
        values,
    )


def planners_table(cube: SeedCube, config: IntervalConfig) -> pa.Table:
    """Mean over scenes and seeds of every planner with its interval, and the standard deviation
    over seeds (PLANNERS).
    """
    rows: list[dict[str, Any]] = []
    for measure, values_NPS in cube.values.items():
        for subset, member_N in cube.subsets.items():
            rows += [
                {
                    "planner": cube.planners[at],
                    "subset": subset,
                    "measure": measure,
                    **statistics,
                }
                for at, statistics in _statistics(values_NPS, member_N, cube.log_id, config)
            ]
    return pa.Table.from_pylist(rows, PLANNERS)


def differences_table(
    cube: SeedCube, pairs: Sequence[tuple[str, str]], config: IntervalConfig
) -> pa.Table:
    """Planner minus control on the same scene with the same seed (DIFFERENCES). Pairs with a
    planner that is not in the cube have no row.
    """
    pairs = [pair for pair in pairs if set(pair) <= set(cube.planners)]
    rows: list[dict[str, Any]] = []
    first, second = ([cube.planners.index(pair[side]) for pair in pairs] for side in (0, 1))
    for measure, values_NPS in cube.values.items() if pairs else ():
        difference_NDS = values_NPS[:, first] - values_NPS[:, second]
        for subset, member_N in cube.subsets.items():
            rows += [
                {
                    "planner": pairs[at][0],
                    "control": pairs[at][1],
                    "subset": subset,
                    "measure": measure,
                    **statistics,
                }
                for at, statistics in _statistics(difference_NDS, member_N, cube.log_id, config)
            ]
    return pa.Table.from_pylist(rows, DIFFERENCES)


def tables_of(
    cube: SeedCube,
    pairs: Sequence[tuple[str, str]],
    descriptions: Mapping[str, str],
    config: IntervalConfig,
) -> AblationTables:
    """Both tables of a cube and their Markdown, with a description of each planner."""
    planners = planners_table(cube, config)
    differences = differences_table(cube, pairs, config)
    return AblationTables(
        planners, differences, _markdown(cube, planners, differences, descriptions, config)
    )


def write_tables(folder: Path, tables: AblationTables, name: str = "ablation.md") -> None:
    """Write planners and differences as Parquet and CSV, and both as the Markdown file `name`."""
    for stem, table in (("planners", tables.planners), ("differences", tables.differences)):
        with write_output(folder / f"{stem}.parquet") as file:
            pq.write_table(table, file, compression="zstd")
        with write_output(folder / f"{stem}.csv") as file:
            pcsv.write_csv(table, os.fspath(file))
    with write_output(folder / name) as file:
        file.write_text(tables.markdown + "\n", encoding="utf-8")


def interval_source(seeds: Sequence[int]) -> str:
    """What an interval over these seeds covers, for captions."""
    if len(seeds) > 1:
        return "seeds and logs, drawn independently: it covers seed variance and the choice of logs"
    return "logs: with one seed it covers the choice of logs alone, not seed variance"


def _values(cubes: Sequence[ScoreCube], planner: str, measure: str) -> np.ndarray:
    """Values (N,) of one planner, from the table that has it; NaN where there is no score."""
    cube = next(cube for cube in cubes if planner in cube.planners)
    values, known = (both[:, cube.planners.index(planner)] for both in cube.measure(measure))
    return np.where(known, values, np.nan)


def _statistics(
    values_NMF: np.ndarray, member_N: np.ndarray, log_id: np.ndarray, config: IntervalConfig
) -> list[tuple[int, dict[str, float | int | None]]]:
    """Number and statistics of each of M columns that has a scene; a scene counts where it has a
    value for every seed.
    """
    seeds = tuple(range(2, values_NMF.ndim))
    known_NM = np.isfinite(values_NMF).all(axis=seeds) & member_N[:, None]
    means = crossed_intervals(values_NMF, known_NM, log_id, config)
    return [
        (at, _columns(item, values_NMF[known_NM[:, at], at]))
        for at, item in enumerate(means)
        if item is not None
    ]


def _columns(item: Interval, values_NF: np.ndarray) -> dict[str, float | int | None]:
    means_S = values_NF.mean(axis=tuple(range(values_NF.ndim - 1)))
    return {
        "mean": item.mean,
        "low": item.low,
        "high": item.high,
        "std": float(means_S.std(ddof=1)) if len(means_S) > 1 else None,
        "seeds": len(means_S),
        "n_scored": item.n,
        "logs": item.logs,
    }


def _markdown(
    cube: SeedCube,
    planners: pa.Table,
    differences: pa.Table,
    descriptions: Mapping[str, str],
    config: IntervalConfig,
) -> str:
    columns = [(subset, measure) for subset in SUBSETS for measure in MEASURES]
    heads = [f"{MEASURES[measure]}, {SUBSETS[subset]}" for subset, measure in columns]
    logs, events = len(np.unique(cube.log_id.astype(str))), int(cube.subsets["rare"].sum())
    lines = [
        f"{len(cube.log_id)} scenes of {logs} test logs, {events} of them with an event; seeds "
        f"{', '.join(map(str, cube.seeds))}. PDMS in %. In brackets the "
        f"{100 * config.confidence:g} % interval, bootstrapped over {interval_source(cube.seeds)}. "
        "Differences are paired by scene and seed. ± is the standard deviation over seeds on the "
        "same scenes.",
        "",
    ]
    means = {(row["planner"], row["subset"], row["measure"]): row for row in planners.to_pylist()}
    lines += grid(
        ["planner", *heads, "description"],
        [
            [name, *(cell(means.get((name, *column))) for column in columns), descriptions[name]]
            for name in cube.planners
        ],
    )
    rows = {
        (row["planner"], row["control"], row["subset"], row["measure"]): row
        for row in differences.to_pylist()
    }
    pairs = dict.fromkeys(key[:2] for key in rows)
    if pairs:
        lines += [
            "",
            *grid(
                ["difference", *heads],
                [
                    [" - ".join(pair), *(cell(rows.get((*pair, *column))) for column in columns)]
                    for pair in pairs
                ],
            ),
        ]
    return "\n".join(lines)


def cell(row: Mapping[str, Any] | None) -> str:
    """A mean with its interval and the deviation over seeds as text; "-" without a value."""
    if row is None:
        return "-"
    scale, digits = (100, 1) if row["measure"] == "pdms" else (1, 3)
    form = f"{'+' if 'control' in row else ''}.{digits}f"
    mean, low, high = (format(scale * row[name], form) for name in ("mean", "low", "high"))
    spread = "" if row["std"] is None else f" ± {scale * row['std']:.{digits}f}"
    return f"{mean} [{low}, {high}]{spread}"


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table with aligned columns."""
    widths = [max(len(line[at]) for line in (heads, *rows)) for at in range(len(heads))]
    lines = [
        "| "
        + " | ".join(word.ljust(width) for word, width in zip(line, widths, strict=True))
        + " |"
        for line in (heads, *rows)
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
