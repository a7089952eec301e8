"""The formulas of the scores, with numbers that can be checked by hand."""

import numpy as np
import pytest

from ops.pdm.rules.aggregate import (
    epdms,
    human_filter,
    pdms,
    progress_v1,
    progress_v2,
    second_stage_weights,
    two_stage_score,
)

ONE, ZERO = np.ones(1), np.zeros(1)


def test_pdms_is_one_when_all_is_kept_and_zero_when_nothing_is() -> None:
    assert pdms(ONE, ONE, ONE, ONE, ONE)[0] == 1.0
    assert pdms(ZERO, ZERO, ZERO, ZERO, ZERO)[0] == 0.0


def test_pdms_weighs_progress_and_time_to_collision_five_and_comfort_two() -> None:
    assert pdms(ONE / 2, ONE, ZERO, 0.6 * ONE, ONE)[0] == pytest.approx(0.5 * (5 * 0.6 + 2) / 12)
    assert pdms(ONE, ZERO, ONE, ONE, ONE)[0] == 0.0


def test_epdms_leaves_the_weight_of_two_frame_comfort_out_where_there_is_no_earlier_frame() -> None:
    product, ep, ttc, lk, hc = ONE, 0.4 * ONE, ONE, ZERO, ONE
    without = (5 * 0.4 + 5 + 2) / 14
    assert epdms(product, ep, ttc, lk, hc)[0] == pytest.approx(without)
    product, ep, ttc, lk, hc = (np.repeat(part, 3) for part in (product, ep, ttc, lk, hc))
    three = epdms(product, ep, ttc, lk, hc, np.array([np.nan, 0.0, 1.0]))
    assert three == pytest.approx([without, (5 * 0.4 + 7) / 16, (5 * 0.4 + 9) / 16])


def test_progress_of_v1_is_masked_by_the_product_and_that_of_v2_is_not() -> None:
    raw, product, best = np.array([10.0, 20.0, 30.0]), np.array([1.0, 0.0, 0.5]), np.full(3, 20.0)
    assert progress_v1(raw, product, best) == pytest.approx([0.5, 0.0, 0.75])
    assert progress_v2(raw, best) == pytest.approx([0.5, 1.0, 1.0])


def test_five_metres_or_less_are_no_progress_to_measure_by() -> None:
    best = np.full(2, 5.0)
    assert progress_v1(np.array([1.0, 1.0]), np.array([1.0, 0.0]), best).tolist() == [1.0, 0.0]
    assert progress_v2(np.array([0.0, 5.0]), best).tolist() == [1.0, 1.0]


def test_the_human_filter_sets_zeros_to_one_and_nothing_else() -> None:
    plan, human = np.array([[0.0, 0.0, 0.0, 0.5]]), np.array([0.0, 0.5, 1.0, 0.0])
    assert human_filter(plan, human).tolist() == [[1.0, 0.0, 0.0, 1.0]]


def test_second_stage_weights_fall_with_the_squared_distance_and_sum_to_one() -> None:
    weights = second_stage_weights(np.zeros(2), np.array([[0.0, 0.0], [0.3, 0.4], [0.0, 0.5]]))
    assert weights.sum() == pytest.approx(1.0)
    assert weights[1] == pytest.approx(weights[2])
    assert weights[1] / weights[0] == pytest.approx(np.exp(-0.25 / 0.2))


def test_second_stages_all_too_far_away_count_the_same() -> None:
    assert second_stage_weights(np.zeros(2), np.full((4, 2), 50.0)).tolist() == [0.25] * 4


def test_two_stages_multiply_and_now_and_before_are_averaged() -> None:
    combined, first, second = two_stage_score(
        0.8,
        0.4,
        np.array([1.0, 0.0]),
        np.array([0.5, 0.5]),
        np.array([0.75, 0.25]),
        np.array([0.5, 0.5]),
    )
    assert (combined, first, second) == pytest.approx(((0.8 * 0.75 + 0.4 * 0.5) / 2, 0.6, 0.625))
