"""The report's section on the latent actions: usage and effect of the codes, codebook health, code
accuracy of the VLM.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from markupsafe import Markup

from ops.drawing.charts import code_chart
from ops.drawing.page import Block, Cell, Chart, Paragraph, Row, Section, Table, file_image
from ops.latent_actions.probe import code_usage
from ops.vla.verdict import read_verdict
from storage.dataset import read_relabeled
from storage.lake import Lake
from storage.trajectory_table import code_layout

_CAPTIONS = {  # of the codebook's pictures, by file name
    "what_each_code_does": "One frame decoded with every code of every token, the other tokens "
    "unchanged; arrows: change of the predicted image motion.",
    "predictions": "Held-out pairs: the earlier frame, the later frame, the frame predicted from "
    "the earlier frame and the codes, and the image motion predicted by the codes.",
}


def codes_section(lake: Lake) -> Section | str:
    """Usage of the codes, the codebook's pictures and health, and the VLM's code accuracy; or the
    reason why there is none.
    """
    logs = lake.log_ids("relabeled")
    if not logs:
        return "Latent actions: this lake has no relabeled artefact"
    columns = ["codes", "codes_valid"]
    rows = pa.concat_tables([read_relabeled(lake, log, columns) for log in logs])
    usage, size = code_usage(rows), code_layout(rows).codes
    shares_KC = usage.shares_KC
    entropy_K = -(shares_KC * np.log(np.maximum(shares_KC, 1e-12))).sum(axis=1)
    perplexity = ", ".join(f"{value:.1f}" for value in np.exp(entropy_K))
    caption = (
        f"Share of each code over {int(usage.counts_KC[0].sum()):,} transitions, by token. "
        f"Perplexity {perplexity} of {size}; dashed: uniform usage."
    )
    blocks: list[Block] = [Chart(Markup(code_chart(shares_KC)), caption, wide=True)]
    blocks += _pictures(lake.asset("codebook"))
    blocks += _health_table(lake.asset("codebook") / "health.json")
    report = lake.asset("vla") / "report.json"
    if report.exists():
        tokens, verdict = code_layout(rows).tokens, read_verdict(lake.asset("vla"))
        text = f"{verdict.text}." if verdict is not None else ""
        blocks.append(_accuracy_table(json.loads(report.read_text())["codes"], tokens, text))
    return Section(
        "codes",
        "Latent actions",
        blocks,
        "Learned without labels: a code is the information that the codebook needs in addition to "
        "one frame to predict the next.",
    )


def _pictures(codebook: Path) -> list[Block]:
    blocks: list[Block] = []
    for file in sorted(codebook.rglob("*.png"), reverse=True):
        name = file.stem.replace("_", " ").capitalize()
        height, width = cv2.imread(str(file)).shape[:2]
        long = width > 3 * height
        caption = _CAPTIONS.get(file.stem, "") + (" Scroll sideways to see all." if long else "")
        picture = Chart(file_image(file, name), caption, wide=True, long=long)
        blocks += [Paragraph(heading=name), picture]
    return blocks


def _health_table(file: Path) -> list[Block]:
    """The scalar figures of the codebook's health; nothing without the file."""
    if not file.exists():
        return []
    figures = {
        name.replace("_r2", " R²").replace("_db", " dB").replace("_", " "): _text(value)
        for name, value in json.loads(file.read_text()).items()
        if not isinstance(value, Mapping)
    }
    table = Table(
        ["measured on held-out logs", "value"],
        [Row([Cell(name), Cell(value)]) for name, value in figures.items()],
        "R²: share of the variance that a linear probe of the codes predicts. PSNR: of the "
        "predicted second frame.",
        folded="Codebook health",
    )
    return [table] if figures else []


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _accuracy_table(codes: Mapping[str, Any], tokens: int, verdict: str) -> Table:
    """Top-1 accuracy, majority accuracy and calibration error of the VLM for each code of a row."""
    measures = ("accuracy", "majority_accuracy", "calibration_error")
    slots = zip(*(codes[f"{name}_by_slot"] for name in measures), strict=True)
    rows = [
        Row(
            [
                Cell(f"{slot // tokens + 1}.{slot % tokens + 1}"),
                *(Cell(f"{100 * value:.0f}") for value in values),
            ]
        )
        for slot, values in enumerate(slots)
    ]
    return Table(
        ["transition.token", "top-1, %", "majority class, %", "calibration error, %"],
        rows,
        f"VLM on {codes['rows']} held-out rows: top-1 code accuracy "
        f"{100 * codes['accuracy']:.0f} % (majority class "
        f"{100 * codes['majority_accuracy']:.0f} %). {verdict} Calibration error: mean distance "
        "between confidence and accuracy.",
        folded="Code accuracy of the VLM",
    )
