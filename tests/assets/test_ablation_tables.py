"""A report that shows an ablation is another report than one without, or with other tables."""

from assets.chain.ledger import Ledger
from assets.chain.pipeline import Pipeline
from ops.ablation.tables_version import ablation_tables_version
from storage.artifact import Lineage, planned_lineage, write_artifact


def test_the_report_names_the_tables_of_the_ablation_and_is_stale_with_others(pipeline: Pipeline):
    lake = pipeline.lake
    logs = Ledger(pipeline, as_made=True).logs_of("report")
    rows = [f"relabeled/{log}" for log in logs]
    for name in ("codebook", *rows, "vla", "student", "evaluation"):
        with write_artifact(lake.root / name, planned_lineage(name, {}, None, "c0de")):
            pass

    def lineage() -> Lineage:
        return Ledger(pipeline, as_made=True).lineage("report")

    without = lineage()
    assert "ablation" not in without.parents and ablation_tables_version(lake) == ""
    folder = lake.root / "ablation"
    folder.mkdir()
    (folder / "planners.parquet").write_bytes(b"one")
    (folder / "ablation.md").write_text("not shown")
    one = lineage()
    assert one.parents["ablation"] == ablation_tables_version(lake) != ""
    assert one.version != without.version
    (folder / "planners.parquet").write_bytes(b"two")
    assert lineage().version not in (one.version, without.version)
    (folder / "planners.parquet").write_bytes(b"one")
    (folder / "ablation.md").write_text("nor this")
    assert lineage().version == one.version
