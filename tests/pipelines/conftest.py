"""What several tests of the pipeline need: the root of a checkout as working directory."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def in_checkout(tmp_path, monkeypatch):
    """An empty checkout, with copies of the files that matter there, as working directory."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("dagster.yaml", "workspace.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    monkeypatch.chdir(folder)
    return folder
