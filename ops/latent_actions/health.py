"""How good a codebook is, measured on logs it has not seen. Not its training, and no threshold.

Legend: P pairs, K tokens, F features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.latent_action.model import LatentActionModel
from models.latent_action.warp import psnr_db
from ops.latent_actions import probe
from ops.latent_actions.frame_pairs import FramePairs

_BATCH = 128  # pairs encoded at once
PROBE_PAIRS = 4000  # training pairs the probes are fitted on


@dataclass(frozen=True, slots=True)
class CodebookHealth:
    """Figures on held-out pairs; None where the target does not vary or the phase does not exist.

    R2 is the share of variance that a linear reading, fitted on training logs, predicts on the
    held-out logs.
    """

    pairs: int  # held-out pairs
    codes: int  # entries of the codebook
    perplexity: float  # all tokens pooled
    perplexity_per_token: list[float]
    dead_codes: int
    speed_r2: float | None  # from ego codes, each a mean over the gap
    yaw_rate_r2: float | None
    acceleration_r2: float | None
    # from a thumbnail of the earlier frame: what codes must beat
    speed_r2_of_one_frame: float | None
    yaw_rate_r2_of_one_frame: float | None
    psnr_copy_db: float  # the earlier frame as prediction of the later
    psnr_db: float  # the model's prediction
    gain_over_copy_db: float
    controllability_db: float  # own ego codes minus those of another pair
    # own environment codes minus those of another pair
    environment_controllability_db: float | None
    environment_perplexity: float | None
    environment_speed_r2: float | None  # environment codes should not tell the ego's motion
    environment_yaw_rate_r2: float | None
    transfer_speed_r2: float | None  # codes put on another pair's frame, encoded and read
    transfer_yaw_rate_r2: float | None
    transfer_agreement: float  # tokens that stay the same in that
    # tokens equal to the commonest where both frames are the same
    still_agreement: float
    # share of the road that the sweep compares which the images show
    road_seen: float | None


@dataclass(frozen=True, slots=True)
class _Encoded:
    """What the model makes of pairs."""

    ego_PK: np.ndarray
    environment_PK: np.ndarray | None
    again_PK: np.ndarray  # codes of the transferred prediction
    still_PK: np.ndarray
    # copy, own codes, other ego codes, other environment codes
    psnr_P4: np.ndarray


def measure_health(
    model: LatentActionModel, train: FramePairs, heldout: FramePairs
) -> CodebookHealth:
    """All figures; the probes are fitted on `train` and judged on `heldout`."""
    model.eval()
    quantizer = model.config.ego_quantizer
    fitted = train.some(PROBE_PAIRS)
    known_ego_PK, known_environment_PK = codes_of_pairs(model, fitted)
    seen = encode_pairs(model, heldout)
    read = probe.Ridge(probe.one_hot(known_ego_PK, quantizer.codes), fitted.motion)
    speed, yaw_rate, acceleration = probe.r_squared(
        read(probe.one_hot(seen.ego_PK, quantizer.codes)), heldout.motion
    )
    again = probe.r_squared(read(probe.one_hot(seen.again_PK, quantizer.codes)), heldout.motion)
    floor = _reading(
        probe.thumbnails(fitted.first(np.arange(len(fitted)))),
        fitted.motion,
        probe.thumbnails(heldout.first(np.arange(len(heldout)))),
        heldout.motion,
        penalty=30.0,
    )
    copy, own, other_ego, other_environment = seen.psnr_P4.mean(0)
    environment: list[float | None] = [None, None, None]
    has_environment = model.environment is not None
    environment_codes = model.config.environment_quantizer.codes
    if known_environment_PK is not None and seen.environment_PK is not None:
        environment = _reading(
            probe.one_hot(known_environment_PK, environment_codes),
            fitted.motion,
            probe.one_hot(seen.environment_PK, environment_codes),
            heldout.motion,
        )
    modal = [np.bincount(column).max() / len(column) for column in seen.still_PK.T]
    return CodebookHealth(
        pairs=len(heldout),
        codes=quantizer.codes,
        perplexity=probe.perplexity(seen.ego_PK, quantizer.codes),
        perplexity_per_token=[
            probe.perplexity(column, quantizer.codes) for column in seen.ego_PK.T
        ],
        dead_codes=probe.dead_codes(seen.ego_PK, quantizer.codes),
        speed_r2=speed,
        yaw_rate_r2=yaw_rate,
        acceleration_r2=acceleration,
        speed_r2_of_one_frame=floor[0],
        yaw_rate_r2_of_one_frame=floor[1],
        psnr_copy_db=float(copy),
        psnr_db=float(own),
        gain_over_copy_db=float(own - copy),
        controllability_db=float(own - other_ego),
        environment_controllability_db=float(own - other_environment) if has_environment else None,
        environment_perplexity=(
            probe.perplexity(seen.environment_PK, environment_codes)
            if seen.environment_PK is not None
            else None
        ),
        environment_speed_r2=environment[0],
        environment_yaw_rate_r2=environment[1],
        transfer_speed_r2=again[0],
        transfer_yaw_rate_r2=again[1],
        transfer_agreement=float((seen.again_PK == seen.ego_PK).mean()),
        still_agreement=float(np.mean(modal)),
        road_seen=road_seen(model, heldout),
    )


def road_seen(model: LatentActionModel, pairs: FramePairs) -> float | None:
    """Share of the road that the ego encoder's sweep compares which the images of these pairs show;
    None without a sweep.
    """
    if model.ego.sweep is None:
        return None
    camera, times = np.unique(pairs.camera, axis=0, return_counts=True)
    seen = (
        model.ego.sweep.road_seen(torch.from_numpy(camera).to(model.ego.move.place.device))
        .cpu()
        .numpy()
    )
    return float(np.average(seen, weights=times))


def _reading(
    known_PF: np.ndarray,
    known_motion: np.ndarray,
    seen_PF: np.ndarray,
    seen_motion: np.ndarray,
    penalty: float = probe.RIDGE,
) -> list[float | None]:
    return probe.r_squared(probe.Ridge(known_PF, known_motion, penalty)(seen_PF), seen_motion)


def batches(
    model: LatentActionModel, pairs: FramePairs
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Observations, cameras and conditions of all pairs, on the model's device."""
    device = model.ego.move.place.device
    for rows in np.array_split(np.arange(len(pairs)), -(-len(pairs) // _BATCH)):
        first, second = (
            model.observe(torch.from_numpy(np.ascontiguousarray(images)).to(device))
            for images in (pairs.first(rows), pairs.second(rows))
        )
        yield (
            first,
            second,
            *(
                torch.from_numpy(numbers[rows]).to(device)
                for numbers in (pairs.camera, pairs.condition)
            ),
        )


@torch.no_grad()
def codes_of_pairs(
    model: LatentActionModel, pairs: FramePairs
) -> tuple[np.ndarray, np.ndarray | None]:
    """Ego codes (P, K) of all pairs, and environment codes where the model has them."""
    ego, environment = [], []
    for first, second, camera, condition in batches(model, pairs):
        ego.append(model.ego.encode(first, second, camera).codes_BK.cpu().numpy())
        found = model.environment_of(first, second, condition)
        environment += [] if found is None else [found.codes_BK.cpu().numpy()]
    return np.concatenate(ego), np.concatenate(environment) if environment else None


@torch.no_grad()
def encode_pairs(model: LatentActionModel, pairs: FramePairs) -> _Encoded:
    """Codes and prediction errors of all pairs. "Another pair" is one half a batch away: another
    place or log.
    """
    parts = []
    for first, second, camera, condition in batches(model, pairs):
        shift = len(first) // 2
        ego, environment = (
            model.ego.encode(first, second, camera),
            model.environment_of(first, second, condition),
        )
        values = environment.values_BKD if environment else None
        own = model.ego.predict(first, ego.values_BKD, values).whole_BCHW
        other_ego = model.ego.predict(first, ego.values_BKD.roll(shift, 0), values).whole_BCHW
        other_values = None if values is None else values.roll(shift, 0)
        other_environment = model.ego.predict(first, ego.values_BKD, other_values).whole_BCHW
        elsewhere = first.roll(shift, 0)
        moved = model.ego.predict(elsewhere, ego.values_BKD, None).by_ego_BCHW
        psnr = torch.stack(
            [psnr_db(guess, second) for guess in (first, own, other_ego, other_environment)], dim=1
        )
        parts.append(
            [
                tensor.cpu().numpy()
                for tensor in (
                    ego.codes_BK,
                    environment.codes_BK if environment else ego.codes_BK,
                    model.ego.encode(elsewhere, moved, camera.roll(shift, 0)).codes_BK,
                    model.ego.encode(first, first, camera).codes_BK,
                    psnr,
                )
            ]
        )
    ego_PK, environment_PK, again_PK, still_PK, psnr_P4 = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    return _Encoded(
        ego_PK, environment_PK if model.environment else None, again_PK, still_PK, psnr_P4
    )
