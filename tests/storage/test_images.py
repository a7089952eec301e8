"""One decoder for ingest and `predict`: every kind of pixels, EXIF, damage inside and behind an
image.
"""

import io
import os
import struct
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from ops.ingest.config import FrameConfig
from ops.ingest.decode import decode
from ops.student.predict import _read_pixels
from storage.errors import ConfigError, SourceError
from storage.frame_store import read_frames
from storage.sources import open_source
from storage.sources.images import ORIENTATION, image_size, read_image
from tests.worlds import tiny_openscene as tiny

HEIGHT, WIDTH = 48, 80


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 40, (height, width))
    return np.stack([2 * x, 4 * y, 60 + noise], -1).astype(np.uint8)


def encoded(kind: str, image: np.ndarray | None = None, mode: str = "RGB", **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture() if image is None else image).convert(mode).save(out, kind, **options)
    return out.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded("JPEG", quality=95, subsampling=0, exif=exif)


def read(tmp_path, data: bytes) -> np.ndarray:
    (tmp_path / "a.jpg").write_bytes(data)
    return read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "RGB", {"restart_marker_blocks": 2}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
        ("PNG", "LA", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGB", {}),
        ("BMP", "RGB", {}),
        ("BMP", "L", {}),
    ],
)
def test_every_kind_of_pixels_is_read_as_a_viewer_shows_it(tmp_path, kind, mode, options):
    data = encoded(kind, mode=mode, **options)
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    difference = np.abs(read(tmp_path, data) - shown)
    assert difference.shape == (HEIGHT, WIDTH, 3)
    assert difference.mean() < (12 if mode == "CMYK" else 1)


def test_sixteen_bits_lose_their_lower_eight_and_twelve_bits_are_told(tmp_path):
    deep = picture().astype(np.uint16) * 257
    for image in (deep, deep[..., 0]):
        data = cv2.imencode(".png", image)[1].tobytes()
        before = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.array_equal(read(tmp_path, data), before)
    twelve = cv2.imencode(".png", deep >> 4)[1].tobytes()
    with pytest.raises(SourceError, match=r"16 bits holds at most 12[\s\S]*multiply"):
        read(tmp_path, twelve)
    dark = cv2.imencode(".png", deep * 0)[1].tobytes()
    assert not read(tmp_path, dark).any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_a_viewer_turns_it(tmp_path, orientation):
    from PIL import ImageOps

    data = turned(orientation)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    image = read(tmp_path, data)
    assert image.shape == shown.shape and np.abs(image.astype(int) - shown).mean() < 1
    assert image_size(tmp_path / "a.jpg") == (shown.shape[1], shown.shape[0])
    assert np.array_equal(_read_pixels(tmp_path / "a.jpg"), image)


def test_an_orientation_that_exif_does_not_have_turns_nothing(tmp_path):
    assert np.array_equal(read(tmp_path, turned(9)), read(tmp_path, turned(1)))


