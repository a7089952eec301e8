"""SQL over the Parquet tables of a lake: DuckDB in memory with one view for each table.

The views are created for each query, so they always show the lake's current files.
"""

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


def query(lake: Lake, sql: str) -> pa.Table:
    """Run one SQL statement over the views in VIEWS whose tables exist.

    Raises ArtifactError if the lake has no tables, ConfigError if DuckDB rejects the statement.
    """
    import duckdb

    with duckdb.connect(":memory:") as connection:
        views = _create_views(connection, lake)
        if not views:
            raise ArtifactError(
                "this lake has no tables yet",
                where=lake.root,
                expected=", ".join(VIEWS),
                do="run: latentvla run",
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


def _create_views(connection: "duckdb.DuckDBPyConnection", lake: Lake) -> list[str]:
    """Create the views whose files exist and return their names."""
    names = []
    for name, pattern in VIEWS.items():
        if not any(lake.root.glob(pattern)):
            continue
        files = str(lake.root.absolute() / pattern).replace("'", "''")
        if name in _LOG_ID_FROM_FOLDER:
            columns = "* EXCLUDE (filename), parse_path(filename)[-2] AS log_id"
            table = f"read_parquet('{files}', filename=true)"
        else:
            columns, table = "*", f"read_parquet('{files}')"
        connection.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM {table}")
        names.append(name)
    return names
