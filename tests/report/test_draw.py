"""The report and the log pages: their contents, that they open offline, and missing inputs."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from markupsafe import Markup

from ops.drawing.charts import curves_chart, interval_chart
from ops.drawing.contact_sheet import GAP, contact_sheet
from ops.drawing.names import label
from ops.drawing.page import Chart, Page, Paragraph, Section, Table, render_page
from ops.drawing.scene import ground_ribbon, scene_figure
from ops.drawing.scene_view import read_scene_view
from ops.evaluation.config import EvaluationConfig
from ops.evaluation.evaluate import write_evaluation
from ops.evaluation.intervals import Interval
from ops.evaluation.summarize import score_cube
from ops.pages.log_page import ShowConfig, show_log
from ops.pdm.score_rows import SCORE_COLUMNS, ScoredPlans
from ops.report.codes import codes_section
from ops.report.config import ReportConfig
from ops.report.offline import outside_of
from ops.report.report import draw
from ops.report.results import read_results
from ops.report.scenes import choose_scenes
from ops.report.scores import score_section
from ops.report.training import history_files, read_curves
from storage.artifact import planned_lineage, write_artifact
from storage.dataset import read_dataset
from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake
from storage.metrics_table import LATENCY, read_metrics
from storage.trajectory_table import CodeLayout, read_table, relabeled_schema, write_table
from tests.worlds.tiny_lake import CAMERA, HEIGHT, WIDTH, write_tiny_lake

PLANNERS = (
    "human",
    "constant_velocity",
    "student",
    "vla",
    "student_blank",
    "student_shuffled",
    "pdm_closed",
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The tiny lake with hand-written scores."""
    return write_scores(write_tiny_lake(tmp_path_factory.mktemp("lake")))


def write_scores(lake: Lake, reason_of_fault: str = "the scene has no centreline") -> Lake:
    """Write an evaluation of the test logs: the student collides in the first scene, and one scene
    has no scores.
    """
    rows = read_dataset(lake, "test")
    scenes = rows.take(np.flatnonzero((rows.frame_index >= 3) & (rows.frame_index < 14)))
    shape = (len(scenes), len(PLANNERS))
    values = np.full((*shape, len(SCORE_COLUMNS)), np.nan)
    at = {
        name: SCORE_COLUMNS.index(name)
        for name in ("nc", "dac", "ddc", "ttc", "ep", "comfort", "pdms", "progress_m")
    }
    for name in at:
        values[..., at[name]] = 1.0
    values[:, 1, [at["ep"], at["pdms"]]] = 0.4, (5 + 2 + 5 * 0.4) / 12
    values[0, 2, [at["nc"], at["pdms"]]] = 0.0
    valid, reason = np.ones(shape, bool), np.full(shape, "", object)
    valid[5], reason[5], values[5] = False, reason_of_fault, np.nan
    plans = np.repeat(scenes.future[:, None], len(PLANNERS) - 1, axis=1).astype(float)
    plans[:, 2, :, 1] += 1.0
    scored = ScoredPlans(values, valid, reason, scenes.future.astype(float))
    latency = pa.Table.from_pylist(
        [
            {
                "planner": name,
                "p50_ms": p50,
                "p95_ms": 2 * p50,
                "calls": 20,
                "parameters": 1000,
                "device": "cpu",
                "threads": 1,
            }
            for name, p50 in (("vla", 40.0), ("student", 2.0))
        ],
        LATENCY,
    )
    tags = [list(items) for items in scenes.tags]
    write_evaluation(
        lake.asset("evaluation"),
        scenes,
        PLANNERS[:-1],
        plans,
        scored,
        tags,
        EvaluationConfig(),
        latency=latency,
    )
    return lake


def test_the_report_is_one_file_that_loads_nothing_from_a_network(
    lake: Lake, tmp_path: Path
) -> None:
    summary = draw(lake, tmp_path, ReportConfig())
    text = summary.file.read_text()
    assert [item.name for item in tmp_path.iterdir()] == [
        "report.html"
    ] and summary.size_bytes == len(text.encode())
    assert outside_of(text) == []
    assert (
        text.count('<figure class="scene"')
        == text.count('src="data:image/jpeg;base64,')
        == summary.pictures
        == 4
    )