def test_a_png_is_turned_too(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    data = encoded("PNG", exif=exif)
    assert np.array_equal(read(tmp_path, data), picture()[::-1, ::-1])


def hanging_log(raw, orientation):
    """A log whose camera says so in EXIF."""
    frames = tiny.write_log(raw, frames=12)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for frame in frames:
        file = raw / "sensor_blobs" / "train" / frame["cams"]["CAM_F0"]["data_path"]
        with Image.open(file) as image:
            pixels = image.copy()
        pixels.save(file, "JPEG", exif=exif)
    return open_source("openscene", raw).open("log_a"), file


def test_ingest_and_predict_turn_an_image_alike_and_the_log_has_a_note(tmp_path):
    log, file = hanging_log(tmp_path / "raw", 3)
    summary = decode(log, tmp_path / "out", FrameConfig())
    assert np.array_equal(read_frames(tmp_path / "out", np.array([11]))[0], _read_pixels(file))
    assert [note for note in summary.notes if "EXIF orientation 3" in note]


def test_images_turned_by_ninety_degrees_need_a_calibration_of_that_size(tmp_path):
    log, _ = hanging_log(tmp_path / "raw", 6)
    assert image_size(next(log.images("CAM_F0")).file) == (36, 64)
    with pytest.raises(SourceError, match=r"EXIF orientation[\s\S]*64x36"):
        decode(log, tmp_path / "out", FrameConfig())


def damaged(data: bytes, how: str) -> bytes:
    middle = len(data) // 2
    if how == "zeros":
        return data[:middle] + bytes(200) + data[middle + 200 :]
    if how == "lost":
        return data[:middle] + data[middle + 200 :]
    if how == "doubled":
        return data[:middle] + data[middle - 100 :]
    return data[:middle] + b"\xff\xd9" + data[middle + 2 :]  # "end"


@pytest.mark.parametrize("how", ["zeros", "lost", "doubled", "end"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_damage_inside_a_jpeg_is_found_and_no_line_reaches_the_terminal(
    tmp_path, capfd, how, options
):
    data = damaged(encoded("JPEG", picture(240, 320), quality=90, **options), how)
    assert data.endswith(b"\xff\xd9")
    with pytest.raises(SourceError, match=r"damage inside the JPEG|without its end marker"):
        read(tmp_path, data)
    with pytest.raises(ConfigError, match="the image cannot be read"):
        _read_pixels(tmp_path / "a.jpg")
    assert capfd.readouterr().err == ""


def test_flipped_bytes_that_spoil_a_jpeg_are_found_but_for_few(tmp_path):
    noise = np.random.default_rng(1).integers(0, 60, (480, 640, 1))
    image = np.clip(picture(480, 640) * 0.7 + noise, 0, 255).astype(np.uint8)
    data = encoded("JPEG", image, quality=90)
    sound, found, spoilt = read(tmp_path, data).astype(int), 0, 0
    for place in np.linspace(len(data) // 3, len(data) * 2 // 3, 40).astype(int):
        flipped = bytearray(data)
        flipped[place] ^= 0x5A
        try:
            wrong = np.abs(read(tmp_path, bytes(flipped)) - sound).max(axis=-1) > 20
            spoilt += wrong.mean() > 0.01
        except SourceError:
            found += 1
    assert found >= 15 and spoilt <= 4


@pytest.mark.parametrize("how", ["zeros", "lost"])
def test_damage_inside_a_png_is_found(tmp_path, how):
    with pytest.raises(SourceError):
        read(tmp_path, damaged(encoded("PNG", picture(240, 320)), how))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_cut_image_is_refused(tmp_path, kind):
    data = encoded(kind)
    with pytest.raises(SourceError, match="cannot be read"):
        read(tmp_path, data[: 3 * len(data) // 4])


@pytest.mark.parametrize(
    "trailer", [b"\0" * 5000, b"ftypmp42" * 4000, encoded("JPEG", quality=50), b"\xff"]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_follows_a_whole_image_is_no_damage(tmp_path, kind, trailer):
    data = encoded(kind)
    assert np.array_equal(read(tmp_path, data + trailer), read(tmp_path, data))


def test_the_end_marker_of_a_trailer_does_not_make_a_cut_image_whole(tmp_path):
    data, trailer = encoded("JPEG", picture(240, 320)), encoded("JPEG", quality=50)
    with pytest.raises(SourceError, match="cannot be read"):
        read(tmp_path, data[: len(data) // 2] + trailer)


def test_pixels_are_counted_before_they_are_decoded(tmp_path):
    bitmap = b"BM" + struct.pack("<IHHI", 60, 0, 0, 54)
    bitmap += struct.pack("<IiiHHIIiiII", 40, 40_000, 40_000, 1, 24, 0, 0, 0, 0, 0, 0)
    lossless = struct.pack("<I", 16382 | 16382 << 14)
    webp = b"VP8L" + struct.pack("<I", 6) + b"\x2f" + lossless + b"\0"
    webp = b"RIFF" + struct.pack("<I", 4 + len(webp)) + b"WEBP" + webp
    for data in (bitmap + bytes(6), webp):
        with pytest.raises(SourceError, match=r"larger than any log needs|no image"):
            read(tmp_path, data)


def test_images_read_by_many_threads_name_their_own_damage(tmp_path):
    sound, bad = tmp_path / "sound.jpg", tmp_path / "bad.jpg"
    whole = encoded("JPEG", picture(240, 320))
    sound.write_bytes(whole)
    bad.write_bytes(damaged(whole, "zeros"))
    wrong = []

    def work(file):
        for _ in range(20):
            try:
                read_image(file)
                refused = False
            except SourceError:
                refused = True
            if refused != (file == bad):
                wrong.append(file)

    threads = [threading.Thread(target=work, args=[file]) for file in (sound, bad) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_others_write_meanwhile_reaches_the_terminal_and_descriptors_are_closed(
    tmp_path, capfd
):
    from storage.sources.jpeg_warnings import jpeg_warnings

    before = len(os.listdir("/proc/self/fd"))
    with jpeg_warnings() as found:
        os.write(2, b"a line of another thread\nCorrupt JPEG data: 3 bytes\n")
    assert found == ["Corrupt JPEG data: 3 bytes"]
    assert capfd.readouterr().err == "a line of another thread\n"
    assert len(os.listdir("/proc/self/fd")) == before
