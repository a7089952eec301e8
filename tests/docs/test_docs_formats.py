"""The pages on formats name every field of the schemas, every view and every source."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from storage.artifact import Lineage
from storage.catalogue import VIEWS
from storage.frame_store import CameraInfo
from storage.metrics_table import FILES
from storage.sources import SOURCES
from storage.trajectory_table import (
    TABLES,
    Category,
    CodeLayout,
    Command,
    MapLayer,
    relabeled_schema,
)
from tests.worlds.tiny_lake import LOGS, write_tiny_lake

DOCS = Path(__file__).parents[2] / "docs"


def part(name: str, heading: str) -> str:
    """One section of a page."""
    text = (DOCS / name).read_text()
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", text, re.S | re.M)
    assert section, f"{name} has no section '{heading}'"
    return section[1]


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("trajectories", [field.name for schema in TABLES.values() for field in schema]),
        ("relabeled", relabeled_schema(CodeLayout(3, 4, 16)).names[-3:]),
        (
            "evaluation",
            [name for table, schema in FILES.items() for name in (table, *schema.names)],
        ),
        ("An artefact", [field.name for field in fields(Lineage)]),
        ("frames", [field.name for field in fields(CameraInfo) if field.name != "camera"]),
        ("Querying", list(VIEWS)),
    ],
)
def test_every_field_is_on_the_page(section, names):
    text = part("formats.md", section)
    assert [name for name in names if not re.search(rf"[`/]{name}`", text)] == []


def test_the_numbers_of_categories_layers_and_commands_are_those_of_the_code():
    text = part("formats.md", "trajectories")
    assert all(
        re.search(rf"\b{item.value} \w", text)
        for kind in (Category, Command, MapLayer)
        for item in kind
    )
    assert "0 left, 1 straight, 2 right, 3 unknown" in text and Command.UNKNOWN == 3
    assert "11 lane connector" in text and MapLayer.LANE_CONNECTOR == 11


def test_the_query_example_runs(tmp_path, monkeypatch):
    write_tiny_lake(tmp_path / "lake" / "synthetic")
    monkeypatch.chdir(tmp_path)
    example = re.search(r"^```python\n(.*?)^```", part("formats.md", "Querying"), re.S | re.M)[1]
    *setup, call = ast.parse(example).body
    names: dict = {}
    exec(compile(ast.Module(setup, []), "docs/formats.md", "exec"), names)
    rows = eval(compile(ast.Expression(call.value), "docs/formats.md", "eval"), names)
    assert sorted(rows["log_id"].to_pylist()) == sorted(LOGS)


def test_every_source_is_described_with_its_splits():
    for page in ("bring_your_own_logs.md", "conventions.md"):
        assert [name for name in SOURCES if name not in (DOCS / page).read_text()] == []


def test_the_files_that_the_pages_name_exist():
    for page in ("formats.md", "conventions.md", "bring_your_own_logs.md"):
        named = re.findall(
            r"`((?:storage|ops|tests|benchmarks)/[\w/]+\.py)`", (DOCS / page).read_text()
        )
        assert named or page == "conventions.md"
        assert [name for name in named if not (DOCS.parent / name).exists()] == []
