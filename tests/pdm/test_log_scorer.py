"""The scorer of a log: the two-frame comfort follows each planner from frame to frame."""

from dataclasses import replace

import numpy as np
import pytest

from ops.pdm.log_scorer import NO_SCENE, OPEN_LOGS, LogScorer, OpenLog, PlanBatch, open_log
from ops.pdm.prepared import PreparedScene, prepare
from ops.pdm.rules.comfort import EXTENDED_MAX_GAP_S, extended_comfort
from storage.errors import ArtifactError
from storage.lake import Lake
from tests.worlds.tiny_lake import write_tiny_lake
from tests.worlds.tiny_pdm import Road, road_scene, straight


def at(time_s: float) -> PreparedScene:
    """The same road at another time."""
    scene = road_scene(Road())
    shift_us = round(time_s * 1e6)
    return prepare(
        replace(scene, time_us=scene.time_us + shift_us, past_time_us=scene.past_time_us + shift_us)
    )


def ec_of(scorer: LogScorer, time_s: float, *plans: np.ndarray) -> list[float]:
    """Two-frame comfort of one plan for each of the planners 0, 1, ..."""
    batch = PlanBatch(range(len(plans)), np.concatenate(plans))
    (by_version,) = scorer.score(at(time_s), [batch])
    return by_version["v2"].ec.tolist()


def test_each_planner_is_compared_with_its_own_plan_of_the_frame_before() -> None:
    scorer = LogScorer(("v1", "v2"))
    assert np.isnan(ec_of(scorer, 0.0, straight(8.0), straight(2.0, y=1.0))).all()
    assert ec_of(scorer, 0.5, straight(8.0), straight(8.0)) == [1.0, 0.0]
    assert ec_of(scorer, 1.0, straight(8.0), straight(8.0)) == [1.0, 1.0]


@pytest.mark.parametrize("gap_s", [0.0, EXTENDED_MAX_GAP_S, 1.0])
def test_frames_too_far_apart_or_at_the_same_time_have_no_two_frame_comfort(gap_s: float) -> None:
    scorer = LogScorer(("v2",))
    ec_of(scorer, 0.0, straight(8.0))
    assert np.isnan(ec_of(scorer, gap_s, straight(8.0))).all()


def test_after_forget_the_next_frame_has_no_frame_before_it() -> None:
    scorer = LogScorer(("v2",))
    ec_of(scorer, 0.0, straight(8.0))
    scorer.forget()
    assert np.isnan(ec_of(scorer, 0.5, straight(8.0))).all()


def test_batches_of_a_frame_do_not_follow_each_other_and_the_total_has_the_comfort() -> None:
    scorer, fine = LogScorer(("v1", "v2")), straight(8.0, steps=40, dt_s=0.1)
    scorer.score(at(0.0), [PlanBatch(["a"], straight(2.0, y=1.0)), PlanBatch(["b"], fine, 0.1)])
    first, second = scorer.score(
        at(0.5),
        [PlanBatch(["a"], straight(8.0)), PlanBatch(["a", "b"], np.tile(fine, (2, 1, 1)), 0.1)],
    )
    assert first["v2"].ec.tolist() == [0.0] and second["v2"].ec.tolist() == [0.0, 1.0]
    assert first["v1"].total[0] == first["v1"].scores.score[0] and np.isnan(first["v1"].ec).all()
    states = second["v2"].scores.states
    assert extended_comfort(states[1], states[0], 0.5)[0] == 1.0
    assert second["v2"].total[0] < second["v2"].scores.score[0] <= second["v2"].total[1]


def test_a_log_keeps_its_prepared_scenes_and_a_process_its_last_logs(tmp_path) -> None:
    lake = write_tiny_lake(tmp_path)
    log = open_log(lake, "log-a")
    assert open_log(lake, "log-a") is log
    assert log.prepared(5) is log.prepared(5)
    assert log.prepared(0) == NO_SCENE and log.prepared(999) == NO_SCENE
    assert isinstance(OpenLog(lake, "log-b").prepared(5), PreparedScene)
    for root in range(OPEN_LOGS):
        open_log(write_tiny_lake(tmp_path / str(root)), "log-a")
    assert open_log(lake, "log-a") is not log
    with pytest.raises(ArtifactError, match="no log 'log-z'"):
        open_log(Lake(tmp_path), "log-z")
