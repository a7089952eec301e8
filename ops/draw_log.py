"""Any log of a lake as one page or one picture: contact sheet, signals, codes, the road from above, frames with plans;
and an index page over all logs. Not the evaluation's report.

It works for every source: what a log does not have (map, agents, codes, plans) is named as missing and left out.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from markupsafe import Markup
from matplotlib.figure import Figure

from ops.draw_log_charts import codes_chart, contact_sheet, road_figure, signals_chart
from ops.draw_page import (
    Badge,
    Block,
    Cell,
    Chart,
    Gallery,
    Page,
    Paragraph,
    Picture,
    Row,
    Section,
    Table,
    Tile,
    array_image,
    figure_image,
    render_page,
)
from ops.draw_scene import scene_figure
from ops.findings import label
from ops.log_view import LogView, read_log
from ops.quarantine import quarantined
from ops.scene_view import read_scene_view
from storage.errors import ArtifactError
from storage.frame_store import frame_info, read_frames
from storage.lake import Lake
from storage.trajectory_table import Command


@dataclass(frozen=True, slots=True)
class ShowConfig:
    """What a log's page shows."""

    sheet_frames: int = 24                  # pictures of the contact sheet
    frames: int = 6                         # frames shown large when none is asked for
    plans: tuple[str, ...] = ("student", "human", "vla", "pdm_closed")  # drawn where an evaluation holds them
    reach_m: float = 42.0                   # of the bird's-eye view
    dpi: int = 110


def show_log(lake: Lake, log_id: str, out: Path, config: ShowConfig, *, frame: int | None = None) -> Path:
    """Write the page (`out` ends in .html) or the picture (.png) of a log, or of one frame of it, and return `out`.

    Raises ConfigError for a log that does not exist and ArtifactError for a frame the log does not have.
    """
    view = read_log(lake, log_id)
    if frame is not None and frame not in view.column("frame_index"):
        index = view.column("frame_index")
        raise ArtifactError(f"log '{log_id}' has no frame {frame}", where=lake.log("trajectories", log_id),
                            expected=f"{index.min()} ... {index.max()}", found=frame, do="choose a frame of the log")
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".png":
        figure = _frame_figure(view, frame, config) if frame is not None else road_figure(view)
        figure.savefig(out, dpi=config.dpi)
    else:
        out.write_text(render_page(_page(view, config, frame)))
    return out


def show_index(lake: Lake, folder: Path, config: ShowConfig, *, pages: bool = False) -> Path:
    """Write `folder/index.html`, one line a log with filters by tag and split; with `pages` the logs' pages beside
    it."""
    rows, words = [], set()
    for log_id in lake.log_ids("trajectories"):
        view = read_log(lake, log_id)
        if pages:
            show_log(lake, log_id, folder / f"{log_id}.html", config)
        tags = sorted({tag for items in view.rows["tags"].to_pylist() for tag in items})
        split = view.rows["split"][0].as_py()
        words |= {split, *tags}
        rows.append(_index_row(view, split, tags, (folder / f"{log_id}.html").exists()))
    aside = quarantined(lake)
    sections = [Section("logs", f"{len(rows)} logs", [Table(
        ["log", "", "split", "place", "frames", "seconds", "metres", "mean km/h", "events"], rows)])]
    if aside:
        sections.append(Section("quarantine", "Set aside", [Table(["log", "reason"], [
            Row([Cell(item.log_id), Cell(item.reason, left=True)]) for item in aside.values()])]))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "index.html"
    file.write_text(render_page(Page("Logs", f"{lake.root}: {len(rows)} logs, {len(aside)} set aside.", sections,
                                     footer="Made by latentvla.", filters=sorted(words))))
    return file


def _page(view: LogView, config: ShowConfig, frame: int | None) -> Page:
    index, seconds = view.column("frame_index"), view.seconds
    speed = np.hypot(view.column("vx_mps"), view.column("vy_mps"))
    tags = sorted({tag for items in view.rows["tags"].to_pylist() for tag in items})
    tiles = [Tile("frames", str(len(index)), f"{seconds[-1]:.1f} s"), Tile("distance", f"{view.distance_m:.0f} m"),
             Tile("speed", f"{3.6 * speed.mean():.0f} km/h", f"up to {3.6 * speed.max():.0f} km/h"),
             Tile("events", str(len(tags)), ", ".join(tag.replace("_", " ") for tag in tags) or "none")]
    chosen = [frame] if frame is not None else _frames_to_show(view, config.frames)
    frames = Section("frames", "Frames", [Gallery([_frame_picture(view, item, config) for item in chosen])],
                     "Above, the front camera with a path on the ground; below, the same moment from above, driving "
                     "to the right.")
    rest = [_camera_section(view, config), _signals_section(view), _codes_section(view),
            Section("road", "The drive from above", [Chart(figure_image(road_figure(view), "the drive", config.dpi),
                                                           wide=True)])]
    missing = [] if len(view.plans) else ["no plans: the log is in no evaluation of this lake"]
    missing += [] if view.codes is not None else ["no codes: the log is not relabeled"]
    sections = [frames, *rest] if frame is not None else [rest[0], *rest[1:], frames]
    if missing:
        sections.append(Section("missing", "Not there", [Paragraph(line) for line in missing]))
    split, place = view.rows["split"][0].as_py(), view.rows["location"][0].as_py()
    return Page(f"Log {view.log_id}", f"{split} split, {place or 'no map'}.", sections, tiles, "Made by latentvla.")


