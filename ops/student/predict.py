"""Plan with a finished student: from images, ego status and command to plans of 8 poses.

    student = Student.from_pretrained("lake/synthetic/student")
    plan = student.plan(images, ego_status, command)

Needs numpy, opencv, pillow and onnxruntime; torch only for the runtime "torch".

Legend: N rows; a plan is (8, 3): x, y, heading in m, m, rad in the ego frame at 0.5 s steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from storage.artifact import require_intact
from storage.camera import Camera, camera_numbers, fit_images, resized_camera
from storage.checkpoint import read_config
from storage.dataset import FrameSet
from storage.errors import ArtifactError, ConfigError, SourceError, unknown_name
from storage.sources.images import MAX_PIXELS, read_image
from storage.trajectory_table import FUTURE_STEPS, Command

CALIBRATION = "calibration.onnx"  # beside the two ONNX files
RUNTIMES = {"onnx": "student.onnx", "int8": "student_int8.onnx", "torch": "model.safetensors"}
MAX_SPEED_MPS = 70.0  # 250 km/h; storage.sources quarantines a faster log as faulty
MAX_ACCELERATION_MPS2 = 30.0  # three times what tyres can do
_COMMANDS = [item.name.lower() for item in Command]


class Runtime(Protocol):
    """Computes plans (N, 8, 3) from images at the student's size, camera numbers and status."""

    def __call__(
        self, images: np.ndarray, camera: np.ndarray, status: np.ndarray
    ) -> np.ndarray: ...


