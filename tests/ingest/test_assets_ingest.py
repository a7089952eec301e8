"""Ingest through Dagster: log by log, nothing twice, broken logs quarantined, stale data shown."""

import shutil

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from assets.chain.ledger import Ledger
from assets.chain.pipeline import RawLogs
from ops.ingest.quarantine import quarantined
from storage.artifact import read_checks, read_lineage
from storage.asset_names import INGEST_ASSETS
from tests.worlds.tiny_pipeline import checks_of, ingest, tiny_pipeline


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """A pipeline with the tiny world ingested once, the Dagster instance, and the run's result."""
    pipeline = tiny_pipeline(tmp_path_factory.mktemp("ingested") / "lake")
    with dg.DagsterInstance.ephemeral() as instance:
        yield pipeline, instance, ingest(pipeline, instance)


@pytest.fixture
def own_logs(ingested, tmp_path):
    """A pipeline over a copy of the tiny world's raw files, as a user's own logs."""
    shutil.copytree(ingested[0].raw_folder, tmp_path / "raw")
    return tiny_pipeline(tmp_path / "lake", raw=tmp_path / "raw")


def materialized(instance: dg.DagsterInstance, asset: str, log: str) -> dg.AssetMaterialization:
    """The latest materialization of one log's artefact."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[log]), limit=1
    )
    return records.records[0].asset_materialization


def test_every_log_is_ingested_and_passes_its_checks(ingested):
    pipeline, _, result = ingested
    assert result.success
    assert set(checks_of(result).values()) == {True}, checks_of(result)
    for asset in INGEST_ASSETS:
        assert pipeline.lake.log_ids(asset) == RawLogs(pipeline).ids


def test_the_data_version_of_a_log_is_that_of_its_artefact(ingested):
    pipeline, instance, _ = ingested
    for asset in INGEST_ASSETS:
        for log in RawLogs(pipeline).ids:
            tags = materialized(instance, asset, log).tags
            assert tags[DATA_VERSION_TAG] == read_lineage(pipeline.lake.log(asset, log)).version


def test_lineage_of_a_log_leads_to_its_raw_log(ingested):
    pipeline = ingested[0]
    log = RawLogs(pipeline).ids[0]
    tables = read_lineage(pipeline.lake.log("trajectories", log))
    images = read_lineage(pipeline.lake.log("frames", log))
    raw = read_lineage(pipeline.lake.log("raw_logs", log))
    assert tables.parents == {f"raw_logs/{log}": raw.version, f"frames/{log}": images.version}
    assert images.parents == {f"raw_logs/{log}": raw.version}


def test_a_log_that_did_not_change_is_not_ingested_again(ingested):
    pipeline, instance, _ = ingested
    before = {
        asset: read_lineage(pipeline.lake.log(asset, log)).created_utc
        for asset in INGEST_ASSETS
        for log in RawLogs(pipeline).ids
    }
    assert Ledger(pipeline).todo() == []
    result = ingest(pipeline, instance)
    assert result.success
    assert {
        item.metadata["logs made"].value for item in materializations_with(result, "logs made")
    } == {0}
    assert before == {
        asset: read_lineage(pipeline.lake.log(asset, log)).created_utc
        for asset in INGEST_ASSETS
        for log in RawLogs(pipeline).ids
    }


def test_every_materialization_has_a_picture_or_a_table(ingested):
    metadata_of = {
        item.asset_key.to_user_string(): item.metadata
        for item in materializations_with(ingested[2], "logs made")
    }
    assert set(metadata_of) == set(INGEST_ASSETS)
    for metadata in metadata_of.values():
        assert any(
            isinstance(value, dg.TableMetadataValue) or "data:image/" in str(value.value)
            for value in metadata.values()
        )
        assert all(len(str(value.value)) < 100_200 for value in metadata.values())


def test_the_catalogue_shows_the_whole_run_and_the_row_of_each_log(ingested):
    pipeline, instance, _ = ingested
    for asset in INGEST_ASSETS:
        latest = instance.get_latest_materialization_event(dg.AssetKey(asset)).asset_materialization
        assert "logs made" in latest.metadata  # the asset's page shows the latest event
        for log in RawLogs(pipeline).ids:
            row = materialized(instance, asset, log).metadata["this log"].records[0].data
            assert row["log_id"] == log and len(row) > 2


def test_a_log_with_a_truncated_image_is_quarantined_and_the_others_go_on(own_logs):
    broken, *usable = RawLogs(own_logs).ids
    image = sorted(own_logs.raw_folder.rglob(f"{broken}/CAM_F0/*.jpg"))[3]
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    with dg.DagsterInstance.ephemeral() as instance:
        result = ingest(own_logs, instance)
        assert result.success
        assert own_logs.lake.log_ids("trajectories") == usable == Ledger(own_logs).usable
        record = quarantined(own_logs.lake)[broken]
        assert record.asset == "frames" and image.name in record.reason
        assert checks_of(result)["logs_are_readable"] is False
        observed = [
            event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"
        ]
        assert {event.partition for event in observed} == {broken}
        # the same bytes would fail again
        assert Ledger(own_logs).todo() == []

        image.write_bytes(whole)
        assert Ledger(own_logs).todo() == [broken]
        assert ingest(own_logs, instance).success
        assert quarantined(own_logs.lake) == {} and broken in Ledger(own_logs).usable


def test_a_log_whose_bytes_change_is_ingested_again_and_no_other(own_logs):
    with dg.DagsterInstance.ephemeral() as instance:
        ingest(own_logs, instance)
        changed, *others = RawLogs(own_logs).ids
        before = {
            log: read_lineage(own_logs.lake.log("frames", log)).version
            for log in RawLogs(own_logs).ids
        }
        images = sorted(own_logs.raw_folder.rglob(f"{changed}/CAM_F0/*.jpg"))
        images[2].write_bytes(images[3].read_bytes())
        assert Ledger(own_logs).todo() == [changed]
        ingest(own_logs, instance)
    after = {
        log: read_lineage(own_logs.lake.log("frames", log)).version for log in RawLogs(own_logs).ids
    }
    assert after[changed] != before[changed] and all(after[log] == before[log] for log in others)


def test_a_log_that_breaks_a_blocking_rule_is_quarantined_with_its_row_and_the_others_go_on(
    ingested, tmp_path
):
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    shutil.copytree(ingested[0].lake.root, tmp_path / "lake", symlinks=True)
    pipeline = tiny_pipeline(tmp_path / "lake")
    for log in RawLogs(pipeline).ids:  # the checks of an earlier version
        (pipeline.lake.log("trajectories", log) / "checks.json").write_text(
            '{"a former rule": true}'
        )
    bad, *others = RawLogs(pipeline).ids
    file = pipeline.lake.log("trajectories", bad) / "trajectories.parquet"
    table = pq.read_table(file)
    speed = pc.add(table["vx_mps"], 500.0)
    column = table.schema.get_field_index("vx_mps")
    pq.write_table(table.set_column(column, pa.field("vx_mps", pa.float64(), False), speed), file)
    with dg.DagsterInstance.ephemeral() as instance:
        result = ingest(pipeline, instance)
        materialized = instance.get_materialized_partitions(dg.AssetKey("trajectories"))
    assert result.success
    failed = next(
        item for item in result.get_asset_check_evaluations() if item.check_name == "speed_in_range"
    )
    assert failed.metadata["failed rows"].records[0].data["row"].startswith(bad)
    assert materialized == set(others) == set(Ledger(pipeline).usable)
    reason = quarantined(pipeline.lake)[bad].reason
    assert "'speed_in_range' failed" in reason and f"log {bad}" in reason
    assert f"in row {bad}/" in reason and "between 0 and 60 m/s" in reason
    assert read_checks(pipeline.lake.log("trajectories", bad))["speed_in_range"] is False
    assert all(
        read_checks(pipeline.lake.log("trajectories", log))["speed_in_range"] for log in others
    )


def materializations_with(
    result: dg.ExecuteInProcessResult, name: str
) -> list[dg.AssetMaterialization]:
    """One materialization of each asset of a run: the first that carries this metadata."""
    first: dict[dg.AssetKey, dg.AssetMaterialization] = {}
    for event in result.get_asset_materialization_events():
        item = event.materialization
        if name in item.metadata:
            first.setdefault(item.asset_key, item)
    return list(first.values())


def test_only_what_was_made_from_a_changed_log_is_stale_in_the_ui(own_logs):
    with dg.DagsterInstance.ephemeral() as instance:
        ingest(own_logs, instance)
        changed, *others = RawLogs(own_logs).ids
        assert {
            stale(instance, asset, log) for asset in INGEST_ASSETS for log in (changed, *others)
        } == {False}
        images = sorted(own_logs.raw_folder.rglob(f"{changed}/CAM_F0/*.jpg"))
        images[2].write_bytes(images[3].read_bytes())
        ingest(own_logs, instance, [changed], assets=("raw_logs",))
        assert stale(instance, "frames", changed) and stale(instance, "trajectories", changed)
        assert not any(stale(instance, asset, log) for asset in INGEST_ASSETS for log in others)


def stale(instance: dg.DagsterInstance, asset: str, log: str) -> bool:
    """Whether Dagster would mark this log's artefact as out of date."""
    from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
    from dagster._core.loader import LoadingContextForTest

    from tests.worlds.tiny_pipeline import MODULES

    graph = dg.Definitions(
        assets=dg.load_assets_from_modules(MODULES), resources={"pipeline": None}
    ).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return resolver.get_status(dg.AssetKey(asset), log) is StaleStatus.STALE
