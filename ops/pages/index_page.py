"""The index page of all logs of a lake: one row per log, with filters by split, event and state.

It works for every source and for logs that are only partly processed: cells without data are empty.
"""

import os
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
    page_bytes,
)
from ops.ingest.inventory import INVENTORY_FILE, read_inventory
from ops.ingest.quarantine import QuarantineRecord, quarantined
from storage.artifact import LINEAGE_FILE, digest
from storage.errors import ArtifactError, ConfigError
from storage.frame_store import read_frames
from storage.lake import Lake
from storage.output_file import check_output, write_output
from storage.sources.contract import Capabilities
from storage.trajectory_table import read_table

THUMBNAIL_HW = (90, 160)
MAX_NAME_BYTES = 240  # of a page's file
HEAD = ("log", "", "split", "length", "distance", "mean speed", "data", "events")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One row of the index; None and "" where the data is missing."""

    log_id: str
    split: str = ""
    location: str = ""
    frames: int | None = None
    seconds: float | None = None
    metres: float | None = None
    events: dict[str, float] = field(
        default_factory=dict
    )  # tag -> seconds during which it is active
    middle: int | None = None  # frame_index of the image in the middle of the log
    has: Capabilities | None = None
    quarantine: QuarantineRecord | None = None  # of a quarantined log

    @property
    def filter_tags(self) -> list[tuple[str, str]]:
        """The (group, value) pairs of the filters that keep this log."""
        events = [("event", _one_word(tag)) for tag in self.events or ("none",)]
        return [
            ("split", _one_word(self.split) or "unknown"),
            *events,
            ("state", "quarantined" if self.quarantine else "readable"),
        ]


def show_index(lake: Lake, file: Path) -> Path:
    """Write the index page and return `file`; logs with a page (see `page_file`) in the same folder
    are linked.

    Raises ArtifactError for a lake without logs and ConfigError for a file that is not .html, lies
    in the lake or cannot be written.
    """
    if file.suffix.lower() != ".html":
        raise ConfigError(
            "the index over all logs is a page",
            where=file,
            expected=".html",
            found=file.suffix or "no file type",
            do="let --out end in .html, or name one log for a picture",
        )
    records = quarantined(lake)
    log_ids = sorted({*lake.log_ids("raw_logs"), *lake.log_ids("trajectories"), *records})
    if not log_ids:
        raise ArtifactError(
            "there is no log in this lake",
            where=lake.root,
            expected="raw_logs/<log_id>",
            do="run: latentvla run --until trajectories",
        )
    check_output(file, keep=[lake.root])
    entries = [read_entry(lake, log_id, records.get(log_id)) for log_id in log_ids]
    content = page_bytes(_page(lake, entries, file))
    with write_output(file, keep=[lake.root]) as part:
        part.write_bytes(content)
    return file


def page_file(folder: Path, name: str, index: str = "index.html") -> Path:
    """The page `<name>.html` of a log in `folder`, or a page with the name shortened and hashed
    where that is the index page itself or too long for a file name.
    """
    file = f"{name}.html"
    if file == index or len(os.fsencode(file)) > MAX_NAME_BYTES:
        file = f"{name[:40]}-{digest(name)[:8]}.html"
    return folder / file


def read_entry(lake: Lake, log_id: str, quarantine: QuarantineRecord | None = None) -> LogEntry:
    """Read the row of one log from its inventory and, if they exist, its trajectories."""
    has, split, location = None, "", ""
    if (lake.log("raw_logs", log_id) / INVENTORY_FILE).exists():
        inventory = read_inventory(lake.log("raw_logs", log_id))
        has, split, location = inventory.capabilities, inventory.split, inventory.location
    if not (lake.log("trajectories", log_id) / LINEAGE_FILE).exists():
        return LogEntry(log_id, split, location, has=has, quarantine=quarantine)
    rows = read_table(lake.log("trajectories", log_id), "trajectories").sort_by("frame_index")
    seconds = np.diff(rows["timestamp_us"].to_numpy()) / 1e6
    metres = np.hypot(np.diff(rows["x_m"].to_numpy()), np.diff(rows["y_m"].to_numpy())).sum()
    with_image = rows["frame_index"].to_numpy()[rows["has_image"].to_numpy(zero_copy_only=False)]
    return LogEntry(
        log_id,
        rows["split"][0].as_py(),
        rows["location"][0].as_py(),
        len(rows),
        float(seconds.sum()),
        float(metres),
        _event_seconds(rows, float(np.median(seconds))),
        int(with_image[len(with_image) // 2]) if len(with_image) else None,
        has,
        quarantine,
    )


def _one_word(text: str) -> str:
    """The text without blanks, which part the tags of a row."""
    return "_".join(text.split())


def _event_seconds(rows: pa.Table, step_s: float) -> dict[str, float]:
    counts = Counter(tag for tags in rows["tags"].to_pylist() for tag in tags)
    return {tag: count * step_s for tag, count in sorted(counts.items())}


def _page(lake: Lake, entries: list[LogEntry], file: Path) -> Page:
    seconds = sum(entry.seconds or 0.0 for entry in entries)
    metres = sum(entry.metres or 0.0 for entry in entries)
    splits = Counter(entry.split for entry in entries if entry.split)
    n_quarantined = sum(entry.quarantine is not None for entry in entries)
    n_with_event = sum(bool(entry.events) for entry in entries)
    tiles = [
        Tile(
            "logs",
            str(len(entries)),
            ", ".join(f"{count} {split}" for split, count in splits.items()),
        ),
        Tile("distance", f"{metres / 1000:.1f} km", f"in {seconds / 60:.1f} minutes"),
        Tile("mean speed", f"{3.6 * metres / max(seconds, 1e-9):.0f} km/h", "including standstill"),
        Tile(
            "with an event",
            str(n_with_event),
            f"{100 * n_with_event / len(entries):.0f} % of the logs",
        ),
    ]
    if n_quarantined:
        tiles.append(Tile("quarantined", str(n_quarantined), "reasons in the table", "#b3261e"))
    command = f"latentvla show --pages --lake {_path(lake.root)} --out {_path(file)}"
    return Page(
        "Logs",
        f"All logs of {lake.root.absolute()}.",
        [
            Section(
                "logs",
                "All logs",
                [Table(HEAD, [_row(lake, entry, file) for entry in entries])],
                "Events: the time during which they are active. Mean speed includes standstill.",
            ),
            Section(
                "draw",
                "Log pages",
                [Paragraph("To draw a page for each log, and this index again:", code=command)],
            ),
        ],
        tiles,
        "Made by latentvla.",
        _filters(entries),
    )


def _filters(entries: list[LogEntry]) -> list[Filter]:
    """The filter groups with more than one value."""
    counts = Counter(pair for entry in entries for pair in entry.filter_tags)
    groups = {
        group: sorted(
            ((value, count) for (name, value), count in counts.items() if name == group),
            key=lambda item: (item[0] == "none", item),
        )
        for group in ("split", "event", "state")
    }
    return [Filter(group, values) for group, values in groups.items() if len(values) > 1]


def _row(lake: Lake, entry: LogEntry, index: Path) -> Row:
    page = page_file(index.parent, entry.log_id, index.name)
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
    if entry.quarantine is not None:
        first, _, more = entry.quarantine.reason.partition("\n")
        last = Cell(
            first,
            left=True,
            badges=[*badges, Badge(f"quarantined at {entry.quarantine.asset}", "bad")],
            fold=("details", more) if more else ("", ""),
        )
    return Row(
        [
            name,
            Cell("", picture=_thumbnail(lake, entry)),
            Cell(entry.split),
            *numbers,
            Cell(_data_text(entry.has, entry.location), left=True),
            last,
        ],
        tags=" ".join(f"{group}={value}" for group, value in entry.filter_tags),
    )


def _data_text(has: Capabilities | None, location: str) -> str:
    """The data that a log has and has not; "" without an inventory."""
    if has is None:
        return ""
    optional = {
        "agents": has.agents,
        "map": has.map,
        "lights": has.traffic_lights,
        "command": has.command,
    }
    present = [
        f"{len(has.cameras)} camera{'s' if len(has.cameras) != 1 else ''}",
        *(f"map {location}" if name == "map" else name for name in optional if optional[name]),
    ]
    missing = [f"no {name}" for name in optional if not optional[name]]
    return "; ".join(", ".join(part) for part in (present, missing) if part)


def _thumbnail(lake: Lake, entry: LogEntry) -> Markup:
    """The image in the middle of the log as an <img>; "" without an image or decoded frames."""
    folder = lake.log("frames", entry.log_id)
    if entry.middle is None or not (folder / LINEAGE_FILE).exists():
        return Markup("")
    image = read_frames(folder, np.array([entry.middle]), size_hw=THUMBNAIL_HW)[0]
    return array_image(image, f"log {entry.log_id}", quality=80)


def _path(path: Path) -> str:
    return shlex.quote(str(path.absolute()))
