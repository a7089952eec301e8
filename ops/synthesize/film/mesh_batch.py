"""Things turned into loose world-frame quadrilaterals that can be lit, culled and projected as
arrays. Not drawn here.

Legend: n things, m quads, Q quads of the largest model.
"""

from dataclasses import dataclass

import numpy as np

from ops.synthesize.film.props import Things
from ops.synthesize.film.shapes import LUMINOUS, MODELS, ROLES

FAR_M = {
    "post": 60.0,
    "house": 150.0,
    "block": 170.0,
    "tree": 95.0,
    "signal": 120.0,
    "board": 70.0,
    "person": 70.0,
}
FAR_ELSE_M = 110.0

_NAMES = sorted(MODELS)
_INDEX = {name: index for index, name in enumerate(_NAMES)}
_WIDEST = max(len(model.quads) for model in MODELS.values())


def _padded(field: str, *shape: int) -> np.ndarray:
    out = np.zeros((len(_NAMES), _WIDEST, *shape), np.float32)
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
_USED = np.arange(_WIDEST) < np.array([len(MODELS[name].quads) for name in _NAMES])[:, None]
_REACH = np.array([FAR_M.get(name, FAR_ELSE_M) for name in _NAMES], np.float32)
_IS_LUMINOUS = np.isin(np.arange(ROLES), LUMINOUS)


@dataclass(frozen=True, slots=True)
class MeshBatch:
    """Quads of n things; quads of one thing lie together and later ones are drawn over earlier
    ones.
    """

    corners: np.ndarray  # (m, 4, 3) float32 world
    normal: np.ndarray  # (m, 3) float32 unit length, outwards
    colour: np.ndarray  # (m, 3) float32 RGB
    luminous: np.ndarray  # (m,) bool: shows its colour in any light
    detail_m: np.ndarray  # (m,) float32 drawn only when nearer
    first: np.ndarray  # (n + 1,) int64: quads of thing i are first[i]:first[i + 1]
    place: np.ndarray  # (n, 2) float32
    radius_m: np.ndarray  # (n,) float32
    reach_m: np.ndarray  # (n,) float32 drawn only when nearer


def make_mesh_batch(things: Things, stride: np.ndarray | None = None) -> MeshBatch:
    """Expand things; `stride` (n,) in [-1, 1] swings the limbs of walkers."""
    # int also where nothing is near
    model = np.array([_INDEX[name] for name in things.model], int)
    size = things.size_m.astype(np.float32)
    # (n, Q, 4, 3)
    local = _QUADS[model] * size[:, None, None]
    if stride is not None:
        local[..., 0] += _STRIDE[model] * (0.55 * stride.astype(np.float32))[:, None, None]
    cos, sin = (f(things.yaw_rad).astype(np.float32)[:, None] for f in (np.cos, np.sin))
    used = _USED[model]
    thing = np.repeat(np.arange(len(model)), used.sum(axis=1))
    # (m, 4, 3)
    local = local[used]
    cos, sin, foot = cos[thing], sin[thing], things.position.astype(np.float32)[thing]
    corners = np.empty_like(local)
    corners[..., 0] = local[..., 0] * cos - local[..., 1] * sin + foot[:, :1]
    corners[..., 1] = local[..., 0] * sin + local[..., 1] * cos + foot[:, 1:2]
    corners[..., 2] = local[..., 2] + foot[:, 2:]
    role = _ROLE[model][used]
    return MeshBatch(
        corners,
        _normals(corners),
        things.colour[thing, role].astype(np.float32),
        _IS_LUMINOUS[role],
        _DETAIL[model][used],
        np.concatenate([[0], np.cumsum(used.sum(axis=1))]),
        things.position[:, :2].astype(np.float32),
        0.75 * size[:, :2].max(axis=1),
        _REACH[model],
    )


def join_soups(soups: list[MeshBatch]) -> MeshBatch:
    """All of several, in order."""
    fields = [
        np.concatenate([getattr(batch, name) for batch in soups]) for name in MeshBatch.__slots__
    ]
    starts = np.cumsum([0, *(batch.first[-1] for batch in soups[:-1])])
    ends = [batch.first[1:] + start for batch, start in zip(soups, starts, strict=True)]
    fields[MeshBatch.__slots__.index("first")] = np.concatenate([[0], *ends])
    return MeshBatch(*fields)


def pick(batch: MeshBatch, things: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (m',) of the quads of the chosen things (indices), and for each the position in
    `things`.
    """
    count = batch.first[things + 1] - batch.first[things]
    which = np.repeat(np.arange(len(things)), count)
    begin = np.cumsum(count) - count
    return np.arange(count.sum()) - begin[which] + batch.first[things][which], which


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
