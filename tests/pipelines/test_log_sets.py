"""Staleness in the UI beyond the 100 partitions from which on Dagster looks at none."""

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from assets import log_sets
from assets.chain.ledger import Ledger
from assets.chain.per_log import LOGS
from assets.chain.pipeline import RawLogs
from assets.log_sets import READERS, log_set_version, observe_log_sets
from tests.worlds.tiny_pipeline import ingest, tiny_pipeline


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Two logs of train and one of val, ingested from a user's raw folder."""
    folder = tmp_path_factory.mktemp("sets")
    world = tiny_pipeline(folder / "world")
    pipeline = tiny_pipeline(folder / "lake", raw=world.raw_folder)
    with dg.DagsterInstance.ephemeral() as instance:
        assert ingest(world, instance, assets=("raw_logs",)).success
        assert ingest(pipeline, instance).success
    return pipeline


def test_a_removed_log_makes_what_was_learned_stale_beyond_a_hundred_partitions(pipeline):
    """In place of the codebook an asset that learns nothing, with the same inputs."""

    @dg.asset(deps=["trajectories", "training_logs"])
    def learned():
        pass

    tables = dg.AssetSpec("trajectories", partitions_def=LOGS)
    defs = dg.Definitions(
        assets=[log_sets.training_logs, tables, learned],
        resources={"pipeline": pipeline},
        jobs=[dg.define_asset_job("learn", selection=[learned])],
    )
    graph = defs.resolve_asset_graph()
    with dg.DagsterInstance.ephemeral() as instance:

        def status() -> StaleStatus:
            resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
            return resolver.get_status(learned.key)

        instance.add_dynamic_partitions(LOGS.name, [f"log_{number}" for number in range(150)])
        assert set(observe_log_sets(instance, Ledger(pipeline))) == set(READERS)
        assert defs.resolve_job_def("learn").execute_in_process(instance=instance).success
        assert status() is StaleStatus.FRESH
        assert observe_log_sets(instance, Ledger(pipeline)) == []
        file = next(pipeline.raw_folder.rglob(f"{RawLogs(pipeline).ids[0]}.pkl"))
        hidden = file.rename(file.with_suffix(".hidden"))
        assert observe_log_sets(instance, Ledger(pipeline)) == ["training_logs"]
        hidden.rename(file)
        assert status() is StaleStatus.STALE


def test_a_set_without_logs_has_a_version_too(tmp_path):
    assert log_set_version(Ledger(tiny_pipeline(tmp_path / "lake")), "test_logs")
