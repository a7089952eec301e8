"""The report's sections about how the models were made: use and meaning of the codes, training
curves, lineage. Not the evaluation.

Each function reads a finished artefact and returns a section, or a sentence that says why there is
none.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from markupsafe import Markup

from ops.drawing.charts import code_chart, curves_chart
from ops.drawing.page import Block, Cell, Chart, Paragraph, Row, Section, Table, file_image
from storage.artifact import LINEAGE_FILE, Lineage, read_lineage
from storage.lake import ASSET_NAMES, PER_LOG_ASSETS, Lake

_TOKENS, _TRANSITIONS = 4, 3
_MAX_CURVES = 6  # of one model; the rest is in its history file
_WATCHES = ("gradient_norm", "commitment", "learning_rate")  # of the optimiser, not of the model
_UNITS = ("m", "dB", "nats", "ms")
_SPELLED = {
    "vlm": "VLM",
    "vla": "VLA",
    "mlp": "MLP",
    "ade": "ADE",
    "fde": "FDE",
    "kl": "KL",
    "db": "dB",
}
_PICTURES = {  # captions of the pictures that a codebook keeps
    "what_each_code_does": "One frame under every code of every token, the other tokens as they were; arrows show how "
    "the foretold motion of the picture changes.",
    "predictions": "Held-out pairs: the earlier frame, the later one, what the model foretells from the earlier frame "
    "and the codes, and the motion that the codes tell.",
}


def codes_section(lake: Lake) -> Section | str:
    """How often each code is used, and the pictures the codebook keeps of what its codes do."""
    file = lake.asset("relabeled") / "relabeled.parquet"
    if not file.exists():
        return "Latent actions: there is no relabeled artefact in this lake"
    table = pq.read_table(file, columns=["codes", "codes_valid"])
    codes = table["codes"].combine_chunks().flatten().to_numpy().reshape(-1, _TRANSITIONS * _TOKENS)
    valid = (
        table["codes_valid"]
        .combine_chunks()
        .flatten()
        .to_numpy(zero_copy_only=False)
        .reshape(codes.shape)
    )
    size = max(16, int(codes.max(initial=0)) + 1)
    # the same transition stands in three rows; the first of a row's three is counted
    shares = np.stack(
        [
            np.bincount(codes[valid[:, token], token], minlength=size)
            / max(valid[:, token].sum(), 1)
            for token in range(_TOKENS)
        ]
    )
    entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=1)
    text = ", ".join(f"{value:.1f}" for value in np.exp(entropy))
    blocks: list[Block] = [
        Chart(
            Markup(code_chart(shares)),
            (
                f"Share of each code over {int(valid[:, 0].sum()):,} transitions, by token. Perplexity {text} of {size}; the "
                "dashed line is even use."
            ),
            wide=True,
        )
    ]
    for picture in sorted(lake.asset("codebook").rglob("*.png"), reverse=True):
        name = picture.stem.replace("_", " ").capitalize()
        height, width = cv2.imread(str(picture)).shape[:2]
        long = width > 3 * height
        caption = _PICTURES.get(picture.stem, "") + (" Scroll sideways to see all." if long else "")
        blocks += [
            Paragraph(heading=name),
            Chart(file_image(picture, name), caption, wide=True, long=long),
        ]
    measures = _measures(lake.asset("codebook") / "health.json")
    if measures:
        blocks.append(
            Table(
                ["measured on held-out logs", "value"],
                [Row([Cell(name), Cell(text)]) for name, text in measures],
                "R²: share of variance that a linear reading of the codes predicts. PSNR: of the foretold second frame.",
                folded="Health of the codebook",
            )
        )
    said = lake.asset("vla") / "report.json"
    if said.exists():
        blocks.append(_said_codes(json.loads(said.read_text())["codes"]))
    return Section(
        "codes",
        "Latent actions",
        blocks,
        "A latent action is what the codebook needs to know, beside one "
        "frame, "
        "to say what the next one looks like. Nobody labelled them.",
    )


def _said_codes(codes: Mapping[str, Any]) -> Table:
    """How well the VLM says each of the 12 codes, beside always saying the position's most frequent
    one.
    """
    by_slot = (
        codes[f"{name}_by_slot"] for name in ("accuracy", "majority_accuracy", "calibration_error")
    )
    rows = [
        Row(
            [
                Cell(f"{place // _TOKENS + 1}.{place % _TOKENS + 1}"),
                *(Cell(f"{100 * value:.0f}") for value in values),
            ]
        )
        for place, values in enumerate(zip(*by_slot, strict=True))
    ]
    return Table(
        ["transition.token", "said right, %", "majority code right, %", "calibration error, %"],
        rows,
        (
            f"On {codes['rows']} held-out rows the VLM says {codes['accuracy']:.0%} of the codes right, the majority code "
            f"{codes['majority_accuracy']:.0%}. Calibration error: how far its confidence is from how often it is right."
        ),
        folded="How well the VLM says the codes",
    )


def curves_section(lake: Lake) -> Section | str:
    """Training curves of every artefact that keeps a history: of each run the loss and the most
    telling other metric.
    """
    blocks: list[Block] = []
    for asset in ("codebook", "vla", "student"):
        panels: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
        for file in history_files(lake.asset(asset)):
            run = _words(file.stem.removeprefix("history").strip("_-"))
            curves = read_curves(file)
            panels |= {
                f"{run}: {_words(name)}".removeprefix(": "): curves[name]
                for name in list(curves)[:2]
            }
        if panels:
            blocks += [
                Paragraph(heading=_words(asset)),
                Chart(Markup(curves_chart(panels)), wide=True),
            ]
    lead = "By training step; of each run its loss and one more metric. The whole histories lie beside the checkpoints."
    return (
        Section("training", "Training", blocks, lead)
        if blocks
        else "Training curves: no artefact keeps a history"
    )


def history_files(folder: Path) -> list[Path]:
    """The metric histories of an artefact, one a training run: `history*.jsonl`, or any name in a
    folder `history`.
    """
    return sorted({*folder.rglob("history*.jsonl"), *folder.rglob("history/*.jsonl")})


def read_curves(file: Path) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """{metric: {"train" or "held out": (steps, values)}} of a history of JSON lines with `step` and
    metrics.

    A metric `val_x` or `heldout_x` stands beside `x`. The loss comes first, its parts after other
    metrics, what only watches the optimiser last.
    """
    rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    names = dict.fromkeys(
        name for row in rows for name in row if name not in ("step", "seconds", "epoch")
    )
    for name in names:
        points = [
            (row["step"], row[name])
            for row in rows
            if isinstance(row.get(name), (int, float)) and np.isfinite(row[name])
        ]
        if len(points) < 2:
            continue
        bare = next(
            (
                name.removeprefix(head)
                for head in ("val_", "val/", "heldout_", "train_", "train/")
                if name.startswith(head)
            ),
            name,
        )
        line = "held out" if name.startswith(("val", "heldout")) else "train"
        found.setdefault(bare, {})[line] = tuple(np.array(points, float).T)  # type: ignore[assignment]
    # the loss, then what the run is for, then parts of the loss, then the optimiser; stable: within
    # these as reported
    ranked = sorted(found, key=lambda name: (name != "loss", name in _WATCHES, "loss" in name))
    return {name: found[name] for name in ranked[:_MAX_CURVES]}


def _words(name: str) -> str:
    """The name of a run or of a metric for people: `best_ade_m` is "best ADE, m"."""
    words = [
        "-".join(_SPELLED.get(part, part) for part in word.split("-")) for word in name.split("_")
    ]
    return (
        f"{' '.join(words[:-1])}, {words[-1]}"
        if len(words) > 1 and words[-1] in _UNITS
        else " ".join(words)
    )


def lineage_section(lake: Lake) -> Section | str:
    """Version, parents, seed and time of every artefact."""
    rows = []
    for asset in ASSET_NAMES:
        lineages = _lineages(lake, asset)
        if not lineages:
            continue
        first = lineages[0]
        count = f"{len(lineages)} logs" if asset in PER_LOG_ASSETS else "1"
        parents: dict[str, list[str]] = {}
        for name, version in first.parents.items():
            parents.setdefault(name.split("/")[0], []).append(version)
        told = ", ".join(
            f"{name} of {len(versions)} logs" if len(versions) > 1 else f"{name} {versions[0][:8]}"
            for name, versions in parents.items()
        )
        rows.append(
            Row(
                [
                    Cell(asset),
                    Cell(count),
                    Cell(first.version if len(lineages) == 1 else f"{first.version} …"),
                    Cell(first.code_version[:8]),
                    Cell("–" if first.seed is None else str(first.seed)),
                    Cell(f"{sum(item.seconds for item in lineages):.1f}"),
                    Cell(
                        max(item.created_utc for item in lineages)
                        .replace("T", " ")
                        .replace("+00:00", "")
                    ),
                    Cell(told or "raw logs", left=True),
                ]
            )
        )
    if not rows:
        return "Lineage: no artefact of this lake carries one"
    return Section(
        "lineage",
        "Where it comes from",
        [
            Table(
                ["artefact", "parts", "version", "code", "seed", "seconds", "made (UTC)", "from"],
                rows,
                "A version is the hash of everything that can change an artefact: its parents, its configuration, its code "
                "and its seed. The command 'latentvla lineage student' prints the whole tree.",
            )
        ],
    )


def _lineages(lake: Lake, asset: str) -> list[Lineage]:
    folders = (
        [lake.log(asset, log) for log in lake.log_ids(asset)]
        if asset in PER_LOG_ASSETS
        else [lake.asset(asset)]
    )
    return [read_lineage(folder) for folder in folders if (folder / LINEAGE_FILE).exists()]


def _measures(file: Path) -> list[tuple[str, str]]:
    """Names and values of a flat JSON file for people; empty if there is no such file."""
    if not file.exists():
        return []

    def text(value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(map(text, value))
        return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

    return [
        (name.replace("_r2", " R²").replace("_db", " dB").replace("_", " "), text(value))
        for name, value in json.loads(file.read_text()).items()
        if not isinstance(value, Mapping)
    ]
