"""The real KITTI drive through the chain: as far as video and odometry carry it, and the sentence that says why."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from storage.lake import Lake

ROOT = Path(__file__).parents[1]
KITTI = ROOT.parent / "shared" / "data" / "kitti_raw_drive_0005"


@pytest.mark.slow
@pytest.mark.skipif(not KITTI.exists(), reason="the KITTI drive is not beside the checkout (../shared/data)")
def test_a_real_drive_goes_as_far_as_it_can_and_says_why_it_ends(tmp_path, capsys, monkeypatch):
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--scale", "smoke", "--source", "kitti_raw", "--raw", str(KITTI), "--lake", "lake/kitti"]) == 0
    told, lake = capsys.readouterr().out, Lake(tmp_path / "lake" / "kitti")
    assert "map" in told and not lake.link("vla").exists()
    rows = pq.read_table(lake.link("relabeled") / "relabeled.parquet")
    assert len(rows) == 154 and np.array(rows["codes_valid"].to_pylist()).all(axis=1).sum() > 100