class Student:
    """A finished student."""

    def __init__(
        self, runtime: Runtime, image_hw: tuple[int, int], camera: np.ndarray, parameters: int
    ) -> None:
        self._runtime, self.image_hw, self.parameters = runtime, image_hw, parameters
        self._camera = camera  # (19,), of the training logs

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, runtime: str = "onnx", threads: int = 1
    ) -> "Student":
        """The student of a finished artefact.

        `runtime` is onnx, int8 or torch; `threads` is the number of CPU threads of onnx and int8.
        Raises ConfigError for an unknown runtime, and ArtifactError if the folder lacks its file or
        holds another kind of network or another format version.
        """
        folder = Path(folder)
        if runtime not in RUNTIMES:
            raise unknown_name("runtime", runtime, RUNTIMES)
        file = folder / RUNTIMES[runtime]
        if not file.exists():
            raise ArtifactError(
                "there is no student for this runtime",
                where=folder,
                expected=file.name,
                do="make it (latentvla run --until student), or choose another runtime",
            )
        config = read_config(folder, "student")
        try:
            height, width = config["planner"]["image_hw"]
            camera = np.array(config["planner"]["camera"], np.float32)
            parameters = int(config["parameters"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                "the configuration of this student is damaged",
                where=folder / "config.json",
                expected="planner.image_hw, planner.camera and parameters",
                found=f"{type(error).__name__}: {error}",
                do="make the student again: latentvla run --until student",
            ) from error
        return cls(
            _torch_runtime(folder) if runtime == "torch" else OnnxRuntime(file, threads),
            (height, width),
            camera,
            parameters,
        )

    def plan(
        self,
        images: np.ndarray,
        ego_status: np.ndarray,
        command: Sequence[str | int] | np.ndarray,
        camera: Camera | np.ndarray | None = None,
    ) -> np.ndarray:
        """Plans (N, 8, 3).

        `images` (N, H, W, 3) uint8 RGB of the front camera, not smaller than the student's; another
        aspect ratio is cropped by storage.camera.crop_box. `ego_status` (N, 4): vx, vy in m/s, not
        faster than MAX_SPEED_MPS, ax, ay in m/s2, in the ego frame. `command` (N,): left, straight,
        right, unknown, or their numbers. `camera` is the calibration of these images, or
        storage.camera.camera_numbers (N, 19) of the images as the student crops them; the default
        is the camera of the training logs. Raises ConfigError for inputs of another shape, type or
        value.
        """
        images, ego_status = np.asarray(images), np.asarray(ego_status, dtype=np.float32)
        count = len(images)
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ConfigError(
                "images have the wrong shape or type",
                expected="(N, H, W, 3) uint8",
                found=f"{images.shape} {images.dtype}",
            )
        if ego_status.shape != (count, 4) or not np.isfinite(ego_status).all():
            raise ConfigError(
                "ego_status has the wrong shape or is not finite",
                expected=f"({count}, 4) finite: vx, vy, ax, ay",
                found=ego_status.shape,
            )
        if count and (speed_mps := np.hypot(*ego_status[:, :2].T).max()) > MAX_SPEED_MPS:
            raise ConfigError(
                "ego_status has a speed that no car has",
                expected=f"at most {MAX_SPEED_MPS:.0f} m/s",
                found=f"{speed_mps:.4g} m/s",
                do="give velocities in m/s, in the ego frame",
            )
        if len(command) != count:
            raise ConfigError(
                "command needs one value per image", expected=count, found=len(command)
            )
        if not count:  # the runtimes cannot reshape an empty batch
            return np.zeros((0, FUTURE_STEPS, 3))
        status = np.zeros((count, 4 + len(Command)), np.float32)
        status[:, :4] = ego_status
        for row, item in enumerate(command):
            status[row, 4 + command_number(item)] = 1.0
        return self._runtime(
            fit_images(images, self.image_hw), self._cameras(camera, images), status
        ).astype(np.float64)

    def _cameras(self, camera: Camera | np.ndarray | None, images: np.ndarray) -> np.ndarray:
        shape = (len(images), len(self._camera))
        if camera is None:
            return np.broadcast_to(self._camera, shape)
        if isinstance(camera, Camera):
            if (camera.height, camera.width) != images.shape[1:3]:
                raise ConfigError(
                    "camera and images have different sizes",
                    expected=images.shape[1:3],
                    found=(camera.height, camera.width),
                    do="pass the calibration at the images' size",
                )
            return np.broadcast_to(camera_numbers(resized_camera(camera, self.image_hw)), shape)
        if camera.shape != shape:
            raise ConfigError(
                "camera has the wrong shape",
                expected=shape,
                found=camera.shape,
                do="pass a Camera, or one row of camera_numbers per image",
            )
        return np.asarray(camera, np.float32)


def predict_file(
    folder: Path,
    image: Path,
    *,
    speed_mps: float,
    acceleration_mps2: float = 0.0,
    command: str = "unknown",
) -> np.ndarray:
    """The plan (8, 3) of the student in `folder` for one image file of the front camera.

    Raises ConfigError if the file cannot be read as an image, and for a speed that is not from 0 to
    MAX_SPEED_MPS or an acceleration beyond MAX_ACCELERATION_MPS2.
    """
    for option, value, low, high, unit in (
        ("speed", speed_mps, 0.0, MAX_SPEED_MPS, "m/s"),
        ("acceleration", acceleration_mps2, -MAX_ACCELERATION_MPS2, MAX_ACCELERATION_MPS2, "m/s2"),
    ):
        if not low <= value <= high:  # NaN neither
            raise ConfigError(
                f"no car drives with this {option}",
                expected=f"--{option} from {low:g} to {high:g} {unit}",
                found=f"{value:g}",
                do=f"give the {option} in {unit}",
            )
    pixels_HW3 = _read_pixels(image)
    student = Student.from_pretrained(folder)
    return student.plan(
        pixels_HW3[None], np.array([[speed_mps, 0.0, acceleration_mps2, 0.0]]), [command]
    )[0]


def _read_pixels(image: Path) -> np.ndarray:
    """An image file as RGB (H, W, 3) uint8, decoded as ingest does."""
    if not image.is_file():
        kind = "a folder" if image.is_dir() else "no regular file"
        raise _unreadable(image, kind if image.exists() else "no file")
    try:
        return read_image(image)
    except SourceError as error:
        raise _unreadable(image, str(error.found)) from error


def _unreadable(image: Path, found: str) -> ConfigError:
    return ConfigError(
        "the image cannot be read",
        where=image,
        expected=f"a JPEG, PNG, WebP or BMP of the front camera, at most {MAX_PIXELS:,} pixels",
        found=found,
        do="pass the path of an image file, one of a log's sensor_blobs for example",
    )


def command_number(command: str | int) -> int:
    """Number of a command given by name or number. Raises ConfigError for an unknown command."""
    if isinstance(command, str):
        if command.lower() not in _COMMANDS:
            raise unknown_name("command", command, _COMMANDS)
        return _COMMANDS.index(command.lower())
    if not 0 <= int(command) < len(_COMMANDS):
        raise unknown_name("command", str(command), _COMMANDS)
    return int(command)


def open_session(file: Path, threads: int = 1, rows: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU.

    With `rows`, the session takes exactly that many rows; its shapes are fixed, which is faster.
    Raises ArtifactError for a file that is missing, no ONNX model, or not the one that was written.
    """
    import onnxruntime

    require_intact(file)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    if rows is not None:
        options.add_free_dimension_override_by_name("rows", rows)
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a kind for each fault, none of them public
        raise ArtifactError(
            "this ONNX file cannot be read",
            where=file,
            expected="a whole file of a finished student",
            found=(str(error).splitlines() or [type(error).__name__])[0],
            do="make the student again: latentvla run --until student",
        ) from error


class OnnxRuntime:
    """An exported student.

    A car plans one row at a time with the same camera: single rows use sessions of fixed shape, and
    the calibration graph runs only when the camera changes.
    """

    def __init__(self, file: Path, threads: int) -> None:
        self._files = {"calibration": file.parent / CALIBRATION, "plan": file}
        self._threads = threads
        self._sessions: dict[tuple[str, bool], Any] = {}
        self._camera = b""  # of the last single row
        self._locations: list[np.ndarray] = []  # its image locations and visibility

    def __call__(self, images: np.ndarray, camera: np.ndarray, status: np.ndarray) -> np.ndarray:
        locations, visible = self._image_locations(np.ascontiguousarray(camera))
        inputs = {"images": images, "places": locations, "seen": visible, "status": status}
        return self._run("plan", len(images), inputs)[0]

    def _image_locations(self, camera: np.ndarray) -> list[np.ndarray]:
        if len(camera) > 1:
            return self._run("calibration", len(camera), {"camera": camera})
        if camera.tobytes() != self._camera:
            self._locations = self._run("calibration", 1, {"camera": camera})
            self._camera = camera.tobytes()
        return self._locations

    def _run(self, graph: str, rows: int, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        key = (graph, rows == 1)
        if key not in self._sessions:
            self._sessions[key] = open_session(
                self._files[graph], self._threads, 1 if rows == 1 else None
            )
        return self._sessions[key].run(None, inputs)


def _torch_runtime(folder: Path) -> Runtime:
    import torch

    from ops.planners.checkpoint import load_planner

    model = load_planner(folder, "student")

    def run(images: np.ndarray, camera: np.ndarray, status: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            inputs = (
                torch.from_numpy(np.ascontiguousarray(item)) for item in (images, camera, status)
            )
            return model.plan(*inputs).numpy()

    return run


@dataclass(frozen=True, slots=True)
class StudentPlanner:
    """A finished student behind the interface of ops/planners/planner.py."""

    student: Student
    parameters: int
    batch: int = 64  # rows at a time: the runtimes hold every activation of a batch at once

    def plan(self, rows: FrameSet) -> np.ndarray:
        motion = np.concatenate([rows.velocity, rows.acceleration], axis=1)
        plans = [np.zeros((0, FUTURE_STEPS, 3))]
        for first in range(0, len(rows), self.batch):
            part = slice(first, first + self.batch)
            inputs = (rows.images, motion, rows.command, rows.camera)
            plans.append(self.student.plan(*(item[part] for item in inputs)))
        return np.concatenate(plans)
