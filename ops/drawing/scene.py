"""Draw one scene: the bird's-eye view with map, agents and paths, and the camera image with plans
projected onto the ground.

The bird's-eye view looks down with the ego driving to the right: x forward is right, y left is up.
Legend: T poses, n points, 3 = x, y, heading in the ego frame of the scene, metres.
"""

from collections.abc import Mapping, Sequence

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from ops.drawing.names import label
from ops.drawing.page import Legend
from ops.drawing.scene_view import SceneView
from ops.evaluation.boxes import corners
from storage.camera import Camera
from storage.trajectory_table import Category, MapLayer

INK = "#1c2430"  # text on light paper
# planner -> colour, line style; after Okabe and Ito, whose colours stay apart for every kind of
# colour vision
PATH_STYLES: dict[str, tuple[str, str]] = {
    "human": ("#00795c", "-"),
    "student": ("#d55e00", "-"),
    "vla": ("#0072b2", "-"),
    "pdm_closed": ("#b0529a", "--"),
    "planner_alone": ("#b87a00", "-"),
    "student_no_teacher": ("#3a9bd1", "--"),
    "ego_status_mlp": ("#7a5c3d", ":"),
    "constant_velocity": ("#6b7280", ":"),
    "constant_turn_rate": ("#6b7280", "--"),
    "stopped": ("#1c2430", ":"),
}
OTHER_PATH = ("#444444", "-.")
LAYER_FILLS: tuple[tuple[MapLayer, str], ...] = (  # in drawing order
    (MapLayer.WALKWAY, "#efe9dc"),
    (MapLayer.ROADBLOCK, "#dfe3e8"),
    (MapLayer.ROADBLOCK_CONNECTOR, "#dfe3e8"),
    (MapLayer.CARPARK_AREA, "#d3dbe3"),
    (MapLayer.INTERSECTION, "#d5dae0"),
    (MapLayer.LANE, "#dfe3e8"),
    (MapLayer.LANE_CONNECTOR, "#d9dee4"),
    (MapLayer.CROSSWALK, "#ffffff"),
)
AGENT_FILLS = {
    Category.VEHICLE: "#6f8fb5",
    Category.PEDESTRIAN: "#e0457b",
    Category.BICYCLE: "#8a5cc2",
}
OBJECT_FILL = "#9a8f78"  # cones, barriers and other static objects
RED_LIGHT = "#d7263d"
EGO_LENGTH_M, EGO_WIDTH_M, EGO_CENTER_M = 5.176, 2.297, 1.461  # the vehicle of the PDM score
_BEHIND, _SIDE = 0.25, 0.36  # shares of the reach shown behind the ego, and to each side
BEV_CAPTION = (
    "Bottom: bird's-eye view, driving to the right; dots every 0.5 s; the line ahead of a road "
    "user shows its motion over the next second."
)
_DASHES = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dashed"}


def scene_legend(planners: Sequence[str]) -> Legend:
    """Colour keys of these planners' paths and of all other objects in a scene."""
    styles = [PATH_STYLES.get(name, OTHER_PATH) for name in planners]
    keys = [
        (label(name), colour, _DASHES[style])
        for name, (colour, style) in zip(planners, styles, strict=True)
    ]
    return Legend(
        [
            *keys,
            ("ego", INK, "box"),
            ("vehicle", AGENT_FILLS[Category.VEHICLE], "box"),
            ("pedestrian", AGENT_FILLS[Category.PEDESTRIAN], "box"),
            ("cyclist", AGENT_FILLS[Category.BICYCLE], "box"),
            ("other object", OBJECT_FILL, "box"),
            ("lane under a red light", RED_LIGHT, "solid"),
        ]
    )


