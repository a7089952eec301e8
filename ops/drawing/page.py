"""The parts of an offline HTML page and their rendering through the one template. Not what a page
says.

A page is one file: styles inline, charts as SVG, pictures as base64, no script from anywhere else.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("page_template.html.j2")


@dataclass(frozen=True, slots=True)
class Tile:
    """One big number at the top."""

    label: str
    value: str
    detail: str = ""
    colour: str = "#8b95a1"


@dataclass(frozen=True, slots=True)
class Badge:
    """A short word in colour: bad, good, event or plain."""

    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    detail: str = ""  # smaller, behind the text: an interval
    shade: float = 0.0  # 0 ... 1: how strongly the cell warns
    strong: bool = False
    dot: str = ""  # colour of a dot before the text
    link: str = ""
    left: bool = False  # text, set to the left and wrapped
    picture: Markup | str = ""  # an <img> before the text
    tone: str = ""  # yes, no or open: the word of a verdict
    badges: Sequence[Badge] = ()  # before the text
    fold: tuple[str, str] = ("", "")  # below the text: what to click, and the lines it opens


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table; a row of one cell is a heading that spans the table."""

    cells: Sequence[Cell]
    ours: bool = False
    tags: str = ""  # space-separated "group=word", for a page that filters its rows


@dataclass(frozen=True, slots=True)
class Table:
    """A table in a card that scrolls sideways on a narrow screen."""

    head: Sequence[str]
    rows: Sequence[Row]
    key: str = ""  # how to read it, below
    folded: str = ""  # what to click to see it; "": open
    kind: str = "table"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart or a picture in a card."""

    content: Markup  # an <svg> or an <img>
    caption: str = ""
    wide: bool = False  # as wide as the page
    long: bool = False  # far wider than high: shown large, scrolled sideways
    kind: str = "chart"


@dataclass(frozen=True, slots=True)
class Picture:
    """A scene with its caption."""

    content: Markup
    title: str
    badges: Sequence[Badge] = ()
    caption: str = ""
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures side by side, below each other on a narrow screen."""

    pictures: Sequence[Picture]
    kind: str = "gallery"


@dataclass(frozen=True, slots=True)
class Legend:
    """Colour keys: (text, colour, line style or 'box')."""

    keys: Sequence[tuple[str, str, str]]
    kind: str = "legend"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A heading and a paragraph; either may be empty."""

    text: str = ""
    heading: str = ""
    code: str = ""  # a command, behind the text
    kind: str = "paragraph"


Block = Table | Chart | Gallery | Legend | Paragraph


@dataclass(frozen=True, slots=True)
class Section:
    """One section with its anchor in the list of contents."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """Buttons of which one is pressed: only the rows tagged "group=word" stay. Several filters work
    together.
    """

    group: str
    words: Sequence[tuple[str, int]]  # and the number of rows each leaves


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    tiles: Sequence[Tile] = ()
    footer: str = ""
    filters: Sequence[Filter] = ()  # of the rows of tables, by their tags


def render_page(page: Page) -> str:
    """The page as one self-contained HTML text; everything but charts and pictures is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text()).render(page=page)


def figure_image(figure: Figure, alt: str, dpi: int = 110) -> Markup:
    """A matplotlib figure as an inline JPEG, a quarter of its PNG where it holds a camera image."""
    return array_image(figure_array(figure, dpi), alt, quality=90)


def figure_array(figure: Figure, dpi: float = 110) -> np.ndarray:
    """A matplotlib figure as pixels (H, W, 3) uint8 RGB."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def array_image(image_HW3: np.ndarray, alt: str, quality: int = 88) -> Markup:
    """An RGB picture (H, W, 3) uint8 as an inline JPEG with full colour resolution, for thin
    coloured lines.
    """
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    encoded = cv2.imencode(".jpg", image_HW3[..., ::-1], settings)[1]
    return _image(encoded.tobytes(), "jpeg", alt)


def file_image(file: Path, alt: str) -> Markup:
    """A PNG or JPEG file as an inline picture."""
    return _image(file.read_bytes(), "png" if file.suffix.lower() == ".png" else "jpeg", alt)


def _image(data: bytes, kind: str, alt: str) -> Markup:
    return Markup('<img alt="{}" loading="lazy" src="data:image/{};base64,{}">').format(
        alt, kind, Markup(base64.b64encode(data).decode())
    )
