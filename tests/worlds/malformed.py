"""Raw folders in which one log is malformed and the other sound, for every source.

A case says what is done to the tiny sound log VICTIM, and which words its error must hold. The log
SOUND beside it must be read whatever the case is.
"""

import io
import json
import os
import pickle
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.worlds import tiny_kitti, tiny_nuscenes, tiny_openscene

VICTIM = {"openscene": "log_a", "nuscenes": "scene-0001", "kitti_raw": "2011_09_26_drive_0001"}
SOUND = {"openscene": "log_b", "nuscenes": "scene-0002", "kitti_raw": "2011_09_27_drive_0002"}
DRIVE = Path("2011_09_26/2011_09_26_drive_0001_sync")
TABLES = Path(tiny_nuscenes.VERSION)
IMAGES = {
    "openscene": Path("sensor_blobs/train/log_a/CAM_F0"),
    "nuscenes": Path("samples/CAM_FRONT"),
    "kitti_raw": DRIVE / "image_02" / "data",
}


@dataclass(frozen=True)
class Case:
    """One malformed log."""

    source: str
    name: str
    damage: Callable[[Path], None]
    message: str  # a part of the error
    log: str | None = None  # the name it is refused by, if not VICTIM's

    def __str__(self) -> str:
        return f"{self.source}: {self.name}"


def write_sound(source: str, raw: Path) -> None:
    """Both logs, sound."""
    if source == "openscene":
        tiny_openscene.write_log(raw, "log_a", frames=12)
        frames = tiny_openscene.write_log(raw, "log_b", frames=12)
        for frame in frames:  # so that damage to the map is no damage to this log
            frame["map_location"] = ""
        tiny_openscene.write_frames_file(raw, "log_b", "train", frames)
    elif source == "nuscenes":
        tiny_nuscenes.write_scene(raw, frames=12)
        _add_scene(raw)
    else:
        folder = tiny_kitti.write_drive(raw, images=57, poses=57)
        second = raw / "2011_09_27" / "2011_09_27_drive_0002_sync"
        shutil.copytree(folder.parent, second.parent)
        os.rename(second.parent / folder.name, second)


def _add_scene(raw: Path) -> None:
    """A second scene: the rows of the first with other tokens, images and place."""
    shared = ("category", "attribute", "visibility", "sensor")
    for file in (raw / TABLES).glob("*.json"):
        if file.stem in shared:
            continue
        rows = json.loads(file.read_text())
        if file.stem == "map":
            file.write_text(json.dumps([rows[0] | {"log_tokens": ["log", "b_log"]}]))
            continue
        others = json.loads(file.read_text())
        for row in others:
            for key, value in row.items():
                is_token = key in ("token", "prev", "next") or key.endswith("_token")
                if is_token and key not in ("category_token", "visibility_token", "sensor_token"):
                    row[key] = f"b_{value}" if value else ""
        for row in others:
            if file.stem == "scene":
                row["name"] = "scene-0002"
            elif file.stem == "log":
                row["location"] = "elsewhere"
            elif file.stem == "sample_data":
                row["filename"] = row["filename"].replace("FRONT/", "FRONT/b_")
        file.write_text(json.dumps(rows + others))
    for file in list((raw / IMAGES["nuscenes"]).iterdir()):
        shutil.copy(file, file.with_name(f"b_{file.name}"))


def replace(file: Path, data: bytes | str) -> None:
    """Write a file anew; the sound folder is linked, not copied."""
    file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data.encode() if isinstance(data, str) else data)


# What can stand in place of a file


