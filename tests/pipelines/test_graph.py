"""The graph as Dagster shows it: keys, dependencies, checks, jobs, schedules and sensors against a
snapshot.

After an intended change: LATENTVLA_UPDATE_SNAPSHOT=1 pytest tests/pipelines/test_graph.py, and
review the difference.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from assets.chain.asset_specs import ASSET_SPECS
from assets.chain.pipeline import Pipeline
from pipelines import presets
from pipelines.definitions import definitions, defs
from pipelines.environment import RunTarget
from pipelines.resources import pipeline_resource
from storage.asset_names import ASSET_NAMES
from storage.trajectory_table import MEANING, CodeLayout, relabeled_schema

ROOT = Path(__file__).parents[2]
SNAPSHOT = Path(__file__).with_name("graph.json")


def graph() -> dict:
    """What the snapshot holds."""
    nodes = defs.resolve_asset_graph()
    assets = {}
    made = nodes.materializable_asset_keys
    for key in sorted(made, key=lambda key: list(ASSET_SPECS).index(key.to_user_string())):
        node = nodes.get(key)
        assets[key.to_user_string()] = {
            "deps": sorted(parent.to_user_string() for parent in node.parent_keys),
            "group": node.group_name,
            "kinds": sorted(node.kinds or ()),
            "owners": sorted(node.owners),
            "partitioned": node.is_partitioned,
            "checks": {
                check.name: "blocking" if nodes.get(check).blocking else "warns"
                for check in sorted(
                    nodes.get_check_keys_for_assets({key}), key=lambda check: check.name
                )
            },
        }
    repository = defs.get_repository_def()
    return {
        "assets": assets,
        "jobs": {
            job.name: sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
            for job in repository.get_all_jobs()
            if not job.name.startswith("__")
        },
        "schedules": {
            item.name: f"{item.cron_schedule} {item.job_name}" for item in repository.schedule_defs
        },
        "sensors": {item.name: item.job_name for item in repository.sensor_defs},
    }


def test_the_graph_is_the_one_in_the_snapshot():
    current = json.dumps(graph(), indent=1)
    if os.environ.get("LATENTVLA_UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(current + "\n")
    assert current == SNAPSHOT.read_text().strip()


def test_every_column_that_the_catalogue_shows_has_a_meaning():
    assert set(MEANING) == set(relabeled_schema(CodeLayout(3, 4, 16)).names) and all(
        MEANING.values()
    )


def test_the_assets_are_exactly_the_nine_of_the_lake():
    assert tuple(graph()["assets"]) == ASSET_NAMES == tuple(ASSET_SPECS)


def test_the_former_name_of_the_pipelines_job_still_runs_the_pipeline():
    jobs = graph()["jobs"]
    assert (
        jobs["chain"] == jobs["pipeline"]
        and "`pipeline`" in defs.resolve_job_def("chain").description
    )


def test_dependencies_of_the_assets_are_those_from_which_lineage_is_made():
    for name, node in graph()["assets"].items():
        assert set(ASSET_SPECS[name].deps) <= set(node["deps"]), name


@pytest.mark.parametrize("key", ASSET_SPECS)
def test_a_person_can_read_what_an_asset_is(key):
    spec = next(spec for spec in defs.resolve_all_asset_specs() if spec.key == dg.AssetKey(key))
    assert len(spec.description or "") > 100
    assert spec.code_version and spec.owners and spec.kinds and spec.group_name != "default"


def test_every_check_has_a_description():
    nodes = defs.resolve_asset_graph()
    for key in nodes.asset_check_keys:
        assert len(nodes.get(key).description or "") > 15, key


def test_definitions_load_without_the_heavy_libraries():
    heavy = [
        "torch",
        "ray",
        "great_expectations",
        "transformers",
        "zarr",
        "duckdb",
        "cv2",
        "matplotlib",
    ]
    code = (
        "import sys, pipelines.definitions; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"


def test_the_definitions_file_stays_short():
    assert len((ROOT / "pipelines" / "definitions.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize("package", ["assets", "pipelines"])
def test_no_file_that_dagster_reads_postpones_its_annotations(package):
    for file in (ROOT / package).rglob("*.py"):
        assert "from __future__ import annotations" not in file.read_text(), file


@pytest.mark.parametrize("name", ["pipelines", "assets", "ops", "models", "storage"])
def test_our_packages_are_ours(name):
    """Some of these names are also on the package index; outside the checkout another package could
    be imported in our place.
    """
    code = f"import latentvla, {name}; print({name}.__file__)"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True
    )
    assert Path(process.stdout.strip()) == ROOT / name / "__init__.py"


def test_another_configuration_of_an_asset_is_another_code_version_of_it_alone():
    preset = presets.smoke()
    other = replace(preset, student=replace(preset.student, check_rows=99))
    versions = [
        {
            spec.key.to_user_string(): spec.code_version
            for spec in definitions(
                Pipeline("openscene", "", "lake", each)
            ).resolve_all_asset_specs()
        }
        for each in (preset, other)
    ]
    assert {asset for asset in ASSET_SPECS if versions[0][asset] != versions[1][asset]} == {
        "student"
    }


def test_a_scale_that_does_not_exist_breaks_no_definitions():
    resource = pipeline_resource(RunTarget("none", "openscene", "", "lake"))
    made = definitions(resource).resolve_asset_graph().materializable_asset_keys
    assert {key.to_user_string() for key in made} == set(ASSET_SPECS)
