"""Future motion in the teacher's outputs: `python -m benchmarks.teacher_knowledge LAKE`.

A linear probe predicts the next 4 s from the ego status and outputs of the VLA: its code
distributions, or its pooled features. It is fitted on the planners' train rows and evaluated on
rows of another split, next to the plans of the student's control, which is trained without a
teacher. A probe of the recorded codes, computed from the future, is the upper bound.
Legend: N rows, F features, T = 16 numbers of the 8 positions.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.special import softmax

from models.planners.planner import constant_velocity_anchor
from ops.evaluation.config import IntervalConfig
from ops.evaluation.intervals import intervals
from ops.evaluation.planners import open_planner
from ops.latent_actions import probe
from ops.planners.recipe import read_recipe
from ops.planners.training_arrays import plannable_rows, planner_frames
from ops.vla.planner import VlaPlanner, open_vla
from ops.vla.teacher import TeacherTargets
from ops.vla.vlm import VlmRows, run_vlm
from storage.dataset import FrameSet, read_dataset
from storage.lake import Lake

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
FOLDS = 5
PLANNERS = ("student_no_teacher", "planner_alone", "vla", "student")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lake", type=Path, help="folder with relabeled, vla and student")
    parser.add_argument("--split", default="val", help="default: %(default)s")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lake = Lake(options.lake)
    vla, student = lake.asset("vla"), lake.asset("student")
    teacher = open_vla(vla)
    train, rows = (
        read_dataset(lake, split, size_hw=teacher.image_hw, relabeled=True)
        for split in ("train", options.split)
    )
    train, rows = (
        _rows_with_codes(planner_frames(train, read_recipe(vla)[0].rows)[0]),
        _rows_with_codes(rows.take(plannable_rows(rows))),
    )
    train_features, features = _features(teacher, train), _features(teacher, rows)
    plans = {name: open_planner(name, vla, student).plan(rows) for name in PLANNERS}
    control_N = error(plans["student_no_teacher"][..., :2], rows)
    print(
        f"{len(train)} train rows, {len(rows)} rows of "
        f"{len(np.unique(rows.log_id.astype(str)))} {options.split} logs"
    )
    print(f"{'':<52}{'ADE, m':>8}{'minus the control, m (95 % over logs)':>40}")
    for name in features:
        _print(
            f"probe of ego {name}",
            error(probe_future(train_features[name], train, features[name], rows), rows),
            control_N,
            rows,
        )
    for name, plan in plans.items():
        _print(f"plans of {name}", error(plan[..., :2], rows), control_N, rows)


def probe_future(
    train_NF: np.ndarray, train: FrameSet, features_NF: np.ndarray, rows: FrameSet
) -> np.ndarray:
    """Positions (N, 8, 2) of `rows` predicted by a ridge regression fitted on `train`.

    Its penalty is chosen by cross-validation over train logs.
    """
    anchors = [
        constant_velocity_anchor(torch.from_numpy(frames.status)).numpy()[..., :2]
        for frames in (train, rows)
    ]
    target_NT = (train.future[..., :2] - anchors[0]).reshape(len(train), -1).astype(np.float64)
    mean, spread = train_NF.mean(0), np.maximum(train_NF.std(0), 1e-6)
    train_NF, features_NF = (train_NF - mean) / spread, (features_NF - mean) / spread
    fold_of_N = np.unique(train.log_id.astype(str), return_inverse=True)[1] % FOLDS

    def validation_error(penalty: float) -> float:
        return sum(
            float(
                np.square(
                    probe.Ridge(train_NF[fold_of_N != fold], target_NT[fold_of_N != fold], penalty)(
                        train_NF[fold_of_N == fold]
                    )
                    - target_NT[fold_of_N == fold]
                ).sum()
            )
            for fold in range(FOLDS)
        )

    offset_NT = probe.Ridge(train_NF, target_NT, min(PENALTIES, key=validation_error))(features_NF)
    return anchors[1] + offset_NT.reshape(len(rows), -1, 2)


def error(positions_N82: np.ndarray, rows: FrameSet) -> np.ndarray:
    """Mean distance of each row's positions from the recorded ones, (N,) in m."""
    return np.linalg.norm(positions_N82 - rows.future[..., :2], axis=-1).mean(axis=-1)


def _rows_with_codes(rows: FrameSet) -> FrameSet:
    return rows.take(np.flatnonzero(rows.codes_valid.all(axis=1)))


def _features(teacher: VlaPlanner, rows: FrameSet) -> dict[str, np.ndarray]:
    outputs = run_vlm(teacher.vlm, VlmRows.of(rows, teacher.image_hw))
    pooled = TeacherTargets.predict(teacher.model, outputs, rows, np.zeros(len(rows), bool)).memory
    codes = softmax(outputs.code_logits.astype(np.float64), axis=-1)
    parts = {
        "status": rows.status,
        "status and the VLM's codes": codes,
        "status and the VLA's pooled features": pooled,
        "status and the recorded codes": probe.one_hot(rows.codes, teacher.vlm.processor.codes),
    }
    return {
        name: np.concatenate([rows.status, part.reshape(len(rows), -1)], axis=1).astype(np.float64)
        for name, part in parts.items()
    }


def _print(name: str, error_N: np.ndarray, control_N: np.ndarray, rows: FrameSet) -> None:
    interval = intervals(
        (error_N - control_N)[:, None], np.ones((len(rows), 1), bool), rows.log_id, IntervalConfig()
    )[0]
    assert interval is not None
    difference = f"{interval.mean:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"
    print(f"{name:<52}{error_N.mean():>8.2f}{difference:>40}")


if __name__ == "__main__":
    main()
