"""Reads a nuPlan `map.gpkg` into map objects with sqlite3 and shapely.

A GeoPackage is an SQLite file whose geometry columns hold a short header and then WKB (OGC
12-128r19, section 2.1.3). Published nuPlan maps are in degrees and name their UTM zone in the table
`meta`; maps in metres are not transformed.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from storage.errors import SourceError
from storage.sources.contract import MapLayer, MapObject
from storage.sources.raw_files import is_regular, too_large
from storage.sources.utm import utm_from_degrees

REQUIRED = ("lanes_polygons", "lane_connectors", "lane_groups_polygons", "baseline_paths")
PLAIN_LAYERS = {
    "intersections": MapLayer.INTERSECTION,
    "stop_polygons": MapLayer.STOP_LINE,
    "crosswalks": MapLayer.CROSSWALK,
    "carpark_areas": MapLayer.CARPARK_AREA,
    "walkways": MapLayer.WALKWAY,
}
Rows = list[dict[str, Any]]  # of one table, with `id` and `shape` added by _Reader.rows
MAX_MAP_ROWS = 1_000_000  # of one table; a published town has some ten thousand
MAX_VALUE_BYTES = 64 * 2**20  # of one geometry
_ENVELOPE_BYTES = (0, 32, 48, 48, 64)
_DEGREES = 4326  # EPSG code of WGS 84 longitude and latitude


def read_nuplan_map(file: Path) -> tuple[MapObject, ...]:
    """All objects of one map, cached until the file changes.

    Raises SourceError if the file does not exist, is no GeoPackage, or lacks a table in REQUIRED.
    """
    if not is_regular(file):
        raise SourceError(
            "the map file does not exist",
            where=file,
            found="no file",
            expected="<maps>/<location>/<version>/map.gpkg",
            do="put nuPlan's maps below the raw folder, or set NUPLAN_MAPS_ROOT",
        )
    stamp = file.stat()
    return _read_cached(file, stamp.st_mtime_ns, stamp.st_size)


# logs of one town share one map; a process rarely reads more than four towns
@lru_cache(maxsize=4)
def _read_cached(file: Path, _mtime_ns: int, _size: int) -> tuple[MapObject, ...]:
    try:
        with closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
            return tuple(_objects(_Reader(database, file)))
    except SourceError:
        raise
    # tables with other columns and geometries of other kinds make sqlite3, shapely and this reader
    # raise nearly anything
    except Exception as error:
        raise SourceError(
            "the map cannot be read",
            where=file,
            expected="a nuPlan GeoPackage",
            found=f"{type(error).__name__}: {error}",
            do="download or write the map again",
        ) from error


class _Reader:
    """Reads the tables of one GeoPackage; `projected` is the EPSG code of its UTM zone or None."""

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

    def rows(self, table: str) -> Rows:
        """Rows as dicts with the primary key as text in `id` and the geometry in metres in `shape`.

        Empty if there is no such table.
        """
        if table not in self.tables:
            return []
        info = self.database.execute(f'pragma table_info("{table}")').fetchall()
        key = next((name for _, name, _, _, _, primary in info if primary), "fid")
        names = [name for _, name, *_ in info]
        rows = [
            dict(zip(names, row, strict=True))
            for row in self.database.execute(f'select * from "{table}" limit {MAX_MAP_ROWS + 1}')
        ]
        if len(rows) > MAX_MAP_ROWS:
            raise too_large(f"{self.file}, table {table}", f"at most {MAX_MAP_ROWS} rows", "more")
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
        value = self.database.execute(
            "select value from meta where key = 'projectedCoordSystem'"
        ).fetchone()
        code = str(value[0]).rsplit(":", 1)[-1] if value else ""
        if code.isdigit() and int(code) // 100 in (326, 327):
            return int(code)
        return None


def _objects(reader: _Reader) -> Iterator[MapObject]:
    lanes, connectors = reader.rows("lanes_polygons"), reader.rows("lane_connectors")
    paths = reader.rows("baseline_paths")
    yield from _lanes(lanes, connectors, paths)
    yield from _lane_connectors(
        connectors, paths, reader.rows("gen_lane_connectors_scaled_width_polygons")
    )
    yield from _roadblocks(
        reader.rows("lane_groups_polygons"), reader.rows("lane_group_connectors")
    )
    for table, layer in PLAIN_LAYERS.items():
        for row in reader.rows(table):
            for part, polygon in enumerate(shapely.get_parts(row["shape"])):
                yield MapObject(
                    layer, row["id"] if part == 0 else f"{row['id']}:{part}", _ring(polygon)
                )


def _lanes(lanes: Rows, connectors: Rows, paths: Rows) -> Iterator[MapObject]:
    """Lanes with their connectors and neighbours; nuPlan counts the lanes of a group from left to
    right.
    """
    path_of = _shapes_by(paths, "lane_fid")
    incoming, outgoing = _edges(connectors, "exit_lane_fid", "entry_lane_fid")
    lane_at = {
        (_id(row["lane_group_fid"]), int(row["lane_index"])): row["id"]
        for row in lanes
        if row["lane_index"] is not None
    }
    for row in lanes:
        group, index = _id(row["lane_group_fid"]), row["lane_index"]
        left, right = (
            ("", "")
            if index is None
            else (lane_at.get((group, int(index) + side), "") for side in (-1, 1))
        )
        yield MapObject(
            MapLayer.LANE,
            row["id"],
            _ring(row["shape"]),
            _baseline(path_of.get(row["id"])),
            _speed_limit(row["speed_limit_mps"]),
            group,
            incoming.get(row["id"], ()),
            outgoing.get(row["id"], ()),
            left,
            right,
        )


def _lane_connectors(connectors: Rows, paths: Rows, areas: Rows) -> Iterator[MapObject]:
    path_of = _shapes_by(paths, "lane_connector_fid")
    area_of = _shapes_by(areas, "lane_connector_fid")
    for row in connectors:
        yield MapObject(
            MapLayer.LANE_CONNECTOR,
            row["id"],
            _ring(area_of.get(row["id"])),
            _baseline(path_of.get(row["id"])),
            _speed_limit(row["speed_limit_mps"]),
            _id(row["lane_group_connector_fid"]),
            _ids(row["exit_lane_fid"]),
            _ids(row["entry_lane_fid"]),
        )


def _roadblocks(groups: Rows, connectors: Rows) -> Iterator[MapObject]:
    """Roadblocks and roadblock connectors; nuPlan's tables call them lane groups."""
    incoming, outgoing = _edges(connectors, "from_lane_group_fid", "to_lane_group_fid")
    for row in groups:
        yield MapObject(
            MapLayer.ROADBLOCK,
            row["id"],
            _ring(row["shape"]),
            predecessors=incoming.get(row["id"], ()),
            successors=outgoing.get(row["id"], ()),
        )
    for row in connectors:
        yield MapObject(
            MapLayer.ROADBLOCK_CONNECTOR,
            row["id"],
            _ring(row["shape"]),
            predecessors=_ids(row["from_lane_group_fid"]),
            successors=_ids(row["to_lane_group_fid"]),
        )


