"""Do codes stay the same when only the traffic changes: `python -m benchmarks.code_traffic LAKE`.
Not a test.

Logs of the split `val` are driven again from their configuration and filmed twice: as they were,
and without other vehicles, people and cones (parked cars stay); ego, weather, lights and sky are
the same. Both films are encoded by the lake's codebook. Beside it, on the same pairs: what the
log's JPEG files change, and the codes of another pair, which agree by chance.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.code_agreement import Agreement, agreement, changed_share, fit_reading, other_pairs
from benchmarks.rerender import filmed, without_traffic
from ops.latent_actions import probe
from ops.latent_actions.frame_pairs import frame_pairs
from ops.latent_actions.health import codes_of_pairs
from ops.latent_actions.learn_actions import read_codebook
from ops.synthesize.config import WorldConfig
from ops.synthesize.world import DrivenLog, drive_log
from ops.synthesize.writers.nuplan import ORIGIN_M
from storage.artifact import read_lineage
from storage.dataset import FrameSet, read_dataset
from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake

SEEN_SHARE = 0.05  # of the pixels: pairs that change by more show traffic large
NEAR_M = 0.01  # poses of a log and of its second drive agree within that


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "lake",
        type=Path,
        help="folder with raw_logs, frames, trajectories and codebook of the synthetic world",
    )
    parser.add_argument(
        "--logs", type=int, default=8, help="val logs to film again (default: %(default)s)"
    )
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lake = Lake(chosen.lake)
    model, gap_s = read_codebook(lake.asset("codebook"))
    size_hw = model.config.image_hw
    log_ids = [log for log in lake.log_ids("trajectories") if "-val-" in log][: chosen.logs]
    rows = read_dataset(lake, "val", size_hw=size_hw, log_ids=log_ids)
    logs = {log: _driven_again(lake, rows, log) for log in log_ids}
    films = [
        np.concatenate(
            [
                filmed(driven, recording(driven), size_hw)[rows.frame_index[rows.log_id == log]]
                for log, driven in logs.items()
            ]
        )
        for recording in (
            lambda driven: driven.recording,
            lambda driven: without_traffic(driven.recording),
        )
    ]
    kept, before, after = (
        frame_pairs(replace(rows, images=images), gap_s, size_hw, "val")
        for images in (rows.images, *films)
    )
    codes = {
        name: codes_of_pairs(model, pairs)[0]
        for name, pairs in (
            ("the log's JPEG files", kept),
            ("filmed as it was", before),
            ("without traffic", after),
        )
    }
    kept_PK, before_PK, after_PK = codes.values()
    read = fit_reading(
        model, frame_pairs(read_dataset(lake, "train", size_hw=size_hw), gap_s, size_hw, "train")
    )
    share, other = changed_share(before, after), other_pairs(len(before), np.random.default_rng(0))
    large = share > SEEN_SHARE
    print(
        f"{len(log_ids)} val logs, {len(before)} pairs {gap_s:g} s apart; traffic changes {share.mean():.1%} of the pixels, "
        f"nothing in {(share == 0).mean():.0%} of the pairs"
    )
    print(
        f"{'':<46}{'pairs':>6}{'equal tokens':>14}{'speed, m/s':>12}{'corr.':>7}{'yaw rate, rad/s':>17}{'corr.':>7}"
    )
    _print("traffic taken away", agreement(before_PK, after_PK, read))
    if large.any():
        _print(
            f"  where it changes over {SEEN_SHARE:.0%} of the pixels",
            agreement(before_PK[large], after_PK[large], read),
        )
    _print("the same film as JPEG", agreement(before_PK, kept_PK, read))
    _print("by chance: another pair without traffic", agreement(before_PK, after_PK[other], read))
    for name, codes_PK in codes.items():
        speed, yaw_rate, _ = probe.r_squared(read(codes_PK), before.motion)
        print(f"{name + ': R2 of speed, yaw rate':<46}{_figure(speed):>6}{_figure(yaw_rate):>7}")


def _driven_again(lake: Lake, rows: FrameSet, log_id: str) -> DrivenLog:
    """Drive a log of the lake again. Raises an error if it is none of the synthetic world's, or of
    this code's.
    """
    config = read_lineage(lake.log("raw_logs", log_id)).config
    if "town" not in config:
        raise ConfigError(
            "only logs of the synthetic world can be driven again",
            where=lake.log("raw_logs", log_id),
            do="name the lake of a run without --raw",
        )
    world = WorldConfig(
        **config | {"cameras": tuple(config["cameras"])}, val_logs=1 + int(log_id.rsplit("-", 1)[1])
    )
    driven = drive_log(world, log_id)
    mine = rows.log_id == log_id
    there = driven.recording.pose[rows.frame_index[mine], 0, :2] + ORIGIN_M
    apart_m = float(np.hypot(*(there - rows.pose_world[mine, :2]).T).max())
    if apart_m > NEAR_M:
        raise ArtifactError(
            "this log was driven by other code",
            where=lake.log("raw_logs", log_id),
            expected=f"poses within {NEAR_M} m",
            found=f"{apart_m:.2f} m apart",
            do="latentvla run",
        )
    return driven


def _print(name: str, found: Agreement) -> None:
    print(
        f"{name:<46}{found.pairs:>6}{found.equal_tokens:>14.3f}{found.speed_difference_mps:>12.2f}"
        f"{_figure(found.speed_correlation):>7}{found.yaw_rate_difference_radps:>17.3f}{_figure(found.yaw_rate_correlation):>7}"
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
