"""The building blocks of an offline HTML page, and their rendering with the one template.

A page is one file: inline styles and script, charts as SVG, pictures as base64. What it shows comes
from data that nobody has looked at, so all text is escaped, links lead to files beside the page
only, and a Content-Security-Policy lets no script run but the page's own.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("page_template.html.j2")


@dataclass(frozen=True, slots=True)
class Tile:
    """A key figure at the top of a page."""

    label: str
    value: str
    detail: str = ""
    colour: str = "#8b95a1"


@dataclass(frozen=True, slots=True)
class Badge:
    """A short coloured label."""

    text: str
    tone: str = ""  # bad, good, event; "": plain


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    detail: str = ""  # smaller, after the text: an interval
    shade: float = 0.0  # 0 ... 1: strength of the orange background
    strong: bool = False
    dot: str = ""  # colour of a dot before the text
    link: str = ""  # name of a file in the page's folder
    left: bool = False  # left-aligned, wrapped text
    picture: Markup | str = ""  # an <img> before the text
    tone: str = ""  # colour of the text: yes, no or open
    badges: Sequence[Badge] = ()  # before the text
    fold: tuple[str, str] = ("", "")  # below the text: summary and content of a folded block


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table; a row with a single cell is a heading that spans the table."""

    cells: Sequence[Cell]
    ours: bool = False
    tags: str = ""  # space-separated "group=value" pairs, for the filters of the page


@dataclass(frozen=True, slots=True)
class Table:
    """A table in a card that scrolls sideways on a narrow screen."""

    head: Sequence[str]
    rows: Sequence[Row]
    key: str = ""  # explanation below the table
    folded: str = ""  # summary line of a folded table; "": not folded
    kind: str = "table"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart or a picture in a card."""

    content: Markup  # an <svg> or an <img>
    caption: str = ""
    wide: bool = False  # as wide as the page
    long: bool = False  # much wider than high: shown large, scrolls sideways
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
    code: str = ""  # a command, after the text
    kind: str = "paragraph"


Block = Table | Chart | Gallery | Legend | Paragraph


@dataclass(frozen=True, slots=True)
class Section:
    """A section; its anchor is linked in the table of contents."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """A group of buttons that keeps only the rows with the tag "group=value". Several filters are
    combined with "and".
    """

    group: str
    values: Sequence[tuple[str, int]]  # (value, number of rows with it)


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
    """Render a page as one self-contained HTML text. All text is escaped; charts and pictures are
    not.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"file_link": _file_link, "script_source": _script_source}
    return environment.from_string(TEMPLATE.read_text()).render(page=page)


def page_bytes(page: Page) -> bytes:
    """A page as it stands in its file. Text that UTF-8 cannot hold, half of a surrogate pair, is
    shown as a replacement character.
    """
    return render_page(page).encode("utf-8", "xmlcharrefreplace")


def _file_link(name: str) -> str:
    """The address of a file beside the page. It starts with "./", so that no name is a scheme such
    as `javascript:`, and every character of the name that means something in a URL is quoted.
    """
    return "./" + quote(name.encode("utf-8", "surrogateescape"), safe="")


def _script_source(script: str) -> Markup:
    """The hash by which a Content-Security-Policy admits this script."""
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    return Markup("'sha256-{}'").format(digest)


def figure_image(figure: Figure, alt: str, dpi: int = 110) -> Markup:
    """A matplotlib figure as an inline JPEG; with a camera image a quarter of the size of a PNG."""
    return array_image(figure_array(figure, dpi), alt, quality=90)


def figure_array(figure: Figure, dpi: float = 110) -> np.ndarray:
    """A matplotlib figure as pixels (H, W, 3) uint8 RGB."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def array_image(image_HW3: np.ndarray, alt: str, quality: int = 88) -> Markup:
    """An RGB image (H, W, 3) uint8 as an inline JPEG without chroma subsampling, for thin coloured
    lines.
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
