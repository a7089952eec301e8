"""Renders a camera on the ego: sky, textured ground, shadows, and polygon models from far to near.

The ground is one look-up into the town's ground texture; quads are culled and projected as arrays,
and only the visible ones are drawn one by one. Legend: H x W pixels, n instances, m quads.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from ops.synthesize.film.camera import Camera
from ops.synthesize.film.ground import METRES_PER_PIXEL, Ground
from ops.synthesize.film.mesh_batch import MeshBatch, quads_of
from ops.synthesize.film.props import Instances

NEAR_M = 0.2
# models that have a shadow
CASTERS = ("sedan", "hatchback", "van", "truck", "person", "cyclist", "tree", "post", "cone")
SHADOW_REACH_M = 55.0
_SHIFT = 4


@dataclass(frozen=True, slots=True)
class Light:
    """Weather and time of day."""

    sun: tuple[float, float, float]  # direction towards the sun, unit length, world frame
    ambient: float  # brightness without sun
    direct: float  # brightness added by the sun
    tint: tuple[float, float, float]  # colour of the light
    zenith: tuple[float, float, float]  # sky colours, RGB
    horizon: tuple[float, float, float]
    haze_m: float  # distance at which haze hides 63 % of a colour
    shadow: float  # share of the light that a shadow removes
    lamps: bool = False  # headlights on


@dataclass(frozen=True, slots=True)
class ShadowCasters:
    """Ground outlines of the S instances that have a shadow."""

    foot: np.ndarray  # (S, 4, 2) float32 world
    # (S, 2) metres: heights that cast the near and the far edge of the shadow
    rise: np.ndarray


class Renderer:
    """A camera in a town under a light; `render` draws one frame."""

    def __init__(
        self,
        camera: Camera,
        ground: Ground,
        static: MeshBatch,
        casters: ShadowCasters,
        light: Light,
        seed: int,
    ) -> None:
        self.camera, self.ground, self.light = camera, ground, light
        self.sun = np.array(light.sun, np.float32)
        self.tint, self.horizon = (
            np.array(light.tint, np.float32),
            np.array(light.horizon, np.float32),
        )
        self.static, self.casters = self._lit(static), casters
        keep = np.exp(-camera.ground_depth / light.haze_m).astype(np.float32)[:, None, None]
        shape = (len(keep), camera.width, 3)
        self._ground_gain = np.broadcast_to(
            keep * self.tint * (light.ambient + light.direct * self.sun[2]), shape
        ).copy()
        self._ground_haze = np.broadcast_to((1 - keep) * self.horizon, shape).copy()
        self._bands = self._mip_bands()
        self._sky = _panorama(camera, light, seed)
        self._sky_x, self._sky_y = self._sky_look_up()
        self._to_ego = camera.to_ego[:3, :3].astype(np.float32)
        self._eye_ego = camera.to_ego[:3, 3]

    def render(
        self, ego: np.ndarray, moving: list[MeshBatch], casters: ShadowCasters
    ) -> np.ndarray:
        """Image (H, W, 3) uint8 RGB from the ego pose (3,), with moving quads and their shadows."""
        image = np.empty((self.camera.height, self.camera.width, 3), np.uint8)
        cos, sin = np.cos(ego[2]), np.sin(ego[2])
        to_world = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        eye = (np.append(ego[:2], 0.0) + to_world @ self._eye_ego).astype(np.float32)
        turn = (to_world @ self._to_ego).astype(np.float32)  # camera frame -> world
        self._draw_sky(image, ego)
        self._draw_ground(image, ego, [self.casters, casters], eye, turn)
        self._draw_quads(
            image,
            [
                self._visible_quads(batch, eye, turn)
                for batch in (self.static, *map(self._lit, moving))
            ],
        )
        return image

    def _lit(self, batch: MeshBatch) -> MeshBatch:
        """The batch with its colours under the light, without haze."""
        sunny = np.maximum(batch.normal @ self.sun, 0.0)
        brightness = (self.light.ambient + self.light.direct * sunny)[:, None] * self.tint
        return replace(
            batch, colour=np.where(batch.luminous[:, None], batch.colour, batch.colour * brightness)
        )

    def _visible_quads(
        self, batch: MeshBatch, eye: np.ndarray, turn: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Camera-frame corners (m, 4, 3), colours with haze (m, 3) and distances (m,) of the quads
        that face the camera.
        """
        away_x, away_y = batch.position_xy[:, 0] - eye[0], batch.position_xy[:, 1] - eye[1]
        distance = np.sqrt(away_x * away_x + away_y * away_y)
        ahead = away_x * turn[0, 2] + away_y * turn[1, 2]
        side = np.abs(away_x * turn[0, 0] + away_y * turn[1, 0])
        # a little more than the tangent of half the field of view
        half_view = 0.53 / self.camera.focal_share
        chosen = np.flatnonzero(
            (distance < batch.draw_distance_m)
            & (ahead > -batch.radius_m)
            & (side < np.maximum(ahead, 0) * half_view + 2.0 + 1.8 * batch.radius_m)
        )
        rows, owner = quads_of(batch, chosen)
        distance = distance[chosen][owner]
        keep = distance < batch.detail_m[rows]
        rows, distance = rows[keep], distance[keep]
        toward = batch.corners[rows, 0] - eye
        normal = batch.normal[rows]
        keep = (
            toward[:, 0] * normal[:, 0] + toward[:, 1] * normal[:, 1] + toward[:, 2] * normal[:, 2]
            < 0
        )
        rows, distance = rows[keep], distance[keep]
        clear = np.exp(-distance / self.light.haze_m)
        clear = np.where(batch.luminous[rows], np.sqrt(clear), clear)[:, None]
        corners = ((batch.corners[rows] - eye).reshape(-1, 3) @ turn).reshape(-1, 4, 3)
        return corners, batch.colour[rows] * clear + self.horizon * (1 - clear), distance

    def _draw_quads(
        self, image: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    ) -> None:
        """Draw quads from far to near; `parts` are results of `_visible_quads`."""
        corners, colour, distance = (np.concatenate([part[i] for part in parts]) for i in range(3))
        depth = corners[..., 2]
        nearest, farthest = depth.min(axis=1), depth.max(axis=1)
        is_ahead = nearest > NEAR_M
        k = self.camera.intrinsics.astype(np.float32)
        scale = k[0, 0] / np.maximum(depth, NEAR_M)
        x, y = corners[..., 0] * scale + k[0, 2], corners[..., 1] * scale + k[1, 2]
        left, right, top, bottom = x.min(axis=1), x.max(axis=1), y.min(axis=1), y.max(axis=1)
        shown = (
            is_ahead & (right > 0) & (bottom > 0) & (left < image.shape[1]) & (top < image.shape[0])
        )
        shown &= (
            (np.maximum(right - left, bottom - top) > 0.7)
            & (right - left < 20000)
            & (bottom - top < 20000)
        )
        drawn = np.flatnonzero(shown | (~is_ahead & (farthest > NEAR_M)))
        drawn = drawn[np.argsort(-distance[drawn], kind="stable")]
        rings = np.round(np.stack([x[drawn], y[drawn]], axis=2) * 2**_SHIFT).astype(np.int32)
        colours = np.clip(colour[drawn], 0, 255).tolist()
        for index, (ring, rgb, complete) in enumerate(
            zip(rings, colours, shown[drawn].tolist(), strict=True)
        ):
            if not complete:
                ring = self._clipped(corners[drawn[index]])
            cv2.fillConvexPoly(image, ring, rgb, cv2.LINE_AA, _SHIFT)

    def _clipped(self, corners: np.ndarray) -> np.ndarray:
        """Fixed-point pixels of a quad cut at the near plane."""
        kept = []
        for corner, following in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if corner[2] > NEAR_M:
                kept.append(corner)
            if (corner[2] > NEAR_M) != (following[2] > NEAR_M):
                share = (NEAR_M + 1e-4 - corner[2]) / (following[2] - corner[2])
                kept.append(corner + (following - corner) * share)
        pixels = np.clip(self.camera.project(np.array(kept)), -60000, 60000)
        return np.round(pixels * 2**_SHIFT).astype(np.int32)

    def _draw_sky(self, image: np.ndarray, ego: np.ndarray) -> None:
        around = self._sky.shape[1]
        first = np.float32(-(ego[2] + self.camera.yaw_rad) / (2 * np.pi) * around % around)
        rows = self._sky.shape[0]
        image[:rows] = cv2.remap(
            self._sky,
            self._sky_x + first,
            self._sky_y,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )

    def _draw_ground(
        self,
        image: np.ndarray,
        ego: np.ndarray,
        casters: list[ShadowCasters],
        eye: np.ndarray,
        turn: np.ndarray,
    ) -> None:
        top, xy = self.camera.horizon_row, self.camera.ground_xy
        cos, sin = np.float32(np.cos(ego[2])), np.float32(np.sin(ego[2]))
        east = np.float32(ego[0]) + cos * xy[..., 0] - sin * xy[..., 1]
        north = np.float32(ego[1]) + sin * xy[..., 0] + cos * xy[..., 1]
        ground = np.empty((*east.shape, 3), np.uint8)
        for level, rows in self._bands:
            scale = np.float32(1.0 / (METRES_PER_PIXEL * 2**level))
            ground[rows] = cv2.remap(
                self.ground.levels[level],
                east[rows] * scale - np.float32(0.5),
                north[rows] * scale - np.float32(0.5),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        shade = np.full(ground.shape[:2], 255, np.uint8)
        for group in casters:
            self._draw_shadows(shade, top, group, eye, turn)
        shade_rgb = cv2.cvtColor(cv2.blur(shade, (2, 2)), cv2.COLOR_GRAY2RGB)
        lit = cv2.multiply(
            cv2.multiply(ground, shade_rgb, scale=1 / 255), self._ground_gain, dtype=cv2.CV_32F
        )
        image[top:] = cv2.add(lit, self._ground_haze, dtype=cv2.CV_8U)

    def _draw_shadows(
        self, shade: np.ndarray, top: int, casters: ShadowCasters, eye: np.ndarray, turn: np.ndarray
    ) -> None:
        """Darken the ground between each caster and the shadow of its top, as one convex shape."""
        away = casters.foot[:, 0] - eye[:2]
        ahead = away[:, 0] * turn[0, 2] + away[:, 1] * turn[1, 2]
        near = np.flatnonzero((ahead > 0) & (np.abs(away).max(axis=1) < SHADOW_REACH_M))
        if not len(near):
            return
        step = -self.sun[:2] / max(float(self.sun[2]), 0.25)
        foot, rise = casters.foot[near], casters.rise[near]
        # (S, 8, 2)
        ring = np.concatenate(
            [foot + step * rise[:, :1, None], foot + step * rise[:, 1:, None]], axis=1
        )
        away = ring - eye[:2]
        depth = away[..., 0] * turn[0, 2] + away[..., 1] * turn[1, 2] - eye[2] * turn[2, 2]
        is_ahead = (depth > 0.8).all(axis=1)
        away, depth = away[is_ahead], depth[is_ahead]
        k = self.camera.intrinsics.astype(np.float32)
        x = (
            away[..., 0] * turn[0, 0] + away[..., 1] * turn[1, 0] - eye[2] * turn[2, 0]
        ) / depth * k[0, 0] + k[0, 2]
        y = (
            (away[..., 0] * turn[0, 1] + away[..., 1] * turn[1, 1] - eye[2] * turn[2, 1])
            / depth
            * k[1, 1]
            + k[1, 2]
            - top
        )
        fixed = np.round(np.clip(np.stack([x, y], axis=2), -3000, 3000) * 2**_SHIFT).astype(
            np.int32
        )
        visible = (x.max(axis=1) > 0) & (x.min(axis=1) < shade.shape[1])
        brightness = 255 * (1 - self.light.shadow)
        for points in fixed[visible]:
            cv2.fillConvexPoly(shade, cv2.convexHull(points), (brightness,), cv2.LINE_AA, _SHIFT)

    def _sky_look_up(self) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of the panorama for each pixel above the horizon, at heading 0."""
        k = self.camera.intrinsics
        angle = np.arctan((np.arange(self.camera.width) - k[0, 2]) / k[0, 0])
        columns = angle / (2 * np.pi) * self._sky.shape[1]
        x, y = np.meshgrid(
            columns.astype(np.float32), np.arange(self._sky.shape[0], dtype=np.float32)
        )
        return x, y

    def _mip_bands(self) -> list[tuple[int, slice]]:
        """(level of the ground texture, image rows), by the width of ground that a pixel covers."""
        width_m = self.camera.ground_depth / self.camera.intrinsics[0, 0]
        level = np.round(np.log2(np.maximum(width_m * 1.3, 1e-6) / METRES_PER_PIXEL))
        level = np.clip(level, 0, len(self.ground.levels) - 1)
        bounds = [0, *(np.flatnonzero(np.diff(level)) + 1), len(level)]
        return [(int(level[a]), slice(a, b)) for a, b in pairwise(bounds)]


def make_shadow_casters(instances: Instances) -> ShadowCasters:
    """The shadow casters among instances."""
    instances = instances.take(np.isin(instances.model, CASTERS))
    is_tree = instances.model == "tree"
    half = instances.size_m[:, :2] * np.where(is_tree, 0.42, 0.5)[:, None]
    corner = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * half[:, None]
    cos, sin = np.cos(instances.yaw_rad)[:, None], np.sin(instances.yaw_rad)[:, None]
    foot = instances.position[:, None, :2] + np.stack(
        [corner[..., 0] * cos - corner[..., 1] * sin, corner[..., 0] * sin + corner[..., 1] * cos],
        axis=2,
    )
    low = instances.position[:, 2] + np.where(is_tree, 0.35 * instances.size_m[:, 2], 0.0)
    high = instances.position[:, 2] + 0.85 * instances.size_m[:, 2]
    return ShadowCasters(foot.astype(np.float32), np.stack([low, high], axis=1).astype(np.float32))


def _panorama(camera: Camera, light: Light, seed: int) -> np.ndarray:
    """The sky over 360 degrees, (rows, columns, 3) uint8 down to the horizon, with far hills."""
    rows = camera.horizon_row
    around = int(2 * np.pi * camera.intrinsics[0, 0])
    rng = np.random.default_rng([seed, 404])
    height = (np.linspace(1.0, 0.0, rows)[:, None, None] ** 0.8).astype(np.float32)
    sky = height * np.array(light.zenith, np.float32) + (1 - height) * np.array(
        light.horizon, np.float32
    )
    cloud = sum(
        weight * _round_noise(rng, shape, (rows, around))
        for weight, shape in ((1.0, (6, 48)), (0.4, (14, 120)))
    )
    cover = np.clip((cloud - 0.85) * 1.6, 0, 0.55)[:, :, None]
    sky = sky * (1 - cover) + np.array(light.horizon, np.float32) * 1.06 * cover
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)
    ridge = sum(
        a * np.sin(k * angle + p)
        for a, k, p in zip((2.2, 1.5, 0.9), (3, 7, 17), rng.uniform(0, 6, 3), strict=True)
    )
    hill = (np.arange(rows)[:, None] > rows - 5.5 + ridge[None])[:, :, None]
    sky = np.where(
        hill, np.array(light.horizon, np.float32) * np.array([0.80, 0.87, 0.90], np.float32), sky
    )
    return np.clip(sky, 0, 255).astype(np.uint8)


def _round_noise(
    rng: np.random.Generator, shape: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Smooth noise in [0, 1] whose left and right edges match, resized from `shape` to `size`."""
    coarse = np.pad(rng.random(shape, np.float32), ((0, 0), (3, 3)), mode="wrap")
    wide = cv2.resize(
        coarse,
        (round(size[1] * coarse.shape[1] / shape[1]), size[0]),
        interpolation=cv2.INTER_CUBIC,
    )
    margin = (wide.shape[1] - size[1]) // 2
    return wide[:, margin : margin + size[1]]
