"""Draws architecture.svg: the nine assets, the layers, and the door of each dependency.

    python docs/images/architecture.py

Plain SVG written by hand, so that the picture needs no drawing program; a test compares the file
with this source, and the names with the code.
"""

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

OUT = Path(__file__).parent / "architecture.svg"
WIDTH, MARGIN = 800, 20
INK, MUTED, LINE = "#1c2430", "#4a5565", "#8a94a3"
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"

# groups of assets: title, fill, (asset, what one frame is then, its file), label of the arrow below
GROUPS = (
    (
        "Ingest: one partition per log",
        "#e3eefa",
        (
            ("raw_logs", "bytes, time stamps", "public log formats"),
            ("frames", "images of the cameras", "Zarr v3, sharded"),
            ("trajectories", "poses, agents, map", "Parquet"),
        ),
        "images and tables of all usable logs",
    ),
    (
        "Training: on all ingested logs",
        "#fdeeda",
        (
            ("codebook", "latent actions", "safetensors"),
            ("relabeled", "16 codes a frame", "Parquet"),
            ("vla", "VLM and planner", "safetensors"),
            ("student", "small planner", "ONNX"),
        ),
        "planners, and the scenes of the test logs",
    ),
    (
        "Results",
        "#e2f2e6",
        (
            ("evaluation", "PDMS, EPDMS, errors", "Parquet, CSV"),
            ("report", "tables, scenes, curves", "one HTML file"),
        ),
        "",
    ),
)
# layers from top to bottom: package, what it is, doors to dependencies, fill
LAYERS = (
    ("latentvla/", "the public import: a thin face over the five folders", (), "#f3f4f6"),
    ("pipelines/", "jobs, sensors, presets, command line", ("Dagster",), "#eee9f7"),
    ("assets/", "nine nouns, a file each, and their checks", ("Dagster",), "#eee9f7"),
)
LOWEST = (
    (
        "models/",
        "networks and losses, no paths",
        ("transformers", "peft", "vector-quantize-pytorch"),
        "#fdeeda",
    ),
    (
        "storage/",
        "formats and readers of raw logs",
        ("Zarr", "DuckDB", "Great Expectations", "nuscenes-devkit"),
        "#e2f2e6",
    ),
)
# packages of ops/, those above import those below, with the doors to dependencies
OPS = (
    (("pages", "report", "study"), ()),
    (("drawing", "ablation"), ("Jinja: drawing",)),
    (("evaluation", "devkit"), ()),
    (("student",), ("ONNX Runtime: student",)),
    (("vla",), ()),
    (("planners", "latent_actions"), ()),
    (("quality",), ()),
    (("pdm", "ingest", "training"), ("numba: pdm", "Ray: training")),
    (("synthesize",), ()),
    (("pool",), ()),
)


@dataclass
class Canvas:
    """SVG elements in the order in which they are painted."""

    items: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, w: float, h: float, fill: str, radius: float = 8) -> None:
        self.items.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{radius:g}" '
            f'fill="{fill}" stroke="{LINE}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: int,
        *,
        fill: str = INK,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.items.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" '
            f'text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def arrow(self, *points: tuple[float, float]) -> None:
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        self.items.append(
            f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.8" '
            'marker-end="url(#head)"/>'
        )


def architecture() -> str:
    """The whole picture as SVG."""
    canvas = Canvas()
    below = _pipeline(canvas, 0)
    below = _layers(canvas, below + 34)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {below:g}" '
        f'width="{WIDTH}" height="{below:g}" font-family="{FONT}" role="img">\n'
        "<title>latentvla: the nine assets, the layers, and where each dependency is used</title>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>'
    )
    background = f'<rect width="{WIDTH}" height="{below:g}" fill="#ffffff"/>'
    return "\n".join([head, background, *canvas.items, "</svg>"]) + "\n"


