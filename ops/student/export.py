"""Export the student to ONNX, in float32 and in 8 bits, and compare its plans with those of torch.

The part that depends on the camera's calibration alone is a separate graph, which a car runs once.
`calibration.onnx` maps `camera` (N, 19) (storage.camera.camera_numbers) to `places` (N, X, Y, 2),
the image locations of the ground cells, and `seen` (N, 1, X, Y), their visibility (see
models.ground_view.ground_image_locations). `student.onnx` maps these two, `images` (N, h, w, 3)
uint8 RGB at the student's size, and `status` (N, 8): vx, vy, ax, ay in SI units and the one-hot
command, to `plan` (N, 8, 3), the chosen plan.

Legend: N rows, X x Y ground cells ahead and to the left.
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
_PARITY_M = 1e-3  # largest difference at which two plans count as the same
_MAX_OTHER_CHOICE = 0.02  # share of rows on which rounding may select another proposal


@dataclass(frozen=True, slots=True)
class ExportReport:
    """Size of the exported files, and their plans compared with torch's on the checked rows."""

    rows: int
    # largest difference of a pose (m, m, rad) between ONNX and torch, rows of the same choice
    parity_m: float
    other_choice: float  # share of rows on which rounding selects another proposal
    onnx_bytes: int
    int8_bytes: int | None  # None: not exported
    int8_difference_m: float | None  # mean distance of the 8-bit from the float32 plan


class _Calibration(nn.Module):
    """Image locations and visibility of the ground cells, from the camera numbers."""

    def __init__(self, student: StudentNet) -> None:
        super().__init__()
        self.ground = student.planner.ground

    def forward(self, camera: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.ground.image_locations(camera)


class _Deployed(nn.Module):
    """The chosen plan, from images, the outputs of _Calibration and the ego status."""

    def __init__(self, student: StudentNet) -> None:
        super().__init__()
        self.student = student

    def forward(
        self,
        images: torch.Tensor,
        locations: torch.Tensor,
        visible: torch.Tensor,
        status: torch.Tensor,
    ) -> torch.Tensor:
        return self.student.plan_from_locations(images, (locations, visible), status)


def export(student: StudentNet, rows: TrainingArrays, out: Path, *, int8: bool) -> ExportReport:
    """Write `calibration.onnx`, `student.onnx` and, with `int8`, `student_int8.onnx` to `out`.

    `rows` are training rows with images at the student's size, for the comparison and the 8-bit
    calibration. Raises ArtifactError if ONNX and torch plan differently on more than 2 % of them.
    """
    file = out / ONNX_FILE
    camera = {"camera": np.ascontiguousarray(rows.camera)}
    with torch.no_grad():
        torch_plans = (
            student.eval()
            .plan(*map(torch.from_numpy, (rows.images, camera["camera"], rows.status)))
            .numpy()
        )
    _write_onnx(_Calibration(student).eval(), camera, ("places", "seen"), out / CALIBRATION_FILE)
    locations, visible = run_onnx(out / CALIBRATION_FILE, camera)
    inputs = {
        "images": rows.images,
        "places": locations,
        "seen": visible,
        "status": rows.status,
    }
    _write_onnx(_Deployed(fold(student)).eval(), inputs, ("plan",), file)
    plans = run_onnx(file, inputs)[0]
    difference_N = np.abs(plans - torch_plans).max(axis=(1, 2))
    same_N = difference_N <= _PARITY_M
    report = ExportReport(
        len(rows),
        float(difference_N[same_N].max(initial=0.0)),
        float((~same_N).mean()),
        file.stat().st_size,
        None,
        None,
    )
    if report.other_choice > _MAX_OTHER_CHOICE:
        raise ArtifactError(
            "the exported student plans differently from the trained one",
            where=file,
            expected=f"the same plans within {_PARITY_M} m on {1 - _MAX_OTHER_CHOICE:.0%} of rows",
            found=f"{report.other_choice:.1%} of rows differ",
            do="report this with the versions of torch and onnxruntime",
        )
    if not int8:
        return report
    _write_int8(file, inputs, out / INT8_FILE)
    int8_plans = run_onnx(out / INT8_FILE, inputs)[0]
    distance = np.linalg.norm((int8_plans - plans)[..., :2], axis=-1)
    return ExportReport(
        report.rows,
        report.parity_m,
        report.other_choice,
        report.onnx_bytes,
        (out / INT8_FILE).stat().st_size,
        float(distance.mean()),
    )


def run_onnx(file: Path, inputs: Mapping[str, Any]) -> list[np.ndarray]:
    """The outputs of an exported graph for inputs by name."""
    return open_session(file).run(None, dict(inputs))


def _write_onnx(
    model: nn.Module, inputs: Mapping[str, Any], outputs: Sequence[str], file: Path
) -> None:
    """Export by tracing: for this network the newer exporter (torch.export) takes 12 times as long,
    and its graph 1.3 times as long for a plan.
    """
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
    """Static per-channel quantisation of the convolutions."""
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
        preprocessed = Path(folder) / "preprocessed.onnx"
        quant_pre_process(file, preprocessed, skip_symbolic_shape=True)
        quantize_static(
            preprocessed,
            out,
            Rows(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
        )
