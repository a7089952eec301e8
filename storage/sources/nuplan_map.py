"""Reads a nuPlan `map.gpkg` into map objects with sqlite3 and shapely. Not nuPlan's map API, and no
geopandas.

A GeoPackage is an SQLite file whose geometry column holds a short header and then WKB (OGC
12-128r19, section 2.1.3). Published nuPlan maps are in degrees and name their UTM zone in the table
`meta`; maps in metres are read as they are.
"""

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from storage.errors import SourceError
from storage.sources.contract import MapLayer, MapObject
from storage.sources.utm import utm_from_degrees

REQUIRED = ("lanes_polygons", "lane_connectors", "lane_groups_polygons", "baseline_paths")
PLAIN_LAYERS = {
    "intersections": MapLayer.INTERSECTION,
    "stop_polygons": MapLayer.STOP_LINE,
    "crosswalks": MapLayer.CROSSWALK,
    "carpark_areas": MapLayer.CARPARK_AREA,
    "walkways": MapLayer.WALKWAY,
}
_ENVELOPE_BYTES = (0, 32, 48, 48, 64)
_DEGREES = 4326  # EPSG code of WGS 84 longitude and latitude


def read_nuplan_map(file: Path) -> tuple[MapObject, ...]:
    """All objects of one map. Raises SourceError if the file is no GeoPackage or lacks a layer
    every log needs.
    """
    try:
        stamp = file.stat()
    except FileNotFoundError as error:
        raise SourceError(
            "the map file does not exist",
            where=file,
            found="no file",
            expected="<maps>/<location>/<version>/map.gpkg",
            do="put nuPlan's maps below the raw folder, or set NUPLAN_MAPS_ROOT",
        ) from error
    return _read_cached(file, stamp.st_mtime_ns, stamp.st_size)


# logs of one town share one map; a process rarely sees more than four towns
@lru_cache(maxsize=4)
def _read_cached(file: Path, _mtime_ns: int, _size: int) -> tuple[MapObject, ...]:
    try:
        with closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as database:
            return tuple(_objects(_Reader(database, file)))
    except (sqlite3.DatabaseError, shapely.errors.ShapelyError, struct.error) as error:
        raise SourceError(
            "the map cannot be read",
            where=file,
            expected="a nuPlan GeoPackage",
            found=str(error),
            do="download or write the map again",
        ) from error


