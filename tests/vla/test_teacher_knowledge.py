"""A reading of features tells of the future what they tell, on rows that it was not fitted on."""

import numpy as np

from benchmarks.teacher_knowledge import error, foretell
from tests.worlds.tiny_vla import tiny_frames


def test_a_reading_foretells_what_the_features_tell_and_nothing_else():
    train, rows, generator = (
        tiny_frames(5, 24),
        tiny_frames(2, 24, seed=1, prefix="val"),
        np.random.default_rng(0),
    )
    noise = [generator.normal(size=(len(frames), 10)) for frames in (train, rows)]
    told = [
        np.concatenate([frames.future[:, [3, 7], 1], more], axis=1)
        for frames, more in zip((train, rows), noise, strict=True)
    ]
    straight = error(foretell(noise[0], train, noise[1], rows), rows)
    knowing = error(foretell(told[0], train, told[1], rows), rows)
    assert knowing.mean() < 0.2 * straight.mean()
    drift = np.abs(rows.future[..., 1]).mean()
    assert straight.mean() > 0.8 * drift
