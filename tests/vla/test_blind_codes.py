"""The floors of the VLM's cross-entropy: the blind baseline, code frequencies, and the images of
other rows.
"""

import json

import numpy as np
import pytest
import torch

from ops.planners.training_arrays import evenly_spaced, plannable_rows
from ops.vla.blind_codes import BlindCodesConfig, fit_blind_codes, frequency_logits
from ops.vla.code_accuracy import code_accuracy
from ops.vla.vlm import VlmRows, open_vlm, run_vlm
from tests.worlds.tiny_vla import VLA, trained_artifacts

CONFIG = BlindCodesConfig(hidden=64, steps=400)


def rows_of(seed: int, rows: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ego status, codes of three slots, and their validity: the first slot follows from the speed,
    the second from the past yaw rate, the third from the image alone.
    """
    generator = np.random.default_rng(seed)
    status = np.zeros((rows, 9), np.float32)
    status[:, 0] = generator.uniform(0, 12, rows)
    status[:, 8] = generator.uniform(-0.3, 0.3, rows)
    status[np.arange(rows), generator.integers(4, 8, rows)] = 1.0
    from_image = generator.choice(4, rows, p=[0.4, 0.3, 0.2, 0.1])
    codes = np.stack([status[:, 0] // 3, (status[:, 8] > 0) * 3, from_image], 1).astype(np.int64)
    return status, codes, np.ones_like(codes, dtype=bool)


def logs_of(rows: int, logs: int = 10) -> np.ndarray:
    """Log of each row: `logs` logs of equal length."""
    return np.array([f"log{row * logs // rows}" for row in range(rows)], dtype=object)


def logits_of(model: torch.nn.Module, status: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(status)).numpy()


def test_it_learns_codes_that_follow_from_the_status_and_none_that_follow_from_the_image():
    train, test = rows_of(0), rows_of(1)
    model = fit_blind_codes(*train, logs_of(600), 4, seed=0, config=CONFIG)
    assert not model.training
    logits = logits_of(model, test[0])
    assert logits.shape == (600, 3, 4)
    slots = [
        code_accuracy(logits[:, [slot]], *(part[:, [slot]] for part in (*test[1:], *train[1:])))
        for slot in range(3)
    ]
    assert min(slots[0].accuracy, slots[1].accuracy) > 0.93
    assert max(slots[0].cross_entropy_nats, slots[1].cross_entropy_nats) < 0.2
    assert slots[2].cross_entropy_nats > slots[2].marginal_entropy_nats - 0.03
    assert slots[2].accuracy < slots[2].majority_accuracy + 0.05


def test_it_is_determined_by_its_seed_and_its_valid_codes():
    status, codes, valid = rows_of(0, 80)
    valid[::3, 1] = False
    config = BlindCodesConfig(hidden=16, steps=30)

    def fitted(seed: int, codes: np.ndarray = codes) -> np.ndarray:
        torch.manual_seed(int(codes.sum()) + seed + 99)
        model = fit_blind_codes(status, codes, valid, logs_of(80), 4, seed, config)
        return logits_of(model, status)

    assert np.array_equal(fitted(0), fitted(0)) and not np.array_equal(fitted(0), fitted(1))
    assert np.array_equal(fitted(0), fitted(0, np.where(valid, codes, (codes + 1) % 4)))


def test_a_status_that_never_varies_gives_finite_logits():
    status, codes, valid = rows_of(0, 80)
    status[:] = status[0]
    config = BlindCodesConfig(hidden=16, steps=30)
    model = fit_blind_codes(status, codes, valid, logs_of(80), 4, 0, config)
    assert np.isfinite(logits_of(model, status)).all()


@pytest.mark.parametrize("logs", [1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_with_few_rows_of_random_codes_it_is_no_worse_than_uniform_probabilities(seed, logs):
    (status, _, _), (new_status, _, _) = rows_of(seed, 40), rows_of(seed + 2)
    generator = np.random.default_rng((seed, 5))
    codes, new = generator.integers(0, 16, (40, 3)), generator.integers(0, 16, (600, 3))
    model = fit_blind_codes(status, codes, np.ones_like(codes, bool), logs_of(40, logs), 16, seed)
    accuracy = code_accuracy(
        logits_of(model, new_status), new, np.ones_like(new, bool), codes, codes >= 0
    )
    assert accuracy.cross_entropy_nats < np.log(16) + 0.1


def test_training_ends_where_the_held_out_log_contradicts_the_others():
    status, codes, valid = rows_of(0, 200)
    log_id = logs_of(200, 2)
    held_out = log_id == np.random.default_rng((0, 307)).permutation(["log0", "log1"])[0]
    contradicted = np.where(held_out[:, None], 3 - codes, codes)

    def nats_of_the_rule(codes_to_fit: np.ndarray) -> float:
        model = fit_blind_codes(status, codes_to_fit, valid, log_id, 4, 0, CONFIG)
        from_status = (codes[:, :2], valid[:, :2])
        logits = logits_of(model, status)[:, :2]
        return code_accuracy(logits, *from_status, *from_status).cross_entropy_nats

    assert nats_of_the_rule(codes) < 0.2
    assert nats_of_the_rule(contradicted) > 1.2  # uniform probabilities: 1.39


def test_code_frequencies_are_smoothed_and_count_valid_codes_alone():
    codes = np.array([[0, 1], [0, 1], [2, 1], [2, 2]])
    valid = np.array([[True, True], [True, False], [True, False], [False, False]])
    frequencies_SK = np.exp(frequency_logits(codes, valid, 3))
    assert frequencies_SK[0] == pytest.approx(np.array([3, 1, 2]) / 6)
    assert frequencies_SK[1] == pytest.approx(np.array([1, 2, 1]) / 4)


@pytest.mark.slow
def test_the_report_has_the_cross_entropies_of_the_floors():
    artifacts = trained_artifacts()
    train, val, report = artifacts.train, artifacts.val, artifacts.vla_report
    rows = val.take(evenly_spaced(plannable_rows(val), VLA.val_rows))
    truth = (rows.codes, rows.codes_valid, train.codes, train.codes_valid)

    labelled = (train.codes, train.codes_valid)
    blind = fit_blind_codes(train.motion_status, *labelled, train.log_id, 16, 0)
    accuracy = code_accuracy(logits_of(blind, rows.motion_status), *truth)
    assert report.blind_cross_entropy_nats == pytest.approx(accuracy.cross_entropy_nats, abs=1e-4)

    logits = np.broadcast_to(frequency_logits(*labelled, 16), (len(rows), 12, 16))
    accuracy = code_accuracy(logits, *truth)
    assert report.frequency_cross_entropy_nats == pytest.approx(accuracy.cross_entropy_nats)

    vlm, seen = open_vlm(artifacts.vla / "vlm"), VlmRows.of(rows)
    own = code_accuracy(run_vlm(vlm, seen).code_logits, *truth)
    assert report.codes.cross_entropy_nats == pytest.approx(own.cross_entropy_nats, abs=1e-4)
    others = np.random.default_rng((0, 311)).permutation(len(rows))
    shuffled = code_accuracy(run_vlm(vlm, seen.with_images_of(others)).code_logits, *truth)
    assert report.shuffled_cross_entropy_nats == pytest.approx(
        shuffled.cross_entropy_nats, abs=1e-4
    )
    assert shuffled.cross_entropy_nats != own.cross_entropy_nats

    saved = json.loads((artifacts.vla / "report.json").read_text())
    for name in ("blind", "frequency", "shuffled"):
        name += "_cross_entropy_nats"
        assert saved[name] == getattr(report, name) > 0
