"""Pictures of a codebook: predicted frames, and the motion that each code stands for."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.latent_action.model import LatentActionModel
from ops.latent_actions.frame_pairs import FramePairs
from ops.latent_actions.health import pair_tensors

_ROWS = 4  # pairs in the picture of predictions


@torch.no_grad()
def draw_predictions(model: LatentActionModel, pairs: FramePairs, file: Path) -> None:
    """Draw earlier frame, later frame, prediction and ego-motion flow of a few pairs of different
    speeds.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    order = np.argsort(pairs.motion[:, 0])
    rows = order[(np.linspace(0.2, 0.95, _ROWS) * (len(order) - 1)).astype(int)]
    first, second, camera, condition = pair_tensors(model, pairs, rows)
    environment = model.environment_of(first, second, condition)
    predicted = model.ego.predict(
        first,
        model.ego.encode(first, second, camera).values_BKD,
        environment.values_BKD if environment else None,
    )
    figure, axes = pyplot.subplots(
        _ROWS, 4, figsize=(12, 1.9 * _ROWS), layout="constrained", squeeze=False
    )
    for line, row in enumerate(rows):
        shown = [
            pairs.first(np.array([row]))[0],
            pairs.second(np.array([row]))[0],
            _image(predicted.whole_BCHW[line]),
            pairs.first(np.array([row]))[0],
        ]
        for axis, image in zip(axes[line], shown, strict=True):
            axis.imshow(image)
            axis.set_axis_off()
        _arrows(axes[line, 3], predicted.flow_B2HW[line], shown[3].shape[:2])
        axes[line, 0].set_title(
            f"{pairs.motion[row, 0]:.1f} m/s, {pairs.motion[row, 1]:+.2f} rad/s", fontsize=8
        )
    for axis, name in zip(
        axes[0, 1:], ("later frame", "predicted", "motion of the codes"), strict=True
    ):
        axis.set_title(name, fontsize=8)
    figure.savefig(file, dpi=90)
    pyplot.close(figure)


@torch.no_grad()
def draw_codes(model: LatentActionModel, pairs: FramePairs, file: Path) -> None:
    """Draw one frame for every code of every token, the other tokens unchanged; arrows are the
    change of the motion.

    At most 16 codes are drawn, the first of the codebook. They are sorted by the first component of
    their entries; one-dimensional codes are thus in order.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    quantizer = model.config.ego_quantizer
    shown_codes = min(quantizer.codes, 16)
    row = np.argsort(pairs.motion[:, 0])[[len(pairs) // 2]]
    first, second, camera, _ = pair_tensors(model, pairs, row)
    own_BK = model.ego.encode(first, second, camera).codes_BK
    grid = own_BK.repeat(quantizer.tokens * shown_codes, 1)
    order = (
        model.ego.quantizer.embed(torch.arange(shown_codes, device=first.device)[:, None])[:, 0, 0]
        .argsort()
        .cpu()
    )
    token, code = torch.arange(len(grid)) // shown_codes, order.repeat(quantizer.tokens)
    grid[torch.arange(len(grid)), token] = code.to(grid)
    values = model.ego.quantizer.embed(torch.cat([own_BK, grid]))
    flow = model.ego.predict(first.expand(len(values), -1, -1, -1), values, None).flow_B2HW
    image = pairs.first(row)[0]
    height, width = image.shape[:2]
    # all tiles on one axis: matplotlib needs seconds for the layout of one axis per tile
    figure, axis = pyplot.subplots(
        figsize=(1.5 * shown_codes, 1.05 * quantizer.tokens), layout="constrained"
    )
    axis.imshow(np.tile(image, (quantizer.tokens, shown_codes, 1)), alpha=0.45)
    for tile, (change, t, c) in enumerate(
        zip(flow[1:] - flow[:1], token.tolist(), code.tolist(), strict=True)
    ):
        left = tile % shown_codes * width
        _arrows(axis, change, (height, width), corner=(t * height, left))
        if int(own_BK[0, t]) == c:
            axis.text(left + 2, t * height + 2, "own", fontsize=7, verticalalignment="top")
    axis.set_xticks(
        (np.arange(shown_codes) + 0.5) * width, [f"code {c}" for c in order.tolist()], fontsize=8
    )
    axis.set_yticks(
        (np.arange(quantizer.tokens) + 0.5) * height,
        [f"token {t}" for t in range(quantizer.tokens)],
        fontsize=8,
    )
    axis.tick_params(length=0)
    axis.hlines(
        np.arange(1, quantizer.tokens) * height - 0.5,
        -0.5,
        shown_codes * width - 0.5,
        color="white",
        linewidth=2,
    )
    axis.vlines(
        np.arange(1, shown_codes) * width - 0.5,
        -0.5,
        quantizer.tokens * height - 0.5,
        color="white",
        linewidth=2,
    )
    figure.savefig(file, dpi=80)
    pyplot.close(figure)


def _image(observation_CHW: torch.Tensor) -> np.ndarray:
    """Pixels as an image; of features, the mean over channels in grey."""
    if len(observation_CHW) == 3:
        return observation_CHW.clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    grey = observation_CHW.mean(0).cpu().numpy()
    return np.repeat(((grey - grey.min()) / (np.ptp(grey) + 1e-9))[..., None], 3, axis=2)


def _arrows(
    axis: Any, flow_2HW: torch.Tensor, image_hw: tuple[int, int], corner: tuple[int, int] = (0, 0)
) -> None:
    """Draw the motion of the scene on a coarse grid; arrows point forward, against the flow, which
    points to where a pixel came from.
    """
    flow = -flow_2HW.cpu().numpy()
    rows, columns = (
        np.linspace(size * 0.06, size * 0.94, count).astype(int)
        for size, count in zip(flow.shape[1:], (5, 7), strict=True)
    )
    y, x = (
        corner[0] + (rows + 0.5) / flow.shape[1] * image_hw[0],
        corner[1] + (columns + 0.5) / flow.shape[2] * image_hw[1],
    )
    right, down = (
        flow[channel][np.ix_(rows, columns)] * size / 2
        for channel, size in ((0, image_hw[1]), (1, image_hw[0]))
    )
    axis.quiver(
        *np.meshgrid(x, y),
        right,
        down,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.8,
        units="x",
        color="#d6006c",
    )
