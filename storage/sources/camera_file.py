"""A camera's calibration that a person writes: camera.json or camera.yaml beside a video."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from storage.camera import Camera, scaled_camera
from storage.errors import ConfigError, SourceError
from storage.names import check_name
from storage.sources.raw_files import is_regular, read_text

CAMERA_FILES = ("camera.json", "camera.yaml", "camera.yml")
MAX_CAMERA_BYTES = 2**20
RATIO_TOLERANCE = 0.01  # of width to height between a calibration and the images
# camera axes (right, down, forward) in a frame that looks along x, with y left and z up
OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
_FIELDS = ("width", "height", "fx", "fy", "cx", "cy", "mounting")
_OPTIONAL = ("name", "distortion", "video", "video_start_us", "pose_in_ego")
_PLACE, _ANGLES = ("x_m", "y_m", "z_m"), ("yaw_deg", "pitch_deg", "roll_deg")


@dataclass(frozen=True, slots=True)
class CameraFile:
    """What camera.json says."""

    camera: Camera  # at the size of the calibration
    video: str  # name of the video, "" if it is the only one
    video_start_us: int  # time of the video's first frame on the clock of the poses
    pose_in_ego: tuple[float, float]  # metres forward and left of the rear axle: the poses' point


def read_camera_file(file: Path) -> CameraFile:
    """The calibration in `file`. Raises SourceError that names the field for one that is missing,
    unknown or impossible, and for what is no JSON (YAML); ConfigError for YAML without PyYAML.
    """
    values = _Values(file, _parsed(file))
    values.require_known(_FIELDS, _OPTIONAL)
    mounting = _Values(file, values.mapping("mounting"), "mounting.")
    mounting.require_known(_PLACE, _ANGLES)
    width, height = (int(values.positive(name)) for name in ("width", "height"))
    intrinsics = np.array(
        [
            [values.positive("fx"), 0.0, values.number("cx")],
            [0.0, values.positive("fy"), values.number("cy")],
            [0.0, 0.0, 1.0],
        ]
    )
    for name, size in (("cx", width), ("cy", height)):
        if not 0 <= values.number(name) < size:
            raise values.wrong(name, f"a place in the image, 0 to {size}")
    camera_to_ego = np.eye(4)
    camera_to_ego[:3, :3] = mounted(*(np.radians(mounting.number(name, 0.0)) for name in _ANGLES))
    camera_to_ego[:3, 3] = [mounting.number(name) for name in _PLACE]
    name = check_name(values.get("name", "front"), "camera", where=file)
    distortion = values.numbers("distortion", 5)
    camera = Camera(name, width, height, intrinsics, camera_to_ego, distortion)
    video = values.get("video", "")
    if video:
        check_name(video, "video", where=file)
    forward, left = values.numbers("pose_in_ego", 2)
    return CameraFile(camera, video, int(values.number("video_start_us", 0)), (forward, left))


def mounted(yaw_rad: float, pitch_rad: float, roll_rad: float) -> np.ndarray:
    """Camera -> ego rotation (3, 3) of a camera that looks to the left by yaw, down by pitch, and
    leans to its right by roll, applied in the order roll, pitch, yaw.
    """
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw_rad, pitch_rad, roll_rad))
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    pitch = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return yaw @ pitch @ roll @ OPTICAL


def at_size(camera: Camera, width: int, height: int, where: object) -> tuple[Camera, str]:
    """The camera for images of another size in the same proportions, with a note; "" for the same.

    Raises SourceError for other proportions, which tell of a cut image.
    """
    if (width, height) == (camera.width, camera.height):
        return camera, ""
    scale_x, scale_y = width / camera.width, height / camera.height
    if abs(scale_x / scale_y - 1) > RATIO_TOLERANCE:
        raise SourceError(
            "the calibration is of images in other proportions",
            where=where,
            expected=f"{camera.width}x{camera.height}, as calibrated, or the same proportions",
            found=f"{width}x{height}",
            do="calibrate for the images that are there, or give those that were calibrated",
        )
    note = (
        f"{camera.name}: calibrated at {camera.width}x{camera.height}, "
        f"scaled to the images' {width}x{height}"
    )
    scaled = scaled_camera(camera, (scale_x, scale_y))
    return replace(scaled, width=width, height=height), note


def _parsed(file: Path) -> Any:
    if not is_regular(file):
        raise SourceError(
            "the camera's calibration is missing",
            where=file.parent,
            expected=" or ".join(CAMERA_FILES),
            found="neither",
            do="write one: docs/bring_your_own_logs.md",
        )
    text = read_text(file, MAX_CAMERA_BYTES)
    try:
        if file.suffix == ".json":
            return json.loads(text)
        import yaml

        return yaml.safe_load(text)
    except ImportError as error:
        raise ConfigError(
            "YAML cannot be read: the package 'pyyaml' is missing",
            where=file,
            found=str(error),
            do="install the extra: pip install -e '.[video]'; or write camera.json",
        ) from error
    # the parsers have no common error, and deep nesting raises RecursionError
    except Exception as error:
        raise SourceError(
            "the camera's calibration cannot be read",
            where=file,
            expected="JSON" if file.suffix == ".json" else "YAML",
            found=f"{type(error).__name__}: {error}",
            do="correct the file; the log is read again when its bytes change",
        ) from error


@dataclass(frozen=True, slots=True)
class _Values:
    """Fields of a mapping in a file, checked as they are asked for."""

    file: Path
    values: Any
    prefix: str = ""

    def require_known(self, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
        if not isinstance(self.values, Mapping):
            raise self._error("one mapping of fields", type(self.values).__name__)
        missing = [name for name in required if name not in self.values]
        unknown = [str(name) for name in self.values if name not in (*required, *optional)]
        if missing or unknown:
            found = [f"missing: {', '.join(missing)}"] if missing else []
            found += [f"unknown: {', '.join(unknown)}"] if unknown else []
            fields = f"{', '.join(required)}; may have {', '.join(optional)}"
            raise self._error(f"the fields {self.prefix}{fields}", "; ".join(found))

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)

    def mapping(self, name: str) -> Any:
        return self.values[name]

    def number(self, name: str, default: float | None = None) -> float:
        value = self.values.get(name, default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not np.isfinite(value):
            raise self.wrong(name, "a finite number")
        return value

    def positive(self, name: str) -> float:
        value = self.number(name)
        if value <= 0:
            raise self.wrong(name, "a number above zero")
        return value

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        """Zeros if the field is absent."""
        values = self.values.get(name, [0.0] * count)
        if not isinstance(values, list) or len(values) != count:
            raise self.wrong(name, f"a list of {count} numbers")
        part = _Values(self.file, dict(enumerate(values)), f"{self.prefix}{name} ")
        return tuple(float(part.number(index)) for index in range(count))  # type: ignore[arg-type]

    def wrong(self, name: object, expected: str) -> SourceError:
        return self._error(expected, f"{self.prefix}{name} = {self.values.get(name)!r}")

    def _error(self, expected: str, found: str) -> SourceError:
        return SourceError(
            "the camera's calibration is not complete and sound",
            where=self.file,
            expected=expected,
            found=found,
            do="correct it: docs/bring_your_own_logs.md",
        )
