"""The split of the training logs between the VLM and the planners that read it."""

from dataclasses import replace

import numpy as np
import pytest

from ops.planners.config import RowChoice
from ops.planners.training_arrays import planner_frames, vlm_logs
from ops.training.config import ComputeConfig
from ops.vla.finetune import finetune
from ops.vla.teacher import TeacherTargets
from pipelines.presets import preset
from storage.dataset import FrameSet
from storage.errors import ArtifactError
from tests.worlds.tiny_vla import VLA, tiny_frames

HALF = RowChoice(vlm_share=0.5)


def logs_named(*names: str) -> FrameSet:
    """Two rows of each log."""
    frames = tiny_frames(len(names), 2)
    return replace(frames, log_id=np.repeat(np.array(names, dtype=object), 2))


def test_each_log_is_the_vlms_or_the_planners_and_all_are_used():
    frames = tiny_frames(60, 2)
    is_vlm = vlm_logs(frames, HALF)
    planners, _ = planner_frames(frames, HALF)
    of_vlm, of_planners = set(frames.log_id[is_vlm]), set(planners.log_id)
    assert not of_vlm & of_planners and of_vlm | of_planners == set(frames.log_id)
    assert len(planners) == (~is_vlm).sum(), "whole logs"
    assert 20 < len(of_vlm) < 40
    fewer = set(frames.log_id[vlm_logs(frames, RowChoice(vlm_share=0.2))])
    assert fewer < of_vlm and 4 < len(fewer) < 20


def test_the_side_of_a_log_depends_on_its_drive_alone():
    frames = tiny_frames(30, 2)
    some = frames.take(np.arange(len(frames))[::-1][:21])
    whole = dict(zip(frames.log_id, vlm_logs(frames, HALF), strict=True))
    assert vlm_logs(some, HALF).tolist() == [whole[log] for log in some.log_id]
    drives = [f"2021.05.{day:02d}.12.00.00_veh-35" for day in range(1, 20)]
    pieces = logs_named(
        *(f"{drive}_{part}" for drive in drives for part in ("00010_90", "100_200"))
    )
    is_vlm = vlm_logs(pieces, HALF).reshape(len(drives), -1)
    assert (is_vlm == is_vlm[:, :1]).all() and 0 < is_vlm[:, 0].sum() < len(drives)


def test_a_share_of_one_leaves_all_rows_to_both():
    frames = tiny_frames(3, 4)
    for choice in (RowChoice(), RowChoice(vlm_share=1.0)):
        assert vlm_logs(frames, choice).all()
        rows, flipped = planner_frames(frames, choice)
        assert np.array_equal(rows.images, frames.images) and not flipped.any()


def test_the_stride_counts_the_planners_rows():
    frames = tiny_frames(20, 3)
    every, _ = planner_frames(frames, HALF)
    second, _ = planner_frames(frames, replace(HALF, stride=2))
    assert second.log_id.tolist() == every.log_id[::2].tolist()
    assert second.frame_index.tolist() == every.frame_index[::2].tolist()


def test_a_side_without_a_log_is_an_error_that_says_what_to_do():
    with pytest.raises(ArtifactError, match=r"(?s)VLM would be trained on no log.*vlm_share"):
        vlm_logs(tiny_frames(3, 2), RowChoice(vlm_share=0.0))
    with pytest.raises(ArtifactError, match="planners would be trained on no log"):
        planner_frames(tiny_frames(3, 2), RowChoice(vlm_share=0.9999))
    with pytest.raises(ArtifactError, match="would be trained on no log"):
        vlm_logs(tiny_frames(1, 2), HALF)


def test_the_presets_share_all_logs_but_for_navsim():
    assert preset("navsim").vla.recipe.rows.vlm_share == 0.5
    assert {preset(name).vla.recipe.rows.vlm_share for name in ("smoke", "synthetic")} == {1.0}


@pytest.mark.slow
def test_the_vlm_and_the_planners_are_trained_on_their_own_logs(tmp_path):
    frames = tiny_frames(5, 8)
    choice = replace(HALF, mirror=True)
    is_vlm = vlm_logs(frames, choice)
    report = finetune(
        frames,
        tiny_frames(1, 12, seed=1, prefix="val"),
        tmp_path,
        replace(VLA, recipe=replace(VLA.recipe, rows=choice)),
        num_codes=16,
        score_plans=None,
        compute=ComputeConfig(threads=1),
        runs=tmp_path / "runs",
        name="vla",
        seed=0,
    )
    assert report.vlm_rows == is_vlm.sum() and report.train_rows == 2 * (~is_vlm).sum()
    assert set(TeacherTargets.open(tmp_path / "teacher").log_id) == set(frames.log_id[~is_vlm])