def _folder(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.mkdir()


def _pipe(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def _link(target: str) -> Callable[[Path], None]:
    def make(file: Path) -> None:
        file.unlink(missing_ok=True)
        file.symlink_to(target)

    return make


IRREGULAR: dict[str, tuple[Callable[[Path], None], str]] = {
    "a folder": (_folder, "a folder"),
    "a pipe": (_pipe, "a pipe"),
    "a link to nowhere": (_link("/nowhere/at/all"), "leads to no file"),
    "a link to itself": (lambda file: _link(file.name)(file), "ELOOP"),
    "a link to an endless device": (_link("/dev/zero"), "a device"),
    "a file that fails while it is read": (_link("/proc/self/mem"), "EIO"),
}


def _png(width: int, height: int) -> bytes:
    """A PNG that ends properly and says that it has this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


NO_IMAGES: dict[str, tuple[bytes, str]] = {
    "an empty image": (b"", "an image cannot be read"),
    "text": (b"hello", "an image cannot be read"),
    "a GIF": (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "an image cannot be read"),
    "a JPEG of two marks": (b"\xff\xd8\xff\xd9", "an image cannot be read"),
    "a JPEG without an end": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "without its end marker"),
    "a PNG of 2.7 GB": (_png(30_000, 30_000), "larger than any log needs"),
    "a PNG of 4e18 pixels": (_png(2**31 - 1, 2**31 - 1), "larger than any log needs"),
    "a PNG of another size": (_png(64, 35), "another size"),
}
_SIZES = {"openscene": (64, 36), "nuscenes": (64, 36), "kitti_raw": (64, 33)}


def _image_cases(source: str) -> list[Case]:
    width = 4 if source == "nuscenes" else 10
    names = {"openscene": f"{4:016x}.jpg", "nuscenes": f"{4:04d}.jpg"}
    later = IMAGES[source] / names.get(source, f"{4:0{width}d}.png")
    first = later.with_name(later.name.replace("4", "0"))
    same_size = (_png(*_SIZES[source]), "cannot be decoded")
    return [
        *(
            Case(source, f"{name} as an image", lambda raw, make=make: make(raw / later), words)
            for name, (make, words) in IRREGULAR.items()
        ),
        *(
            Case(source, name, lambda raw, data=data: replace(raw / later, data), words)
            for name, (data, words) in {**NO_IMAGES, "a PNG without pixels": same_size}.items()
            if source == "openscene" or name in ("text", "a PNG of 2.7 GB")
        ),
        Case(
            source,
            "the first image of 2.7 GB",
            lambda raw: replace(raw / first, _png(30_000, 30_000)),
            "larger than any log needs",
        ),
    ]


# OpenScene: the pickle


def _pickle_file(raw: Path) -> Path:
    return raw / "navsim_logs" / "train" / "log_a.pkl"


def _raw_pickle(data: bytes) -> Callable[[Path], None]:
    return lambda raw: replace(_pickle_file(raw), data)


def _with_frame(**changes: Any) -> Callable[[Path], None]:
    """Frame 3 has other values; an Exception class as a value deletes the field."""

    def damage(raw: Path) -> None:
        frames = pickle.loads(_pickle_file(raw).read_bytes())
        for name, value in changes.items():
            frames[3][name] = value
        replace(_pickle_file(raw), pickle.dumps(frames))

    return damage


def _with_first(**changes: Any) -> Callable[[Path], None]:
    def damage(raw: Path) -> None:
        frames = pickle.loads(_pickle_file(raw).read_bytes())
        frames[0].update(changes)
        replace(_pickle_file(raw), pickle.dumps(frames))

    return damage


def _with_anns(**changes: Any) -> Callable[[Path], None]:
    return _with_frame(anns=tiny_openscene.frame_dict("log_a", 3)["anns"] | changes)


def _with_camera(**changes: Any) -> Callable[[Path], None]:
    front = tiny_openscene.frame_dict("log_a", 3)["cams"]["CAM_F0"]
    return _with_frame(cams={"CAM_F0": front | changes})


def _first_camera(**changes: Any) -> Callable[[Path], None]:
    front = tiny_openscene.frame_dict("log_a", 0)["cams"]["CAM_F0"]
    return _with_first(cams={"CAM_F0": front | changes})


def _renamed(name: bytes) -> Callable[[Path], None]:
    def damage(raw: Path) -> None:
        folder = os.fsencode(raw / "navsim_logs" / "train")
        os.rename(os.path.join(folder, b"log_a.pkl"), os.path.join(folder, name))

    return damage


class Opcodes:
    """Writes a pickle opcode by opcode, as an attacker does."""

    def __init__(self) -> None:
        self.code = b""

    def put(self, value: Any) -> "Opcodes":
        """The opcodes of a value."""
        out = io.BytesIO()
        pickler = pickle.Pickler(out, 3)
        pickler.fast = True  # no memo, so that the parts can be joined
        pickler.dump(value)
        return self.op(out.getvalue()[2:-1])

    def name(self, module: str, name: str) -> "Opcodes":
        return self.op(f"c{module}\n{name}\n".encode())

    def op(self, code: bytes) -> "Opcodes":
        self.code += code
        return self

    def frames(self) -> bytes:
        """A log whose one frame has the value on the stack as its tags."""
        frame = Opcodes().put(tiny_openscene.frame_dict("log_a", 0)).put("tags")
        return b"\x80\x04(" + frame.code + self.code + b"sl."


def _dtype(spec: str, state: tuple) -> Opcodes:
    return Opcodes().name("numpy", "dtype").put((spec, False, True)).op(b"R").put(state).op(b"b")


def _array_of(shape: tuple, dtype: Opcodes, data: Any) -> bytes:
    """An array rebuilt from this state."""
    out = Opcodes().name("numpy.core.multiarray", "_reconstruct").name("numpy", "ndarray")
    out.put((0,)).put(b"b").op(b"\x87R(").put(1).put(shape).op(dtype.code)
    return out.put(False).put(data).op(b"tb").frames()


_PLAIN = (3, "|", None, None, None, -1, -1, 0)


def _forged_fields() -> bytes:
    """The dtype of finding J4: its state says "no objects" over an object field."""
    field = Opcodes().op(b"(").put("a").op(b"(")
    field.op(_dtype("O8", (3, "|", None, None, None, -1, -1, 63)).code)
    field.put(0).op(b"td")
    out = Opcodes().name("numpy", "dtype").put(("V8", False, True)).op(b"R(")
    out.put(3).put("|").put(None).put(("a",)).op(field.code).put(8).put(1).put(0)
    out.op(b"tb")
    return _array_of((1,), out, b"AAAAAAAA")


def _call(module: str, name: str, *arguments: Any) -> bytes:
    return Opcodes().name(module, name).put(arguments).op(b"R").frames()


def _call_with_dtype(name: str, dtype: Opcodes, before: list, after: list) -> bytes:
    module = "numpy.core.numeric" if name == "_frombuffer" else "numpy.core.multiarray"
    out = Opcodes().name(module, name).op(b"(")
    for value in before:
        out.put(value)
    out.op(dtype.code)
    for value in after:
        out.put(value)
    return out.op(b"tR").frames()


def _copies() -> bytes:
    """A quarter of a megabyte, and 10,000 copies of it in 6 bytes each."""
    out = Opcodes().put(b"x" * 2**18).op(b"q\xff0").name("builtins", "bytearray").op(b"q\xfe0(")
    return out.op(b"h\xfeh\xff\x85R" * 10_000).op(b"l").frames()


def _nested() -> bytes:
    """A list that holds itself 2^30 times, in 30 levels."""
    out = Opcodes().put([])
    for level in range(30):
        out.op(b"q" + bytes([level]) + b"h" + bytes([level]) + b"\x86")
    return out.op(b"0]h\x1da").frames()


class _Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("true",)


_OBJECTS = (3, "|", None, None, None, -1, -1, 63)
PICKLES: dict[str, tuple[bytes, str]] = {
    "an empty pickle": (b"", "pickle cannot be read"),
    "text as a pickle": (b"no pickle", "pickle cannot be read"),
    "a cut pickle": (pickle.dumps([{"a": list(range(500))}])[:-90], "pickle cannot be read"),
    "a pickle that calls something": (pickle.dumps(_Evil()), "more than plain data"),
    "a pickle by reference": (b"Psomewhere\n.", "more than plain data"),
    "an unknown opcode": (b"\x80\x04\xff.", "pickle cannot be read"),
    "an extension code": (b"\x80\x04\x82\x01.", "more than plain data"),
    "a text longer than the file": (b"\x80\x04X\xff\xff\xff\x7fa.", "pickle cannot be read"),
    "a text of 2^60 bytes": (b"\x80\x04\x8d" + b"\x00" * 7 + b"\x10a.", "pickle cannot be read"),
    "a memo of 2^28 entries": (b"\x80\x04]r\x00\x00\x00\x10.", "no OpenScene log"),
    "a memo of 10^9 entries in text": (b"]p999999999\n.", "no OpenScene log"),
    "a memo index below zero": (b"]p-5\n.", "pickle cannot be read"),
    "a list that holds itself": (b"\x80\x04]q\x00h\x00a.", "nested more than 100 times"),
    "lists in lists": (
        b"\x80\x04" + b"]" * 9000 + b"a" * 8999 + b".",
        "nested more than 100 times",
    ),
    "a key of two million nested tuples": (
        b"\x80\x04})" + b"\x85" * 2_000_000 + b"Ns.",
        "a key of type tuple",
    ),
    "a set of nested tuples": (
        b"\x80\x04\x8f()" + b"\x85" * 2_000_000 + b"\x90.",
        "a key of type tuple",
    ),
    "a bytearray of 2^60 bytes": (
        b"\x80\x05\x96" + b"\x00" * 7 + b"\x10a.",
        "pickle cannot be read",
    ),
    "a state of a function": (
        b"\x80\x04cnumpy\ndtype\nN}\x8c\x0c__defaults__)s\x86b.",
        "a state of function",
    ),
    "an object of a class": (b"\x80\x04cbuiltins\nset\n)\x81.", "more than plain data"),
    "a bytearray of 4 GB": (_call("builtins", "bytearray", 2**32), "more than plain data"),
    "copies of a megabyte": (_copies(), "for each byte of the file"),
    "a set of a number": (_call("builtins", "set", "abc"), "more than plain data"),
    "an array without a state": (_call("numpy", "ndarray", (10**9,), "O"), "cannot be read"),
    "an element type with forged fields": (_forged_fields(), "more than plain data"),
    "an element type of raw bytes": (
        _array_of((1,), _dtype("V8", _PLAIN), b"AAAAAAAA"),
        "more than plain data",
    ),
    "an element type of no bytes": (
        _array_of((10**9,), _dtype("S0", _PLAIN), b""),
        "more than plain data",
    ),
    "objects whose state says that they are none": (
        _array_of((1,), _dtype("O8", _PLAIN), b"AAAAAAAA"),
        "do not have its shape",
    ),
    "an array of 5e8 objects": (
        _array_of((500_000_000,), _dtype("O8", _OBJECTS), []),
        "do not have its shape",
    ),
    "an array with less data than its shape": (
        _array_of((10**12,), _dtype("f8", _PLAIN), b"12345678"),
        "do not have its shape",
    ),
    "an array of a negative shape": (
        _array_of((-1,), _dtype("f8", _PLAIN), b"12345678"),
        "impossible shape",
    ),
    "an object scalar": (
        _call_with_dtype("scalar", _dtype("O8", _PLAIN), [], [b"AAAAAAAA"]),
        "more than plain data",
    ),
    "a scalar of another size": (
        _call_with_dtype("scalar", _dtype("f8", _PLAIN), [], [b"AAAA"]),
        "more than plain data",
    ),
    "a buffer of objects": (
        _call_with_dtype("_frombuffer", _dtype("O8", _PLAIN), [b"AAAAAAAA"], [(1,), "C"]),
        "more than plain data",
    ),
    "a buffer that is no bytes": (
        _call_with_dtype("_frombuffer", _dtype("f8", _PLAIN), [[1.0]], [(1,), "C"]),
        "more than plain data",
    ),
    "a buffer of another length": (
        _call_with_dtype("_frombuffer", _dtype("f8", _PLAIN), [b"AAAAAAAA"], [(2**40,), "C"]),
        "do not have its shape",
    ),
    "tags nested in each other 2^30 times": (_nested(), "values for each byte of the file"),
    "a dict in place of frames": (pickle.dumps({"a": 1}), "no OpenScene log"),
    "no frames": (pickle.dumps([]), "no OpenScene log"),
    "a frame that is a number": (pickle.dumps([7]), "lacks fields"),
    "a frame repeated by reference": (
        pickle.dumps([tiny_openscene.frame_dict("log_a", 0)] * 500_000),
        "values for each byte of the file",
    ),
    "more frames than any log has": (
        pickle.dumps([7] * 500_001),
        "at most 500000 frames",
    ),
}
FRAMES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no rotation": (_with_frame(ego2global_rotation=None), "does not have"),
    "NaN in a pose": (_with_frame(ego2global_translation=[np.nan, 0, 0]), "not a number"),
    "a pose far away": (_with_frame(ego2global_translation=[1e9, 0, 0]), "the pose jumps"),
    "a speed of 400 m/s": (_with_frame(ego_dynamic_state=[400.0, 0, 0, 0]), "speed is impossible"),
    "a time stamp of 2^70": (_with_frame(timestamp=2**70), "does not have"),
    "a time stamp in words": (_with_frame(timestamp="noon"), "does not have"),
    "time that goes back": (_with_frame(timestamp=5), "time stamps go back"),
    "cameras in a list": (_with_first(cams=[]), "does not have"),
    "cameras as a number": (_with_frame(cams=7), "does not have"),
    "an absolute image path": (_with_camera(data_path="/etc/hostname"), "outside the log's own"),
    "an image path upwards": (
        _with_camera(data_path="log_a/CAM_F0/../../../../x.jpg"),
        "outside the log's own",
    ),
    "dots for the file": (_with_camera(data_path="log_a/CAM_F0/.."), "outside the log's own"),
    "an image of another log": (
        _with_camera(data_path=f"log_b/CAM_F0/{3:016x}.jpg"),
        "outside the log's own",
    ),
    "an image path of 5000 letters": (_with_camera(data_path="x" * 5000), "outside the log's own"),
    "a NUL in an image path": (_with_camera(data_path="log_a/CAM_F0/\0"), "outside the log's own"),
    "an image path that is a number": (_with_camera(data_path=7), "outside the log's own"),
    "a camera named by a path": (
        _with_first(
            cams=tiny_openscene.frame_dict("log_a", 0)["cams"]
            | {"../../x": tiny_openscene.frame_dict("log_a", 0)["cams"]["CAM_F0"]}
        ),
        "the name of a camera",
    ),
    "intrinsics of four numbers": (_first_camera(cam_intrinsic=[1, 2, 3, 4]), "log_a"),
    "a rotation of words": (_first_camera(sensor2lidar_rotation="up"), "does not have"),
    "boxes without names": (_with_frame(anns={"gt_boxes": []}), "does not have"),
    "fewer tokens than boxes": (_with_anns(track_tokens=[]), "0 track_tokens"),
    "more names than boxes": (_with_anns(gt_names=["vehicle"] * 2), "2 gt_names"),
    "fewer velocities than boxes": (_with_anns(gt_velocity_3d=[]), "0 gt_velocity_3d"),
    "another frame's token": (_with_frame(token=f"{2:016x}"), "two frames have one token"),
    "a token in a list": (_with_frame(token=["a"]), "an identifier of type list"),
    "a lone surrogate in a token": (_with_anns(track_tokens=["\ud800"]), "surrogates not allowed"),
    "a token that is a list": (_with_anns(track_tokens=[[1]]), "an identifier of type list"),
    "a token of 5000 letters": (_with_anns(track_tokens=["x" * 5000]), "5000 characters"),
    "boxes of six numbers": (_with_anns(gt_boxes=np.zeros((1, 6))), "does not have"),
    "an unknown category": (_with_anns(gt_names=["dragon"]), "unknown category"),
    "a lone surrogate in a tag": (_with_frame(tags=["\udfff"]), "surrogates not allowed"),
    "a roadblock that is a dict": (_with_frame(roadblock_ids=[{}]), "an identifier of type dict"),
    "roadblocks as a number": (_with_frame(roadblock_ids=3), "does not have"),
    "a light that is a number": (_with_frame(traffic_lights=[7]), "does not have"),
    "a light of a list": (_with_frame(traffic_lights=[([1], True)]), "an identifier of type list"),
    "a town that is a list": (_with_first(map_location=["a"]), "an identifier of type list"),
    "a lidar of another shape": (_with_frame(lidar2ego=np.eye(3)), "does not have"),
}
NAMES: dict[str, tuple[bytes, str]] = {
    "a backslash": (b"a\\b.pkl", "a path separator"),
    "a line end": (b"a\nb.pkl", "a control character"),
    "a terminal's escape": (b"a\x1b[2J.pkl", "a control character"),
    "a byte that is no UTF-8": (b"a\xff.pkl", "lone surrogate"),
    "200 letters": (b"a" * 200 + b".pkl", "200 bytes"),
    "91 umlauts": ("ü".encode() * 91 + b".pkl", "182 bytes"),
    "a blank alone": (b" .pkl", "an empty name"),
    "text turned round": ("a\u202eb.pkl".encode(), "turns the direction"),
    "a line separator": ("a\u2028b.pkl".encode(), "a line separator"),
}


def _map(raw: Path) -> Path:
    return raw / "maps" / tiny_openscene.LOCATION / tiny_openscene.MAP_VERSION / "map.gpkg"


def _index(content: str) -> Callable[[Path], None]:
    return lambda raw: replace(raw / "maps" / "nuplan-maps-v1.0.json", content)


def _map_with(*statements: tuple) -> Callable[[Path], None]:
    def damage(raw: Path) -> None:
        replace(_map(raw), _map(raw).read_bytes())
        with sqlite3.connect(_map(raw)) as database:
            for statement in statements:
                database.execute(*statement)

    return damage


def _nan_ring(raw: Path) -> None:
    ring = np.array([(np.nan, 0), (0, 4), (4, 4), (np.nan, 0)], "<f8")
    wkb = struct.pack("<BIII", 1, 3, 1, len(ring)) + ring.tobytes()
    blob = b"GP\x00\x01" + np.int32(0).tobytes() + wkb
    _map_with(("update lanes_polygons set geom = ? where fid = 20", (blob,)))(raw)


MAPS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a map that is no database": (
        lambda raw: replace(_map(raw), b"no database" * 99),
        "the map cannot be read",
    ),
    "a map that is a folder": (lambda raw: _folder(_map(raw)), "a folder"),
    "a map without lanes": (_map_with(("drop table lanes_polygons",)), "the map lacks layers"),
    "a map whose geometry has no header": (
        _map_with(("update lanes_polygons set geom = x'00'",)),
        "the map cannot be read",
    ),
    "a map whose identifiers are words": (
        _map_with(("update baseline_paths set lane_fid = 'left'",)),
        "the map cannot be read",
    ),
    "a map without its columns": (
        _map_with(("alter table lane_connectors rename column exit_lane_fid to gone",)),
        "the map cannot be read",
    ),
    "NaN in a ring": (_nan_ring, "log_a"),
    "an index of maps that is cut": (_index('{"us'), "index of nuPlan's maps cannot be read"),
    "an index of maps nested too deeply": (_index("[" * 200_000), "RecursionError"),
    "a version of a map that is a path": (
        _index(json.dumps({tiny_openscene.LOCATION: {"version": "../../x"}})),
        "the name of a map's version",
    ),
}


def _other_log(
    split: str, folder: str = "navsim_logs", vehicle: bytes = b"car"
) -> Callable[[Path], None]:
    """Another log of the same name, of another vehicle."""

    def damage(raw: Path) -> None:
        other = _pickle_file(raw).read_bytes().replace(b"\x03toy", bytes([len(vehicle)]) + vehicle)
        replace(raw / folder / split / "log_a.pkl", other)

    return damage


def _two_endings(raw: Path) -> None:
    image = raw / IMAGES["openscene"] / f"{4:016x}.jpg"
    shutil.copy(image, image.with_suffix(".PNG"))
    os.rename(image, image.with_suffix(".JPEG"))


def _unknown_split(raw: Path) -> None:
    (raw / "navsim_logs" / "navhard_two_stage").mkdir()
    os.rename(_pickle_file(raw), raw / "navsim_logs" / "navhard_two_stage" / "log_a.pkl")


def _openscene_cases() -> list[Case]:
    case = partial(Case, "openscene")
    return [
        *_image_cases("openscene"),
        *(
            case(f"{name} as the pickle", lambda raw, make=make: make(_pickle_file(raw)), words)
            for name, (make, words) in IRREGULAR.items()
        ),
        *(case(name, _raw_pickle(data), words) for name, (data, words) in PICKLES.items()),
        *(case(name, damage, words) for name, (damage, words) in {**FRAMES, **MAPS}.items()),
        *(
            case(f"a name with {name}", _renamed(file), words, os.fsdecode(file)[:-4])
            for name, (file, words) in NAMES.items()
        ),
        case("two logs of a name and a size", _other_log("mini"), "exists twice"),
        case(
            "two logs of a name in two indices",
            _other_log("train", "meta_datas", b"lorry"),
            "exists twice",
        ),
        case("an image in two endings", _two_endings, "two images"),
        case("an unknown split", _unknown_split, "unknown split folder"),
    ]


# nuScenes: the tables


def _edit(table: str, change: Callable[[list[dict[str, Any]]], None]) -> Callable[[Path], None]:
    def damage(raw: Path) -> None:
        file = raw / TABLES / f"{table}.json"
        rows = json.loads(file.read_text())
        change(rows)
        replace(file, json.dumps(rows))

    return damage


def _row(table: str, number: int, **changes: Any) -> Callable[[Path], None]:
    return _edit(table, lambda rows: rows[number].update(changes))


def _twice(table: str, number: int, **changes: Any) -> Callable[[Path], None]:
    return _edit(table, lambda rows: rows.append(rows[number] | changes))


def _third_scene(rows: list[dict[str, Any]]) -> None:
    rows.append(rows[0] | {"token": "third"})


def _can_bus(message: str, content: str) -> Callable[[Path], None]:
    return lambda raw: replace(raw / "can_bus" / f"scene-0001_{message}.json", content)


def _expansion(content: str) -> Callable[[Path], None]:
    return lambda raw: replace(raw / "maps/expansion/boston-seaport.json", content)


SCENES: dict[str, tuple[Callable[[Path], None], str]] = {
    "samples that lead back": (_row("sample", 5, next="sample2"), "lead back"),
    "a sample that follows itself": (_row("sample", 5, next="sample5"), "lead back"),
    "an unknown next sample": (_row("sample", 5, next="nowhere"), "nowhere"),
    "an unknown first sample": (_row("scene", 0, first_sample_token="no"), "does not have"),
    "samples that lead into another scene": (_row("sample", 5, next="b_sample6"), "into another"),
    "a first sample of another scene": (
        _row("scene", 0, first_sample_token="b_sample0"),
        "into another",
    ),
    "samples that end early": (_row("sample", 5, next=""), "ends before its last"),
    "no samples": (_row("scene", 0, first_sample_token=""), "ends before its last"),
    "samples that are passed over": (
        _edit(
            "sample", lambda rows: (rows[5].update(next="sample7"), rows[7].update(prev="sample5"))
        ),
        "not in the chain",
    ),
    "a sample that precedes itself": (_row("sample", 5, prev="sample5"), "the sample before it"),
    "an unknown sample before": (_row("sample", 5, prev="nowhere"), "the sample before it"),
    "a sample before of another scene": (_row("sample", 5, prev="b_sample4"), "sample before it"),
    "another sample of the same token": (_twice("sample", 5, timestamp=7), "different content"),
    "another pose of the same token": (_twice("ego_pose", 5, timestamp=7), "different content"),
    "another image of the same token": (_twice("sample_data", 5, timestamp=7), "different content"),
    "another box of the same token": (
        _twice("sample_annotation", 5, size=[1, 1, 1]),
        "different content",
    ),
    "another calibration of the same token": (
        _twice("calibrated_sensor", 0, translation=[0, 0, 0]),
        "different content",
    ),
    "two key frames of one camera": (_twice("sample_data", 5, token="more"), "two key frames"),
    "an unknown calibration": (
        _row("sample_data", 5, calibrated_sensor_token="no"),
        "does not have",
    ),
    "a calibration that is a list": (
        _row("sample_data", 5, calibrated_sensor_token=[1]),
        "lacks a field, or has one of another type",
    ),
    "a sample without a pose": (
        _edit("sample_data", lambda rows: (rows.pop(12 + 5), rows.pop(5))),
        "a sample has no pose",
    ),
    "a table cut in two": (
        _edit("sample", lambda rows: rows.__delitem__(slice(0, 6))),
        "names one that its table does not have",
    ),
    "a pose without a token": (_row("ego_pose", 5, token=None), "does not have"),
    "a box of an unknown object": (
        _row("sample_annotation", 1, instance_token="no"),
        "instance.json",
    ),
    "a box without its object": (
        _edit("sample_annotation", lambda rows: rows[1].pop("instance_token")),
        "lacks a field",
    ),
    "a box that follows itself": (_row("sample_annotation", 5, next="box5"), "in order of time"),
    "a box that leads back": (_row("sample_annotation", 5, next="box2"), "in order of time"),
    "a box that leads nowhere": (_row("sample_annotation", 5, prev="nowhere"), "does not have"),
    "a box that leads to another object": (
        _row("sample_annotation", 2, next="once"),
        "another object or scene",
    ),
    "a box that leads into another scene": (
        _row("sample_annotation", 5, next="b_box6"),
        "another object or scene",
    ),
    "a scene in two splits": (
        lambda raw: replace(
            raw / TABLES / "splits.json",
            json.dumps({"train": ["scene-0001"], "val": ["scene-0001", "scene-0002"]}),
        ),
        "two splits",
    ),
    "an unknown log": (_row("scene", 0, log_token="no"), "does not have"),
    "a town that is a path": (_row("log", 0, location="../../x"), "the name of a map"),
    "an absolute image path": (_row("sample_data", 4, filename="/etc/hostname"), "leads out"),
    "an image path upwards": (_row("sample_data", 4, filename="samples/../../x"), "leads out"),
    "an image path that is a number": (_row("sample_data", 4, filename=7), "leads out"),
    "a NUL in an image path": (_row("sample_data", 4, filename="samples/\0"), "leads out"),
    "an image path of 5000 letters": (_row("sample_data", 4, filename="x" * 5000), "leads out"),
    "an image without its time": (_row("sample_data", 4, timestamp=None), "does not have"),
    "a pose of words": (_row("ego_pose", 4, translation="here"), "does not have"),
    "a pose far away": (_row("ego_pose", 4, translation=[1e9, 0, 0]), "the pose jumps"),
    "an unknown pose": (_row("sample_data", 4 + 12, ego_pose_token="no"), "does not have"),
    "intrinsics of words": (
        _row("calibrated_sensor", 0, camera_intrinsic=[["a"]]),
        "does not have",
    ),
    "a box of two numbers": (_row("sample_annotation", 1, size=[1, 2]), "does not have"),
    "a name twice": (_edit("scene", _third_scene), "exists twice"),
    "a route that is cut": (_can_bus("route", "[[0,"), "CAN bus file cannot be read"),
    "a route nested too deeply": (_can_bus("route", "[" * 200_000), "RecursionError"),
    "a route of 1e9 m": (_can_bus("route", "[[0, 0], [1e9, 0]]"), "at most 50000.0 m"),
    "a route with NaN": (_can_bus("route", "[[0, 0], [NaN, 0], [5, 0]]"), "the planned route"),
    "a route of words": (_can_bus("route", '["left"]'), "does not have"),
    "a route that is no text": (_can_bus("route", "\x00\ud7ff".encode("utf-16")), "no text"),
    "motion without its fields": (_can_bus("pose", '[{"utime": 1}]'), "does not have"),
    "motion as a number": (_can_bus("pose", "7"), "does not have"),
    "a map without layers": (_expansion("{}"), "map expansion cannot be read"),
    "a map that is cut": (_expansion('{"a'), "map expansion cannot be read"),
    "a map nested too deeply": (_expansion("[" * 200_000), "map expansion cannot be read"),
    "a route that is a folder": (
        lambda raw: _folder(raw / "can_bus" / "scene-0001_route.json"),
        "a folder",
    ),
}
SCENE_NAMES: dict[str, tuple[Any, str]] = {
    "upwards": ("../../../../victim.txt", "begins with a dot"),
    "absolute": ("/tmp/victim", "a path separator"),
    "empty": ("", "an empty name"),
    "dots": ("..", "begins with a dot"),
    "hidden": (".versions", "begins with a dot"),
    "a number": (7, "a int, not a string"),
    "nothing": (None, "a NoneType, not a string"),
    "a lone surrogate": ("a\ud800", "lone surrogate"),
    "a NUL": ("a\0b", "a control character"),
}
# tables that no scene can be read from: the folder is refused
TABLE_DAMAGE: dict[str, Callable[[Path], None]] = {
    "a table that is cut": lambda raw: replace(raw / TABLES / "sample.json", "[{"),
    "a table nested too deeply": lambda raw: replace(raw / TABLES / "log.json", "[" * 200_000),
    "a table that is an object": lambda raw: replace(raw / TABLES / "sample.json", '{"a": 1}'),
    "a table of numbers": lambda raw: replace(raw / TABLES / "ego_pose.json", "[1, 2]"),
    "a table of bytes": lambda raw: replace(raw / TABLES / "scene.json", b"\xff\xfe\x00"),
    "a table that is missing": lambda raw: (raw / TABLES / "sensor.json").unlink(),
    "a table that is a folder": lambda raw: _folder(raw / TABLES / "sensor.json"),
    "a table that is a pipe": lambda raw: _pipe(raw / TABLES / "sensor.json"),
    "splits that are half written": lambda raw: replace(raw / TABLES / "splits.json", "{"),
    "splits in a list": lambda raw: replace(raw / TABLES / "splits.json", '["scene-0001"]'),
    "a split that is a text": lambda raw: replace(
        raw / TABLES / "splits.json", '{"train": "scene-0001"}'
    ),
}


def _nuscenes_cases() -> list[Case]:
    case = partial(Case, "nuscenes")
    return [
        *_image_cases("nuscenes"),
        *(case(name, damage, words) for name, (damage, words) in SCENES.items()),
        *(
            case(
                f"a scene's name: {name}",
                _row("scene", 0, name=value),
                words,
                value if isinstance(value, str) else repr(value),
            )
            for name, (value, words) in SCENE_NAMES.items()
        ),
    ]


# KITTI: text files


def _drive_file(name: str, content: bytes | str) -> Callable[[Path], None]:
    return lambda raw: replace(raw / DRIVE / name, content)


def _two_images(raw: Path) -> None:
    folder = raw / IMAGES["kitti_raw"]
    os.link(folder / f"{4:010d}.png", folder / "4.png")


def _tracklets(item: str) -> Callable[[Path], None]:
    return _drive_file(
        "tracklet_labels.xml",
        f"<boost_serialization><tracklets><item>{item}</item></tracklets></boost_serialization>",
    )


def _drive_of_another_day(raw: Path) -> None:
    shutil.copytree(raw / DRIVE, raw / "2011_09_28" / DRIVE.name)


_TRACKLET = "<objectType>Car</objectType><h>1</h><w>1</w><l>1</l>"
_BOMB = (
    '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "'
    + "x" * 1000
    + '">'
    + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 30}">'
        for before, name in zip("abcdefg", "bcdefgh", strict=True)
    )
    + "]><b>&h;</b>"
)
DRIVES: dict[str, tuple[Callable[[Path], None], str]] = {
    "an odometry file of three numbers": (
        _drive_file("oxts/data/0000000003.txt", "1 2 3"),
        "odometry file is damaged",
    ),
    "an odometry file of words": (
        _drive_file("oxts/data/0000000003.txt", "a " * 30),
        "does not have",
    ),
    "an odometry file of bytes": (_drive_file("oxts/data/0000000003.txt", b"\xff"), "no text"),
    "an odometry file of 1 MB": (
        _drive_file("oxts/data/0000000003.txt", b"1 " * 500_000),
        "larger than any log needs",
    ),
    "an odometry file with NaN": (
        _drive_file("oxts/data/0000000003.txt", "nan " * 30),
        "is not a number",
    ),
    "an odometry file too many": (
        _drive_file("oxts/data/9999999999.txt", "1 " * 30),
        "odometry is incomplete",
    ),
    "times in words": (_drive_file("oxts/timestamps.txt", "noon\n"), "time stamps cannot be read"),
    "times as bytes": (_drive_file("image_02/timestamps.txt", b"\xff\xfe"), "no text"),
    "no times": (
        lambda raw: (raw / DRIVE / "image_02" / "timestamps.txt").unlink(),
        "a raw file cannot be read",
    ),
    "one time": (
        _drive_file("oxts/timestamps.txt", "2011-09-26 13:04:32.0\n"),
        "odometry is incomplete",
    ),
    "two images of a frame": (_two_images, "a frame has two images"),
    "a calibration of words": (
        _drive_file("../calib_cam_to_cam.txt", "P_rect_02: a b\n"),
        "does not have",
    ),
    "a calibration of three numbers": (
        _drive_file("../calib_velo_to_cam.txt", "R: 1 2 3\nT: 1 2 3\n"),
        "does not have",
    ),
    "a calibration of bytes": (_drive_file("../calib_velo_to_cam.txt", b"\xff: 1"), "no text"),
    "no calibration": (
        lambda raw: (raw / DRIVE / "../calib_imu_to_velo.txt").unlink(),
        "calibration is missing",
    ),
    "tracklets that are cut": (
        _drive_file("tracklet_labels.xml", "<boost"),
        "tracklets cannot be read",
    ),
    "tracklets that unfold": (
        _drive_file("tracklet_labels.xml", _BOMB),
        "tracklets cannot be read",
    ),
    "an unknown kind of object": (
        _tracklets("<objectType>Dragon</objectType>"),
        "unknown category",
    ),
    "a size in words": (
        _tracklets("<objectType>Car</objectType><h>tall</h>"),
        "does not have",
    ),
    "a first frame in words": (
        _tracklets(f"{_TRACKLET}<first_frame>two</first_frame>"),
        "does not have",
    ),
    "a drive of two days": (_drive_of_another_day, "exists twice"),
}


def _kitti_cases() -> list[Case]:
    case = partial(Case, "kitti_raw")
    controlled = "2011_09_26_drive_0001\x07"
    files = ("oxts/data/0000000003.txt", "tracklet_labels.xml", "../calib_velo_to_cam.txt")
    return [
        *_image_cases("kitti_raw"),
        *(case(name, damage, words) for name, (damage, words) in DRIVES.items()),
        *(
            case(
                f"{kind} as {name}",
                lambda raw, make=make, name=name: make(raw / DRIVE / name),
                words,
            )
            for name in files
            for kind, (make, words) in IRREGULAR.items()
            if kind in ("a folder", "a pipe", "a link to nowhere")
        ),
        case(
            "a control character in its name",
            lambda raw: os.rename(raw / DRIVE, raw / "2011_09_26" / f"{controlled}_sync"),
            "a control character",
            controlled,
        ),
    ]


CASES = [*_openscene_cases(), *_nuscenes_cases(), *_kitti_cases()]
