"""Model instances as one batch of world-frame quads that are lit, culled and projected as arrays.

Legend: n instances, m quads, Q quads of the largest model.
"""

from dataclasses import dataclass

import numpy as np

from ops.synthesize.film.props import Instances
from ops.synthesize.film.shapes import LUMINOUS, MODELS, ROLES

# instances are drawn only when nearer than this
DRAW_DISTANCE_M = {
    "post": 60.0,
    "house": 150.0,
    "block": 170.0,
    "tree": 95.0,
    "signal": 120.0,
    "board": 70.0,
    "person": 70.0,
}
DEFAULT_DRAW_DISTANCE_M = 110.0

_NAMES = sorted(MODELS)
_INDEX = {name: index for index, name in enumerate(_NAMES)}
_MAX_QUADS = max(len(model.quads) for model in MODELS.values())


def _padded(field: str, *shape: int) -> np.ndarray:
    out = np.zeros((len(_NAMES), _MAX_QUADS, *shape), np.float32)
    for index, name in enumerate(_NAMES):
        values = getattr(MODELS[name], field)
        out[index, : len(values)] = values
    return out


_QUADS, _STRIDE, _ROLE, _DETAIL = (
    _padded("quads", 4, 3),
    _padded("stride", 4),
    _padded("role").astype(int),
    _padded("detail_m"),
)
_USED = np.arange(_MAX_QUADS) < np.array([len(MODELS[name].quads) for name in _NAMES])[:, None]
_DRAW_DISTANCE = np.array(
    [DRAW_DISTANCE_M.get(name, DEFAULT_DRAW_DISTANCE_M) for name in _NAMES], np.float32
)
_IS_LUMINOUS = np.isin(np.arange(ROLES), LUMINOUS)


@dataclass(frozen=True, slots=True)
class MeshBatch:
    """Quads of n instances, one instance after the other; later quads of an instance are drawn over
    earlier ones.
    """

    corners: np.ndarray  # (m, 4, 3) float32 world
    normal: np.ndarray  # (m, 3) float32 unit length, outwards
    colour: np.ndarray  # (m, 3) float32 RGB
    luminous: np.ndarray  # (m,) bool: not shaded
    detail_m: np.ndarray  # (m,) float32; drawn only when nearer
    first: np.ndarray  # (n + 1,) int64: quads of instance i are first[i]:first[i + 1]
    position_xy: np.ndarray  # (n, 2) float32
    radius_m: np.ndarray  # (n,) float32
    draw_distance_m: np.ndarray  # (n,) float32; drawn only when nearer


def make_mesh_batch(instances: Instances, stride: np.ndarray | None = None) -> MeshBatch:
    """The quads of instances; `stride` (n,) in [-1, 1] swings the limbs of pedestrians."""
    # int also without instances
    model = np.array([_INDEX[name] for name in instances.model], int)
    size = instances.size_m.astype(np.float32)
    # (n, Q, 4, 3)
    local = _QUADS[model] * size[:, None, None]
    if stride is not None:
        local[..., 0] += _STRIDE[model] * (0.55 * stride.astype(np.float32))[:, None, None]
    cos, sin = (f(instances.yaw_rad).astype(np.float32)[:, None] for f in (np.cos, np.sin))
    used = _USED[model]
    instance = np.repeat(np.arange(len(model)), used.sum(axis=1))
    # (m, 4, 3)
    local = local[used]
    cos, sin, foot = cos[instance], sin[instance], instances.position.astype(np.float32)[instance]
    corners = np.empty_like(local)
    corners[..., 0] = local[..., 0] * cos - local[..., 1] * sin + foot[:, :1]
    corners[..., 1] = local[..., 0] * sin + local[..., 1] * cos + foot[:, 1:2]
    corners[..., 2] = local[..., 2] + foot[:, 2:]
    role = _ROLE[model][used]
    return MeshBatch(
        corners,
        _normals(corners),
        instances.colour[instance, role].astype(np.float32),
        _IS_LUMINOUS[role],
        _DETAIL[model][used],
        np.concatenate([[0], np.cumsum(used.sum(axis=1))]),
        instances.position[:, :2].astype(np.float32),
        0.75 * size[:, :2].max(axis=1),
        _DRAW_DISTANCE[model],
    )


def quads_of(batch: MeshBatch, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (m',) of the quads of the `chosen` instances (indexes), and their rows in `chosen`."""
    count = batch.first[chosen + 1] - batch.first[chosen]
    owner = np.repeat(np.arange(len(chosen)), count)
    begin = np.cumsum(count) - count
    return np.arange(count.sum()) - begin[owner] + batch.first[chosen][owner], owner


def _normals(corners: np.ndarray) -> np.ndarray:
    a, b = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
    out = np.stack(
        [
            a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
            a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
            a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
        ],
        axis=1,
    )
    return out / np.maximum(np.sqrt((out * out).sum(axis=1, keepdims=True)), 1e-6)
