"""Names, tags and reasons from data reach every page as text: no element, no script, no address."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.drawing.charts import curves_chart, difference_chart, interval_chart
from ops.drawing.page import Cell, Page, Paragraph, Row, Section, Table, page_bytes, render_page
from ops.evaluation.intervals import Interval
from ops.ingest.quarantine import quarantine
from ops.pages.index_page import page_file, show_index
from ops.pages.log_page import ShowConfig, show_log
from ops.report.config import ReportConfig, SceneChoice
from ops.report.report import draw
from storage.errors import SourceError
from storage.lake import Lake
from tests.report.test_draw import write_scores
from tests.worlds.tiny_lake import write_tiny_lake

ADDRESS, ELEMENT, ATTRIBUTE = (
    "javascript:alert(1)",
    "<img src=x onerror=alert(1)>",
    "\" onmouseover='alert(1)' x=\"$x_{1}$",
)
SCRIPT = "</td></script><script>alert(1)</script>"
LOGS = {ADDRESS: ("test", 8.0), ELEMENT: ("test", 11.0), ATTRIBUTE: ("train", 6.0)}
# what a page may consist of
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "nav", "main", "footer"),
    *("section", "div", "span", "h1", "h2", "h3", "p", "b", "i", "a", "strong", "code", "pre"),
    *("table", "thead", "tbody", "tr", "th", "td", "details", "summary", "button", "script"),
    *("figure", "figcaption", "img", "svg", "g", "path", "use", "defs", "clippath", "rect"),
    *("text", "tspan", "line", "polyline", "image", "metadata", "rdf:rdf", "cc:work", "cc:agent"),
    *("dc:type", "dc:format", "dc:creator", "dc:title", "dc:date"),
}


class Contents(HTMLParser):
    """The elements, attributes, addresses and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def require_harmless(page: str) -> Contents:
    """The contents of a page in which nothing came to life."""
    contents = Contents(page)
    assert contents.elements <= ELEMENTS, contents.elements - ELEMENTS
    assert not [name for name in contents.attributes if name.startswith("on") or not name.strip()]
    assert all(address.startswith(("#", "./", "data:image/")) for address in contents.addresses), (
        contents.addresses
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None and "default-src 'none'" in policy[1]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    allowed = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(scripts) <= 1
    expected = f"script-src 'sha256-{allowed[0]}';" if scripts else "script-src 'none';"
    assert expected in policy[1]
    return contents


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Logs, tags, places, splits and reasons that are attacks."""
    lake = write_tiny_lake(tmp_path_factory.mktemp("hostile") / "<b>lake</b>", LOGS)
    write_scores(lake, SCRIPT)
    for log_id, (split, _) in LOGS.items():
        file = lake.log("trajectories", log_id) / "trajectories.parquet"
        table = pq.read_table(file)
        columns = {
            "tags": [[SCRIPT, ATTRIBUTE]] * len(table),
            "location": [SCRIPT] * len(table),
            "split": [f"{split} {ATTRIBUTE}"] * len(table),
        }
        for name, values in columns.items():
            place = table.schema.get_field_index(name)
            field = table.schema.field(place)
            table = table.set_column(place, field, pa.array(values, field.type))
        pq.write_table(table, file)
    quarantine(lake, ADDRESS, "frames", SourceError(SCRIPT, where=ELEMENT, do=ATTRIBUTE), "x")
    return lake


def test_the_index_shows_hostile_names_as_text_and_links_to_files_alone(
    lake: Lake, tmp_path: Path
) -> None:
    for log in LOGS:
        page_file(tmp_path, log).write_text("its page")
    page = show_index(lake, tmp_path / "index.html").read_text()
    contents = require_harmless(page)
    for text in (*LOGS, SCRIPT):
        assert text in contents.text
    links = [address for address in contents.addresses if address.startswith("./")]
    assert {unquote(link) for link in links} == {f"./{log}.html" for log in LOGS}
    assert all(re.fullmatch(r"\./[\w.%~-]+", link) for link in links)


def test_the_page_of_a_log_shows_hostile_names_as_text(lake: Lake, tmp_path: Path) -> None:
    config = ShowConfig(frames=1, sheet_frames=2)
    page = show_log(lake, ELEMENT, tmp_path / "log.html", config, frame=9).read_text()
    contents = require_harmless(page)
    assert ELEMENT in contents.text and SCRIPT in contents.text
    assert "</td></script>" not in page


def test_the_report_shows_hostile_names_as_text(lake: Lake, tmp_path: Path) -> None:
    config = ReportConfig(title=SCRIPT, scenes=SceneChoice(worst=2, best=0))
    contents = require_harmless(draw(lake, tmp_path, config).file.read_text())
    for text in (SCRIPT, ADDRESS, ELEMENT):
        assert text in contents.text


def test_charts_show_hostile_names_as_text_and_no_name_is_a_formula() -> None:
    item = Interval(50.0, 40.0, 60.0, 3, 2)
    names = (ADDRESS, ELEMENT, ATTRIBUTE, SCRIPT, "$x_1$", "$\\frac{$")
    for chart in (
        interval_chart([(name, item) for name in names], names=str, label="PDMS"),
        difference_chart([(name, name, item) for name in names], label="PDMS"),
    ):
        contents = Contents(chart)
        assert contents.elements <= ELEMENTS
        assert all(name in contents.text for name in names)
    steps = item.mean + pa.array([0.0, 1.0]).to_numpy()
    assert Contents(curves_chart({SCRIPT: {ELEMENT: (steps, steps)}})).elements <= ELEMENTS


@pytest.mark.parametrize(
    "name",
    [
        "javascript:alert(1)",
        "//host/x",
        "https://host/x",
        "a b#c?d%20&e",
        "süß",
        "\udcff",
        "..",
    ],
)
def test_a_link_is_a_file_beside_the_page_whatever_its_name(name: str) -> None:
    table = Table(["log"], [Row([Cell("x", link=name)])])
    contents = Contents(render_page(Page("Logs", "", [Section("logs", "Logs", [table])])))
    (link,) = [address for address in contents.addresses if address != "#logs"]
    assert link.startswith("./") and not re.search(r"[:#?&\s]|//", link)
    assert unquote(link[2:], errors="surrogateescape") == name


def test_text_that_utf8_cannot_hold_does_not_stop_a_page() -> None:
    section = Section("logs", "Logs", [Paragraph("half a pair: \ud800")])
    assert b"half a pair: &#55296;" in page_bytes(Page("Logs", "", [section]))


def test_the_page_of_a_log_never_replaces_the_index_and_has_a_name_that_a_disk_takes(
    tmp_path: Path,
) -> None:
    assert page_file(tmp_path, "a").name == "a.html"
    assert page_file(tmp_path, "index").name != "index.html"
    assert page_file(tmp_path, "all", "all.html").name != "all.html"
    names = {page_file(tmp_path, "ü" * 120 + end).name for end in "ab"}
    assert len(names) == 2 and all(len(name.encode()) < 240 for name in names)
