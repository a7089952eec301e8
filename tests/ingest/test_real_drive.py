"""A real KITTI drive through the pipeline, which ends at `relabeled` without a map and a command.

The drive is not part of the repository (56 MB, CC BY-NC-SA 3.0); without it these tests are
skipped. Each of its irregularities also has a test on a generated drive, in
test_source_kitti_raw.py.
"""

import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from ops.ingest.each_log import read_summary
from pipelines.cli import main
from pipelines.history import open_history
from storage.dataset import read_relabeled
from storage.frame_store import frame_info
from storage.lake import Lake
from storage.sources import open_source

ROOT = Path(__file__).parents[2]
KITTI = ROOT.parent / "shared" / "data" / "kitti_raw_drive_0005"
DRIVE = "2011_09_26_drive_0005"
needs_the_drive = pytest.mark.skipif(
    not KITTI.exists(),
    reason=f"the KITTI raw drive 0005 is not at {KITTI}: put it there to run this test",
)
# corrections of the drive as it is; more poses than images is tested on a shortened copy
CORRECTIONS = (
    "ms behind the camera's (at most 12.0 ms apart): poses are interpolated to the camera's time "
    "stamps",
    "uneven frame spacing, odometry 99.8 to 110.2 ms",
    "odd image size 1242x375 cut to 1242x374",
)


@needs_the_drive
@pytest.mark.slow
def test_a_real_drive_goes_as_far_as_its_data_allow_and_the_error_explains_the_end(
    tmp_path, capsys, monkeypatch
):
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert (
        main(
            [
                "run",
                "--scale",
                "smoke",
                "--source",
                "kitti_raw",
                "--raw",
                str(KITTI),
                "--lake",
                "lake/kitti",
            ]
        )
        == 0
    )
    printed, lake = capsys.readouterr().out, Lake(tmp_path / "lake" / "kitti")
    assert printed.rstrip().endswith(
        "\n".join(
            (
                "'vla' does not apply to these logs: they have no map and no command",
                f"  where: kitti_raw logs in {KITTI}",
                "  expected: map, command",
                "  found: images, ego motion, agents",
                "  what to do: the pipeline of such logs ends at 'relabeled'",
            )
        )
    )
    assert not any(
        lake.asset(asset).exists() for asset in ("vla", "student", "evaluation", "report")
    )
    rows = read_relabeled(lake, DRIVE)
    assert len(rows) == 154 and np.array(rows["codes_valid"].to_pylist()).all(axis=1).sum() > 100
    notes = read_summary(lake.log("frames", DRIVE))["notes"]
    assert list(frame_info(lake.log("frames", DRIVE)).notes) == notes
    with open_history(lake.root) as instance:
        records = instance.fetch_materializations(dg.AssetKey("frames"), limit=10).records
    tables = [record.asset_materialization.metadata.get("corrections") for record in records]
    shown = [row.data["note"] for table in tables if table is not None for row in table.records]
    for note in CORRECTIONS:  # in the artefact, on the terminal and in Dagster's catalogue
        assert (
            any(note in item for item in notes)
            and note in printed
            and any(note in item for item in shown)
        ), note


@needs_the_drive
def test_a_real_drive_with_more_poses_than_images_keeps_the_poses_with_a_note(tmp_path):
    folder = tmp_path / "2011_09_26" / f"{DRIVE}_sync"
    shutil.copytree(
        KITTI / "2011_09_26",
        folder.parent,
        copy_function=lambda source, to: Path(to).symlink_to(source),
    )
    stamps = folder / "image_02" / "timestamps.txt"
    lines = stamps.read_text().splitlines()[:150]
    stamps.unlink()
    stamps.write_text("\n".join(lines))
    for image in sorted((folder / "image_02" / "data").iterdir())[150:]:
        image.unlink()
    signals = open_source("kitti_raw", tmp_path).open(DRIVE).signals()
    assert (
        len(signals.frame_index) == 154
        and signals.has_image.sum() == 150
        and not signals.has_image[150:].any()
    )
    assert any(
        "154 poses for 150 images: the 4 after the last image stay as rows" in note
        for note in signals.notes
    )
    assert any("4 of 154 frames have a pose but no image" in note for note in signals.notes)
