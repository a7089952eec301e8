"""The verdict on a VLM: its cross-entropy beside those of its floors."""

import json

import pytest

from ops.vla.verdict import VlmVerdict, read_verdict


@pytest.mark.parametrize(
    ("vlm", "blind", "frequencies", "shuffled", "warning"),
    [
        (1.79, 1.84, 2.74, 2.31, None),
        (1.85, 1.84, 2.74, 2.31, "no better than the blind MLP"),
        (1.84, 1.84, 2.74, 2.31, "no better than the blind MLP"),
        (2.78, 8.03, 2.76, 2.90, "no better than the code frequencies"),
        (1.79, 1.84, 2.74, 1.80, "its images do not matter"),
    ],
)
def test_a_vlm_is_warned_of_unless_it_beats_its_floors(vlm, blind, frequencies, shuffled, warning):
    verdict = VlmVerdict(vlm, blind, frequencies, shuffled)
    text = verdict.text
    assert all(f"{value:.2f}" in text for value in (vlm, blind, frequencies, shuffled))
    assert verdict.beats_blind == (warning is None or "no better" not in warning)
    assert ("WARNING" in text) == (warning is not None)
    assert warning is None or warning in text


def test_the_verdict_is_read_from_the_report_and_is_none_without_floors(tmp_path):
    assert read_verdict(tmp_path) is None
    report = {"codes": {"cross_entropy_nats": 1.8}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_verdict(tmp_path) is None
    report |= {"blind_cross_entropy_nats": 1.9, "shuffled_cross_entropy_nats": 2.3}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_verdict(tmp_path) is None
    report["frequency_cross_entropy_nats"] = 2.7
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_verdict(tmp_path) == VlmVerdict(1.8, 1.9, 2.7, 2.3)