@pytest.mark.parametrize(
    ("snippet", "resource"),
    [
        ('<img src="https://a.b/c.png">', "https://a.b/c.png"),
        ("<link rel=stylesheet href=//a.b/c.css>", "//a.b/c.css"),
        ("<img srcset='big.png 2x'>", "big.png 2x"),
        ('<object data="a.svg"></object>', "a.svg"),
        ('<style>@import "https://a.b/c.css";</style>', "https://a.b/c.css"),
        ("<style>@import url(c.css);</style>", "c.css"),
        ("<p style=\"background: url('c.png')\">", "c.png"),
        (
            '<script>const page = await fetch("https://a.b/c.json")</script>',
            'fetch("https://a.b/c.json")',
        ),
        ("<script>new WebSocket('wss://a.b')</script>", "WebSocket('wss://a.b')"),
        ("<script>new XMLHttpRequest()</script>", "XMLHttpRequest()"),
        ("<script>import('./c.js')</script>", "import('./c.js')"),
        (
            '<script type="module">\nimport { x } from "c.js";\n</script>',
            'import { x } from "c.js"',
        ),
        ('<script src="c.js"></script>', "c.js"),
    ],
)
def test_every_external_resource_of_a_page_is_listed(snippet: str, resource: str) -> None:
    assert outside_of(f"<html><body>{snippet}</body></html>") == [resource]


def test_resources_inside_the_page_are_not_external() -> None:
    page = """<svg xmlns="http://www.w3.org/2000/svg">
        <metadata><a href="http://b"/></metadata><use href="#a"/></svg>
        <a href="#scores">scores</a><img src="data:image/png;base64,AA==">
        <p>fetch(this) and data-tags="a=b"</p>
        <style>a { background: url(data:image/png;base64,AA==) }</style>
        <script>const fetched = rows.filter(x => x)</script>"""
    assert outside_of(page) == []


def test_the_report_says_how_many_scenes_were_scored_and_why_one_was_not(
    lake: Lake, tmp_path: Path
) -> None:
    text = draw(lake, tmp_path, ReportConfig()).file.read_text()
    assert "21 of 22 scenes" in text and "the scene has no centreline" in text
    assert "20 times faster than the VLA" in text
    assert "black images" in text and "cut in" in text


def test_the_worst_scene_is_the_one_where_the_student_collides(lake: Lake, tmp_path: Path) -> None:
    cube = score_cube(read_metrics(lake.asset("evaluation"), "scores"))
    worst, best = choose_scenes(cube, "student", 2, 2)
    assert (cube.log_id[worst[0]], cube.frame_index[worst[0]]) == ("log-a", 3)
    assert len({*cube.log_id[worst]}) == len(worst) == len(best) == 2  # one a log
    # a planner without a good scene has no best scenes
    assert len(choose_scenes(cube, "constant_velocity", 2, 2)[1]) == 0
    assert "at-fault collision" in draw(lake, tmp_path, ReportConfig()).file.read_text()


def test_sections_without_input_are_left_out_and_listed(lake: Lake, tmp_path: Path) -> None:
    summary = draw(lake, tmp_path, ReportConfig())
    assert any("relabeled" in line for line in summary.left_out) and any(
        "history" in line for line in summary.left_out
    )
    assert "Missing sections" in summary.file.read_text()


@pytest.mark.parametrize(("has_ec", "title"), [(False, "EPDMS without EC"), (True, "EPDMS")])
def test_the_epdms_table_is_titled_without_ec_where_no_scene_has_one(
    has_ec: bool, title: str, lake: Lake
) -> None:
    results = read_results(lake.asset("evaluation"))
    table = results.score_tables["all"]
    item = Interval(0.5, 0.5, 0.5, 3, 2)
    measures = {"epdms": item} | ({"ec_v2": item} if has_ec else {})
    means = {planner: {**table.means[planner], **measures} for planner in table.planners}
    section = score_section(replace(results, score_tables={"all": replace(table, means=means)}))
    headings = [block.heading for block in section.blocks if isinstance(block, Paragraph)]
    assert f"{title}: version 2 of the score" in headings
    assert [block.head[1] for block in section.blocks if isinstance(block, Table)][-1] == title


def test_there_is_no_report_without_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no evaluation here"):
        draw(Lake(tmp_path), tmp_path / "out", ReportConfig())


def test_names_are_escaped_in_the_page(lake: Lake, tmp_path: Path) -> None:
    text = draw(
        lake, tmp_path, replace(ReportConfig(), title="<script>alert(1)</script>")
    ).file.read_text()
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text


