"""Draw one log of a lake as a page or a picture: contact sheet, signals, codes, path on the map,
frames with plans.

It works for every source: what a log does not have (map, agents, codes, plans) is left out and
listed as missing.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.compute as pc
from markupsafe import Markup
from matplotlib.figure import Figure

from ops.drawing.charts import svg
from ops.drawing.contact_sheet import contact_sheet
from ops.drawing.names import label
from ops.drawing.page import (
    Badge,
    Block,
    Chart,
    Gallery,
    Page,
    Paragraph,
    Picture,
    Section,
    Tile,
    array_image,
    figure_array,
    figure_image,
    page_bytes,
)
from ops.drawing.scene import BEV_CAPTION, scene_figure, scene_legend
from ops.drawing.scene_view import read_scene_view
from ops.pages.log_charts import codes_figure, road_figure, signals_figure
from ops.pages.log_view import LogView, read_log
from storage.errors import ArtifactError, ConfigError
from storage.frame_store import frame_info, read_frames
from storage.lake import Lake
from storage.output_file import check_output, write_output
from storage.trajectory_table import Command, read_table


@dataclass(frozen=True, slots=True)
class ShowConfig:
    """Contents of a log's page."""

    sheet_frames: int = 24  # images in the contact sheet
    frames: int = 6  # frames shown large if no frame is chosen
    # plans that are drawn, if the evaluation has them
    plans: tuple[str, ...] = ("student", "human", "vla", "pdm_closed")
    reach_m: float = 42.0  # smallest range ahead in the bird's-eye view, metres
    dpi: int = 110


def show_log(
    lake: Lake, log_id: str, out: Path, config: ShowConfig, *, frame: int | None = None
) -> Path:
    """Write the page (`out` ends in .html) or the picture (.png) of a log, or of one frame of it,
    and return `out`.

    Raises ConfigError for another file type, a log that does not exist, and an `out` that lies in
    the lake or cannot be written; ArtifactError for a log in quarantine and for a frame that the
    log does not have.
    """
    if out.suffix.lower() not in (".html", ".png"):
        raise ConfigError(
            "a log is drawn as a page or a picture",
            where=out,
            expected=".html or .png",
            found=out.suffix or "no file type",
            do="let --out end in .html or .png",
        )
    view = read_log(lake, log_id)
    if frame is not None and frame not in view.column("frame_index"):
        index = view.column("frame_index")
        raise ArtifactError(
            f"log '{log_id}' has no frame {frame}",
            where=lake.log("trajectories", log_id),
            expected=f"{index.min()} ... {index.max()}",
            found=frame,
            do="choose a frame of the log",
        )
    check_output(out, keep=[lake.root])
    if out.suffix.lower() == ".png":
        content = _png(
            _log_picture(view, config)
            if frame is None
            else figure_array(_frame_figure(view, frame, config), config.dpi)
        )
    else:
        content = page_bytes(_page(view, config, frame))
    with write_output(out, keep=[lake.root]) as file:
        file.write_bytes(content)
    return out


def _png(picture_HW3: np.ndarray) -> bytes:
    """An RGB picture (H, W, 3) uint8 as a PNG file."""
    done, encoded = cv2.imencode(".png", picture_HW3[..., ::-1])
    assert done, f"a picture of {picture_HW3.shape} cannot be a PNG"
    return encoded.tobytes()


def _page(view: LogView, config: ShowConfig, frame: int | None) -> Page:
    index, seconds = view.column("frame_index"), view.seconds
    speed = np.hypot(view.column("vx_mps"), view.column("vy_mps"))
    tags = sorted({tag for items in view.rows["tags"].to_pylist() for tag in items})
    tiles = [
        Tile("frames", str(len(index)), f"{seconds[-1]:.1f} s"),
        Tile("distance", f"{view.distance_m:.0f} m"),
        Tile("speed", f"{3.6 * speed.mean():.0f} km/h", f"up to {3.6 * speed.max():.0f} km/h"),
        Tile("events", str(len(tags)), ", ".join(tag.replace("_", " ") for tag in tags) or "none"),
    ]
    chosen = [frame] if frame is not None else _frames_to_show(view, config.frames)
    drawn = [
        name
        for name in config.plans
        if name == "human" or any((item, name) in view.plans for item in chosen)
    ]
    frames = Section(
        "frames",
        "Frames",
        [scene_legend(drawn), Gallery([_frame_picture(view, item, config) for item in chosen])],
        f"Top: the front camera with the paths projected onto the ground. {BEV_CAPTION}",
    )
    charts = [
        _camera_section(view, config),
        _signals_section(view),
        _codes_section(view),
        Section(
            "road",
            "Path on the map",
            [Chart(figure_image(road_figure(view), "path on the map", config.dpi), wide=True)],
        ),
    ]
    sections = [frames, *charts] if frame is not None else [*charts, frames]
    if missing := _missing(view):
        sections.append(Section("missing", "Missing", [Paragraph(line) for line in missing]))
    split, location = view.rows["split"][0].as_py(), view.rows["location"][0].as_py()
    return Page(
        f"Log {view.log_id}",
        f"{split} split, {location or 'no map'}.",
        sections,
        tiles,
        "Made by latentvla.",
    )


