"""KITTI's images, time stamps, odometry and boxes are joined by number, however a drive was cut."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources import open_source
from tests.worlds import tiny_kitti as tiny

START = 30  # the first frame of a cut drive
NEAR_M = 0.02  # inter- and extrapolation at the ends of a cut; one frame of offset is 0.6 m


def signals_of(raw: Path):
    return open_source("kitti_raw", raw).open(tiny.DRIVE).signals()


def rename(folder: Path, name_of) -> None:
    for file in sorted(folder.iterdir(), reverse=True):
        file.rename(file.with_name(name_of(int(file.stem)) + file.suffix))


def keep(folder: Path, sensor: str, wanted: range, *, lines: bool = True) -> None:
    """Keep the files of a sensor with these numbers, and the lines of its stamps."""
    for file in (folder / sensor / "data").iterdir():
        if int(file.stem) not in wanted:
            file.unlink()
    if lines:
        stamps = folder / sensor / "timestamps.txt"
        all_lines = stamps.read_text().splitlines()
        stamps.write_text("\n".join(all_lines[number] for number in wanted) + "\n")


def shift_clock(stamps: Path, seconds: float) -> None:
    times = [datetime.fromisoformat(line[:26]) for line in stamps.read_text().splitlines()]
    shifted = [time + timedelta(seconds=seconds) for time in times]
    stamps.write_text("".join(f"{time:%Y-%m-%d %H:%M:%S.%f}000\n" for time in shifted))


def assert_part_of(part, whole) -> None:
    """The rows of `part` are those of the same numbers of `whole`, in another world frame."""
    rows = np.searchsorted(whole.frame_index, part.frame_index)
    assert np.array_equal(whole.frame_index[rows], part.frame_index)
    assert np.array_equal(whole.timestamp_us[rows], part.timestamp_us)
    assert np.abs(whole.pose_world[rows, 2] - part.pose_world[:, 2]).max() < 1e-6
    moved = [poses[:, :2] - poses[0, :2] for poses in (part.pose_world, whole.pose_world[rows])]
    assert np.abs(moved[0] - moved[1]).max() < NEAR_M


@pytest.mark.parametrize("lines", ["cut alike", "all kept"])
def test_a_cut_drive_that_kept_its_numbers_keeps_its_poses(tmp_path, lines):
    tiny.write_drive(tmp_path / "whole", images=100, poses=100)
    whole = signals_of(tmp_path / "whole")
    folder = tiny.write_drive(tmp_path / "cut", images=100, poses=100)
    for sensor in ("image_02", "oxts"):
        keep(folder, sensor, range(START, 100), lines=lines == "cut alike")
    part = signals_of(tmp_path / "cut")
    seen = part.frame_index[part.has_image]
    assert seen.tolist() == list(range(START, 100))
    assert_part_of(part, whole)
    if lines == "cut alike":
        assert "the frames are numbered from 30" in " ".join(part.notes)


def test_images_cut_with_their_numbers_beside_whole_odometry(tmp_path):
    tiny.write_drive(tmp_path / "whole", images=100, poses=100)
    whole = signals_of(tmp_path / "whole")
    folder = tiny.write_drive(tmp_path / "cut", images=100, poses=100)
    keep(folder, "image_02", range(START, 100))
    part = signals_of(tmp_path / "cut")
    assert part.frame_index[part.has_image].tolist() == list(range(START, 100))
    filmed = part.has_image
    assert np.array_equal(part.timestamp_us[filmed], whole.timestamp_us[START:])
    assert np.abs(part.pose_world[filmed] - whole.pose_world[START:]).max() < 1e-9
    assert "30 poses before the last image have no image" in " ".join(part.notes)


def test_numbers_of_any_length_are_in_numeric_order(tmp_path):
    tiny.write_drive(tmp_path / "padded")
    padded = signals_of(tmp_path / "padded")
    folder = tiny.write_drive(tmp_path / "short")
    for sensor in ("image_02", "oxts"):
        rename(folder / sensor / "data", str)
    log = open_source("kitti_raw", tmp_path / "short").open(tiny.DRIVE)
    short = log.signals()
    assert np.array_equal(short.pose_world, padded.pose_world)
    images = list(log.images("image_02"))
    assert [image.file.name for image in images] == [f"{number}.png" for number in range(70)]
    assert [image.timestamp_us for image in images] == padded.timestamp_us.tolist()


def test_lost_files_are_gaps_and_are_told(tmp_path):
    tiny.write_drive(tmp_path / "whole")
    whole = signals_of(tmp_path / "whole")
    folder = tiny.write_drive(tmp_path / "lost")
    for number in (20, 21):
        (folder / "image_02" / "data" / f"{number:010d}.png").unlink()
    (folder / "oxts" / "data" / "0000000040.txt").unlink()
    lost = signals_of(tmp_path / "lost")
    assert np.flatnonzero(~lost.has_image).tolist() == [20, 21]
    assert np.abs(lost.pose_world - whole.pose_world).max() < 0.01
    notes = " ".join(lost.notes)
    assert "2 of 70 frames have a pose but no image" in notes
    assert "1 of 70 odometry readings have no file" in notes


def test_a_drive_without_its_first_image_keeps_that_row(tmp_path):
    folder = tiny.write_drive(tmp_path)
    (folder / "image_02" / "data" / "0000000000.png").unlink()
    log = open_source("kitti_raw", tmp_path).open(tiny.DRIVE)
    assert log.signals().has_image.tolist() == [False] + [True] * 69
    assert [image.frame_index for image in log.images("image_02")] == list(range(1, 70))
    assert log.cameras()[0].width == 64


def test_lines_lost_together_with_their_files_stay_gaps(tmp_path):
    tiny.write_drive(tmp_path / "whole")
    whole = signals_of(tmp_path / "whole")
    folder = tiny.write_drive(tmp_path / "lost")
    kept = [*range(20), *range(25, 70)]
    for sensor in ("image_02", "oxts"):
        keep(folder, sensor, kept)
    lost = signals_of(tmp_path / "lost")
    assert lost.frame_index.tolist() == kept
    assert_part_of(lost, whole)
    assert "gaps in time" in " ".join(lost.notes)


def test_files_and_lines_that_cannot_belong_together_are_refused(tmp_path):
    folder = tiny.write_drive(tmp_path)
    keep(folder, "image_02", range(70), lines=False)
    stamps = folder / "image_02" / "timestamps.txt"
    stamps.write_text("\n".join(stamps.read_text().splitlines()[:65]))
    with pytest.raises(SourceError, match=r"do not belong together[\s\S]*65 lines for 70 files"):
        signals_of(tmp_path)


def test_odometry_of_other_frames_under_the_same_numbers_is_refused(tmp_path):
    folder = tiny.write_drive(tmp_path, images=100, poses=100)
    keep(folder, "oxts", range(START, 100))
    rename(folder / "oxts" / "data", lambda number: f"{number - START:010d}")
    with pytest.raises(SourceError, match="of the same numbers are from different times"):
        signals_of(tmp_path)


def test_two_files_of_one_number_are_refused(tmp_path):
    folder = tiny.write_drive(tmp_path)
    image = folder / "image_02" / "data" / "0000000007.png"
    (image.parent / "7.png").write_bytes(image.read_bytes())
    with pytest.raises(SourceError, match=r"a frame has two images[\s\S]*frame 7"):
        signals_of(tmp_path)


def test_files_of_other_programs_and_endings_in_any_case(tmp_path):
    tiny.write_drive(tmp_path / "clean")
    clean = signals_of(tmp_path / "clean")
    folder = tiny.write_drive(tmp_path / "other")
    for sensor in ("image_02", "oxts"):
        data = folder / sensor / "data"
        for file in sorted(data.iterdir()):
            (data / f"._{file.name}").write_bytes(b"\0\5\x16\7")
        for name in (".ipynb_checkpoints", "@eaDir"):
            (data / name).mkdir()
        (data / "Thumbs.db").write_bytes(b"x")
    for file in sorted((folder / "image_02" / "data").glob("0*[02468].png")):
        file.rename(file.with_suffix(".PNG"))
    other = signals_of(tmp_path / "other")
    assert np.array_equal(other.pose_world, clean.pose_world) and other.has_image.all()
    ref = open_source("kitti_raw", tmp_path / "other").logs()[0]
    assert len(ref.image_files) == 70 and not any("._" in str(file) for file in ref.files)


def test_clocks_eight_hours_apart_are_two_clocks(tmp_path):
    folder = tiny.write_drive(tmp_path)
    shift_clock(folder / "oxts" / "timestamps.txt", 8 * 3600)
    with pytest.raises(SourceError, match=r"two clocks[\s\S]*8\.00 h ahead of the camera"):
        signals_of(tmp_path)


def test_changed_time_stamps_of_the_camera_are_seen(tmp_path):
    folder = tiny.write_drive(tmp_path)
    before = signals_of(tmp_path)
    shift_clock(folder / "image_02" / "timestamps.txt", 0.05)
    after = signals_of(tmp_path)
    assert np.array_equal(after.timestamp_us, before.timestamp_us + 50_000)
    # the car was further on, by 0.05 s of its speed
    moved = np.hypot(*(after.pose_world - before.pose_world)[10:60, :2].T)
    assert np.allclose(moved, 0.05 * tiny.SPEED_MPS, atol=0.01)


def test_boxes_belong_to_the_frames_of_their_numbers(tmp_path):
    tiny.write_drive(tmp_path / "whole", images=100, poses=100)
    whole = open_source("kitti_raw", tmp_path / "whole").open(tiny.DRIVE)
    folder = tiny.write_drive(tmp_path / "cut", images=100, poses=100)
    for sensor in ("image_02", "oxts"):
        keep(folder, sensor, range(START, 100))
    cut = open_source("kitti_raw", tmp_path / "cut").open(tiny.DRIVE)
    agents = cut.agents()
    assert agents.frame_index.tolist() == list(range(START, 100))
    assert "30 boxes belong to frames that the drive does not have" in " ".join(agents.notes)
    shift = cut.signals().pose_world[0, :2] - whole.signals().pose_world[START, :2]
    there = whole.agents().center_world[START:, :2] + shift
    assert np.abs(agents.center_world[:, :2] - there).max() < NEAR_M
