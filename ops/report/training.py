"""The report's training curves, and the metric histories they are read from."""

import json
from pathlib import Path

import numpy as np
from markupsafe import Markup

from ops.drawing.charts import curves_chart
from ops.drawing.page import Block, Chart, Paragraph, Section
from storage.lake import Lake

Curves = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]  # title -> line -> (steps, values)
_MAX_CURVES = 6  # per run; the others are in its history file
_OPTIMISER_METRICS = ("gradient_norm", "commitment", "learning_rate")
_PREFIXES = ("val_", "val/", "heldout_", "train_", "train/")
_UNITS = ("m", "dB", "nats", "ms")
_SPELLINGS = {
    "vlm": "VLM",
    "vla": "VLA",
    "mlp": "MLP",
    "ade": "ADE",
    "fde": "FDE",
    "kl": "KL",
    "db": "dB",
}


def curves_section(lake: Lake) -> Section | str:
    """Training curves of every artefact with a history: per run the loss and one more metric; or
    the reason why there is none.
    """
    blocks: list[Block] = []
    for asset in ("codebook", "vla", "student"):
        panels: Curves = {}
        for file in history_files(lake.asset(asset)):
            run = _title(file.stem.removeprefix("history").strip("_-"))
            curves = read_curves(file)
            panels |= {
                f"{run}: {_title(name)}".removeprefix(": "): curves[name]
                for name in list(curves)[:2]
            }
        if panels:
            chart = Chart(Markup(curves_chart(panels)), wide=True)
            blocks += [Paragraph(heading=_title(asset)), chart]
    if not blocks:
        return "Training curves: no artefact has a metric history"
    lead = (
        "Loss and one more metric of each run, by training step. The complete histories are beside "
        "the checkpoints."
    )
    return Section("training", "Training", blocks, lead)


def history_files(folder: Path) -> list[Path]:
    """The metric histories of an artefact, one per training run: `history*.jsonl`, or any name in a
    folder `history`.
    """
    return sorted({*folder.rglob("history*.jsonl"), *folder.rglob("history/*.jsonl")})


def read_curves(file: Path) -> Curves:
    """{metric: {"train" or "held out": (steps, values)}} of a history: JSON lines with `step` and
    metrics.

    A metric `val_x` or `heldout_x` is the held-out line of `x`. The loss comes first, then other
    metrics, parts of the loss, and metrics of the optimiser.
    """
    rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    names = dict.fromkeys(
        name for row in rows for name in row if name not in ("step", "seconds", "epoch")
    )
    curves: Curves = {}
    for name in names:
        points = [
            (row["step"], row[name])
            for row in rows
            if isinstance(row.get(name), (int, float)) and np.isfinite(row[name])
        ]
        if len(points) < 2:
            continue
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
        line = "held out" if name.startswith(("val", "heldout")) else "train"
        steps, values = np.array(points, float).T
        curves.setdefault(name.removeprefix(prefix), {})[line] = (steps, values)
    # the sort is stable: metrics of equal rank keep the order of the history
    ranked = sorted(
        curves, key=lambda name: (name != "loss", name in _OPTIMISER_METRICS, "loss" in name)
    )
    return {name: curves[name] for name in ranked[:_MAX_CURVES]}


def _title(name: str) -> str:
    """The display name of a run or metric: `best_ade_m` is "best ADE, m"."""
    words = [
        "-".join(_SPELLINGS.get(part, part) for part in word.split("-")) for word in name.split("_")
    ]
    if len(words) > 1 and words[-1] in _UNITS:
        return f"{' '.join(words[:-1])}, {words[-1]}"
    return " ".join(words)
