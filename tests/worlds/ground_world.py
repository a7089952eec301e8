"""A camera that drives over a textured plane: the smallest world in which codes can carry ego
motion.
"""

import numpy as np

from storage.dataset import FrameSet

FOCAL, HORIZON, CAMERA_HEIGHT_M, METRES_A_TEXEL = 30.0, 10, 1.5, 0.25


def drive(
    logs: int,
    *,
    seed: int,
    frames: int = 12,
    hz: float = 2.0,
    standing: bool = False,
    split: str = "train",
    image_hw: tuple[int, int] = (32, 48),
) -> FrameSet:
    """Rows of `logs` drives of `frames` frames each. With `standing`, the camera does not move, but
    the recorded poses do.
    """
    rng = np.random.default_rng(seed)
    parts = [
        _one_drive(rng, f"{split}-{number:02d}", frames, 1 / hz, standing, image_hw)
        for number in range(logs)
    ]
    return FrameSet(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in FrameSet.__slots__)
    )


def _one_drive(
    rng: np.random.Generator,
    log: str,
    frames: int,
    step_s: float,
    standing: bool,
    image_hw: tuple[int, int],
) -> FrameSet:
    acceleration, yaw_rate = rng.normal(0, 0.5), rng.normal(0, 0.2)
    time_s = np.arange(frames) * step_s
    speed = np.clip(rng.uniform(0, 9) + acceleration * time_s, 0, 12)
    yaw = rng.uniform(-np.pi, np.pi) + yaw_rate * time_s
    velocity = speed[:, None] * np.column_stack([np.cos(yaw), np.sin(yaw)])
    position = np.cumsum(
        np.concatenate([np.zeros((1, 2)), (velocity[1:] + velocity[:-1]) / 2 * step_s]), axis=0
    )
    poses = np.column_stack([position, yaw])
    texture = _texture(rng)
    images = np.stack(
        [_render(texture, poses[0] if standing else pose, image_hw) for pose in poses]
    )
    zeros, no_codes = np.zeros(frames), np.zeros((frames, 12))
    return FrameSet(
        log_id=np.array([log] * frames, dtype=object),
        frame_index=np.arange(frames, dtype=np.int32),
        timestamp_us=(time_s * 1e6).astype(np.int64),
        images=images,
        has_image=np.ones(frames, bool),
        camera=np.tile(_camera(image_hw), (frames, 1)),
        pose_world=poses,
        velocity=np.column_stack([speed, zeros]).astype(np.float32),
        yaw_rate=np.full(frames, yaw_rate, np.float32),
        acceleration=np.column_stack([np.full(frames, acceleration), zeros]).astype(np.float32),
        command=zeros.astype(np.int64),
        history=np.zeros((frames, 4, 3), np.float32),
        history_valid=np.zeros((frames, 4), bool),
        future=np.zeros((frames, 8, 3), np.float32),
        future_valid=np.zeros((frames, 8), bool),
        codes=no_codes.astype(np.int64),
        codes_valid=no_codes.astype(bool),
        tags=np.array([*([()] * frames), None], dtype=object)[:-1],
    )


def _camera(image_hw: tuple[int, int]) -> np.ndarray:
    """Camera numbers (19,) of _render's camera, in the order of storage.camera.camera_numbers."""
    height, width = image_hw
    to_camera = [[0, -1, 0, 0], [0, 0, -1, CAMERA_HEIGHT_M], [1, 0, 0, 0]]
    return np.array(
        [
            *np.ravel(to_camera),
            2 * FOCAL / width,
            2 * FOCAL / height,
            0,
            2 * HORIZON / height - 1,
            0,
            0,
            0,
        ],
        dtype=np.float32,
    )


def _texture(rng: np.random.Generator, size: int = 128) -> np.ndarray:
    """Smooth periodic noise (size, size, 3)."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij"))
    band = np.exp(-((frequency * size / 10) ** 2)) + 0.7 * np.exp(-((frequency * size / 30) ** 2))
    noise = np.fft.ifft2(
        np.fft.fft2(rng.normal(size=(size, size, 3)), axes=(0, 1)) * band[..., None], axes=(0, 1)
    ).real
    return np.clip(128 + 60 * noise / noise.std(), 0, 255)


def _render(texture: np.ndarray, pose: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """One frame (H, W, 3) uint8: the plane with haze, and a sky that depends on the heading."""
    height, width = image_hw
    down, right = np.meshgrid(
        np.arange(height) + 0.5 - HORIZON, np.arange(width) + 0.5 - width / 2, indexing="ij"
    )
    ahead = FOCAL * CAMERA_HEIGHT_M / np.maximum(down, 0.5)
    to_left = -right * ahead / FOCAL
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    x = (pose[0] + cos * ahead - sin * to_left) / METRES_A_TEXEL
    y = (pose[1] + sin * ahead + cos * to_left) / METRES_A_TEXEL
    left, low, size = np.floor(x).astype(int), np.floor(y).astype(int), len(texture)
    a, b = (x - left)[..., None], (y - low)[..., None]
    corner = [
        texture[(left + i) % size, (low + j) % size] * (a if i else 1 - a) * (b if j else 1 - b)
        for i in (0, 1)
        for j in (0, 1)
    ]
    haze = np.exp(-ahead / 20)[..., None]
    bearing = pose[2] - np.arctan2(right, FOCAL)
    sky = 140 + 40 * np.sin(np.stack([5 * bearing, 9 * bearing + 1, 7 * bearing + 2], axis=-1))
    return (
        np.where((down > 0)[..., None], sum(corner) * haze + 130 * (1 - haze), sky)
        .clip(0, 255)
        .astype(np.uint8)
    )