def test_a_plan_straight_ahead_is_projected_to_the_image_centre_and_below_the_horizon() -> None:
    path = np.stack([np.arange(1, 9) * 5.0, np.zeros(8), np.zeros(8)], axis=1)
    left, right = ground_ribbon(CAMERA, path, 1.4)
    center = (left + right) / 2
    assert (
        np.abs(center[:, 0] - CAMERA.intrinsics[0, 2]).max() < 1e-9
        and (left[:, 0] < right[:, 0]).all()
    )
    assert (np.diff(center[:, 1]) < 0).all() and center[-1, 1] > CAMERA.intrinsics[1, 2]
    # camera 1.6 m high, 1.5 m ahead
    far = CAMERA.intrinsics[1, 1] * 1.6 / (40.0 - 1.5) + CAMERA.intrinsics[1, 2]
    assert center[-1, 1] == pytest.approx(far)


def test_a_plan_to_the_left_is_projected_to_the_left_and_one_behind_is_not_drawn() -> None:
    path = np.stack([np.arange(1, 9) * 5.0, np.arange(1, 9) * 1.0, np.full(8, 0.2)], axis=1)
    assert ground_ribbon(CAMERA, path, 0.0)[0][-1, 0] < CAMERA.intrinsics[0, 2] - 5
    assert len(ground_ribbon(CAMERA, path * [-1, 1, 1], 1.4)[0]) == 0


def test_a_scene_is_in_the_ego_frame(lake: Lake) -> None:
    view = read_scene_view(lake, "log-a", 8)
    lead = view.boxes[np.argmax(view.box_velocity[:, 0])]
    assert lead[:3] == pytest.approx([25.0, 0.0, 0.0], abs=1e-6)
    assert (
        view.box_velocity.max() == pytest.approx(8.0)
        and np.abs(view.box_velocity[:, 1]).max() < 1e-9
    )
    assert (
        view.image is not None and view.image.shape == (HEIGHT, WIDTH, 3) and len(view.human) == 8
    )


def test_pictures_of_a_frame_without_an_image_still_show_it_from_above(lake: Lake) -> None:
    view = replace(read_scene_view(lake, "log-a", 8), image=None)
    assert (
        scene_figure(view, {"human": view.human}).axes[0].texts[0].get_text()
        == "no image of this frame"
    )


@pytest.mark.parametrize("suffix", [".html", ".png"])
@pytest.mark.parametrize("frame", [None, 9])
def test_any_log_can_be_shown_as_a_page_or_a_picture(
    lake: Lake, tmp_path: Path, suffix: str, frame: int | None
) -> None:
    file = show_log(lake, "log-b", tmp_path / f"log{suffix}", ShowConfig(frames=2), frame=frame)
    if suffix == ".png":
        picture = cv2.imread(str(file))
        # of a whole log it shows every part
        assert picture.std() > 10 and (len(picture) > 2000) == (frame is None)
    else:
        text = file.read_text()
        # one legend, with the paths that are drawn
        assert text.count(f"</i>{label('student')}</span>") == 1
        assert "cut in" in text and "not relabeled" in text and outside_of(text) == []


def test_an_unknown_log_or_frame_raises_an_error_with_the_valid_ones(
    lake: Lake, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="did you mean 'log-b'"):
        show_log(lake, "log-bb", tmp_path / "x.html", ShowConfig())
    with pytest.raises(ArtifactError, match=r"0 \.\.\. 23"):
        show_log(lake, "log-b", tmp_path / "x.html", ShowConfig(), frame=99)


def test_training_and_held_out_curves_of_a_metric_share_a_plot(tmp_path: Path) -> None:
    file = tmp_path / "history" / "vlm.jsonl"
    file.parent.mkdir()
    (tmp_path / "history_ego.jsonl").touch()
    file.write_text(
        "\n".join(
            json.dumps(
                {"step": step, "seconds": 1.0, "loss": 1 / step, "val_loss": 2 / step, "once": 1.0}
                if step < 3
                else {"step": step, "loss": 1 / step, "broken": float("nan")}
            )
            for step in range(1, 6)
        )
    )
    assert history_files(tmp_path) == [file, tmp_path / "history_ego.jsonl"]
    curves = read_curves(file)
    assert set(curves) == {"loss", "once"} and set(curves["loss"]) == {"train", "held out"}
    assert curves["loss"]["train"][0].tolist() == [1, 2, 3, 4, 5]
    assert curves["loss"]["held out"][1].tolist() == [2.0, 1.0]


