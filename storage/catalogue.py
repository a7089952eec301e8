"""SQL over the Parquet tables of a lake: DuckDB in memory with one view for each table.

The views are created for each query, so they always show the lake's current files. A query reads:
it is one statement that returns rows, it sees no file outside the lake, and it changes none.
"""

import os
import tempfile
from glob import escape
from typing import TYPE_CHECKING

import pyarrow as pa

from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake

if TYPE_CHECKING:
    import duckdb

VIEWS = {  # view -> Parquet files below the lake's root
    "trajectories": "trajectories/*/trajectories.parquet",
    "agents": "trajectories/*/agents.parquet",
    "lights": "trajectories/*/lights.parquet",
    "map": "trajectories/*/map.parquet",
    "relabeled": "relabeled/*/relabeled.parquet",
    "scores": "evaluation/scores.parquet",
    "summary": "evaluation/summary.parquet",
}
# views whose table has no log_id column: it is taken from the folder's name
_LOG_ID_FROM_FOLDER = {"map"}
_SETTINGS: "dict[str, str | bool | int | float | list[str]]" = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # else a table's name can mean a variable of this process
}


def query(lake: Lake, sql: str) -> pa.Table:
    """Run one SELECT (also WITH, DESCRIBE, SHOW, SUMMARIZE) over the views in VIEWS whose tables
    exist.

    Raises ArtifactError if the lake has no tables, ConfigError for anything but one statement that
    returns rows, and if DuckDB rejects it: a file outside the lake for example.
    """
    import duckdb

    with duckdb.connect(":memory:", config=_SETTINGS) as connection:
        views = _create_views(connection, lake)
        if not views:
            raise ArtifactError(
                "this lake has no tables yet",
                where=lake.root,
                expected=", ".join(VIEWS),
                do="run: latentvla run",
            )
        try:
            sql.encode()  # DuckDB gives another error for half of a surrogate pair
            statements = connection.extract_statements(sql)
            if [item.type for item in statements] != [duckdb.StatementType.SELECT]:
                raise _not_one_select(lake, [item.type.name for item in statements])
            _close_off(connection, lake)
            return connection.sql(statements[0]).to_arrow_table()
        except (duckdb.Error, UnicodeEncodeError) as error:
            raise ConfigError(
                "this query does not run",
                where=lake.root,
                found=str(error),
                expected=f"one SELECT over {', '.join(views)}",
                do="correct the query",
            ) from error


def _create_views(connection: "duckdb.DuckDBPyConnection", lake: Lake) -> list[str]:
    """Create the views whose files exist and return their names."""
    names = []
    for name, pattern in VIEWS.items():
        if not any(lake.root.glob(pattern)):
            continue
        files = _quoted(os.path.join(escape(str(lake.root.absolute())), pattern))
        if name in _LOG_ID_FROM_FOLDER:
            columns = "* EXCLUDE (filename), parse_path(filename)[-2] AS log_id"
            table = f"read_parquet({files}, filename=true)"
        else:
            columns, table = "*", f"read_parquet({files})"
        connection.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM {table}")
        names.append(name)
    return names


def _close_off(connection: "duckdb.DuckDBPyConnection", lake: Lake) -> None:
    """From here on the connection reads files of the lake alone, and nothing reopens it."""
    folders = ", ".join(_quoted(f"{folder}/") for folder in _folders(lake))
    spill = os.path.join(tempfile.gettempdir(), f"latentvla-sql-{os.getpid()}")
    connection.execute(f"SET temp_directory = {_quoted(spill)}")
    connection.execute(f"SET allowed_directories = [{folders}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _folders(lake: Lake) -> list[str]:
    """The lake's folder by the names that a path may start with."""
    root = str(lake.root.absolute())
    return list(dict.fromkeys([root, escape(root)]))


def _not_one_select(lake: Lake, kinds: list[str]) -> ConfigError:
    return ConfigError(
        "there is no query" if not kinds else "a query is one SELECT",
        where=lake.root,
        expected="one SELECT, WITH, DESCRIBE, SHOW or SUMMARIZE; nothing is ever written",
        found="an empty text, or a comment" if not kinds else ", ".join(kinds),
        do='for example: latentvla sql "select split, count(*) from trajectories group by split"',
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
