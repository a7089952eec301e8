"""A malformed log is refused by name with its reason, whatever is wrong with it, and the log beside
it is read.
"""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ops.ingest.config import ExtractConfig, FrameConfig
from ops.ingest.decode import decode
from ops.ingest.each_log import LogWork, each_log
from ops.ingest.extract import extract
from ops.ingest.inventory import stamp_of
from storage.errors import SourceError
from storage.names import name_fault, safe_name
from storage.sources import fingerprint, open_source
from storage.sources.contract import LogRef, Source
from storage.sources.images import read_image
from tests.worlds.malformed import (
    CASES,
    IMAGES,
    SOUND,
    TABLE_DAMAGE,
    VICTIM,
    Case,
    write_sound,
)


@pytest.fixture(scope="module")
def raw_of(tmp_path_factory) -> Callable[[str, Path], Path]:
    """Makes a raw folder of two sound logs of a source; its files are links to one copy."""
    sound: dict[str, Path] = {}

    def make(source: str, folder: Path) -> Path:
        if source not in sound:
            sound[source] = tmp_path_factory.mktemp("sound") / source
            write_sound(source, sound[source])
        shutil.copytree(sound[source], folder, copy_function=os.link)
        return folder

    return make


def read_whole(source: Source, ref: LogRef, out: Path) -> None:
    """Everything that ingest does with a log; of the sound one what does not take long."""
    stamp_of(ref)
    fingerprint(ref)
    log = source.open(ref.log_id)
    if ref.log_id in SOUND.values():
        (log.signals(), log.agents(), log.lights(), log.cameras(), log.map_objects())
        read_image(next(log.images(log.capabilities.cameras[0])).file)
        return
    decode(log, out / ref.log_id / "frames", FrameConfig())
    extract(log, out / ref.log_id / "tables", ExtractConfig())


def read_folder(name: str, raw: Path, out: Path) -> tuple[list[str], dict[str, SourceError]]:
    """Logs that were read, and those that were refused, with their errors."""
    source = open_source(name, raw)
    works = [LogWork(ref.log_id, partial(read_whole, source, ref, out)) for ref in source.logs()]
    outcomes = list(each_log(works, processes=1))
    failed = {item.log_id: item.error for item in outcomes if item.error is not None}
    assert not failed.keys() & source.refused.keys()
    return [item.log_id for item in outcomes if item.error is None], {**source.refused, **failed}


@pytest.mark.parametrize("name", VICTIM)
def test_both_logs_are_sound_before_anything_is_done_to_them(raw_of, tmp_path, name):
    read, refused = read_folder(name, raw_of(name, tmp_path / "raw"), tmp_path / "out")
    assert (read, refused) == ([VICTIM[name], SOUND[name]], {})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_malformed_log_is_refused_alone(raw_of, tmp_path, case: Case):
    raw = raw_of(case.source, tmp_path / "raw")
    case.damage(raw)
    read, refused = read_folder(case.source, raw, tmp_path / "out")
    assert read == [SOUND[case.source]]
    (log, error), *more = refused.items()
    assert not more and log == safe_name(VICTIM[case.source] if case.log is None else case.log)
    message = str(error)
    assert case.message in message and log in message and "what to do" in message, message
    message.encode()
    assert name_fault(log) is None and message.replace("\n", "").isprintable()
    assert {path.name for path in tmp_path.iterdir()} <= {"raw", "out"}


@pytest.mark.parametrize("name", VICTIM)
def test_files_that_other_programs_leave_are_no_part_of_a_log(raw_of, tmp_path, name):
    raw = raw_of(name, tmp_path / "raw")
    before = {ref.log_id: fingerprint(ref) for ref in open_source(name, raw).logs()}
    images = raw / IMAGES[name]
    for folder in (images, images.parent, raw):
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / "@eaDir").mkdir()
        for left in (
            *("._x.jpg", "._x.pkl", "._0000000001.png", ".DS_Store", "Thumbs.db", "thumbs.db"),
            *("desktop.ini", "Desktop.ini", "x.jpg~", "0000000001.png~", "log_a.pkl~"),
        ):
            (folder / left).write_text("left")
    for file in raw.glob("navsim_logs/*/log_a.pkl"):
        file.with_name("._log_a.pkl").write_text("left")
    read, refused = read_folder(name, raw, tmp_path / "out")
    assert (read, refused) == ([VICTIM[name], SOUND[name]], {})
    assert before == {ref.log_id: fingerprint(ref) for ref in open_source(name, raw).logs()}


@pytest.mark.parametrize("name", VICTIM)
def test_a_log_put_together_from_links_is_read_and_has_the_same_fingerprint(raw_of, tmp_path, name):
    whole = raw_of(name, tmp_path / "whole")
    linked = tmp_path / "linked"
    shutil.copytree(whole, linked, copy_function=lambda file, link: os.symlink(file, link))
    shutil.rmtree(linked / IMAGES[name])
    (linked / IMAGES[name]).symlink_to(whole / IMAGES[name])
    read, refused = read_folder(name, linked, tmp_path / "out")
    assert (read, refused) == ([VICTIM[name], SOUND[name]], {})
    prints = [
        [fingerprint(ref) for ref in open_source(name, raw).logs()] for raw in (whole, linked)
    ]
    assert prints[0] == prints[1]


def test_a_folder_of_logs_that_cannot_be_reached_does_not_seem_to_be_empty(raw_of, tmp_path):
    raw = raw_of("openscene", tmp_path / "raw")
    (raw / "navsim_logs" / "val").symlink_to("/a/disk/that/is/not/mounted")
    read, refused = read_folder("openscene", raw, tmp_path / "out")
    assert read == ["log_a", "log_b"]
    (error,) = refused.values()
    assert "a raw file cannot be read" in str(error) and "navsim_logs/val" in str(error)


def test_a_folder_of_refused_logs_alone_is_listed_and_not_called_empty(tmp_path):
    write_sound("openscene", tmp_path)
    os.rename(tmp_path / "navsim_logs" / "train", tmp_path / "navsim_logs" / "training")
    source = open_source("openscene", tmp_path)
    assert source.logs() == [] and set(source.refused) == {"log_a", "log_b"}


@pytest.mark.parametrize("damage", TABLE_DAMAGE.values(), ids=TABLE_DAMAGE)
def test_tables_that_no_scene_can_be_read_from_refuse_the_folder(raw_of, tmp_path, damage):
    raw = raw_of("nuscenes", tmp_path / "raw")
    damage(raw)
    with pytest.raises(
        SourceError, match=r"(tables|splits of the scenes) cannot be read|no regular file"
    ):
        open_source("nuscenes", raw).logs()


def test_there_are_at_least_eighty_malformed_logs_and_each_is_another():
    assert len({str(case) for case in CASES}) == len(CASES) >= 80
    assert {case.source for case in CASES} == set(VICTIM)
