"""Pictures and tables as metadata for Dagster's catalogue.

Pictures are stored in the event database as data: URLs, which the catalogue shows offline, so each
stays under MAX_BYTES.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

T = TypeVar("T")
MAX_BYTES = 100_000  # of one picture as base64


def svg_picture(svg: str, alt: str) -> dg.MarkdownMetadataValue:
    """An <svg> element as a picture."""
    return _picture(svg.encode(), "svg+xml", alt)


def jpeg_picture(image_hw3: Any, alt: str) -> dg.MarkdownMetadataValue:
    """An RGB array (H, W, 3) uint8 as a picture; quality is lowered until it fits."""
    import cv2

    for quality in (88, 75, 60, 40, 20):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        data = cv2.imencode(".jpg", image_hw3[..., ::-1], options)[1].tobytes()
        if len(data) * 4 // 3 < MAX_BYTES:
            break
    return _picture(data, "jpeg", alt)


def file_picture(file: Path) -> dg.MarkdownMetadataValue:
    """A PNG file of an artefact; one that is too large is shrunk and shown as JPEG."""
    data = file.read_bytes()
    if len(data) * 4 // 3 < MAX_BYTES:
        return _picture(data, "png", file.stem)
    import cv2

    image = cv2.imread(str(file))[..., ::-1]
    scale = min(1.0, 1000 / image.shape[1])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return jpeg_picture(small, file.stem)


def training_pictures(folder: Path, limit: int = 4) -> dict[str, dg.MarkdownMetadataValue]:
    """Training curves of the first runs whose history an artefact keeps, by the run's name."""
    from ops.drawing.charts import curves_chart
    from ops.report.training import read_curves

    pictures: dict[str, dg.MarkdownMetadataValue] = {}
    for file in [*sorted(folder.glob("history*.jsonl")), *sorted(folder.glob("history/*.jsonl"))]:
        series = read_curves(file)
        if series and len(pictures) < limit:
            name = f"training of {file.stem.removeprefix('history_').replace('_', ' ')}"
            pictures[name] = svg_picture(curves_chart(series), name)
    return pictures


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file of an artefact."""
    return json.loads(file.read_text())


def table(
    rows: Sequence[Mapping[str, Any]], limit: int = 40
) -> dg.TableMetadataValue | dg.MarkdownMetadataValue:
    """Rows with the same keys as a table, numbers rounded; the last line counts the rows beyond
    `limit`.
    """
    if not rows:
        return dg.MetadataValue.md("*no rows*")
    shown = [{name: _readable(value) for name, value in row.items()} for row in rows[:limit]]
    if len(rows) > limit:
        shown.append(
            dict.fromkeys(shown[0], "")
            | {next(iter(shown[0])): f"... and {len(rows) - limit} more"}
        )
    columns = [dg.TableColumn(name=name, type="string") for name in shown[0]]
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in shown], dg.TableSchema(columns=columns)
    )


def key_table(keys: Sequence[str]) -> dg.TableMetadataValue | dg.MarkdownMetadataValue:
    """Keys of the rows that failed a check."""
    return table([{"row": key} for key in keys])


def report_table(report: Mapping[str, Any]) -> dg.TableMetadataValue | dg.MarkdownMetadataValue:
    """A verb's report as a table of measures: nested records are named by their path, lists of more
    than four values are left out.
    """
    rows: list[dict[str, Any]] = []

    def walk(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                walk(f"{name} {key}".strip(), item)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for index, item in enumerate(value):
                fields = {key: field for key, field in item.items() if key != "name"}
                walk(f"{name} {item.get('name', index)}", fields)
        elif not isinstance(value, list) or len(value) <= 4:
            rows.append({"measure": _measure(name), "value": value})

    walk("", report)
    return table(rows, limit=60)


def codes_by_position(codes: Mapping[str, Any]) -> list[dict[str, float]]:
    """Accuracy and calibration of each code slot, one row a position, from the report of
    ops/vla/code_accuracy.py.
    """
    measures = {
        "accuracy": "accuracy_by_slot",
        "majority accuracy": "majority_accuracy_by_slot",
        "calibration error": "calibration_error_by_slot",
    }
    return [
        {"position": slot + 1, **{name: codes[key][slot] for name, key in measures.items()}}
        for slot in range(len(codes["accuracy_by_slot"]))
    ]


def column_schema(schema: Any, meaning: Mapping[str, str]) -> dg.TableSchemaMetadataValue:
    """The columns of an Arrow schema with what each means, for the catalogue's column view."""
    return dg.MetadataValue.table_schema(
        dg.TableSchema(
            columns=[
                dg.TableColumn(
                    name=field.name, type=str(field.type), description=meaning[field.name]
                )
                for field in schema
            ]
        )
    )


def rounded(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with finite floats rounded: to four digits below 1000, else to a whole number. They
    stay floats, which the catalogue plots.
    """

    def short(value: Any) -> Any:
        if not isinstance(value, float) or not math.isfinite(value):
            return value
        return float(f"{value:.4g}") if abs(value) < 1000 else float(round(value))

    return {name: short(value) for name, value in metadata.items()}


def evenly_chosen(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly spaced and in their order."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def file_path(file: Path) -> dg.PathMetadataValue:
    """A file of the lake."""
    return dg.MetadataValue.path(str(file.absolute()))


def _picture(data: bytes, kind: str, alt: str) -> dg.MarkdownMetadataValue:
    text = base64.b64encode(data).decode()
    if len(text) >= MAX_BYTES:
        return dg.MetadataValue.md(
            f"*{alt}: too large for the catalogue ({len(text)} bytes); it is in the report*"
        )
    return dg.MetadataValue.md(f"![{alt}](data:image/{kind};base64,{text})")


def _measure(name: str) -> str:
    words = {"r2": "R²", "db": "dB"}
    words |= {name: name.upper() for name in ("psnr", "ade", "fde", "kl", "onnx")}
    return " ".join(words.get(word, word) for word in name.replace("_", " ").split())


def _readable(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(_readable(item)) for item in value)
    return value if isinstance(value, (str, int)) else str(value)