def _shapes_by(rows: Rows, column: str) -> dict[str, Any]:
    """Shape of each row by the identifier in `column`; rows without identifier are left out."""
    return {_id(row[column]): row["shape"] for row in rows if _id(row[column])}


def _edges(
    connectors: Rows, from_column: str, to_column: str
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Incoming and outgoing connectors of each lane (or lane group)."""
    incoming: dict[str, tuple[str, ...]] = {}
    outgoing: dict[str, tuple[str, ...]] = {}
    for row in connectors:
        start, end = _id(row[from_column]), _id(row[to_column])
        incoming[end] = (*incoming.get(end, ()), row["id"])
        outgoing[start] = (*outgoing.get(start, ()), row["id"])
    return incoming, outgoing


def _wkb_of(blob: bytes | None) -> bytes | None:
    if blob is None:
        return None
    if blob[:2] != b"GP":
        raise sqlite3.DatabaseError("a geometry without GeoPackage header")
    return blob[8 + _ENVELOPE_BYTES[(blob[3] >> 1) & 7] :]


def _id(value: Any) -> str:
    """An identifier as text; OGR writes nullable integers as floats."""
    return "" if value is None or value != value else str(int(value))


def _ids(value: Any) -> tuple[str, ...]:
    """The identifier as a tuple; empty for null."""
    return (_id(value),) if _id(value) else ()


def _speed_limit(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


def _ring(shape: Any) -> np.ndarray:
    """Open outer ring (n, 2) of a polygon's largest part; empty without a shape."""
    if shape is None or shapely.is_empty(shape):
        return np.zeros((0, 2))
    parts = shapely.get_parts(shape)
    largest = parts[np.argmax(shapely.area(parts))]
    return shapely.get_coordinates(shapely.get_exterior_ring(largest))[:-1]


def _baseline(shape: Any) -> np.ndarray:
    """Vertices (n, 3) of a centre line with the heading to the next; the last repeats the heading
    before it.
    """
    if shape is None:
        return np.zeros((0, 3))
    xy = shapely.get_coordinates(shape)
    step = np.diff(xy, axis=0)
    xy, step = xy[np.append(True, step.any(axis=1))], step[step.any(axis=1)]
    yaw = np.arctan2(step[:, 1], step[:, 0])
    return np.column_stack([xy, np.append(yaw, yaw[-1:])]) if len(yaw) else np.zeros((0, 3))
