"""The whole chain at scale `smoke`, run once: one frame is followed from the raw log to its score, and what a person
would try next is tried: run again, ask the lineage, predict, look at the report. KITTI's drive goes as far as it can.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ops.score_table import recompute
from pipelines.cli import main
from storage.artifact import read_lineage
from storage.dataset import read_dataset
from storage.frame_store import read_frames
from storage.lake import LINKS, PER_LOG_LINKS, Lake
from storage.sources import open_source

ROOT = Path(__file__).parents[1]
KITTI = ROOT.parent / "shared" / "data" / "kitti_raw_drive_0005"


def run_in(folder: Path, *words: str) -> int:
    """`latentvla` with its working directory in `folder`, so that Dagster's history stays there."""
    shutil.copy(ROOT / "dagster.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return main(list(words))


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    folder = tmp_path_factory.mktemp("smoke")
    assert run_in(folder, "run", "--scale", "smoke") == 0
    return Lake(folder / "lake" / "smoke")


@pytest.mark.slow
def test_one_frame_walks_from_the_raw_log_to_its_score(lake):
    scores = pq.read_table(lake.link("evaluation") / "scores.parquet")
    log_id, frame = scores["log_id"][0].as_py(), scores["frame_index"][0].as_py()
    raw = open_source("openscene", lake.root / "raw").open(log_id)
    signals = raw.signals()
    here = int(np.flatnonzero(signals.frame_index == frame)[0])

    image = read_frames(lake.log("frames", log_id), np.array([frame]))[0]
    assert image.dtype == np.uint8 and image.std() > 10
    rows = read_dataset(lake, log_ids=[log_id])
    row = int(np.flatnonzero(rows.frame_index == frame)[0])
    np.testing.assert_allclose(rows.pose_world[row], signals.pose_world[here], atol=1e-6)
    assert rows.timestamp_us[row] == signals.timestamp_us[here]

    relabeled = pq.read_table(lake.link("relabeled") / "relabeled.parquet",
                              filters=(pc.field("log_id") == log_id) & (pc.field("frame_index") == frame))
    assert len(relabeled) == 1 and all(relabeled["codes_valid"][0].as_py())
    assert relabeled["codebook_version"][0].as_py() == read_lineage(lake.link("codebook")).version

    mine = scores.filter((pc.field("log_id") == log_id) & (pc.field("frame_index") == frame))
    assert {"human", "constant_velocity", "planner_alone", "vla", "student", "student_no_teacher"} <= set(
        mine["planner"].to_pylist())
    human = mine.filter(pc.field("planner") == "human")
    assert human["ade_m"][0].as_py() == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_the_score_recomputes_from_its_parts(lake):
    scores = pq.read_table(lake.link("evaluation") / "scores.parquet")
    again = recompute(scores)
    assert again.rows == len(scores) and again.worst < 1e-9


@pytest.mark.slow
def test_a_second_run_finds_everything_current_and_says_so(lake, capsys):
    before = {link: read_lineage(lake.link(link)) for link in LINKS if link not in PER_LOG_LINKS}
    assert run_in(lake.root.parents[1], "run", "--scale", "smoke") == 0
    assert "current" in capsys.readouterr().out
    assert before == {link: read_lineage(lake.link(link)) for link in before}


@pytest.mark.slow
def test_the_student_names_everything_that_made_it(lake, capsys):
    assert main(["lineage", "student", "--lake", str(lake.root)]) == 0
    told = capsys.readouterr().out
    for link in ("codebook", "relabeled", "vla", "trajectories", "frames", "raw_logs"):
        assert link in told


@pytest.mark.slow
def test_the_student_plans_for_one_image_without_transformers(lake):
    image = next((lake.root / "raw" / "sensor_blobs").rglob("*.jpg"))
    code = ("import sys; from pipelines.cli import main; "
            f"assert main(['predict', {str(image)!r}, '--speed', '8', '--lake', {str(lake.root)!r}]) == 0; "
            "assert 'transformers' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert np.array(json.loads(done.stdout.strip().splitlines()[-1])).shape == (8, 3)


@pytest.mark.slow
def test_the_report_is_one_file_that_opens_offline(lake):
    page = (lake.link("report") / "report.html").read_text()
    assert "src=\"http" not in page and "href=\"http" not in page and "student" in page


@pytest.mark.slow
@pytest.mark.skipif(not KITTI.exists(), reason="the KITTI drive is not beside the checkout (shared/data)")
def test_a_real_drive_goes_as_far_as_it_can_and_says_why_it_ends(tmp_path, capsys):
    assert run_in(tmp_path, "run", "--scale", "smoke", "--source", "kitti_raw", "--raw", str(KITTI),
                  "--lake", str(tmp_path / "kitti")) == 0
    told, kitti = capsys.readouterr().out, Lake(tmp_path / "kitti")
    assert "map" in told and not kitti.link("vla").exists()
    rows = pq.read_table(kitti.link("relabeled") / "relabeled.parquet")
    assert len(rows) == 154 and np.array(rows["codes_valid"].to_pylist()).all(axis=1).sum() > 100
