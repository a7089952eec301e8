"""Damage is noticed by name: one changed byte in any file, a missing chunk, a missing file."""

import json
import shutil

import numpy as np
import pytest
import torch

from storage.artifact import planned_lineage, require_intact, verify, write_artifact
from storage.checkpoint import load_checkpoint, save_checkpoint
from storage.dataset import read_rows
from storage.errors import ArtifactError
from storage.frame_store import STORE, frame_info, read_calibration, read_frames
from storage.metrics_table import LATENCY, read_metrics, write_metrics
from storage.trajectory_table import TABLES, read_table
from tests.worlds.tiny_lake import FRAMES, write_tiny_lake


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake with one log's frames and tables, and a checkpoint, all made by write_artifact."""
    tiny = write_tiny_lake(tmp_path_factory.mktemp("tiny"))
    root = tmp_path_factory.mktemp("lake")
    for asset in ("frames", "trajectories"):
        name = f"{asset}/log-a"
        with write_artifact(root / name, planned_lineage(name, {}, None, "code")) as out:
            shutil.copytree(
                tiny.log(asset, "log-a"),
                out,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("lineage.json"),
            )
    with write_artifact(root / "student", planned_lineage("student", {}, None, "code")) as out:
        save_checkpoint(out / "planner", "planner", {"width": 3}, {"w": torch.arange(999.0)})
        (out / "student.onnx").write_bytes(bytes(range(256)))
    return root


@pytest.fixture
def lake(made, tmp_path):
    return shutil.copytree(made, tmp_path / "lake", symlinks=True)


def flip(file, at: float = 0.5):
    """Change one byte of a file, at a share of its length."""
    data = bytearray(file.read_bytes())
    data[min(int(len(data) * at), len(data) - 1)] ^= 0x10
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["frames/log-a", "trajectories/log-a", "student"])
def test_every_file_with_a_changed_byte_and_every_missing_file_is_named(lake, name):
    path = lake / name
    assert verify(path) == []
    files = [file for file in sorted(path.resolve().rglob("*")) if file.is_file()]
    assert len(files) > 4
    for file in files:
        relative, kept = file.relative_to(path.resolve()).as_posix(), file.read_bytes()
        for at in (0.0, 0.5, 1.0):
            flip(file, at)
            assert verify(path)[0].startswith(f"{relative}: "), (relative, at)
            file.write_bytes(kept)
        file.write_bytes(kept[:-1])
        assert verify(path)[0].startswith(f"{relative}: ")
        file.unlink()
        assert verify(path)[0].startswith(f"{relative}: ")
        file.write_bytes(kept)
    assert verify(path) == []


@pytest.mark.parametrize("at", [0.02, 0.3, 0.7, 0.9])
def test_a_changed_byte_of_a_shard_is_an_error_with_the_file(lake, at):
    path = lake / "frames" / "log-a"
    shard = path / STORE / "CAM_F0" / "images" / "c" / "0" / "0" / "0" / "0"
    flip(shard, at)
    with pytest.raises(ArtifactError, match=r"frame store is damaged[\s\S]*images/c/0/0/0/0"):
        read_frames(path, np.arange(FRAMES))


@pytest.mark.parametrize("name", ["images/c/0/0/0/0", "frame_index/c/0", "timestamp_us/c/0"])
def test_a_missing_chunk_is_an_error_and_no_black_image(lake, name):
    path = lake / "frames" / "log-a"
    (path / STORE / "CAM_F0" / name).unlink()
    with pytest.raises(ArtifactError, match=r"damaged[\s\S]*CAM_F0[\s\S]*missing"):
        frame_info(path)
        read_frames(path, np.arange(FRAMES))


def test_black_images_are_stored_and_come_back(tmp_path):
    from tests.storage.test_frame_store import front, noise
    from tests.storage.test_frame_store import write_frames as write

    images = np.concatenate([np.zeros((3, 18, 32, 3), np.uint8), noise(3)])
    write(tmp_path, "log", [front(images)], shard_frames=2)
    assert np.array_equal(read_frames(tmp_path, np.arange(6)), images)
    assert not (tmp_path / STORE / "CAM_F0/images/c/0").exists()
    shutil.rmtree(tmp_path / STORE / "CAM_F0/images/c/1")
    with pytest.raises(ArtifactError, match=r"images/c/1/0/0/0[\s\S]*missing"):
        read_frames(tmp_path, np.arange(2, 4))


