"""Agreement of codes when only the traffic changes: `python -m benchmarks.code_traffic LAKE`.

Logs of the split `val` are driven again from their configuration and rendered twice: as they were,
and without other vehicles, pedestrians and cones (parked cars stay); ego, weather, lights and sky
are the same. The lake's codebook encodes both. For comparison, on the same pairs: codes of the
log's JPEG files, and codes of another pair, which agree by chance. Legend: P pairs, K tokens.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.rerender import rerendered_frames, without_traffic
from models.latent_action.model import LatentActionModel
from ops.latent_actions import probe
from ops.latent_actions.frame_pairs import FramePairs, frame_pairs
from ops.latent_actions.health import PROBE_PAIRS, codes_of_pairs
from ops.latent_actions.learn_actions import read_codebook
from ops.synthesize.config import WorldConfig
from ops.synthesize.traffic.recording import Recording
from ops.synthesize.world import DrivenLog, drive_log
from ops.synthesize.writers.nuplan_layers import ORIGIN_M
from storage.artifact import read_lineage
from storage.dataset import FrameSet, read_dataset
from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake

SEEN_LEVELS = 8  # of 255: a pixel that differs by more counts as changed
SEEN_SHARE = 0.05  # of the pixels: pairs that change by more count as large changes
NEAR_M = 0.01  # tolerance between the poses of a log and of its second drive

# codes (P, K) -> speed m/s, yaw rate rad/s, acceleration m/s2 (P, 3)
ReadMotion = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Codes of pairs against codes of the same pairs after a change of the images.

    A correlation is None where a value does not vary.
    """

    pairs: int
    equal_tokens: float  # share
    speed_difference_mps: float  # mean absolute difference of the speeds read from both
    speed_correlation: float | None
    yaw_rate_difference_radps: float
    yaw_rate_correlation: float | None


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
        "--logs", type=int, default=8, help="val logs to render again (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lake = Lake(options.lake)
    model, gap_s = read_codebook(lake.asset("codebook"))
    size_hw = model.config.image_hw
    log_ids = [log for log in lake.log_ids("trajectories") if "-val-" in log][: options.logs]
    rows = read_dataset(lake, "val", size_hw=size_hw, log_ids=log_ids)
    logs = {log: _drive_again(lake, rows, log) for log in log_ids}
    jpeg, original, no_traffic = (
        frame_pairs(replace(rows, images=images), gap_s, size_hw, "val")
        for images in (rows.images, *_rerender_rows(logs, rows, size_hw))
    )
    codes = {
        name: codes_of_pairs(model, pairs)[0]
        for name, pairs in (
            ("the log's JPEG files", jpeg),
            ("rendered as it was", original),
            ("without traffic", no_traffic),
        )
    }
    read_motion = fit_probe(
        model, frame_pairs(read_dataset(lake, "train", size_hw=size_hw), gap_s, size_hw, "train")
    )
    share = changed_share(original, no_traffic)
    print(
        f"{len(log_ids)} val logs, {len(original)} pairs {gap_s:g} s apart; "
        f"traffic changes {share.mean():.1%} of the pixels, "
        f"nothing in {(share == 0).mean():.0%} of the pairs"
    )
    _print_agreements(*codes.values(), share, read_motion)
    for name, codes_PK in codes.items():
        speed, yaw_rate, _ = probe.r_squared(read_motion(codes_PK), original.motion)
        label = f"{name}: R2 of speed, yaw rate"
        print(f"{label:<46}{_two_decimals(speed):>6}{_two_decimals(yaw_rate):>7}")


def fit_probe(model: LatentActionModel, train: FramePairs) -> ReadMotion:
    """A linear probe of ego codes, as in the health of a codebook, fitted on training pairs."""
    pairs, size = train.evenly_spaced(PROBE_PAIRS), model.config.ego_quantizer.codes
    ridge = probe.Ridge(probe.one_hot(codes_of_pairs(model, pairs)[0], size), pairs.motion)
    return lambda codes_PK: ridge(probe.one_hot(codes_PK, size))


