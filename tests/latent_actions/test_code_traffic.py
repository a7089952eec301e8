"""Codes when only the traffic changes: the second rendering differs only where traffic was."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from benchmarks.code_traffic import agreement, changed_share, fit_probe, other_pairs
from benchmarks.rerender import rerender, rerendered_frames, without_traffic
from models.latent_action.config import LatentActionConfig
from models.latent_action.model import LatentActionModel
from ops.latent_actions.frame_pairs import frame_pairs
from ops.latent_actions.health import codes_of_pairs
from ops.synthesize.config import WorldConfig
from ops.synthesize.traffic.recording import road_users
from ops.synthesize.world import DrivenLog, drive_log, synthesize_log
from ops.synthesize.writers.openscene import JPEG_QUALITY
from tests.worlds.ground_world import drive

WORLD = WorldConfig(
    train_logs=1,
    val_logs=1,
    test_logs=2,
    seconds=4.0,
    image_width=96,
    image_height=54,
    event_rate=0.0,
)
SIZE_HW = (32, 48)


@pytest.fixture(scope="module")
def log() -> DrivenLog:
    return drive_log(WORLD, "A-val-0000")


@pytest.mark.parametrize("log_id", ["A-val-0000", "A-test-0001"])
def test_a_log_rendered_again_is_the_log_byte_for_byte(log_id, tmp_path):
    synthesize_log(tmp_path, WORLD, log_id)
    driven = drive_log(WORLD, log_id)
    again = [
        cv2.imencode(".jpg", view[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        for view in rerender(driven, driven.recording)
    ]
    assert len(again) == 8 and sorted(again) == sorted(
        file.read_bytes() for file in tmp_path.rglob("*.jpg")
    )


def test_the_images_without_traffic_differ_only_where_traffic_is(log):
    log = replace(log, light=replace(log.light, sun=(0.2, 0.1, 0.97)))  # short shadows
    empty = without_traffic(log.recording)
    assert np.array_equal(empty.pose[:, 0], log.recording.pose[:, 0]) and np.array_equal(
        empty.signals, log.recording.signals
    )
    for frame, (full, bare) in enumerate(
        zip(rerender(log, log.recording), rerender(log, empty), strict=True)
    ):
        differs, traffic = (full != bare).any(axis=2), where_traffic_may_be(log, frame)
        assert not (differs & ~traffic).any() and traffic.mean() < 0.3, frame
        assert differs.any(), frame


def test_rerendered_frames_are_resized_and_equal_recordings_give_equal_frames(log):
    frames = [
        rerendered_frames(log, recording, SIZE_HW)
        for recording in (log.recording, log.recording, without_traffic(log.recording))
    ]
    assert frames[0].shape == (8, *SIZE_HW, 3) and np.array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).any()


def test_equal_images_have_equal_codes_and_other_pairs_agree_by_chance():
    model = LatentActionModel(LatentActionConfig(image_hw=SIZE_HW)).eval()
    pairs = frame_pairs(drive(6, seed=1), 0.5, SIZE_HW, "some")
    codes_PK, read_motion = codes_of_pairs(model, pairs)[0], fit_probe(model, pairs)
    same = agreement(codes_PK, codes_of_pairs(model, pairs)[0], read_motion)
    assert same.pairs == len(pairs) and same.equal_tokens == 1.0
    assert same.speed_difference_mps == same.yaw_rate_difference_radps == 0.0
    assert same.speed_correlation == pytest.approx(
        1.0
    ) and same.yaw_rate_correlation == pytest.approx(1.0)
    assert not changed_share(pairs, pairs).any()
    chance = agreement(
        codes_PK, codes_PK[other_pairs(len(pairs), np.random.default_rng(0))], read_motion
    )
    assert (
        chance.equal_tokens < 1.0
        and chance.speed_difference_mps > 0.0
        and chance.speed_correlation < 0.7
    )


def test_agreement_counts_tokens_and_has_no_correlation_where_nothing_varies():
    before_PK = np.zeros((4, 4), int)
    after_PK = before_PK.copy()
    after_PK[0, 0] = after_PK[1] = 1
    result = agreement(
        before_PK,
        after_PK,
        lambda codes_PK: np.repeat(codes_PK.sum(axis=1, keepdims=True) / 4, 3, axis=1),
    )
    assert result.equal_tokens == 11 / 16 and result.speed_difference_mps == (0.25 + 1.0) / 4
    assert result.speed_correlation is None and result.yaw_rate_correlation is None


def test_other_pairs_never_returns_a_pair_itself():
    other = other_pairs(50, np.random.default_rng(3))
    assert sorted(other) == list(range(50)) and not (other == np.arange(50)).any()


def where_traffic_may_be(log: DrivenLog, frame: int) -> np.ndarray:
    """(H, W) bool: hulls of all road users' boxes and shadows, enlarged; without parked cars."""
    users, ego = road_users(log.recording, frame), log.recording.pose[frame, 0]
    sun = np.array(log.light.sun)
    mask = np.zeros((log.cameras[0].height, log.cameras[0].width), np.uint8)
    for row in np.flatnonzero(~np.char.startswith(users.name.astype(str), "parked")):
        length, width, height = users.size_m[row] * 1.1 + 0.4
        cos, sin = np.cos(users.yaw_rad[row]), np.sin(users.yaw_rad[row])
        foot = (
            np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)])
            * (length / 2, width / 2)
            @ np.array([[cos, sin], [-sin, cos]])
        )
        foot = np.column_stack([foot + users.xy[row], np.zeros(4)])
        shadow = foot + np.append(-sun[:2] / max(sun[2], 0.25) * height, 0.0)
        world = np.concatenate([foot, foot + np.array([0.0, 0.0, height]), shadow]) - (
            *ego[:2],
            0.0,
        )
        turn = np.array(
            [[np.cos(ego[2]), -np.sin(ego[2]), 0], [np.sin(ego[2]), np.cos(ego[2]), 0], [0, 0, 1]]
        )
        corners = log.cameras[0].to_camera(world @ turn)
        if (corners[:, 2] > 0.2).any():
            corners[:, 2] = np.maximum(corners[:, 2], 0.2)
            hull = cv2.convexHull(
                np.clip(log.cameras[0].project(corners), -9999, 9999).round().astype(np.int32)
            )
            cv2.fillConvexPoly(mask, hull, 1)
    return cv2.dilate(mask, np.ones((7, 7), np.uint8)) > 0