class _Reader:
    """The tables of one GeoPackage as dicts, geometry in metres under the key `shape`."""

    def __init__(self, database: sqlite3.Connection, file: Path) -> None:
        self.database, self.file = database, file
        self.tables = {
            name
            for (name,) in database.execute("select name from sqlite_master where type = 'table'")
        }
        missing = [name for name in REQUIRED if name not in self.tables]
        if missing:
            raise SourceError(
                "the map lacks layers",
                where=file,
                expected=", ".join(REQUIRED),
                found=f"without {', '.join(missing)}",
                do="use nuPlan's maps v1.0",
            )
        self.projected = self._projected_code()

    def rows(self, table: str) -> list[dict[str, Any]]:
        if table not in self.tables:
            return []
        info = self.database.execute(f'pragma table_info("{table}")').fetchall()
        key = next((name for _, name, _, _, _, primary in info if primary), "fid")
        names = [name for _, name, *_ in info]
        rows = [
            dict(zip(names, row, strict=True))
            for row in self.database.execute(f'select * from "{table}"')
        ]
        geometry = self.database.execute(
            "select column_name, srs_id from gpkg_geometry_columns where table_name = ?", (table,)
        ).fetchone()
        shapes = (
            self._shapes([row[geometry[0]] for row in rows], geometry[1])
            if geometry
            else [None] * len(rows)
        )
        return [
            row | {"id": str(row[key]), "shape": shape}
            for row, shape in zip(rows, shapes, strict=True)
        ]

    def _shapes(self, blobs: list[bytes | None], srs: int) -> np.ndarray:
        shapes = shapely.from_wkb(np.array([_wkb_of(blob) for blob in blobs], dtype=object))
        if srs != _DEGREES or self.projected is None:
            return shapes
        zone = self.projected % 100
        return shapely.transform(
            shapes, lambda lon_lat: utm_from_degrees(lon_lat, zone, self.projected // 100 == 326)
        )

    def _projected_code(self) -> int | None:
        if "meta" not in self.tables:
            return None
        found = self.database.execute(
            "select value from meta where key = 'projectedCoordSystem'"
        ).fetchone()
        code = str(found[0]).rsplit(":", 1)[-1] if found else ""
        if code.isdigit() and int(code) // 100 in (326, 327):
            return int(code)
        return None


def _objects(reader: _Reader) -> Iterator[MapObject]:
    lanes, connectors = reader.rows("lanes_polygons"), reader.rows("lane_connectors")
    groups, group_connectors = (
        reader.rows("lane_groups_polygons"),
        reader.rows("lane_group_connectors"),
    )
    paths = reader.rows("baseline_paths")
    lane_path = {_id(row["lane_fid"]): row["shape"] for row in paths if _id(row["lane_fid"])}
    connector_path = {
        _id(row["lane_connector_fid"]): row["shape"]
        for row in paths
        if _id(row["lane_connector_fid"])
    }
    connector_area = {
        _id(row["lane_connector_fid"]): row["shape"]
        for row in reader.rows("gen_lane_connectors_scaled_width_polygons")
    }
    into, out_of = _edges(connectors, "exit_lane_fid", "entry_lane_fid")
    beside = {
        (_id(row["lane_group_fid"]), int(row["lane_index"])): row["id"]
        for row in lanes
        if row["lane_index"] is not None
    }
    for row in lanes:
        group, index = _id(row["lane_group_fid"]), row["lane_index"]
        # nuPlan counts lanes
        left, right = (
            ("", "")
            if index is None
            else (
                beside.get((group, int(index) - 1), ""),
                # from left to right
                beside.get((group, int(index) + 1), ""),
            )
        )
        yield MapObject(
            MapLayer.LANE,
            row["id"],
            _ring(row["shape"]),
            _baseline(lane_path.get(row["id"])),
            _limit(row["speed_limit_mps"]),
            group,
            into.get(row["id"], ()),
            out_of.get(row["id"], ()),
            left,
            right,
        )
    for row in connectors:
        yield MapObject(
            MapLayer.LANE_CONNECTOR,
            row["id"],
            _ring(connector_area.get(row["id"])),
            _baseline(connector_path.get(row["id"])),
            _limit(row["speed_limit_mps"]),
            _id(row["lane_group_connector_fid"]),
            _known(row["exit_lane_fid"]),
            _known(row["entry_lane_fid"]),
        )
    into, out_of = _edges(group_connectors, "from_lane_group_fid", "to_lane_group_fid")
    for row in groups:
        yield MapObject(
            MapLayer.ROADBLOCK,
            row["id"],
            _ring(row["shape"]),
            predecessors=into.get(row["id"], ()),
            successors=out_of.get(row["id"], ()),
        )
    for row in group_connectors:
        yield MapObject(
            MapLayer.ROADBLOCK_CONNECTOR,
            row["id"],
            _ring(row["shape"]),
            predecessors=_known(row["from_lane_group_fid"]),
            successors=_known(row["to_lane_group_fid"]),
        )
    for table, layer in PLAIN_LAYERS.items():
        for row in reader.rows(table):
            for part, polygon in enumerate(shapely.get_parts(row["shape"])):
                yield MapObject(
                    layer, row["id"] if part == 0 else f"{row['id']}:{part}", _ring(polygon)
                )


def _edges(rows: list[dict[str, Any]], from_column: str, to_column: str) -> tuple[dict, dict]:
    """Connectors by the lane (group) they lead into, and by the one they come out of."""
    into: dict[str, tuple[str, ...]] = {}
    out_of: dict[str, tuple[str, ...]] = {}
    for row in rows:
        into[_id(row[to_column])] = (*into.get(_id(row[to_column]), ()), row["id"])
        out_of[_id(row[from_column])] = (*out_of.get(_id(row[from_column]), ()), row["id"])
    return into, out_of


def _wkb_of(blob: bytes | None) -> bytes | None:
    if blob is None:
        return None
    if blob[:2] != b"GP":
        raise sqlite3.DatabaseError("a geometry without GeoPackage header")
    return blob[8 + _ENVELOPE_BYTES[(blob[3] >> 1) & 7] :]


def _id(value: Any) -> str:
    """An identifier as text; OGR writes nullable integers as floats."""
    return "" if value is None or value != value else str(int(value))


def _known(value: Any) -> tuple[str, ...]:
    return (_id(value),) if _id(value) else ()


def _limit(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


def _ring(shape: Any) -> np.ndarray:
    """Open outer ring (n, 2) of a polygon, of its largest part if there are many; empty without a
    shape.
    """
    if shape is None or shapely.is_empty(shape):
        return np.zeros((0, 2))
    parts = shapely.get_parts(shape)
    largest = parts[np.argmax(shapely.area(parts))]
    return shapely.get_coordinates(shapely.get_exterior_ring(largest))[:-1]


def _baseline(shape: Any) -> np.ndarray:
    """(n, 3) vertices of a centre line with the heading towards the next one; the last repeats the
    one before.
    """
    if shape is None:
        return np.zeros((0, 3))
    xy = shapely.get_coordinates(shape)
    step = np.diff(xy, axis=0)
    xy, step = xy[np.append(True, step.any(axis=1))], step[step.any(axis=1)]
    yaw = np.arctan2(step[:, 1], step[:, 0])
    return np.column_stack([xy, np.append(yaw, yaw[-1:])]) if len(yaw) else np.zeros((0, 3))