def scene_figure(
    view: SceneView,
    paths: Mapping[str, np.ndarray],
    *,
    reach_m: float = 42.0,
    width_in: float = 6.0,
) -> Figure:
    """The camera image above the bird's-eye view, with `paths` {planner: (T, 3)}; the first one is
    the main path.

    The view reaches at least `reach_m` ahead, and as far as the main path and the human's.
    """
    first = next(iter(paths), "")
    shown = {name: path for name, path in paths.items() if name in (first, "human")}
    points = np.concatenate([np.zeros((1, 2)), *(path[:, :2] for path in shown.values())])
    reach_m = max(
        reach_m, 1.1 * float(points[:, 0].max()), 1.1 * float(np.abs(points[:, 1]).max()) / _SIDE
    )
    above_in = width_in * 2 * _SIDE / (1 + _BEHIND)
    image = view.image
    camera_in = width_in * (image.shape[0] / image.shape[1] if image is not None else 0.12)
    figure = Figure(figsize=(width_in, camera_in + above_in + 0.04), facecolor="white")
    split = above_in / (camera_in + above_in + 0.04)
    draw_camera(figure.add_axes((0.0, split + 0.01, 1.0, 0.99 - split)), view, shown)
    draw_bev(
        figure.add_axes((0.0, 0.0, 1.0, split)),
        view,
        dict(reversed([*paths.items()])),
        reach_m=reach_m,
    )
    return figure


def draw_bev(
    ax: Axes, view: SceneView, paths: Mapping[str, np.ndarray], *, reach_m: float = 42.0
) -> None:
    """Draw map, lights, agents, the ego and the paths {planner: (T, 3)} from above, `reach_m`
    metres ahead.
    """
    ax.set_facecolor("#f6f5f1")
    _draw_map(ax, view)
    _draw_agents(ax, view)
    ego = corners(np.array([EGO_CENTER_M, 0.0, 0.0, EGO_LENGTH_M, EGO_WIDTH_M]))
    ax.add_collection(
        PolyCollection([ego], facecolors=INK, edgecolors="white", linewidths=0.8, zorder=6)
    )
    if len(view.history):
        history = np.vstack([view.history[:, :2], [[0.0, 0.0]]])
        ax.plot(*history.T, color=INK, lw=1.2, alpha=0.5, zorder=5)
    for name, path in paths.items():
        _draw_path(ax, name, path)
    side = _SIDE * reach_m
    ax.set(
        xlim=(-_BEHIND * reach_m, reach_m), ylim=(-side, side), aspect="equal", xticks=[], yticks=[]
    )
    for spine in ax.spines.values():
        spine.set_visible(False)
    _draw_scale(ax, (0.03 - _BEHIND) * reach_m, 0.05 * reach_m - side, 0.012 * reach_m)


def draw_camera(
    ax: Axes, view: SceneView, paths: Mapping[str, np.ndarray], *, ribbon_width_m: float = 1.4
) -> None:
    """Draw the camera image with each path {planner: (T, 3)} projected onto the ground; the first
    one is a filled ribbon.
    """
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if view.image is None or view.camera is None:
        ax.text(
            0.5,
            0.5,
            "no image of this frame",
            ha="center",
            va="center",
            color=INK,
            transform=ax.transAxes,
        )
        return
    # the axes have the shape of the image, up to rounding
    ax.imshow(view.image, interpolation="bicubic", aspect="auto")
    for order, (name, path) in enumerate(paths.items()):
        colour, style = PATH_STYLES.get(name, OTHER_PATH)
        left, right = ground_ribbon(view.camera, path, ribbon_width_m if order == 0 else 0.0)
        if len(left) < 2:
            continue
        if order == 0:
            ax.fill(*np.vstack([left, right[::-1]]).T, color=colour, alpha=0.38, lw=0, zorder=3)
            for edge in (left, right):
                ax.plot(*edge.T, color=colour, lw=1.5, zorder=4)
        else:
            ax.plot(
                *left.T,
                color=colour,
                ls=style,
                lw=2.0,
                zorder=5,
                path_effects=[
                    effects.Stroke(linewidth=3.4, foreground="white", alpha=0.85),
                    effects.Normal(),
                ],
            )
    ax.set(xlim=(-0.5, view.image.shape[1] - 0.5), ylim=(view.image.shape[0] - 0.5, -0.5))


