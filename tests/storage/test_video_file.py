"""Videos: frames by number and time, decoded in one pass; damage is found and named."""

import os
import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from storage.errors import ConfigError, SourceError
from storage.sources import video_file
from storage.sources.contract import RawImage
from storage.sources.video_file import evenly_thinned, read_images, video_index
from tests.worlds.tiny_video import CODECS, HEIGHT, WIDTH, encode, picture, uneven_ms

FRAMES = 60


def images_of(file: Path, numbers: list[int]) -> list[RawImage]:
    return [RawImage(number, "front", number, file) for number in numbers]


def decoded(file: Path, numbers: list[int], size_wh: tuple[int, int] = (WIDTH, HEIGHT)):
    return list(read_images(images_of(file, numbers), "a", size_wh))


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    """One video of every format, with the times of uneven_ms where the format has any."""
    folder = tmp_path_factory.mktemp("videos")
    return {kind: encode(folder / f"a.{kind}", uneven_ms(FRAMES)) for kind in CODECS}


@pytest.mark.parametrize("kind", CODECS)
def test_every_frame_is_handed_over_under_its_own_number(videos, kind):
    numbers = [0, 1, 7, 8, 30, FRAMES - 1]
    assert video_index(videos[kind]).frames == FRAMES
    for number, pixels in zip(numbers, decoded(videos[kind], numbers), strict=True):
        assert pixels.dtype == np.uint8
        assert abs(pixels.astype(float).mean() - picture(number).mean()) < 3, number


def test_times_are_those_of_the_file_and_not_of_its_rate(videos):
    for kind in ("mp4", "mkv"):
        assert video_index(videos[kind]).time_us.tolist() == [1000 * ms for ms in uneven_ms(FRAMES)]
    assert (np.diff(video_index(videos["avi"]).time_us) == 50_000).all()
    assert not len(video_index(videos["hevc"]).time_us)


def test_frames_are_decoded_one_at_a_time(videos, monkeypatch):
    made: list[int] = []
    pixels_of = video_file._pixels

    def counted(*arguments):
        made.append(1)
        return pixels_of(*arguments)

    monkeypatch.setattr(video_file, "_pixels", counted)
    stream = read_images(images_of(videos["mp4"], [0, 2, 4]), "a", (WIDTH, HEIGHT))
    assert not made
    next(stream)
    assert len(made) == 1


def test_thinning_goes_by_time():
    steady = evenly_thinned(np.arange(0, 3_000_000, 33_333))
    assert set(np.diff(steady).tolist()) == {3}
    assert len(evenly_thinned(np.arange(0, 2_000_000, 100_000))) == 20
    assert len(evenly_thinned(np.arange(0, 2_000_000, 500_000))) == 4
    uneven = np.cumsum([33_333] * 60 + [66_667] * 60)  # a camera that slows down in the dark
    step_us = np.diff(uneven[evenly_thinned(uneven)])
    assert step_us.min() > 80_000 and step_us.max() < 140_000
    assert evenly_thinned(np.array([5])).tolist() == [0] and not len(evenly_thinned(np.zeros(0)))


@pytest.mark.parametrize(
    ("kind", "place"), [("mp4", 0.5), ("mkv", 0.6), ("avi", 0.8), ("h264", 0.5)]
)
def test_damage_inside_a_video_is_found_and_its_frame_named(videos, tmp_path, kind, place):
    data = bytearray(videos[kind].read_bytes())
    middle = int(place * len(data))
    data[middle : middle + 60] = bytes(60)
    file = tmp_path / f"damaged.{kind}"
    file.write_bytes(data)
    # AVI finds its frames again behind the damage, so that their number tells
    found = "58 of the 60 frames" if kind == "avi" else r"log a, frame \d+"
    with pytest.raises(SourceError, match=rf"a video cannot be read[\s\S]*{found}"):
        decoded(file, list(range(FRAMES)))


@pytest.mark.parametrize("kind", CODECS)
def test_a_video_that_is_cut_is_refused(videos, tmp_path, kind):
    file = tmp_path / f"cut.{kind}"
    data = videos[kind].read_bytes()
    file.write_bytes(data[: int(0.8 * len(data))])
    with pytest.raises(SourceError, match="a video cannot be read"):
        decoded(file, list(range(FRAMES)))


@pytest.mark.parametrize("place", [0.4, 0.94, 0.999])
def test_a_matroska_file_that_has_lost_bytes_between_two_frames_is_refused(videos, tmp_path, place):
    data = videos["mkv"].read_bytes()
    at = int(place * len(data))
    file = tmp_path / "lost.mkv"
    for left in (data[:at], data[:at] + data[at + 200 :]):
        file.write_bytes(left)
        with pytest.raises(SourceError, match="the file is cut"):
            video_index(file)


