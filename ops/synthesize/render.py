"""Draws what a camera on the ego sees: textured ground, shadows, sky, and polygon models far to near. Not where things are.

The ground is one look-up into the town's picture; models are turned, lit, culled and projected as arrays, and only the visible
polygons are drawn one by one. Legend: H x W pixels, n instances, Q quads of a model, m visible quads.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ops.synthesize.camera import Camera
from ops.synthesize.ground import METRES_PER_PIXEL, Ground
from ops.synthesize.props import Things
from ops.synthesize.shapes import LUMINOUS, MODELS, ROLES

FAR_M = {"post": 60.0, "house": 150.0, "block": 170.0, "tree": 95.0, "signal": 120.0, "board": 70.0, "person": 70.0}
FAR_ELSE_M = 110.0
NEAR_M = 0.2
_SHIFT = 4


@dataclass(frozen=True, slots=True)
class Light:
    """Weather and time of day."""

    name: str
    sun: tuple[float, float, float]     # direction towards the sun, unit length, world frame
    ambient: float                      # share of light without sun
    direct: float
    tint: tuple[float, float, float]    # colour of the light
    zenith: tuple[float, float, float]  # sky colours, RGB
    horizon: tuple[float, float, float]
    haze_m: float                       # distance at which two thirds of a colour are lost
    shadow: float                       # share of light a shadow takes away
    lamps: bool = False                 # headlights on


class Renderer:
    """A camera in a town under a light; `render` gives one frame."""

    def __init__(self, camera: Camera, ground: Ground, static: Things, light: Light, seed: int) -> None:
        self.camera, self.ground, self.light = camera, ground, light
        self.static = {name: static.take(static.model == name) for name in sorted(set(static.model))}
        self.sun = np.array(light.sun, np.float32)
        self.tint = np.array(light.tint, np.float32)
        self.horizon_colour = np.array(light.horizon, np.float32)
        keep = np.exp(-camera.ground_depth / light.haze_m).astype(np.float32)[:, None, None]
        self._gain = keep * self.tint * (light.ambient + light.direct * max(self.sun[2], 0.0))
        self._veil = (1 - keep) * self.horizon_colour
        self._bands = self._mip_bands()
        self._sky = _panorama(camera, light, seed)
        self._luminous = np.isin(np.arange(ROLES), LUMINOUS)
        self._rotation = camera.to_ego[:3, :3].astype(np.float32)
        self._eye = camera.to_ego[:3, 3].astype(np.float32)

    def render(self, ego: np.ndarray, moving: list[tuple[Things, np.ndarray | None]]) -> np.ndarray:
        """Image (H, W, 3) uint8 RGB from the ego pose (3,); `moving` are things with the stride of their limbs, or None."""
        image = np.empty((self.camera.height, self.camera.width, 3), np.uint8)
        groups = [(name, self._near(things, ego, FAR_M.get(name, FAR_ELSE_M)), None) for name, things in self.static.items()]
        for things, stride in moving:
            for name in sorted(set(things.model)):
                rows = np.flatnonzero(things.model == name)
                groups.append((name, self._near(things.take(rows), ego, FAR_M.get(name, FAR_ELSE_M)),
                               None if stride is None else stride[rows]))
        self._draw_sky(image, ego)
        self._draw_ground(image, ego, groups)
        self._draw_models(image, ego, groups)
        return image

    def _near(self, things: Things, ego: np.ndarray, reach_m: float) -> tuple[Things, np.ndarray, np.ndarray]:
        """Rows in sight with their ego-frame positions (n, 2); stays with all rows' mask for the stride."""
        away = things.position[:, :2] - ego[:2]
        cos, sin = np.cos(ego[2]), np.sin(ego[2])
        local = np.stack([away[:, 0] * cos + away[:, 1] * sin, away[:, 1] * cos - away[:, 0] * sin], axis=1)
        turn = self.camera.yaw_rad
        ahead = local[:, 0] * np.cos(turn) + local[:, 1] * np.sin(turn)
        side = local[:, 1] * np.cos(turn) - local[:, 0] * np.sin(turn)
        margin = 0.75 * things.size_m[:, :2].max(axis=1)
        seen = (ahead > -margin) & (np.hypot(*local.T) < reach_m) & (np.abs(side) < np.maximum(ahead, 0) * 0.9 + 3.0 + 1.5 * margin)
        return things.take(seen), local[seen].astype(np.float32), seen

    def _draw_sky(self, image: np.ndarray, ego: np.ndarray) -> None:
        around = self._sky.shape[1]
        first = int(round(-(ego[2] + self.camera.yaw_rad) / (2 * np.pi) * around)) % around
        columns = (first + self._sky_columns()) % around
        image[:self._sky.shape[0]] = self._sky[:, columns]

    def _sky_columns(self) -> np.ndarray:
        k = self.camera.intrinsics
        angle = np.arctan((np.arange(self.camera.width) - k[0, 2]) / k[0, 0])
        return np.round(angle / (2 * np.pi) * self._sky.shape[1]).astype(int)

    def _draw_ground(self, image: np.ndarray, ego: np.ndarray, groups: list) -> None:
        top = self.camera.horizon_row
        xy = self.camera.ground_xy
        cos, sin = np.float32(np.cos(ego[2])), np.float32(np.sin(ego[2]))
        east = np.float32(ego[0]) + cos * xy[..., 0] - sin * xy[..., 1]
        north = np.float32(ego[1]) + sin * xy[..., 0] + cos * xy[..., 1]
        seen = np.empty((*east.shape, 3), np.uint8)
        for level, rows in self._bands:
            scale = np.float32(1.0 / (METRES_PER_PIXEL * 2**level))
            seen[rows] = cv2.remap(self.ground.levels[level], east[rows] * scale - np.float32(0.5),
                                   north[rows] * scale - np.float32(0.5), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        shade = np.full(seen.shape[:2], 255, np.uint8)
        self._draw_shadows(shade, top, groups, ego)
        lit = seen * self._gain
        if self.light.shadow > 0:
            lit *= (1 - self.light.shadow + self.light.shadow / 255 * shade.astype(np.float32))[:, :, None]
        image[top:] = np.clip(lit + self._veil, 0, 255)

    def _draw_shadows(self, shade: np.ndarray, top: int, groups: list, ego: np.ndarray) -> None:
        """Darken the ground under and beside what stands on it: the foot and its displaced top, as one convex shape."""
        cos, sin = np.cos(-ego[2]), np.sin(-ego[2])
        toward = np.array([self.sun[0] * cos - self.sun[1] * sin, self.sun[0] * sin + self.sun[1] * cos]) / max(self.sun[2], 0.25)
        for name, (things, local, _), _ in groups:
            if name in ("house", "block", "signal", "board") or not len(local):
                continue
            yaw = things.yaw_rad - ego[2]
            half = things.size_m[:, :2] * (0.45 if name == "tree" else 0.5)
            corners = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * half[:, None]
            rotation = np.stack([np.cos(yaw), -np.sin(yaw), np.sin(yaw), np.cos(yaw)], axis=1).reshape(-1, 2, 2)
            foot = local[:, None] + np.einsum("nij,nkj->nki", rotation, corners)
            height = things.size_m[:, 2, None, None] * 0.8
            head = foot - toward * height
            if name == "tree":
                foot = head * 0.75 + foot * 0.25
            ring = np.concatenate([foot, head], axis=1)
            points = np.concatenate([ring, np.zeros((*ring.shape[:2], 1))], axis=2)
            seen = self.camera.to_camera(points)
            for corner in seen[(seen[..., 2] > 0.6).all(axis=1)]:
                pixels = self.camera.project(corner) - (0, top)
                if np.abs(pixels).max() < 3000:
                    hull = cv2.convexHull(np.round(pixels * 16).astype(np.int32))
                    cv2.fillConvexPoly(shade, hull, 0, cv2.LINE_AA, _SHIFT)

    def _draw_models(self, image: np.ndarray, ego: np.ndarray, groups: list) -> None:
        parts = [self._visible(name, things, local, None if stride is None else stride[seen], float(ego[2]))
                 for name, (things, local, seen), stride in groups if len(local)]
        if not parts:
            return
        corners, colour, distance = (np.concatenate([part[i] for part in parts]) for i in range(3))
        depth = corners[..., 2]
        whole = (depth > NEAR_M).all(axis=1)
        partly = ~whole & (depth > NEAR_M).any(axis=1)
        pixels = self.camera.project(np.maximum(corners, (-1e9, -1e9, NEAR_M)))
        low, high = pixels.min(axis=1), pixels.max(axis=1)
        size = (self.camera.width, self.camera.height)
        on_screen = whole & (high > 0).all(axis=1) & (low < size).all(axis=1) & ((high - low).max(axis=1) > 0.7)
        on_screen &= np.abs(pixels).max(axis=(1, 2)) < 20000
        order = np.argsort(-distance, kind="stable")
        fixed = np.round(pixels * 2**_SHIFT).astype(np.int32)
        colour = np.clip(colour, 0, 255).tolist()
        for index in order[(on_screen | partly)[order]]:
            ring = fixed[index] if on_screen[index] else self._clipped(corners[index])
            cv2.fillConvexPoly(image, ring, colour[index], cv2.LINE_AA, _SHIFT)

    def _visible(self, name: str, things: Things, local: np.ndarray, stride: np.ndarray | None,
                 ego_yaw: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Camera-frame corners (m, 4, 3), colours (m, 3) and sorting distances (m,) of the quads that face the camera."""
        model = MODELS[name]
        size = things.size_m.astype(np.float32)
        points = model.quads[None] * size[:, None, None]                                        # (n, Q, 4, 3)
        if stride is not None:
            points[..., 0] += model.stride[None] * (stride * 0.55)[:, None, None]
        yaw = (things.yaw_rad - ego_yaw).astype(np.float32)
        cos, sin = np.cos(yaw)[:, None, None], np.sin(yaw)[:, None, None]
        world = np.empty_like(points)
        world[..., 0] = points[..., 0] * cos - points[..., 1] * sin + local[:, None, None, 0]
        world[..., 1] = points[..., 0] * sin + points[..., 1] * cos + local[:, None, None, 1]
        world[..., 2] = points[..., 2] + things.position[:, None, None, 2].astype(np.float32)
        away = local - self._eye[:2]
        distance = np.hypot(away[:, 0], away[:, 1])
        normal = np.cross(world[:, :, 1] - world[:, :, 0], world[:, :, 3] - world[:, :, 0])
        facing = ((world[:, :, 0] - self._eye) * normal).sum(axis=2) < 0
        which, quad = np.nonzero(facing & (distance[:, None] < model.detail_m))
        normal = normal[which, quad]
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        role = model.role[quad]
        turn = np.array([[np.cos(ego_yaw), np.sin(ego_yaw)], [-np.sin(ego_yaw), np.cos(ego_yaw)]]) @ self.sun[:2]
        toward_sun = normal[:, 0] * turn[0] + normal[:, 1] * turn[1] + normal[:, 2] * self.sun[2]
        brightness = self.light.ambient + self.light.direct * np.maximum(toward_sun, 0.0)
        luminous = self._luminous[role]
        colour = things.colour[which, role]
        colour = np.where(luminous[:, None], colour, colour * brightness[:, None] * self.tint)
        keep = np.exp(-distance[which] / self.light.haze_m)
        keep = np.where(luminous, np.sqrt(keep), keep)[:, None]
        corners = (world[which, quad] - self._eye) @ self._rotation
        return corners, colour * keep + self.horizon_colour * (1 - keep), distance[which]

    def _clipped(self, corners: np.ndarray) -> np.ndarray:
        """Fixed-point pixels of a quad cut at the near plane."""
        kept = []
        for here, there in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if here[2] > NEAR_M:
                kept.append(here)
            if (here[2] > NEAR_M) != (there[2] > NEAR_M):
                kept.append(here + (there - here) * ((NEAR_M + 1e-4 - here[2]) / (there[2] - here[2])))
        pixels = np.clip(self.camera.project(np.array(kept)), -60000, 60000)
        return np.round(pixels * 2**_SHIFT).astype(np.int32)

    def _mip_bands(self) -> list[tuple[int, slice]]:
        """Runs of rows that share a level of the ground picture, by the width of ground one pixel sees."""
        width_m = self.camera.ground_depth / self.camera.intrinsics[0, 0]
        level = np.clip(np.round(np.log2(np.maximum(width_m * 1.6, 1e-6) / METRES_PER_PIXEL)), 0, len(self.ground.levels) - 1)
        cuts = np.flatnonzero(np.diff(level)) + 1
        bounds = [0, *cuts, len(level)]
        return [(int(level[a]), slice(a, b)) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def _panorama(camera: Camera, light: Light, seed: int) -> np.ndarray:
    """The sky all around, (rows to the horizon, around, 3) uint8: a gradient, clouds, and far hills."""
    rows = camera.horizon_row
    around = int(2 * np.pi * camera.intrinsics[0, 0])
    rng = np.random.default_rng([seed, 404])
    height = (np.linspace(1.0, 0.0, rows)[:, None, None] ** 0.8).astype(np.float32)
    sky = height * np.array(light.zenith, np.float32) + (1 - height) * np.array(light.horizon, np.float32)
    cloud = cv2.resize(rng.random((6, 48), np.float32), (around, rows), interpolation=cv2.INTER_CUBIC)
    cloud += 0.4 * cv2.resize(rng.random((14, 120), np.float32), (around, rows), interpolation=cv2.INTER_CUBIC)
    cover = np.clip((cloud - 0.85) * 1.6, 0, 0.55)[:, :, None]
    sky = sky * (1 - cover) + np.array(light.horizon, np.float32) * 1.06 * cover
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)
    ridge = sum(a * np.sin(k * angle + p) for a, k, p in zip((2.2, 1.5, 0.9), (3, 7, 17), rng.uniform(0, 6, 3), strict=True))
    hill = (np.arange(rows)[:, None] > rows - 5.5 + ridge[None])[:, :, None]
    sky = np.where(hill, np.array(light.horizon, np.float32) * np.array([0.80, 0.87, 0.90], np.float32), sky)
    return np.clip(sky, 0, 255).astype(np.uint8)