def _missing(view: LogView) -> list[str]:
    """What this log does not have, with the reason."""
    tables = {
        name: read_table(view.lake.log("trajectories", view.log_id), name)
        for name in ("map", "agents")
    }
    content = {
        "no map: the source has none for this log": len(tables["map"]),
        "no other road users: the source has none for this log": len(tables["agents"]),
        "no codes: the log is not relabeled": view.codes is not None,
        "no plans: the log is in no evaluation of this lake": len(view.plans),
    }
    return [sentence for sentence, present in content.items() if not present]


def _camera_section(view: LogView, config: ShowConfig) -> Section:
    blocks: list[Block] = []
    if view.has_frames:
        info = frame_info(view.lake.log("frames", view.log_id))
        front = info.cameras[0]
        caption = (
            f"{front.camera.name}, {front.camera.width} x {front.camera.height} pixels, with frame "
            f"number and active events. {int(front.frozen.sum())} frozen frames."
        )
        blocks.append(
            Chart(array_image(_contact_sheet(view, config), "contact sheet"), caption, wide=True)
        )
        blocks += [Paragraph(note) for note in info.notes]
    else:
        blocks.append(Paragraph("The frames of this log are not decoded yet."))
    return Section("camera", "Camera", blocks)


def _contact_sheet(view: LogView, config: ShowConfig) -> np.ndarray:
    """Evenly spaced images of the log, with frame number and active events, (H, W, 3) uint8."""
    index = view.column("frame_index")[view.column("has_image")]
    chosen = index[
        np.unique(np.linspace(0, len(index) - 1, config.sheet_frames).round().astype(int))
    ]
    tags = dict(
        zip(view.column("frame_index").tolist(), view.rows["tags"].to_pylist(), strict=True)
    )
    captions = [
        f"{frame}" + (f"  {', '.join(tags[frame])}" if tags[frame] else "")
        for frame in chosen.tolist()
    ]
    return contact_sheet(read_frames(view.lake.log("frames", view.log_id), chosen), captions)


def _log_picture(view: LogView, config: ShowConfig) -> np.ndarray:
    """The charts of a log's page below each other, then its frames in pairs, (H, W, 3) uint8."""
    frames = [
        figure_array(_frame_figure(view, frame, config), config.dpi)
        for frame in _frames_to_show(view, config.frames)
    ]
    height = max(len(frame) for frame in frames)
    frames = [
        np.pad(frame, ((0, height - len(frame)), (0, 0), (0, 0)), constant_values=255)
        for frame in frames
    ]
    frames += [np.full_like(frames[0], 255)] * (len(frames) % 2)
    pairs = [np.concatenate(frames[at : at + 2], axis=1) for at in range(0, len(frames), 2)]
    width = pairs[0].shape[1]
    charts = [
        signals_figure(view),
        *([codes_figure(view)] if view.codes is not None else []),
        road_figure(view),
    ]
    parts = [_contact_sheet(view, config)] if view.has_frames else []
    parts += [figure_array(figure, width / figure.get_figwidth()) for figure in charts]
    return np.concatenate(
        [
            cv2.resize(part, (width, round(len(part) * width / part.shape[1])))
            for part in [*parts, *pairs]
        ]
    )


def _signals_section(view: LogView) -> Section:
    return Section(
        "signals",
        "Signals",
        [Chart(Markup(svg(signals_figure(view))), "Shaded: an event is active.", wide=True)],
    )


def _codes_section(view: LogView) -> Section:
    if view.codes is None:
        return Section("codes", "Latent actions", [Paragraph("This log has no codes yet.")])
    return Section(
        "codes",
        "Latent actions",
        [
            Chart(
                Markup(svg(codes_figure(view))),
                "The codes of the transition to the frame 0.5 s later, one colour per code; white: "
                "the later frame is missing.",
                wide=True,
            )
        ],
    )


def _frames_to_show(view: LogView, count: int) -> list[int]:
    """One frame from each of `count` equal parts of the log: with an event or a plan, if there is
    one.
    """
    index = view.column("frame_index")
    priority = np.array([2.0 * bool(tags) for tags in view.rows["tags"].to_pylist()])
    planned = {frame for frame, _ in view.plans}
    priority += np.array([frame in planned for frame in index.tolist()])
    return [
        int(part[np.argmax(priority[np.isin(index, part)])])
        for part in np.array_split(index, min(count, len(index)))
    ]


def _frame_figure(view: LogView, frame: int, config: ShowConfig) -> Figure:
    scene = read_scene_view(view.lake, view.log_id, frame)
    paths = {name: view.plans[frame, name] for name in config.plans if (frame, name) in view.plans}
    if "human" not in paths and len(scene.human):
        paths["human"] = scene.human
    return scene_figure(scene, paths, reach_m=config.reach_m)


def _frame_picture(view: LogView, frame: int, config: ShowConfig) -> Picture:
    row = view.rows.filter(pc.field("frame_index") == frame).to_pylist()[0]
    drawn = [label(name) for name in config.plans if (frame, name) in view.plans]
    caption = (
        f"{np.hypot(row['vx_mps'], row['vy_mps']):.1f} m/s, command "
        f"{Command(row['command']).name.lower()}; paths: {', '.join(drawn) or 'human log'}."
    )
    if view.codes is not None:
        codes = view.codes[view.column("frame_index") == frame][0].tolist()
        caption += f" Codes of the next transitions: {codes}."
    return Picture(
        figure_image(_frame_figure(view, frame, config), f"frame {frame}", config.dpi),
        f"frame {frame}",
        [Badge(tag.replace("_", " "), "event") for tag in row["tags"]],
        caption,
        anchor=f"frame-{frame}",
    )