def test_a_video_whose_index_comes_first_is_refused_where_it_is_cut_between_two_frames(tmp_path):
    file = encode(tmp_path / "a.mp4", uneven_ms(FRAMES), movflags="faststart")
    with file.open("rb") as stream, av.open(stream, format="mp4") as container:
        place = container.streams.video[0].index_entries[40].pos
    assert video_index(file).frames == FRAMES
    file.write_bytes(file.read_bytes()[:place])
    with pytest.raises(SourceError, match="the file is cut"):
        video_index(file)


def test_a_video_that_a_phone_trimmed_begins_where_its_edit_list_says(videos, tmp_path):
    data = videos["mp4"].read_bytes()
    at = data.index(b"elst") + 12
    length, start, rate = struct.unpack(">iii", data[at : at + 12])
    file = tmp_path / "trimmed.mp4"  # a second later; the file counts 16,000 a second
    file.write_bytes(
        data[:at] + struct.pack(">iii", length - 1000, start + 16_000, rate) + data[at + 12 :]
    )
    index = video_index(file)
    first = FRAMES - index.frames
    times_us = 1000 * np.array(uneven_ms(FRAMES)[first:])
    assert 18 <= first <= 22 and np.abs(index.time_us - times_us + times_us[0]).max() < 1000
    numbers = [0, 1, index.frames - 1]
    for number, pixels in zip(numbers, decoded(file, numbers), strict=True):
        assert abs(pixels.astype(float).mean() - picture(first + number).mean()) < 3


@pytest.mark.parametrize("content", [b"", b"no video", b"#EXTM3U\n/etc/passwd\n", b"\0" * 4096])
@pytest.mark.parametrize("kind", CODECS)
def test_what_is_no_video_is_refused(tmp_path, kind, content):
    file = tmp_path / f"a.{kind}"
    file.write_bytes(content)
    with pytest.raises(SourceError, match="a video cannot be read"):
        video_index(file)


def test_irregular_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to("/nowhere")
    for name, message in (
        ("pipe.mp4", "a pipe"),
        ("link.mp4", "no regular file"),
        ("none.mp4", "no file"),
    ):
        with pytest.raises(SourceError, match=message):
            video_index(tmp_path / name)


def test_a_frame_that_the_video_does_not_have_and_another_size_are_named(videos):
    with pytest.raises(SourceError, match=r"log a, frame 60[\s\S]*the end of the video"):
        decoded(videos["mp4"], [58, 60])
    with pytest.raises(SourceError, match=r"log a, frame 3[\s\S]*64x48"):
        decoded(videos["mp4"], [3], (32, 24))


def test_size_and_length_are_limited_before_anything_is_decoded(videos, monkeypatch):
    video_file._index_cached.cache_clear()
    monkeypatch.setattr(video_file, "MAX_PIXELS", 1000)
    with pytest.raises(SourceError, match="1 to 1000 pixels"):
        video_index(videos["mp4"])
    monkeypatch.undo()
    monkeypatch.setattr(video_file, "MAX_VIDEO_FRAMES", 50)
    with pytest.raises(SourceError, match="at most 50 frames"):
        video_index(videos["mp4"])


def test_a_changed_file_is_read_again(tmp_path):
    file = encode(tmp_path / "a.mp4", uneven_ms(10))
    assert video_index(file).frames == 10
    encode(file, uneven_ms(12))
    assert video_index(file).frames == 12


def test_without_pyav_the_extra_is_named(videos, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"'av' is missing[\s\S]*\[video\]"):
        video_index(videos["mp4"])


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
    ids=["clockwise", "upside down", "counter-clockwise"],
)
def test_the_rotation_that_a_phone_writes_is_applied(videos, tmp_path, matrix, turns):
    data = videos["mp4"].read_bytes()
    at = data.index(b"tkhd") + 44  # 3 x 3, of which the first two columns turn
    a, b, c, d = (value << 16 for value in matrix)
    file = tmp_path / "turned.mp4"
    file.write_bytes(
        data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :]
    )
    upright = decoded(videos["mp4"], [5])[0]
    size_wh = (WIDTH, HEIGHT) if turns == 2 else (HEIGHT, WIDTH)
    index = video_index(file)
    assert (index.width, index.height) == size_wh
    assert np.array_equal(decoded(file, [5], size_wh)[0], np.rot90(upright, turns))
