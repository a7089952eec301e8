"""SQL over a lake: every table that exists is a view."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.commands.text import table_text
from storage.catalogue import query
from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake
from storage.printable import printable
from storage.trajectory_table import LIGHTS, MAP, write_table


def lake_with_lights(root) -> Lake:
    lake = Lake(root)
    for log in ("one", "two"):
        folder = lake.log("trajectories", log)
        folder.mkdir(parents=True)
        lights = pa.table(
            {
                "log_id": [log] * 3,
                "frame_index": np.arange(3, dtype=np.int32),
                "lane_connector_id": ["7"] * 3,
                "is_red": [True, True, False],
            },
            schema=LIGHTS,
        )
        write_table(lights, folder / "lights.parquet", LIGHTS)
        write_table(MAP.empty_table(), folder / "map.parquet", MAP)
    return lake


def test_a_query_sees_the_rows_of_every_log(tmp_path):
    lake = lake_with_lights(tmp_path)
    red = query(lake, "SELECT log_id, sum(is_red::int) AS red FROM lights GROUP BY 1 ORDER BY 1")
    assert red.to_pydict() == {"log_id": ["one", "two"], "red": [2, 2]}


def test_the_map_view_has_the_log_that_each_row_belongs_to(tmp_path):
    assert "log_id" in query(lake_with_lights(tmp_path), "SELECT * FROM map").column_names


def test_a_bad_query_and_an_empty_lake_are_explained(tmp_path):
    with pytest.raises(ArtifactError, match="latentvla run"):
        query(Lake(tmp_path / "nothing"), "SELECT 1")
    lake = lake_with_lights(tmp_path)
    with pytest.raises(ConfigError, match="does not run"):
        query(lake, "SELECT * FROM no_such_table")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lake, called `lake`, and a file that is none of its business."""
    folder = tmp_path_factory.mktemp("outside")
    lake_with_lights(folder / "lake")
    (folder / "secret.csv").write_text("word\nhidden\n")
    return folder


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "there is no query"),
        ("  ;; ", "there is no query"),
        ("-- only a comment", "there is no query"),
        ("/* nothing */", "there is no query"),
        ("selec 1", "does not run"),
        ("select", "does not run"),
        ("select no_such_column from lights", "does not run"),
        ("select 1; select 2", "SELECT, SELECT"),
        ("select 1; drop view lights", "SELECT, DROP"),
        ("create table a as select 1", "CREATE"),
        ("insert into lights select * from lights", "INSERT"),
        ("delete from lights", "DELETE"),
        ("update lights set is_red = false", "UPDATE"),
        ("drop view lights", "DROP"),
        ("copy (select 1) to '{outside}/new.csv'", "COPY"),
        ("copy lights to '{outside}/lake/new.parquet'", "COPY"),
        ("attach '{outside}/new.db'", "ATTACH"),
        ("install httpfs", "one SELECT"),
        ("load httpfs", "LOAD"),
        ("set enable_external_access = true", "SET"),
        ("pragma enable_logging", "one SELECT"),
        ("export database '{outside}/new'", "EXPORT"),
        ("call pragma_version()", "one SELECT"),
        ("explain analyze copy (select 1) to '{outside}/new.csv'", "EXPLAIN"),
        ("select * from read_csv('{outside}/secret.csv')", "disabled"),
        ("select * from '{outside}/secret.csv'", "disabled"),
        ("select * from read_text('{outside}/lake/../secret.csv')", "disabled"),
        ("select * from read_blob('/etc/passwd')", "disabled"),
        ("select * from glob('/etc/*')", "disabled"),
        ("select * from 'https://example.com/a.parquet'", "does not run"),
        ("select * from sniff_csv('{outside}/secret.csv')", "disabled"),
        ("select '\ud800'", "does not run"),
        ("select " + "(" * 5000 + "1" + ")" * 5000, "does not run"),
    ],
)
def test_a_query_reads_the_lake_alone_and_nothing_is_written(
    outside: Path, sql: str, message: str
) -> None:
    before = sorted(outside.rglob("*"))
    with pytest.raises(ConfigError, match=message):
        query(Lake(outside / "lake"), sql.replace("{outside}", str(outside)))
    assert sorted(outside.rglob("*")) == before


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from lights;",
        "with red as (from lights where is_red) select count(*) from red",
        "from lights",
        "describe lights",
        "show tables",
        "summarize lights",
        "values (1), (2)",
        "-- red lights\nselect 1",
        "select count(*) from read_parquet('{lake}/trajectories/*/lights.parquet')",
        "pivot lights on is_red in (true, false) using count(*)",
    ],
)
def test_every_way_to_read_is_open(outside: Path, sql: str) -> None:
    assert len(query(Lake(outside / "lake"), sql.replace("{lake}", str(outside / "lake")))) > 0


@pytest.mark.parametrize("name", ["a [1] b", "100 %s {x}", "it's", "süß", "a*b?c"])
def test_a_lake_may_lie_at_any_path(tmp_path: Path, name: str) -> None:
    lake = lake_with_lights(tmp_path / name)
    assert query(lake, "select count(*) as n from lights")["n"].to_pylist() == [6]


def test_variables_of_the_process_are_no_tables(tmp_path: Path) -> None:
    hidden = pa.table({"word": ["hidden"]})
    with pytest.raises(ConfigError, match="hidden does not exist"):
        query(lake_with_lights(tmp_path), "select * from hidden")
    assert len(hidden) == 1


def test_what_cannot_be_printed_is_named_and_two_columns_may_have_one_name(outside: Path) -> None:
    def text(sql: str, rows: int = 40) -> str:
        return table_text(query(Lake(outside / "lake"), sql), rows)

    assert [line.split() for line in text("select 1 as a, 2 as a").splitlines()] == [
        ["a", "a"],
        ["1", "2"],
    ]
    assert "(no rows)" in text("select 1 as a where false")
    assert "... 5 more of 6 rows" in text("select * from lights", 1)
    with pytest.raises(ConfigError, match=r"--rows 0 or more[\s\S]*-1"):
        text("select 1", -1)
    for value in ("date '12000-01-01'", "timestamp '12000-01-01'", "[date '12000-01-01']"):
        with pytest.raises(ConfigError, match="years from 1 to 9999"):
            text(f"select {value} as day")


def test_control_characters_of_data_do_not_reach_the_terminal(outside: Path) -> None:
    table = query(Lake(outside / "lake"), "select 'a' || chr(27) || '[2J' || chr(10) || 'b' as x")
    assert table_text(table, 1).splitlines() == ["x", r"a\x1b[2J\nb"]
    assert printable("süß \x1b]0;\u202e\ud800\n") == "süß \\x1b]0;\\u202e\\ud800\n"
