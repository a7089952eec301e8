"""Files that a person asks for: complete or not at all, and never over an input or in the lake."""

import os
from pathlib import Path

import pytest

from storage.errors import ConfigError
from storage.output_file import check_output, write_output


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with a lake, a file of plans, links to both, and a file where a folder could be."""
    (tmp_path / "lake" / "evaluation").mkdir(parents=True)
    (tmp_path / "lake" / "evaluation" / "scores.parquet").write_text("scores")
    (tmp_path / "plans.parquet").write_text("plans")
    (tmp_path / "x").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link.parquet").symlink_to("plans.parquet")
    (tmp_path / "lake_link").symlink_to("lake")
    (tmp_path / "scores_link.parquet").symlink_to("lake/evaluation/scores.parquet")
    (tmp_path / "hard.parquet").hardlink_to(tmp_path / "plans.parquet")
    (tmp_path / "loop.parquet").symlink_to("loop.parquet")
    (tmp_path / "folder.parquet").mkdir()
    os.mkfifo(tmp_path / "pipe.parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plans.parquet", "would overwrite"),
        ("x/../plans.parquet", "would overwrite"),
        ("link.parquet", "would overwrite"),
        ("hard.parquet", "would overwrite"),
        ("lake", "would overwrite"),
        ("lake/evaluation/scores.parquet", "would overwrite"),
        ("lake/new/scores.parquet", "would overwrite"),
        ("lake_link/new.parquet", "would overwrite"),
        ("scores_link.parquet", "would overwrite"),
        ("x/../lake/../lake/a.parquet", "would overwrite"),
        ("folder.parquet", "a folder"),
        ("pipe.parquet", "no regular file"),
        ("file/below.parquet", "folder is needed"),
        ("loop.parquet", "cannot be written"),
        ("a" * 300 + ".parquet", "cannot be written"),
        ("nul\0.parquet", "cannot be written"),
    ],
)
def test_a_file_that_must_stay_or_cannot_be_is_refused_before_anything_is_written(
    world: Path, name: str, message: str
) -> None:
    keep = [world / "plans.parquet", world / "lake"]
    before = sorted(world.rglob("*"))
    with pytest.raises(ConfigError, match=message):
        check_output(world / name, keep=keep)
    with pytest.raises(ConfigError, match=message), write_output(world / name, keep=keep) as file:
        file.write_text("results")
    assert sorted(world.rglob("*")) == before
    assert (world / "plans.parquet").read_text() == "plans"
    assert (world / "lake/evaluation/scores.parquet").read_text() == "scores"


def test_a_new_file_gets_its_folders_and_a_link_is_followed(world: Path) -> None:
    (world / "outside.csv").write_text("old")
    (world / "x" / "link.csv").symlink_to("../outside.csv")
    for name in ("y/z/new.csv", "x/link.csv"):
        with write_output(world / name, keep=[world / "lake"]) as file:
            file.write_text("new")
    assert (world / "y/z/new.csv").read_text() == (world / "outside.csv").read_text() == "new"
    assert (world / "x" / "link.csv").is_symlink()


def test_a_file_is_as_it_was_after_an_error_and_nothing_is_left_beside_it(world: Path) -> None:
    (world / "old.csv").write_text("old")
    before = sorted(world.iterdir())
    with pytest.raises(ZeroDivisionError), write_output(world / "old.csv") as file:
        file.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(ConfigError, match="cannot be written"), write_output(world / "old.csv"):
        pass  # a writer that says that it wrote, and did not
    assert (world / "old.csv").read_text() == "old" and sorted(world.iterdir()) == before


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"No space left[\s\S]*make room"),
        write_output(tmp_path / "scores.csv"),
        open("/dev/full", "w") as full,
    ):
        full.write("results")


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="no /proc here")
def test_a_folder_that_takes_no_files_is_named() -> None:
    with (
        pytest.raises(ConfigError, match="cannot be written"),
        write_output(Path("/proc/x.csv")) as file,
    ):
        file.write_text("results")
