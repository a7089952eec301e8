"""Writes a town as a nuPlan map: `nuplan-maps-v1.0.json` and `<location>/<version>/map.gpkg`."""

import hashlib
import json
import os
import pickle
import shutil
from functools import lru_cache
from pathlib import Path

from ops.synthesize.town.build_town import build_town
from ops.synthesize.town.town import Town, TownConfig
from ops.synthesize.writers.geopackage import write_geopackage
from ops.synthesize.writers.nuplan_layers import nuplan_layers

# official readers accept only the names of the four published maps
LOCATION = "us-ma-boston"
UTM_ZONE = 19


def write_map(raw: Path, town: Town) -> None:
    """Write the map of a town below `raw/maps` if it is missing; safe with concurrent writers.

    The version is a hash of the town, so the map of another town is replaced.
    """
    version, index_file = map_version(town.config), raw / "maps" / "nuplan-maps-v1.0.json"
    index = json.dumps({LOCATION: {"version": version, "layers": {}}}, indent=1)
    folder = raw / "maps" / LOCATION / version
    if (folder / "map.gpkg").exists() and index_file.exists() and index_file.read_text() == index:
        return
    part = raw / "maps" / f".part-{os.getpid()}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write_geopackage(
        part / "map.gpkg",
        nuplan_layers(town),
        {
            "meta": [
                {"key": "projectedCoordSystem", "value": f"epsg:326{UTM_ZONE}"},
                {"key": "geographicCoordSystem", "value": "epsg:4326"},
            ]
        },
        UTM_ZONE,
    )
    (part / "index.json").write_text(index)
    folder.mkdir(parents=True, exist_ok=True)
    os.replace(part / "map.gpkg", folder / "map.gpkg")
    os.replace(part / "index.json", index_file)
    shutil.rmtree(part)


@lru_cache(maxsize=2)
def map_version(config: TownConfig) -> str:
    """A hash, in twelve hex digits, of everything in the map of a town."""
    town = build_town(config)
    return hashlib.sha256(pickle.dumps((town.lanes, town.roadblocks, town.junctions))).hexdigest()[
        :12
    ]
