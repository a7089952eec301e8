"""The version of the ablation's tables, which the report shows.

Imports nothing heavy.
"""

from storage.contents import folder_content
from storage.lake import Lake

TABLES = ("planners.parquet", "differences.parquet")


def ablation_tables_version(lake: Lake) -> str:
    """16 hex digits over the content of the tables; "" if no ablation has been made."""
    return folder_content(lake.root / "ablation", TABLES)