def _camera_section(view: LogView, config: ShowConfig) -> Section:
    blocks: list[Block] = []
    if view.has_frames:
        info = frame_info(view.lake.log("frames", view.log_id))
        index = view.column("frame_index")[view.column("has_image")]
        chosen = index[np.unique(np.linspace(0, len(index) - 1, config.sheet_frames).round().astype(int))]
        images = read_frames(view.lake.log("frames", view.log_id), chosen)
        tags = dict(zip(view.column("frame_index").tolist(), view.rows["tags"].to_pylist(), strict=True))
        marked = [f"{frame}" + (f"  {', '.join(tags[frame])}" if tags[frame] else "") for frame in chosen.tolist()]
        front = info.cameras[0]
        caption = (f"{front.camera.name}, {front.camera.width} x {front.camera.height}; frame numbers, and the event "
                   f"where one is active. {int(front.frozen.sum())} frozen frames.")
        blocks.append(Chart(array_image(contact_sheet(images, marked), "contact sheet"), caption, wide=True))
        blocks += [Paragraph(note) for note in info.notes]
    else:
        blocks.append(Paragraph("The frames of this log are not decoded."))
    return Section("camera", "Camera", blocks)


def _signals_section(view: LogView) -> Section:
    return Section("signals", "Signals", [Chart(Markup(signals_chart(view)), "Shaded: an event is active.", wide=True)])


def _codes_section(view: LogView) -> Section:
    if view.codes is None:
        return Section("codes", "Latent actions", [Paragraph("This log has no codes yet.")])
    return Section("codes", "Latent actions", [Chart(Markup(codes_chart(view)), (
        "The four codes of each step to the next half second, over time; white where the later frame is missing. A "
        "colour is a code."),
        wide=True)])


def _frames_to_show(view: LogView, count: int) -> list[int]:
    """Frames spread over the log, moved onto events and onto frames with plans where there are some."""
    index = view.column("frame_index")
    worth = np.array([2.0 * bool(tags) for tags in view.rows["tags"].to_pylist()])
    planned = {frame for frame, _ in view.plans}
    worth += np.array([frame in planned for frame in index.tolist()])
    return [int(part[np.argmax(worth[np.isin(index, part)])]) for part in np.array_split(index, min(count, len(index)))]


def _frame_figure(view: LogView, frame: int, config: ShowConfig) -> Figure:
    scene = read_scene_view(view.lake, view.log_id, frame)
    paths = {name: view.plans[frame, name] for name in config.plans if (frame, name) in view.plans}
    if "human" not in paths and len(scene.human):
        paths["human"] = scene.human
    return scene_figure(scene, paths, reach_m=config.reach_m)


def _frame_picture(view: LogView, frame: int, config: ShowConfig) -> Picture:
    row = view.rows.filter(pc.field("frame_index") == frame).to_pylist()[0]
    drawn = [label(name) for name in config.plans if (frame, name) in view.plans]
    caption = (f"{np.hypot(row['vx_mps'], row['vy_mps']):.1f} m/s, command {Command(row['command']).name.lower()}; "
               f"paths: {', '.join(drawn) or 'human log'}.")
    if view.codes is not None:
        caption += f" Codes {view.codes[view.column('frame_index') == frame][0].tolist()}."
    return Picture(figure_image(_frame_figure(view, frame, config), f"frame {frame}", config.dpi), f"frame {frame}",
                   [Badge(tag.replace("_", " "), "event") for tag in row["tags"]], caption, anchor=f"frame-{frame}")


def _index_row(view: LogView, split: str, tags: list[str], has_page: bool) -> Row:
    picture = Markup("")
    if view.has_frames and view.column("has_image").any():
        index = view.column("frame_index")[view.column("has_image")]
        picture = array_image(read_frames(view.lake.log("frames", view.log_id), index[[len(index) // 2]],
                                          size_hw=(63, 112))[0],
                              f"log {view.log_id}", quality=75)
    metres, seconds = view.distance_m, view.seconds[-1]
    return Row([Cell(view.log_id, link=f"{view.log_id}.html" if has_page else ""), Cell("", picture=picture),
                Cell(split),
                Cell(view.rows["location"][0].as_py() or "no map"), Cell(str(len(view.rows))), Cell(f"{seconds:.1f}"),
                Cell(f"{metres:.0f}"), Cell(f"{3.6 * metres / max(seconds, 1e-9):.0f}"),
                Cell(", ".join(tag.replace("_", " ") for tag in tags), left=True)], tags=" ".join([split, *tags]))
