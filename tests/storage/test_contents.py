"""Published weights are known by the content of their files, and large files are hashed once."""

from dataclasses import replace
from pathlib import Path

import pytest

import storage.contents as contents
from models.vlm_config import VlmConfig
from storage.artifact import planned_lineage
from storage.contents import folder_content
from storage.versions import digest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch) -> Path:
    """A user's cache folder of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    contents._hash.cache_clear()
    return tmp_path / "cache" / "latentvla"


def weights(folder: Path, first: bytes = b"a") -> Path:
    """A folder that looks like published weights."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(first + bytes(2_000_000))
    return folder


def test_weights_count_by_content_and_not_by_place_or_by_what_no_network_reads(tmp_path):
    one = weights(tmp_path / "one")
    version = digest(VlmConfig(pretrained=str(one)))
    moved = one.rename(tmp_path / "moved")
    (moved / "README.md").write_text("downloaded yesterday")
    (moved / ".cache").mkdir()
    assert digest(VlmConfig(pretrained=str(moved))) == version
    other = weights(tmp_path / "other", b"b")  # of the same size
    assert digest(VlmConfig(pretrained=str(other))) != version
    (moved / "tokenizer.json").write_text("[]")
    assert digest(VlmConfig(pretrained=str(moved))) != version
    missing = [None, "", str(tmp_path / "nowhere"), str(moved)]
    assert len({digest(VlmConfig(pretrained=item)) for item in missing}) == 4


def test_the_lineage_records_both_place_and_content(tmp_path):
    folder = weights(tmp_path / "one")
    recorded = planned_lineage("vla", {}, VlmConfig(pretrained=str(folder)), "c0de").config
    assert recorded["pretrained"] == str(folder)
    assert recorded["pretrained_content"] == folder_content(folder) != ""
    assert "pretrained_content" not in planned_lineage("vla", {}, VlmConfig(), "c0de").config


def test_a_large_file_is_hashed_once_for_all_processes_and_again_when_it_changes(
    tmp_path, cache_folder, monkeypatch
):
    folder = weights(tmp_path / "one")
    before = folder_content(folder)
    assert (cache_folder / "contents.json").exists()
    read: list[str] = []
    hashed = contents.hashlib.file_digest

    def counted(stream, name):
        read.append(Path(stream.name).name)
        return hashed(stream, name)

    monkeypatch.setattr(contents.hashlib, "file_digest", counted)
    contents._hash.cache_clear()  # the next process
    assert folder_content(folder) == before and read == ["config.json"]
    model = folder / "model.safetensors"
    stamp = model.stat()
    model.write_bytes(b"c" + bytes(2_000_000))
    import os

    os.utime(model, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as `cp -p` leaves it
    assert folder_content(folder) != before and read[-1] == "model.safetensors"


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", '{"x": 3}', "\x00"])
def test_a_damaged_cache_is_no_cache(tmp_path, cache_folder, damaged):
    folder = weights(tmp_path / "one")
    before = folder_content(folder)
    (cache_folder / "contents.json").write_text(damaged)
    contents._hash.cache_clear()
    assert folder_content(folder) == before


def test_without_a_place_for_the_cache_files_are_hashed_anew(tmp_path, monkeypatch):
    folder = weights(tmp_path / "one")
    before = folder_content(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "config.json"))  # a file
    contents._hash.cache_clear()
    assert folder_content(folder) == before


def test_a_run_of_other_weights_is_another_run(tmp_path):
    one, other = weights(tmp_path / "one"), weights(tmp_path / "other", b"b")
    config = VlmConfig(pretrained=str(one))
    lineages = [
        planned_lineage("vla", {}, replace(config, pretrained=str(item)), "c0de", 0)
        for item in (one, other)
    ]
    assert lineages[0].version != lineages[1].version
