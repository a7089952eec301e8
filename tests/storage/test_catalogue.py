"""SQL over a lake: every table that exists is a view."""

import numpy as np
import pyarrow as pa
import pytest

from storage.catalogue import query
from storage.errors import ArtifactError, ConfigError
from storage.lake import Lake
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