def agreement(before_PK: np.ndarray, after_PK: np.ndarray, read_motion: ReadMotion) -> Agreement:
    """Compare codes of the same pairs before and after a change."""
    before, after = read_motion(before_PK), read_motion(after_PK)
    difference = np.abs(after - before).mean(0)
    return Agreement(
        len(before_PK),
        float((before_PK == after_PK).mean()),
        float(difference[0]),
        _correlation(before[:, 0], after[:, 0]),
        float(difference[1]),
        _correlation(before[:, 1], after[:, 1]),
    )


def other_pairs(pairs: int, rng: np.random.Generator) -> np.ndarray:
    """A random other pair for each pair, (P,) indexes; needs two pairs."""
    order = rng.permutation(pairs)
    other = np.empty(pairs, dtype=int)
    other[order] = np.roll(order, 1)
    return other


def changed_share(before: FramePairs, after: FramePairs) -> np.ndarray:
    """Share of the pixels of both images of a pair that differ by more than SEEN_LEVELS, (P,)."""
    differs = np.abs(before.images.astype(np.int16) - after.images).max(axis=3) > SEEN_LEVELS
    return differs.mean(axis=(1, 2))[before.rows].mean(axis=1)


def _rerender_rows(
    logs: dict[str, DrivenLog], rows: FrameSet, size_hw: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Images of all rows, rendered as the logs were and without traffic, each (N, H, W, 3)."""

    def images(recording_of: Callable[[DrivenLog], Recording]) -> np.ndarray:
        return np.concatenate(
            [
                rerendered_frames(driven, recording_of(driven), size_hw)[
                    rows.frame_index[rows.log_id == log]
                ]
                for log, driven in logs.items()
            ]
        )

    return (
        images(lambda driven: driven.recording),
        images(lambda driven: without_traffic(driven.recording)),
    )


def _drive_again(lake: Lake, rows: FrameSet, log_id: str) -> DrivenLog:
    """Drive a log of the lake again.

    Raises ConfigError for a log that is not of the synthetic world, and ArtifactError for one that
    this version of the code drives differently.
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
    of_log = rows.log_id == log_id
    driven_xy = driven.recording.pose[rows.frame_index[of_log], 0, :2] + ORIGIN_M
    apart_m = float(np.hypot(*(driven_xy - rows.pose_world[of_log, :2]).T).max())
    if apart_m > NEAR_M:
        raise ArtifactError(
            "this log was driven by another version of the code",
            where=lake.log("raw_logs", log_id),
            expected=f"poses within {NEAR_M} m",
            found=f"{apart_m:.2f} m apart",
            do="latentvla run",
        )
    return driven


def _print_agreements(
    jpeg_PK: np.ndarray,
    original_PK: np.ndarray,
    no_traffic_PK: np.ndarray,
    share: np.ndarray,
    read_motion: ReadMotion,
) -> None:
    print(
        f"{'':<46}{'pairs':>6}{'equal tokens':>14}{'speed, m/s':>12}{'corr.':>7}"
        f"{'yaw rate, rad/s':>17}{'corr.':>7}"
    )
    _print_row("without traffic", agreement(original_PK, no_traffic_PK, read_motion))
    large = share > SEEN_SHARE
    if large.any():
        _print_row(
            f"  where it changes over {SEEN_SHARE:.0%} of the pixels",
            agreement(original_PK[large], no_traffic_PK[large], read_motion),
        )
    _print_row("the same images as JPEG", agreement(original_PK, jpeg_PK, read_motion))
    other = other_pairs(len(original_PK), np.random.default_rng(0))
    _print_row(
        "by chance: another pair without traffic",
        agreement(original_PK, no_traffic_PK[other], read_motion),
    )


def _print_row(name: str, row: Agreement) -> None:
    print(
        f"{name:<46}{row.pairs:>6}{row.equal_tokens:>14.3f}{row.speed_difference_mps:>12.2f}"
        f"{_two_decimals(row.speed_correlation):>7}{row.yaw_rate_difference_radps:>17.3f}"
        f"{_two_decimals(row.yaw_rate_correlation):>7}"
    )


def _correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    varies = len(first) > 1 and min(first.std(), second.std()) > 1e-9
    return float(np.corrcoef(first, second)[0, 1]) if varies else None


def _two_decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
