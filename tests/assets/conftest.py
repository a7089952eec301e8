"""A small lake over a user's own raw folder; made once, copied for each test."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from assets.chain.pipeline import Pipeline
from ops.synthesize.world import synthesize_log, world_log_ids
from tests.worlds.tiny_pipeline import TINY, ingest, tiny_pipeline


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the raw files of the tiny world as a user's own logs, and their lake."""
    folder = tmp_path_factory.mktemp("ledger")
    for log, _ in world_log_ids(TINY.world):
        synthesize_log(folder / "raw", TINY.world, log)
    with dg.DagsterInstance.ephemeral() as instance:
        assert ingest(tiny_pipeline(folder / "lake", raw=folder / "raw"), instance).success
    return folder


@pytest.fixture
def pipeline(made: Path, tmp_path: Path) -> Pipeline:
    """A pipeline over a copy of them."""
    for name in ("raw", "lake"):
        shutil.copytree(made / name, tmp_path / name, symlinks=True)
    return tiny_pipeline(tmp_path / "lake", raw=tmp_path / "raw")
