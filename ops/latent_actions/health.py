"""Quality figures of a codebook on held-out logs.

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

_BATCH = 128  # pairs per forward pass
PROBE_PAIRS = 4000  # training pairs on which the probes are fitted


@dataclass(frozen=True, slots=True)
class CodebookHealth:
    """Figures on held-out pairs; None if the target is constant or the model has no such part.

    R2 is the share of the target's variance explained by a linear probe that is fitted on training
    logs. "Another pair" is one of another place or log.
    """

    pairs: int  # held-out pairs
    codes: int  # entries of the codebook
    perplexity: float  # all tokens pooled
    perplexity_per_token: list[float]
    dead_codes: int
    speed_r2: float | None  # of the mean over the gap, from the ego codes; likewise below
    yaw_rate_r2: float | None
    acceleration_r2: float | None
    # from a thumbnail of the earlier frame: the baseline without codes
    speed_r2_of_one_frame: float | None
    yaw_rate_r2_of_one_frame: float | None
    psnr_copy_db: float  # of the copy baseline: the earlier frame as the prediction of the later
    psnr_db: float  # of the model's prediction
    gain_over_copy_db: float
    controllability_db: float  # PSNR with the pair's ego codes minus that with another pair's
    # PSNR with the pair's environment codes minus that with another pair's
    environment_controllability_db: float | None
    environment_perplexity: float | None
    environment_speed_r2: float | None  # from the environment codes: should be near 0
    environment_yaw_rate_r2: float | None
    # from codes that are applied to another pair's frame; the prediction is encoded again
    transfer_speed_r2: float | None
    transfer_yaw_rate_r2: float | None
    transfer_agreement: float  # share of tokens that this transfer preserves
    # share of tokens equal to their most frequent value if both frames are the same image
    still_agreement: float
    road_seen: float | None  # share of the motion sweep's region that the images show


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Codes of pairs, and PSNR of their predictions."""

    ego_PK: np.ndarray
    environment_PK: np.ndarray | None
    transferred_PK: np.ndarray  # ego codes of the prediction from another pair's frame
    still_PK: np.ndarray  # ego codes of the earlier frame paired with itself
    # of the copy baseline, own codes, another pair's ego codes, another pair's environment codes
    psnr_P4: np.ndarray


def measure_health(
    model: LatentActionModel, train: FramePairs, heldout: FramePairs
) -> CodebookHealth:
    """All figures on `heldout`; the probes are fitted on `train`."""
    model.eval()
    quantizer = model.config.ego_quantizer
    fitted = train.evenly_spaced(PROBE_PAIRS)
    fitted_ego_PK, fitted_environment_PK = codes_of_pairs(model, fitted)
    encoded = encode_pairs(model, heldout)
    ego_probe = probe.Ridge(probe.one_hot(fitted_ego_PK, quantizer.codes), fitted.motion)
    speed, yaw_rate, acceleration = probe.r_squared(
        ego_probe(probe.one_hot(encoded.ego_PK, quantizer.codes)), heldout.motion
    )
    transfer = probe.r_squared(
        ego_probe(probe.one_hot(encoded.transferred_PK, quantizer.codes)), heldout.motion
    )
    one_frame = _probe_r2(
        probe.thumbnails(fitted.first(np.arange(len(fitted)))),
        fitted.motion,
        probe.thumbnails(heldout.first(np.arange(len(heldout)))),
        heldout.motion,
        penalty=30.0,
    )
    copy, own, other_ego, other_environment = encoded.psnr_P4.mean(0)
    environment: list[float | None] = [None, None, None]
    has_environment = model.environment is not None
    environment_codes = model.config.environment_quantizer.codes
    if fitted_environment_PK is not None and encoded.environment_PK is not None:
        environment = _probe_r2(
            probe.one_hot(fitted_environment_PK, environment_codes),
            fitted.motion,
            probe.one_hot(encoded.environment_PK, environment_codes),
            heldout.motion,
        )
    modal_shares = [np.bincount(column).max() / len(column) for column in encoded.still_PK.T]
    return CodebookHealth(
        pairs=len(heldout),
        codes=quantizer.codes,
        perplexity=probe.perplexity(encoded.ego_PK, quantizer.codes),
        perplexity_per_token=[
            probe.perplexity(column, quantizer.codes) for column in encoded.ego_PK.T
        ],
        dead_codes=probe.dead_codes(encoded.ego_PK, quantizer.codes),
        speed_r2=speed,
        yaw_rate_r2=yaw_rate,
        acceleration_r2=acceleration,
        speed_r2_of_one_frame=one_frame[0],
        yaw_rate_r2_of_one_frame=one_frame[1],
        psnr_copy_db=float(copy),
        psnr_db=float(own),
        gain_over_copy_db=float(own - copy),
        controllability_db=float(own - other_ego),
        environment_controllability_db=float(own - other_environment) if has_environment else None,
        environment_perplexity=(
            probe.perplexity(encoded.environment_PK, environment_codes)
            if encoded.environment_PK is not None
            else None
        ),
        environment_speed_r2=environment[0],
        environment_yaw_rate_r2=environment[1],
        transfer_speed_r2=transfer[0],
        transfer_yaw_rate_r2=transfer[1],
        transfer_agreement=float((encoded.transferred_PK == encoded.ego_PK).mean()),
        still_agreement=float(np.mean(modal_shares)),
        road_seen=road_seen(model, heldout),
    )