def ground_ribbon(
    camera: Camera, path_T3: np.ndarray, width_m: float, near_m: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 2) of the left and the right edge of a ribbon along a path on the ground, from
    `near_m` ahead of the camera.

    The path is interpolated linearly between its poses; the part behind the camera is left out.
    Lens distortion is not applied.
    """
    poses = np.vstack([[[0.0, 0.0, 0.0]], path_T3]).astype(np.float64)
    poses[:, 2] = np.unwrap(poses[:, 2])
    steps = np.linspace(0, len(poses) - 1, 12 * (len(poses) - 1) + 1)
    x, y, yaw = (np.interp(steps, np.arange(len(poses)), poses[:, axis]) for axis in range(3))
    ego_to_camera = np.linalg.inv(camera.camera_to_ego)
    edges = []
    for side in (0.5 * width_m, -0.5 * width_m):
        points = np.stack(
            [x - side * np.sin(yaw), y + side * np.cos(yaw), np.zeros_like(x), np.ones_like(x)]
        )
        edges.append((ego_to_camera @ points)[:3])
    visible = (edges[0][2] > near_m) & (edges[1][2] > near_m)
    left, right = ((camera.intrinsics @ edge[:, visible]) for edge in edges)
    return (left[:2] / left[2]).T, (right[:2] / right[2]).T


def _draw_map(ax: Axes, view: SceneView) -> None:
    for layer, fill in LAYER_FILLS:
        crossing = layer == MapLayer.CROSSWALK
        ax.add_collection(
            PolyCollection(
                view.polygons.get(layer, []),
                facecolors=fill,
                linewidths=0.6,
                zorder=1,
                edgecolors="#9aa3ad" if crossing else fill,
                hatch="////" if crossing else None,
            )
        )
    lanes = [_closed(ring) for ring in view.polygons.get(MapLayer.LANE, [])]
    stop_lines = [_closed(ring) for ring in view.polygons.get(MapLayer.STOP_LINE, [])]
    _lines(ax, lanes, "#ffffff", 1.0, 2)
    _lines(ax, view.baselines, "#a9b2bd", 0.7, 2, linestyles=(0, (4, 4)))
    _lines(ax, view.red_lines, RED_LIGHT, 2.2, 3, alpha=0.45)
    _lines(ax, stop_lines, "#7d8794", 1.0, 3)


def _draw_path(ax: Axes, planner: str, path: np.ndarray) -> None:
    """A line from the ego through the poses, with a dot at each pose."""
    colour, style = PATH_STYLES.get(planner, OTHER_PATH)
    points = np.vstack([[[0.0, 0.0]], path[:, :2]])
    outline = [effects.Stroke(linewidth=3.4, foreground="white"), effects.Normal()]
    ax.plot(*points.T, color=colour, ls=style, lw=2.0, zorder=8, path_effects=outline)
    ax.plot(
        *points[1:].T,
        color=colour,
        ls="none",
        marker="o",
        ms=4.0,
        mec="white",
        mew=0.6,
        zorder=9,
    )


def _draw_scale(ax: Axes, left: float, low: float, gap: float) -> None:
    """A scale bar of 10 m."""
    ax.plot([left, left + 10.0], [low, low], color=INK, lw=2, solid_capstyle="butt", zorder=10)
    x, y = left + 5.0, low + gap
    ax.text(x, y, "10 m", ha="center", va="bottom", fontsize=8, color=INK, zorder=10)


def _draw_agents(ax: Axes, view: SceneView) -> None:
    """Boxes in the colour of their category, and the motion of each over the next second."""
    fills = [AGENT_FILLS.get(Category(kind), OBJECT_FILL) for kind in view.box_category]
    if fills:
        ax.add_collection(
            PolyCollection(
                list(corners(view.boxes)),
                facecolors=fills,
                edgecolors="white",
                linewidths=0.7,
                zorder=6,
            )
        )
    moving = np.hypot(*view.box_velocity.T) > 0.3
    start = view.boxes[moving, :2]
    ends = start + view.box_velocity[moving]
    _lines(ax, list(np.stack([start, ends], axis=1)), "#33445c", 1.2, 7)
    walking = view.boxes[view.box_category == Category.PEDESTRIAN, :2]
    ax.plot(
        *walking.T,
        ls="none",
        marker="o",
        ms=5.5,
        color=AGENT_FILLS[Category.PEDESTRIAN],
        mec="white",
        mew=0.7,
        zorder=7,
    )


def _lines(
    ax: Axes, lines: list[np.ndarray], colour: str, width: float, zorder: int, **style: object
) -> None:
    ax.add_collection(
        LineCollection(lines, colors=colour, linewidths=width, zorder=zorder, **style)
    )  # type: ignore[arg-type]


def _closed(ring_n2: np.ndarray) -> np.ndarray:
    return np.concatenate([ring_n2, ring_n2[:1]])