def _pipeline(canvas: Canvas, top: float) -> float:
    """Groups of assets; returns where they end."""
    canvas.text(MARGIN, top + 36, "The pipeline: nine assets", 24, bold=True)
    y, inset, gap, group_high = top + 54, 14, 26, 146
    for title, fill, assets, label in GROUPS:
        canvas.box(MARGIN, y, WIDTH - 2 * MARGIN, group_high, "#f7f8fa")
        canvas.text(MARGIN + inset, y + 28, title, 18, fill=MUTED)
        wide = (WIDTH - 2 * MARGIN - 2 * inset - gap * (len(assets) - 1)) / len(assets)
        for column, (name, what, file) in enumerate(assets):
            x = MARGIN + inset + column * (wide + gap)
            canvas.box(x, y + 42, wide, 90, fill)
            canvas.text(x + wide / 2, y + 70, name, 20, anchor="middle", bold=True)
            canvas.text(x + wide / 2, y + 95, what, 17, anchor="middle")
            canvas.text(x + wide / 2, y + 119, file, 16, anchor="middle", fill=MUTED)
            if column:
                canvas.arrow((x - gap, y + 87), (x - 1, y + 87))
        y += group_high
        if label:
            canvas.arrow((WIDTH / 2, y), (WIDTH / 2, y + 35))
            canvas.text(WIDTH / 2 + 14, y + 24, label, 16, fill=MUTED)
            y += 36
    return y


def _layers(canvas: Canvas, top: float) -> float:
    """Bands of packages with the dependencies that each may import; returns where they end."""
    canvas.text(MARGIN, top + 24, "The layers: imports point down", 24, bold=True)
    canvas.text(
        MARGIN, top + 52, "Dark tags: the one place where a dependency is imported", 17, fill=MUTED
    )
    y, wide = top + 68, WIDTH - 2 * MARGIN
    for name, what, doors, fill in LAYERS:
        canvas.box(MARGIN, y, wide, 64, fill)
        _heading(canvas, MARGIN, y, name, what)
        _doors(canvas, WIDTH - MARGIN - 16, y + 16, doors)
        y += 76
    high = 76 + 37 * len(OPS)
    canvas.box(MARGIN, y, wide, high, "#e6edf5")
    _heading(canvas, MARGIN, y, "ops/", "what is done, from the end of the method to its beginning")
    for row, (names, doors) in enumerate(OPS):
        left = MARGIN + 16.0
        for name in names:
            across = 22 + 9.6 * len(name)
            canvas.box(left, y + 68 + 37 * row, across, 30, "#ffffff", 5)
            canvas.text(left + across / 2, y + 89 + 37 * row, name, 17, anchor="middle")
            left += across + 10
        _doors(canvas, WIDTH - MARGIN - 16, y + 67 + 37 * row, doors)
    y += high + 12
    half = (wide - 12) / 2
    for column, (name, what, doors, fill) in enumerate(LOWEST):
        x = MARGIN + column * (half + 12)
        canvas.box(x, y, half, 150, fill)
        _heading(canvas, x, y, name, what)
        _doors(canvas, x + half - 16, y + 66, doors[:2])
        _doors(canvas, x + half - 16, y + 106, doors[2:])
    return y + 150 + MARGIN


def _heading(canvas: Canvas, x: float, y: float, name: str, what: str) -> None:
    canvas.text(x + 16, y + 28, name, 20, bold=True)
    canvas.text(x + 16, y + 52, what, 17)


def _doors(canvas: Canvas, right: float, y: float, names: tuple[str, ...]) -> None:
    """Tags of dependencies beside each other, set to the right."""
    for name in reversed(names):
        wide = 27 + 8.6 * len(name)
        canvas.box(right - wide, y, wide, 32, INK, 16)
        canvas.text(right - wide / 2, y + 21, name, 16, anchor="middle", fill="#ffffff")
        right -= wide + 8


if __name__ == "__main__":
    OUT.write_text(architecture())
    print(OUT)