def road_seen(model: LatentActionModel, pairs: FramePairs) -> float | None:
    """Share of the motion sweep's region that the images of these pairs show; None for a model
    without a sweep.
    """
    if model.ego.sweep is None:
        return None
    camera, counts = np.unique(pairs.camera, axis=0, return_counts=True)
    seen = (
        model.ego.sweep.road_seen(
            torch.from_numpy(camera).to(model.ego.move.position_embedding.device)
        )
        .cpu()
        .numpy()
    )
    return float(np.average(seen, weights=counts))


def _probe_r2(
    train_PF: np.ndarray,
    train_motion: np.ndarray,
    heldout_PF: np.ndarray,
    heldout_motion: np.ndarray,
    penalty: float = probe.RIDGE,
) -> list[float | None]:
    """R2 on held-out pairs of a probe fitted on training pairs, one for each target."""
    fitted = probe.Ridge(train_PF, train_motion, penalty)
    return probe.r_squared(fitted(heldout_PF), heldout_motion)


def batches(
    model: LatentActionModel, pairs: FramePairs
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """pair_tensors() of all pairs, in batches."""
    for rows in np.array_split(np.arange(len(pairs)), -(-len(pairs) // _BATCH)):
        yield pair_tensors(model, pairs, rows)


def pair_tensors(
    model: LatentActionModel, pairs: FramePairs, rows: np.ndarray
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both observations, camera numbers and conditions of some pairs, on the model's device."""
    device = model.ego.move.position_embedding.device
    first, second = (
        model.observe(torch.from_numpy(np.ascontiguousarray(images)).to(device))
        for images in (pairs.first(rows), pairs.second(rows))
    )
    camera, condition = (
        torch.from_numpy(numbers[rows]).to(device) for numbers in (pairs.camera, pairs.condition)
    )
    return first, second, camera, condition


@torch.no_grad()
def codes_of_pairs(
    model: LatentActionModel, pairs: FramePairs
) -> tuple[np.ndarray, np.ndarray | None]:
    """Ego codes (P, K) of all pairs, and environment codes if the model has them."""
    ego: list[np.ndarray] = []
    environment: list[np.ndarray] = []
    for first, second, camera, condition in batches(model, pairs):
        ego.append(model.ego.encode(first, second, camera).codes_BK.cpu().numpy())
        quantized = model.environment_of(first, second, condition)
        if quantized is not None:
            environment.append(quantized.codes_BK.cpu().numpy())
    return np.concatenate(ego), np.concatenate(environment) if environment else None


@torch.no_grad()
def encode_pairs(model: LatentActionModel, pairs: FramePairs) -> _Encoded:
    """Codes and PSNR of all pairs. "Another pair" is the one half a batch away, so of another place
    or log.
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
        other_first = first.roll(shift, 0)
        moved = model.ego.predict(other_first, ego.values_BKD, None).ego_motion_BCHW
        psnr = torch.stack(
            [
                psnr_db(predicted, second)
                for predicted in (first, own, other_ego, other_environment)
            ],
            dim=1,
        )
        parts.append(
            [
                tensor.cpu().numpy()
                for tensor in (
                    ego.codes_BK,
                    environment.codes_BK if environment else ego.codes_BK,
                    model.ego.encode(other_first, moved, camera.roll(shift, 0)).codes_BK,
                    model.ego.encode(first, first, camera).codes_BK,
                    psnr,
                )
            ]
        )
    ego_PK, environment_PK, transferred_PK, still_PK, psnr_P4 = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    return _Encoded(
        ego_PK, environment_PK if model.environment else None, transferred_PK, still_PK, psnr_P4
    )
