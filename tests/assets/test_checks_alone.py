"""Checks run alone, on what lies in the lake: nothing is made again."""

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.chain.ledger import Ledger, State
from assets.chain.quality_checks import score_findings
from assets.evaluation import evaluation_checks
from pipelines.definitions import defs
from pipelines.jobs import checks
from storage.artifact import CHECKS_FILE, read_lineage
from storage.asset_names import INGEST_ASSETS
from storage.expectations.rules import RULES, rules_of
from storage.metrics_table import PLANS, SCORES
from tests.quality.test_rules import scene
from tests.worlds.tiny_pipeline import MODULES, ingest, tiny_pipeline


@pytest.mark.slow
def test_the_job_of_checks_checks_what_lies_in_the_lake_and_makes_nothing(tmp_path):
    pipeline = tiny_pipeline(tmp_path / "lake")
    definitions = dg.Definitions(
        assets=dg.load_assets_from_modules(MODULES),
        asset_checks=dg.load_asset_checks_from_modules(MODULES),
        resources={"pipeline": pipeline},
        executor=dg.in_process_executor,
        jobs=[checks],
    )
    with dg.DagsterInstance.ephemeral() as instance:
        assert ingest(pipeline, instance).success
        log = Ledger(pipeline).log_ids[0]
        path = pipeline.lake.log("trajectories", log)
        made = {asset: read_lineage(pipeline.lake.log(asset, log)) for asset in INGEST_ASSETS}
        (path / CHECKS_FILE).unlink()
        assert Ledger(pipeline).state("trajectories", log) is State.UNCHECKED
        result = definitions.resolve_job_def("checks").execute_in_process(instance=instance)
    assert result.success and not result.get_asset_materialization_events()
    checked = {item.asset_key.to_user_string() for item in result.get_asset_check_evaluations()}
    assert checked == {*INGEST_ASSETS}
    assert Ledger(pipeline).state("trajectories", log) is State.CURRENT
    assert made == {asset: read_lineage(pipeline.lake.log(asset, log)) for asset in INGEST_ASSETS}


def test_one_check_of_many_can_be_executed_alone(tmp_path):
    """As the UI's button `Execute` does."""
    pipeline = tiny_pipeline(tmp_path)
    key = dg.AssetCheckKey(dg.AssetKey("raw_logs"), "logs_are_readable")
    with dg.DagsterInstance.ephemeral() as instance:
        result = (
            dg.Definitions(
                assets=dg.load_assets_from_modules(MODULES),
                asset_checks=dg.load_asset_checks_from_modules(MODULES),
                resources={"pipeline": pipeline},
                executor=dg.in_process_executor,
                jobs=[checks],
            )
            .resolve_job_def("checks")
            .get_subset(asset_selection=[], asset_check_selection={key})
            .execute_in_process(instance=instance)
        )
    assert [item.asset_check_key for item in result.get_asset_check_evaluations()] == [key]


def test_the_ui_may_execute_every_check_alone():
    nodes = defs.resolve_asset_graph().asset_check_keys
    assert len(nodes) > 70
    for key in nodes:
        assert defs.resolve_asset_graph().get_execution_set_asset_and_check_keys(key) == {key}


def test_the_checks_of_the_evaluation_are_the_rules_of_doctor(tmp_path):
    pipeline = tiny_pipeline(tmp_path)
    folder = pipeline.lake.asset("evaluation")
    folder.mkdir(parents=True)
    rows = [scene("a", 1), scene("b", 1), scene("a", 2), scene("b", 2, pdms=1.2)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCORES), folder / "scores.parquet")
    plan = {"log_id": "drive", "frame_index": 1, "planner": "a", "plan_xyyaw": [0.0] * 24}
    pq.write_table(pa.Table.from_pylist([plan], schema=PLANS), folder / "plans.parquet")
    findings = {item.name: item for item in score_findings(pipeline)}
    assert set(findings) == {rule.name for rule in rules_of(RULES, asset="evaluation")}
    specs = {spec.name for spec in evaluation_checks.check_specs}
    assert set(findings) <= specs
    (failed,) = [item for item in findings.values() if not item.passed]
    assert failed.name == "scores_in_range" and failed.blocking
    assert "what to do" in failed.metadata
