"""Statistics of codes and linear probes: an empty, a full and a real case of each."""

import numpy as np
import pytest

from ops.latent_actions import probe


def test_perplexity_counts_evenly_used_codes():
    assert probe.perplexity(np.zeros((10, 4), int), 16) == pytest.approx(1.0)
    assert probe.perplexity(np.arange(16)[:, None], 16) == pytest.approx(16.0)
    assert probe.perplexity(np.array([0, 0, 1, 1]), 16) == pytest.approx(2.0)


def test_dead_codes_are_those_that_never_occur():
    assert probe.dead_codes(np.zeros((5, 4), int), 16) == 15
    assert probe.dead_codes(np.arange(16), 16) == 0


def test_a_probe_explains_targets_of_the_codes_and_no_others():
    rng = np.random.default_rng(0)
    codes, weights = rng.integers(0, 16, (3000, 4)), rng.normal(size=(4, 16))
    linear = weights[np.arange(4), codes].sum(1)
    targets = np.column_stack([linear, rng.normal(size=len(codes)), np.ones(len(codes))])
    features = probe.one_hot(codes, 16)
    predicted = probe.Ridge(features[:2000], targets[:2000])(features[2000:])
    linear_r2, noise_r2, constant_r2 = probe.r_squared(predicted, targets[2000:])
    assert linear_r2 > 0.99
    assert -0.2 < noise_r2 < 0.05
    assert constant_r2 is None, "a constant target has no R2"


def test_r_squared_of_the_mean_is_zero_and_of_the_truth_one():
    true = np.array([[1.0], [2.0], [4.0]])
    assert probe.r_squared(np.full((3, 1), true.mean()), true) == [pytest.approx(0.0)]
    assert probe.r_squared(true, true) == [1.0]


def test_a_thumbnail_has_the_means_of_blocks():
    images = np.zeros((2, 16, 24, 3), np.uint8)
    images[1, :8, 8:16] = 64
    features = probe.thumbnails(images)
    assert features.shape == (2, 2 * 3 * 3) and not features[0].any()
    assert features[1].reshape(2, 3, 3)[0, 1].tolist() == [1, 1, 1] and features[1].sum() == 3
