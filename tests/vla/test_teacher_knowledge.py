"""A probe of features predicts from them on other rows than those it was fitted on."""

import numpy as np

from benchmarks.teacher_knowledge import error, probe_future
from tests.worlds.tiny_vla import tiny_frames


def test_a_probe_predicts_from_informative_features_and_not_from_noise():
    train, rows, generator = (
        tiny_frames(5, 24),
        tiny_frames(2, 24, seed=1, prefix="val"),
        np.random.default_rng(0),
    )
    noise = [generator.normal(size=(len(frames), 10)) for frames in (train, rows)]
    informative = [
        np.concatenate([frames.future[:, [3, 7], 1], more], axis=1)
        for frames, more in zip((train, rows), noise, strict=True)
    ]
    noise_error = error(probe_future(noise[0], train, noise[1], rows), rows)
    informed_error = error(probe_future(informative[0], train, informative[1], rows), rows)
    assert informed_error.mean() < 0.2 * noise_error.mean()
    drift = np.abs(rows.future[..., 1]).mean()
    assert noise_error.mean() > 0.8 * drift
