"""The index page over all logs of a lake: one row a log, filtered by split and event. Not a log's
own page.

It works for every source, and for logs that came only part of the way: what no asset has said of a
log stays empty.
"""

import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from ops.drawing.page import (
    Badge,
    Cell,
    Filter,
    Page,
    Paragraph,
    Row,
    Section,
    Table,
    Tile,
    array_image,
    render_page,
)
from ops.ingest.inventory import INVENTORY_FILE, read_inventory
from ops.ingest.quarantine import QuarantineRecord, quarantined
from storage.artifact import LINEAGE_FILE
from storage.errors import ArtifactError, ConfigError
from storage.frame_store import read_frames
from storage.lake import Lake
from storage.sources.contract import Capabilities
from storage.trajectory_table import read_table

THUMBNAIL_HW = (90, 160)
HEAD = ("log", "", "split", "length", "distance", "mean speed", "holds", "events")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What the index says of one log; None and "" where it is not known."""

    log_id: str
    split: str = ""
    location: str = ""
    frames: int | None = None
    seconds: float | None = None
    metres: float | None = None
    events: dict[str, float] = field(default_factory=dict)  # tag -> seconds in which it is active
    middle: int | None = None  # frame_index of the image in the middle of the log
    has: Capabilities | None = None
    aside: QuarantineRecord | None = None  # why it is quarantined

    @property
    def filter_tags(self) -> list[tuple[str, str]]:
        """The (group, word) pairs by which a person can choose this log."""
        events = [("event", tag.replace(" ", "_")) for tag in self.events or ("none",)]
        return [
            ("split", self.split or "unknown"),
            *events,
            ("state", "quarantined" if self.aside else "readable"),
        ]


def show_index(lake: Lake, file: Path) -> Path:
    """Write the index page and return `file`; a log's page is linked where `<log_id>.html` lies
    beside it.

    Raises ArtifactError for a lake without logs and ConfigError for a file that is no page.
    """
    if file.suffix.lower() != ".html":
        raise ConfigError(
            "the index over all logs is a page",
            where=file,
            expected=".html",
            found=file.suffix or "no ending",
            do="let --out end in .html, or name one log for a picture",
        )
    aside = quarantined(lake)
    log_ids = sorted({*lake.log_ids("raw_logs"), *lake.log_ids("trajectories"), *aside})
    if not log_ids:
        raise ArtifactError(
            "there is no log in this lake",
            where=lake.root,
            expected="raw_logs/<log_id>",
            do="make them: latentvla run --until trajectories",
        )
    entries = [read_entry(lake, log_id, aside.get(log_id)) for log_id in log_ids]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render_page(_page(lake, entries, file)))
    return file


def read_entry(lake: Lake, log_id: str, aside: QuarantineRecord | None = None) -> LogEntry:
    """What the lake knows of one log: from its inventory, and from its trajectories where they are
    made.
    """
    has, split, location = None, "", ""
    if (lake.log("raw_logs", log_id) / INVENTORY_FILE).exists():
        inventory = read_inventory(lake.log("raw_logs", log_id))
        has, split, location = inventory.capabilities, inventory.split, inventory.location
    if not (lake.log("trajectories", log_id) / LINEAGE_FILE).exists():
        return LogEntry(log_id, split, location, has=has, aside=aside)
    rows = read_table(lake.log("trajectories", log_id), "trajectories").sort_by("frame_index")
    seconds = np.diff(rows["timestamp_us"].to_numpy()) / 1e6
    metres = np.hypot(np.diff(rows["x_m"].to_numpy()), np.diff(rows["y_m"].to_numpy())).sum()
    seen = rows["frame_index"].to_numpy()[rows["has_image"].to_numpy(zero_copy_only=False)]
    return LogEntry(
        log_id,
        rows["split"][0].as_py(),
        rows["location"][0].as_py(),
        len(rows),
        float(seconds.sum()),
        float(metres),
        _event_seconds(rows, float(np.median(seconds))),
        int(seen[len(seen) // 2]) if len(seen) else None,
        has,
        aside,
    )


def _event_seconds(rows: pa.Table, step_s: float) -> dict[str, float]:
    counts = Counter(tag for tags in rows["tags"].to_pylist() for tag in tags)
    return {tag: count * step_s for tag, count in sorted(counts.items())}


def _page(lake: Lake, entries: list[LogEntry], file: Path) -> Page:
    seconds, metres = (
        sum(entry.seconds or 0.0 for entry in entries),
        sum(entry.metres or 0.0 for entry in entries),
    )
    splits = Counter(entry.split for entry in entries if entry.split)
    aside, eventful = (
        sum(entry.aside is not None for entry in entries),
        sum(bool(entry.events) for entry in entries),
    )
    tiles = [
        Tile(
            "logs",
            str(len(entries)),
            ", ".join(f"{count} {split}" for split, count in splits.items()),
        ),
        Tile("driven", f"{metres / 1000:.1f} km", f"in {seconds / 60:.1f} minutes"),
        Tile("mean speed", f"{3.6 * metres / max(seconds, 1e-9):.0f} km/h", "standing included"),
        Tile("with an event", str(eventful), f"{100 * eventful / len(entries):.0f} % of the logs"),
    ]
    if aside:
        tiles.append(Tile("quarantined", str(aside), "each with its reason", "#b3261e"))
    command = f"latentvla show --pages --lake {_path(lake.root)} --out {_path(file)}"
    return Page(
        "Logs",
        f"Every log of {lake.root.absolute()}.",
        [
            Section(
                "logs",
                "Every log",
                [Table(HEAD, [_row(lake, entry, file.parent) for entry in entries])],
                "An event is shown with the seconds in which it is active; the mean speed includes standing.",
            ),
            Section(
                "draw",
                "Pages of the logs",
                [Paragraph("This draws a page for each log and this index anew:", code=command)],
            ),
        ],
        tiles,
        "Made by latentvla.",
        _filters(entries),
    )


def _filters(entries: list[LogEntry]) -> list[Filter]:
    """Groups that tell logs apart: one word alone needs no button."""
    counts = Counter(pair for entry in entries for pair in entry.filter_tags)
    groups = {
        group: sorted(
            ((word, count) for (name, word), count in counts.items() if name == group),
            key=lambda item: (item[0] == "none", item),
        )
        for group in ("split", "event", "state")
    }
    return [Filter(group, words) for group, words in groups.items() if len(words) > 1]


def _row(lake: Lake, entry: LogEntry, pages: Path) -> Row:
    page = pages / f"{entry.log_id}.html"
    command = (
        f"latentvla show {shlex.quote(entry.log_id)} --lake {_path(lake.root)} --out {_path(page)}"
    )
    name = (
        Cell(entry.log_id, link=page.name)
        if page.exists()
        else Cell(
            entry.log_id, fold=("draw its page", command) if entry.seconds is not None else ("", "")
        )
    )
    empty = Cell("")
    numbers = [empty, empty, empty]
    if entry.seconds is not None and entry.metres is not None:
        numbers = [
            Cell(f"{entry.seconds:.1f} s", f"{entry.frames} frames"),
            Cell(f"{entry.metres:.0f} m"),
            Cell(f"{3.6 * entry.metres / max(entry.seconds, 1e-9):.0f} km/h"),
        ]
    badges = [
        Badge(f"{tag.replace('_', ' ')} {seconds:.1f} s", "event")
        for tag, seconds in entry.events.items()
    ]
    last = Cell("", left=True, badges=badges)
    if entry.aside is not None:
        first, _, more = entry.aside.reason.partition("\n")
        last = Cell(
            first,
            left=True,
            badges=[*badges, Badge(f"quarantined at {entry.aside.asset}", "bad")],
            fold=("where, and what to do", more) if more else ("", ""),
        )
    return Row(
        [
            name,
            Cell("", picture=_thumbnail(lake, entry)),
            Cell(entry.split),
            *numbers,
            Cell(_holds(entry.has, entry.location), left=True),
            last,
        ],
        tags=" ".join(f"{group}={word}" for group, word in entry.filter_tags),
    )


def _holds(has: Capabilities | None, location: str) -> str:
    """What a log has and what it lacks, in words; "" where its inventory is not taken."""
    if has is None:
        return ""
    things = {
        "agents": has.agents,
        "map": has.map,
        "lights": has.traffic_lights,
        "command": has.command,
    }
    there = [
        f"{len(has.cameras)} camera{'s' if len(has.cameras) != 1 else ''}",
        *(f"map {location}" if name == "map" else name for name in things if things[name]),
    ]
    lacks = [f"no {name}" for name in things if not things[name]]
    return "; ".join(", ".join(part) for part in (there, lacks) if part)


def _thumbnail(lake: Lake, entry: LogEntry) -> Markup:
    """The image in the middle of the log as an <img>; nothing where no image or no frame store is."""
    folder = lake.log("frames", entry.log_id)
    if entry.middle is None or not (folder / LINEAGE_FILE).exists():
        return Markup("")
    image = read_frames(folder, np.array([entry.middle]), size_hw=THUMBNAIL_HW)[0]
    return array_image(image, f"log {entry.log_id}", quality=80)


def _path(path: Path) -> str:
    return shlex.quote(str(path.absolute()))
