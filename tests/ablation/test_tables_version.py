"""A report that shows an ablation is another report than one without, or with other tables."""

from assets.chain.asset_specs import asset_lineage
from assets.chain.pipeline import Pipeline
from ops.ablation.tables_version import ablation_tables_version
from pipelines.commands.ablate import _report_is_current
from pipelines.presets import smoke
from storage.artifact import planned_lineage, write_artifact


def test_the_report_names_the_tables_of_the_ablation_and_is_stale_without_them(tmp_path):
    pipeline = Pipeline("openscene", "", str(tmp_path / "lake"), smoke())
    lake = pipeline.lake
    for name in ("codebook", "relabeled", "vla", "student", "evaluation"):
        with write_artifact(lake.asset(name), planned_lineage(name, {}, None, "c0de")):
            pass

    def lineage():
        return asset_lineage(pipeline, "report", ["log"])

    without = lineage()
    assert "ablation" not in without.parents and ablation_tables_version(lake) == ""
    with write_artifact(lake.asset("report"), without):
        pass
    assert _report_is_current(pipeline, ["log"])
    folder = lake.root / "ablation"
    folder.mkdir()
    (folder / "planners.parquet").write_bytes(b"one")
    (folder / "ablation.md").write_text("not shown")
    one = lineage()
    assert one.parents["ablation"] == ablation_tables_version(lake) != ""
    assert one.version != without.version and not _report_is_current(pipeline, ["log"])
    (folder / "planners.parquet").write_bytes(b"two")
    assert lineage().version not in (one.version, without.version)
    (folder / "planners.parquet").write_bytes(b"one")
    (folder / "ablation.md").write_text("nor this")
    assert lineage().version == one.version