@pytest.mark.parametrize("content", [b"", b'{"a', b"[]", b'{"zarr_format": 3}'])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("zarr.json", read_calibration),
        ("CAM_F0/zarr.json", read_calibration),
        ("CAM_F0/frame_index/zarr.json", frame_info),
        ("CAM_F0/images/zarr.json", lambda folder: read_frames(folder, np.arange(2))),
    ],
)
def test_damaged_metadata_of_a_frame_store_is_an_error_of_ours(lake, name, read, content):
    path = lake / "frames" / "log-a"
    (path / STORE / name).write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged"):
        read(path)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_changed_byte_of_a_table_is_noticed_when_it_is_read(lake, name):
    path, noticed = lake / "trajectories" / "log-a", 0
    file = path / f"{name}.parquet"
    kept = file.read_bytes()
    for at in np.linspace(0.0, 1.0, 40):
        flip(file, at)
        try:
            read_table(path, name)
        except ArtifactError as error:
            assert str(file.name) in str(error)
            noticed += 1
        file.write_bytes(kept)
    assert noticed >= 8, f"{noticed} of 40; the rest lies in the footer, and verify() names it"
    file.unlink()
    with pytest.raises(ArtifactError, match=f"no table here[\\s\\S]*{name}.parquet"):
        read_table(path, name)


def test_a_missing_relabeled_table_is_an_error_of_ours(lake):
    from storage.lake import Lake

    with pytest.raises(ArtifactError, match=r"no relabeled[\s\S]*run --until relabeled"):
        read_rows(Lake(lake), relabeled=True)


def test_damaged_metrics_are_an_error_with_the_file(tmp_path):
    write_metrics(tmp_path, "latency", LATENCY.empty_table())
    assert not len(read_metrics(tmp_path, "latency"))
    (tmp_path / "latency.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match=r"damaged[\s\S]*latency.parquet"):
        read_metrics(tmp_path, "latency")


def test_a_checkpoint_with_a_changed_byte_is_refused_when_it_is_opened(lake):
    folder = lake / "student" / "planner"
    assert load_checkpoint(folder, "planner")[0] == {"width": 3}
    for name in ("model.safetensors", "config.json"):
        file = folder / name
        kept = file.read_bytes()
        flip(file, 0.9)
        with pytest.raises(ArtifactError, match=rf"'{name}' is damaged[\s\S]*what to do"):
            load_checkpoint(folder, "planner")
        file.write_bytes(kept)
    flip(lake / "student" / "student.onnx")
    with pytest.raises(ArtifactError, match=r"'student.onnx' is damaged[\s\S]*other content"):
        require_intact(lake / "student" / "student.onnx")


@pytest.mark.parametrize("content", ["", '{"a', "[]"])
def test_a_damaged_config_outside_an_artefact_is_an_error_of_ours(tmp_path, content):
    save_checkpoint(tmp_path, "planner", {}, {"w": torch.ones(3)})
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"'config.json' is damaged"):
        load_checkpoint(tmp_path, "planner")
    save_checkpoint(tmp_path, "planner", {}, {"w": torch.ones(3)})
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(ArtifactError, match=r"'model.safetensors' is damaged"):
        load_checkpoint(tmp_path, "planner")


def test_a_manifest_that_names_files_elsewhere_reads_none_of_them(lake):
    path = lake / "student"
    manifest = json.loads((path / "files.json").read_text()) | {"../../../etc/passwd": [1, "x"]}
    (path / "files.json").write_text(json.dumps(manifest))
    assert verify(path) == ["files.json: other content than its lineage says"]


def test_a_changed_network_is_not_planned_with(tmp_path):
    from ops.student.predict import open_session

    student = tmp_path / "student"
    with write_artifact(student, planned_lineage("student", {}, {}, "1")) as out:
        (out / "student.onnx").write_bytes(bytes(100))
    (student / "student.onnx").write_bytes(bytes(99) + b"1")
    with pytest.raises(ArtifactError, match=r"student\.onnx"):
        open_session(student / "student.onnx")