def test_the_codes_section_shows_usage_pictures_health_and_accuracy(
    lake: Lake, tmp_path: Path
) -> None:
    other = Lake(tmp_path)
    table = pa.concat_tables(
        [
            read_table(lake.log("trajectories", log), "trajectories")
            for log in lake.log_ids("frames")
        ]
    )
    codes = np.tile(np.arange(12, dtype=np.int8) % 4, (len(table), 1))
    columns = {"codes": codes, "codes_valid": np.ones_like(codes, bool)}
    for name, values in columns.items():
        table = table.append_column(
            name, pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 12)
        )
    table = table.append_column("codebook_version", pa.array(["v"] * len(table)))
    for log in lake.log_ids("frames"):
        lineage = planned_lineage(f"relabeled/{log}", {}, None, "c0de")
        with write_artifact(other.log("relabeled", log), lineage) as out:
            write_table(
                table.filter(pc.field("log_id") == log),
                out / "relabeled.parquet",
                relabeled_schema(CodeLayout(3, 4, 16)),
            )
    other.asset("codebook").mkdir()
    (other.asset("codebook") / "health.json").write_text(
        json.dumps({"speed_r2": 0.8123, "acceleration_r2": None, "per_token": [1.5, 2]})
    )
    cv2.imwrite(
        str(other.asset("codebook") / "what_each_code_does.png"), np.zeros((8, 8, 3), np.uint8)
    )
    other.asset("vla").mkdir()
    by_slot = {
        "accuracy_by_slot": [0.5] * 11 + [0.91],
        "majority_accuracy_by_slot": [0.25] * 12,
        "calibration_error_by_slot": [0.07] * 12,
    }
    (other.asset("vla") / "report.json").write_text(
        json.dumps({"codes": {"rows": 30, "accuracy": 0.53, "majority_accuracy": 0.25, **by_slot}})
    )
    section = codes_section(other)
    assert isinstance(section, Section)
    text = render_page(Page("t", "s", [section]))
    assert (
        "top-1 code accuracy 53 % (majority class 25 %)" in text and "3.4" in text and "91" in text
    )
    assert (
        "Perplexity 1.0, 1.0, 1.0, 1.0 of 16" in text
        and "One frame decoded with every code" in text
    )
    assert "speed R²" in text and "0.8123" in text and "1.5, 2" in text


@pytest.mark.parametrize(
    "values",
    [[0.3, 0.3, 0.3], [0.0, 0.0, 0.0], [-2.0, 5.0, 1e-3], [1e-7, 2e-7, 3e-7], [999.0, 1001.0, 1e6]],
)
def test_a_curve_of_any_range_is_inside_its_plot(values: list[float]) -> None:
    text = curves_chart({"loss <a>": {"train": (np.array([1.0, 2.0, 3.0]), np.array(values))}})
    root = ElementTree.fromstring(text)
    line = root.find("{http://www.w3.org/2000/svg}polyline")
    assert line is not None and "loss &lt;a&gt;" in text
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    assert min(heights) >= 26 and max(heights) <= 144.1
    marks = [float(item.text or "nan") for item in root if item.attrib.get("text-anchor") == "end"][
        :-1
    ]
    assert 1 <= len(marks) <= 4 and len({*marks}) == len(marks)
    assert min(values) <= min(marks) + 1e-9 and max(marks) <= max(values) * (1 + 1e-3) + 1e-9


def test_a_contact_sheet_fills_rows_of_images_and_writes_captions_into_a_corner() -> None:
    images = np.full((5, 36, 64, 3), 100, np.uint8)
    sheet = contact_sheet(images, columns=3, width=128)
    assert sheet.shape == (2 * (72 + GAP), 3 * (128 + GAP), 3)
    assert (sheet[:72, :128] == 100).all() and (sheet[72 + GAP :, 2 * (128 + GAP) :] == 255).all()
    captioned = contact_sheet(images, [str(frame) for frame in range(5)], columns=3, width=128)
    changed = (captioned != sheet).any(axis=2)
    assert changed[:18, :17].any() and not changed[20:72].any()


def test_a_drawn_chart_scrolls_in_its_own_box_on_a_narrow_screen_and_says_so() -> None:
    chart = Markup(
        interval_chart([("student", Interval(80.0, 76.0, 84.0, 3, 2))], names=str, label="PDMS")
    )
    photo = Markup('<img alt="" src="data:,">')
    blocks = [Chart(chart, "a caption"), Chart(photo), Chart(photo, long=True)]
    html = render_page(Page("page", "", [Section("charts", "Charts", blocks)]))
    body, style = html[html.index("<body>") :], html[: html.index("<body>")]
    assert body.count('<div class="drawn"><svg') == 1 == body.count('<div class="long"><img')
    # the caption is outside the box that scrolls
    assert "</svg>\n</div><figcaption>a caption" in body
    narrow = next(line for line in style.splitlines() if line.startswith("@media (max-width: 650"))
    assert ".drawn { overflow-x: auto;" in narrow and ".drawn svg { min-width: 600px; }" in narrow
    assert "scroll sideways" in narrow
