"""A checkpoint comes back bit for bit, and one of another kind or format version is refused."""

import json

import pytest
import torch

from storage.checkpoint import FORMAT_VERSION, load_checkpoint, save_checkpoint
from storage.errors import ArtifactError

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "view": torch.arange(8.0)[::2],
    "half": torch.ones(2).bfloat16(),
}


def test_tensors_and_config_come_back_exactly(tmp_path):
    save_checkpoint(tmp_path / "planner", "planner", {"width": 3}, TENSORS)
    config, tensors = load_checkpoint(tmp_path / "planner", "planner")
    assert config == {"width": 3} and set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype


def test_two_names_may_share_one_tensor(tmp_path):
    save_checkpoint(tmp_path, "planner", {}, {"a": TENSORS["weight"], "b": TENSORS["weight"]})
    assert torch.equal(load_checkpoint(tmp_path, "planner")[1]["b"], TENSORS["weight"])


def test_another_kind_another_version_and_no_checkpoint_are_explained(tmp_path):
    save_checkpoint(tmp_path, "planner", {}, TENSORS)
    with pytest.raises(
        ArtifactError, match=r"another kind[\s\S]*latentvla_student[\s\S]*latentvla_planner"
    ):
        load_checkpoint(tmp_path, "student")
    file = tmp_path / "config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"format_version": FORMAT_VERSION + 1})
    )
    with pytest.raises(ArtifactError, match=r"another format version[\s\S]*what to do"):
        load_checkpoint(tmp_path, "planner")
    with pytest.raises(ArtifactError, match="no checkpoint here"):
        load_checkpoint(tmp_path / "nothing", "planner")
