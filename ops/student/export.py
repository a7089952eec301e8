"""Export the student to ONNX, in float32 and in 8 bits, and check that it plans the same. Not its
training.

What follows from a camera's calibration alone is a graph of its own, so a car works it out once:
`calibration.onnx` takes `camera` (N, 19) (storage.dataset.camera_numbers) and gives `places` (N, X,
Y, 2) and `seen` (N, 1, X, Y), where the ground lies in its image. The student's graph takes
`images` (N, h, w, 3) uint8 RGB at its size, those two, and `status` (N, 8): vx, vy, ax, ay in SI
units and the one-hot command; it gives `plan` (N, 8, 3), the chosen plan.
"""

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.planners.deploy import fold
from models.planners.student import StudentNet
from ops.planners.training_arrays import TrainingArrays
from ops.student.predict import CALIBRATION, RUNTIMES, open_session
from storage.errors import ArtifactError

ONNX_FILE, INT8_FILE, CALIBRATION_FILE = RUNTIMES["onnx"], RUNTIMES["int8"], CALIBRATION
_PARITY_M = 1e-3  # a chosen plan may differ by this much between the two runtimes


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported, and how it compares on the rows it was checked on."""

    rows: int
    parity_m: float  # largest difference of a pose between ONNX and torch, rows that chose alike
    other_choice: float  # share of rows on which float rounding made another proposal win
    onnx_bytes: int
    int8_bytes: int | None  # None: not exported
    int8_difference_m: float | None  # mean distance between the 8-bit and the float32 plan


class _Places(nn.Module):
    """Where a camera's image shows the ground."""

    def __init__(self, student: StudentNet) -> None:
        super().__init__()
        self.ground = student.planner.ground

    def forward(self, camera: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.ground.places(camera)


class _Deployed(nn.Module):
    """The student's graph as it is deployed: arrays in, the chosen plan out."""

    def __init__(self, student: StudentNet) -> None:
        super().__init__()
        self.student = student

    def forward(
        self, images: torch.Tensor, places: torch.Tensor, seen: torch.Tensor, status: torch.Tensor
    ) -> torch.Tensor:
        return self.student.plan_from_places(images, (places, seen), status)


def export(student: StudentNet, rows: TrainingArrays, out: Path, *, int8: bool) -> ExportReport:
    """Write `calibration.onnx`, `student.onnx`, and with `int8` `student_int8.onnx`, to `out`.

    `rows` are training rows with images at the student's size, to check it on and to calibrate the
    8 bits with. Raises ArtifactError if ONNX and torch disagree on a plan.
    """
    file = out / ONNX_FILE
    camera = {"camera": np.ascontiguousarray(rows.camera)}
    with torch.no_grad():
        torch_plans = (
            student.eval()
            .plan(*map(torch.from_numpy, (rows.images, camera["camera"], rows.status)))
            .numpy()
        )
    _write_onnx(_Places(student).eval(), camera, ("places", "seen"), out / CALIBRATION_FILE)
    places, seen = run_onnx(out / CALIBRATION_FILE, camera)
    inputs = {"images": rows.images, "places": places, "seen": seen, "status": rows.status}
    _write_onnx(_Deployed(fold(student)).eval(), inputs, ("plan",), file)
    plans = run_onnx(file, inputs)[0]
    worst_N = np.abs(plans - torch_plans).max(axis=(1, 2))
    alike = worst_N <= _PARITY_M
    report = ExportReport(
        len(rows),
        float(worst_N[alike].max(initial=0.0)),
        float((~alike).mean()),
        file.stat().st_size,
        None,
        None,
    )
    if report.other_choice > 0.02:
        raise ArtifactError(
            "the exported student plans otherwise than the trained one",
            where=file,
            expected=f"plans within {_PARITY_M} m",
            found=f"{report.other_choice:.1%} of rows differ",
            do="report this with the versions of torch and onnxruntime",
        )
    if not int8:
        return report
    _write_int8(file, inputs, out / INT8_FILE)
    difference = np.linalg.norm((run_onnx(out / INT8_FILE, inputs)[0] - plans)[..., :2], axis=-1)
    return ExportReport(
        report.rows,
        report.parity_m,
        report.other_choice,
        report.onnx_bytes,
        (out / INT8_FILE).stat().st_size,
        float(difference.mean()),
    )


def run_onnx(file: Path, inputs: Mapping[str, Any]) -> list[np.ndarray]:
    """The outputs of an exported graph."""
    return open_session(file).run(None, dict(inputs))


def _write_onnx(
    model: nn.Module, inputs: Mapping[str, Any], outputs: Sequence[str], file: Path
) -> None:
    """By tracing: on this graph the exporter by torch.export takes 12 s for 1, its plans 1.3 times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(torch.from_numpy(values[:2]) for values in inputs.values()),
            file,
            dynamo=False,
            opset_version=18,
            input_names=[*inputs],
            output_names=[*outputs],
            dynamic_axes={name: {0: "rows"} for name in (*inputs, *outputs)},
        )


def _write_int8(file: Path, inputs: Mapping[str, Any], out: Path) -> None:
    """Static quantisation, per channel, of the convolutions and large matrix products."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Rows(CalibrationDataReader):
        def __init__(self) -> None:
            self._rows: Iterator[dict[str, Any]] = iter(
                [
                    {name: values[first : first + 16] for name, values in inputs.items()}
                    for first in range(0, len(inputs["images"]), 16)
                ]
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._rows, None)

    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(file, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            out,
            Rows(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
        )
