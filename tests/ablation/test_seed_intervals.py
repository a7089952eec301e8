"""Intervals over seeds and logs: their width against the variance that made the scores."""

import numpy as np
import pytest

from ops.ablation.table import SUBSETS, SeedCube, planners_table
from ops.evaluation.config import IntervalConfig
from ops.evaluation.intervals import crossed_intervals, intervals

CONFIG = IntervalConfig(resamples=400)
SCENES = 3  # of a log


def random_scores(
    generator: np.random.Generator, seeds: int, logs: int, columns: int, variances: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Values (N, M, S) with a variance of the seeds, of the logs and of each seed on each log; and
    the log of each scene.
    """
    of_seed, of_log, of_cell = np.sqrt(variances)
    values_LMS = (
        of_seed * generator.normal(size=(1, columns, seeds))
        + of_log * generator.normal(size=(logs, columns, 1))
        + of_cell * generator.normal(size=(logs, columns, seeds))
    )
    log_id = np.array([f"log{log}" for log in range(logs)], dtype=object)
    return np.repeat(values_LMS, SCENES, axis=0), np.repeat(log_id, SCENES)


def half_width(items: list) -> float:
    """Root mean square of the half widths."""
    return float(np.sqrt(np.mean([((item.high - item.low) / 2) ** 2 for item in items])))


@pytest.mark.parametrize(
    ("seeds", "logs", "variances"),
    [
        (5, 32, (4.3, 0.0, 61.0)),  # as measured for student minus control, in PDMS
        (12, 128, (4.3, 0.0, 61.0)),
        (12, 32, (6.0, 10.0, 10.0)),
        (5, 64, (6.0, 10.0, 0.0)),
    ],
)
def test_the_interval_has_the_width_of_seed_and_log_variance(seeds, logs, variances):
    values, log_id = random_scores(np.random.default_rng(0), seeds, logs, 200, variances)
    valid = np.ones(values.shape[:2], dtype=bool)
    of_seed, of_log, of_cell = variances
    expected = 1.96 * np.sqrt(of_seed / seeds + of_log / logs + of_cell / (seeds * logs))
    crossed = crossed_intervals(values, valid, log_id, CONFIG)
    assert half_width(crossed) == pytest.approx(expected, rel=0.2)
    over_logs_alone = intervals(values.mean(axis=2), valid, log_id, CONFIG)
    assert half_width(over_logs_alone) < 0.8 * expected


def test_with_two_axes_of_seeds_the_interval_has_the_variance_of_both():
    generator, teachers, students, logs = np.random.default_rng(2), 6, 9, 40
    values = (
        2.0 * generator.normal(size=(1, 200, teachers, 1))
        + 3.0 * generator.normal(size=(1, 200, 1, students))
        + 4.0 * generator.normal(size=(logs, 200, 1, 1))
    )
    log_id = np.array([f"log{log}" for log in range(logs)], dtype=object)
    items = crossed_intervals(values, np.ones((logs, 200), dtype=bool), log_id, CONFIG)
    expected = 1.96 * np.sqrt(4 / teachers + 9 / students + 16 / logs)
    assert half_width(items) == pytest.approx(expected, rel=0.2)
    assert items[0].mean == pytest.approx(values[:, 0].mean())


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    values, log_id = random_scores(np.random.default_rng(1), 5, 32, 400, (4.3, 0.0, 61.0))
    valid = np.ones(values.shape[:2], dtype=bool)
    crossed = crossed_intervals(values, valid, log_id, CONFIG)
    over_logs_alone = intervals(values.mean(axis=2), valid, log_id, CONFIG)
    coverage, of_logs_alone = (
        np.mean([item.low <= 0.0 <= item.high for item in items])
        for items in (crossed, over_logs_alone)
    )
    assert 0.92 <= coverage <= 0.98 and of_logs_alone < 0.75


def test_one_seed_gives_the_bootstrap_over_logs():
    values, log_id = random_scores(np.random.default_rng(2), 1, 16, 3, (4.0, 4.0, 4.0))
    valid = np.random.default_rng(3).random(values.shape[:2]) < 0.8
    one_seed = crossed_intervals(values, valid, log_id, CONFIG)
    assert one_seed == intervals(values[..., 0], valid, log_id, CONFIG)


def test_constant_scores_have_no_width_and_the_configured_seed_decides_the_draws():
    values, log_id = random_scores(np.random.default_rng(4), 5, 16, 1, (4.0, 4.0, 4.0))
    valid = np.ones(values.shape[:2], dtype=bool)
    (constant,) = crossed_intervals(np.full_like(values, 0.7), valid, log_id, CONFIG)
    assert constant.low == pytest.approx(0.7) and constant.high == pytest.approx(0.7)
    draws = [
        crossed_intervals(values, valid, log_id, IntervalConfig(resamples=400, seed=seed))
        for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_scenes_that_are_not_valid_do_not_count():
    values, log_id = random_scores(np.random.default_rng(5), 4, 8, 2, (1.0, 1.0, 1.0))
    valid = np.zeros(values.shape[:2], dtype=bool)
    valid[: 5 * SCENES, 0] = True
    values[5 * SCENES :] = np.nan
    first, second = crossed_intervals(values, valid, log_id, CONFIG)
    assert second is None and (first.n, first.logs) == (5 * SCENES, 5)
    assert first.mean == pytest.approx(values[: 5 * SCENES, 0].mean())
    assert first.low < first.mean < first.high


def test_the_table_of_planners_leaves_out_scenes_without_a_score_of_every_seed():
    values, log_id = random_scores(np.random.default_rng(6), 4, 8, 2, (1.0, 1.0, 1.0))
    values[0, 0, 2] = np.nan
    everywhere = np.ones(len(values), dtype=bool)
    cube = SeedCube(
        ("vla", "oracle"),
        (0, 1, 2, 3),
        log_id,
        dict.fromkeys(SUBSETS, everywhere),
        {"pdms": values},
    )
    table = planners_table(cube, CONFIG).to_pylist()
    assert [row["n_scored"] for row in table] == [len(values) - 1, len(values)] * 2
    assert table[0]["mean"] == pytest.approx(values[1:, 0].mean())
    assert all(row["low"] < row["mean"] < row["high"] for row in table)
