"""DuckDB over the Parquet tables of a lake: one view a table, any SQL. Holds no data of its own.

Views live in a connection in memory, so nothing is locked and nothing can be out of date;
`write_catalogue` makes a file with the same views for other programs, which can be rebuilt at any
time.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake

if TYPE_CHECKING:
    import duckdb

CATALOGUE_FILE = "catalogue.duckdb"
VIEWS = {  # view -> Parquet files below the lake's root
    "trajectories": "trajectories/*/trajectories.parquet",
    "agents": "trajectories/*/agents.parquet",
    "lights": "trajectories/*/lights.parquet",
    "map": "trajectories/*/map.parquet",
    "relabeled": "relabeled/relabeled.parquet",
    "scores": "evaluation/scores.parquet",
    "summary": "evaluation/summary.parquet",
}
_WITH_LOG = {"map"}  # tables without a log_id of their own


def query(lake: Lake, sql: str) -> pa.Table:
    """Run one SQL statement over the lake's tables.

    Raises ArtifactError if the lake has no tables yet, ConfigError if DuckDB does not accept the
    statement.
    """
    import duckdb

    with duckdb.connect(":memory:") as connection:
        views = _create_views(connection, lake)
        if not views:
            raise ArtifactError(
                "this lake has no tables yet",
                where=lake.root,
                expected=", ".join(VIEWS),
                do="make them: latentvla run",
            )
        try:
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise ConfigError(
                "this query does not run",
                where=lake.root,
                found=str(error),
                expected=f"one SELECT over {', '.join(views)}",
                do="correct the query",
            ) from error


def write_catalogue(lake: Lake) -> Path:
    """Write `<lake>/catalogue.duckdb`, a file of views that any DuckDB client opens; an old one is
    replaced whole.
    """
    import duckdb

    file, aside = lake.root / CATALOGUE_FILE, lake.root / f"{CATALOGUE_FILE}.part-{os.getpid()}"
    aside.unlink(missing_ok=True)
    with duckdb.connect(str(aside)) as connection:
        _create_views(connection, lake)
    os.replace(aside, file)
    return file


def _create_views(connection: "duckdb.DuckDBPyConnection", lake: Lake) -> list[str]:
    """Create the views whose files exist; returns their names."""
    names = []
    for name, pattern in VIEWS.items():
        if not any(lake.root.glob(pattern)):
            continue
        files = str(lake.root.absolute() / pattern).replace("'", "''")
        if name in _WITH_LOG:
            columns = "* EXCLUDE (filename), parse_path(filename)[-2] AS log_id"
            connection.execute(
                f"CREATE VIEW {name} AS SELECT {columns} FROM read_parquet('{files}', filename=true)"
            )
        else:
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{files}')")
        names.append(name)
    return names
