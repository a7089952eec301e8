"""The index page of all logs: for every source, for partly processed logs, with offline filters."""

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from ops.ingest.config import ExtractConfig, FrameConfig
from ops.ingest.decode import decode
from ops.ingest.each_log import make_from_raw_log
from ops.ingest.extract import extract
from ops.ingest.inventory import take_inventory
from ops.ingest.quarantine import quarantine, quarantined
from ops.pages.index_page import read_entry, show_index
from ops.pages.log_page import ShowConfig, show_log
from storage.artifact import planned_lineage
from storage.errors import ArtifactError, ConfigError, SourceError
from storage.lake import Lake
from storage.sources import open_source
from tests.storage.test_source_contract import SOURCES_UNDER_TEST
from tests.worlds.tiny_lake import write_tiny_lake

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three logs, and a fourth that is quarantined and has nothing else."""
    lake = write_tiny_lake(tmp_path_factory.mktemp("lake"))
    quarantine(
        lake,
        "log-x",
        "frames",
        SourceError("an image is <cut>", where="x.jpg", do="copy it again"),
        "bytes",
    )
    return lake


WITH_MAP = ("openscene", "nuscenes")


@pytest.mark.parametrize("name", SOURCES_UNDER_TEST)
def test_logs_of_every_source_are_listed_and_drawn(name: str, tmp_path: Path) -> None:
    raw, lake = tmp_path / "raw", Lake(tmp_path / "lake")
    SOURCES_UNDER_TEST[name](raw)
    ref = open_source(name, raw).logs()[0]
    take_inventory(
        name,
        raw,
        ref,
        lake.log("raw_logs", ref.log_id),
        planned_lineage(f"raw_logs/{ref.log_id}", {}, {}, "c"),
    )
    pages = tmp_path / "pages"
    # nothing can be drawn yet
    assert "draw its page" not in show_index(lake, pages / "index.html").read_text()
    for asset, verb, config in (
        ("frames", decode, FrameConfig()),
        ("trajectories", extract, ExtractConfig()),
    ):
        make_from_raw_log(
            verb,
            name,
            raw,
            ref.log_id,
            config,
            lake.log(asset, ref.log_id),
            planned_lineage(f"{asset}/{ref.log_id}", {}, {}, "c"),
        )
    text = show_index(lake, pages / "index.html").read_text()
    assert f"{ref.log_id}</td>" in text or f"{ref.log_id}<details" in text
    assert text.count("data:image/jpeg") == 1 and f"latentvla show {ref.log_id} --lake" in text
    assert ("no map, no lights, no command" in text) == (name not in WITH_MAP)
    page = show_log(
        lake, ref.log_id, pages / f"{ref.log_id}.html", ShowConfig(frames=1)
    ).read_text()
    assert all(
        f'<section id="{part}">' in page
        for part in ("camera", "signals", "codes", "road", "frames")
    )
    assert (
        ("no map: the source has none" in page) == (name not in WITH_MAP)
        and "no plans" in page
        and "no codes" in page
    )
    assert f'href="./{ref.log_id}.html"' in show_index(lake, pages / "index.html").read_text()


def test_each_log_has_its_split_length_speed_and_events(lake: Lake, tmp_path: Path) -> None:
    entry = read_entry(lake, "log-b")
    assert (entry.split, entry.frames, entry.seconds, entry.events) == (
        "test",
        24,
        11.5,
        {"cut_in": 2.0},
    )
    assert entry.metres == pytest.approx(23 * 5.5) and entry.middle == 12
    text = show_index(lake, tmp_path / "index.html").read_text()
    assert (
        "cut in 2.0 s" in text
        and "40 km/h" in text
        and 'data-tags="split=test event=cut_in state=readable"' in text
    )


def test_a_quarantined_log_is_in_the_index_with_its_reason(lake: Lake, tmp_path: Path) -> None:
    text = show_index(lake, tmp_path / "index.html").read_text()
    row = next(part for part in text.split("<tr") if "quarantined at frames" in part)
    assert (
        "an image is &lt;cut&gt;" in row and "copy it again" in row and "state=quarantined" in row
    )
    with pytest.raises(ArtifactError, match=r"'log-x' is in quarantine[\s\S]*copy it again"):
        show_log(lake, "log-x", tmp_path / "x.html", ShowConfig())
    assert read_entry(lake, "log-x", quarantined(lake)["log-x"]).seconds is None


PRESSED = """
const counts = [];
for (const tags of %s) {
  for (const all of document.querySelectorAll('button[data-tag=""]')) all.click();
  for (const tag of tags) document.querySelector(`button[data-tag="${tag}"]`).click();
  counts.push(document.querySelectorAll("tr[data-tags]:not([hidden])").length);
}
document.body.dataset.counts = counts.join(" ");
"""
# what the page's Content-Security-Policy must not let run
STRANGE = "document.body.classList.add(['it', 'ran'].join('-'))"
STRANGE_SCRIPT = f"""
<script>{STRANGE}</script>
<img src="data:image/png;base64,x" onerror="{STRANGE}">
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to press the buttons of the page")
def test_filters_are_combined_and_work_offline(lake: Lake, tmp_path: Path) -> None:
    left = {
        (): 4,
        ("split=test",): 2,
        ("event=cut_in",): 1,
        ("split=train", "event=cut_in"): 0,
        ("split=test", "event=none"): 1,
        ("split=train", "split=test"): 2,
        ("state=quarantined",): 1,
    }
    file = show_index(lake, tmp_path / "index.html")
    script = PRESSED % json.dumps([*left])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = file.read_text().replace("script-src ", f"script-src 'sha256-{digest}' ")
    strange = STRANGE_SCRIPT + f"<script>{script}</script></body>"
    file.write_text(text.replace("</body>", strange))
    assert CHROMIUM is not None
    dom = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (
        f'data-counts="{" ".join(str(count) for count in left.values())}"' in dom
        and "1 of 4 shown" in dom
        and "it-ran" not in dom
    )


def test_missing_logs_and_unknown_file_types_raise_errors_with_the_next_step(
    lake: Lake, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=r"no log in this lake[\s\S]*latentvla run"):
        show_index(Lake(tmp_path / "empty"), tmp_path / "index.html")
    with pytest.raises(
        ArtifactError, match=r"no log of this lake has trajectories[\s\S]*latentvla run"
    ):
        show_log(Lake(tmp_path / "empty"), "log-a", tmp_path / "log.html", ShowConfig())
    with pytest.raises(ConfigError, match="the index over all logs is a page"):
        show_index(lake, tmp_path / "index.png")
    with pytest.raises(ConfigError, match=r"a page or a picture[\s\S]*\.pdf"):
        show_log(lake, "log-a", tmp_path / "log.pdf", ShowConfig())
    assert list(tmp_path.iterdir()) == []
