"""Writes a GeoPackage, the file format of nuPlan's maps: SQLite tables of geometries in WGS 84.

Geometries are a short header and WKB (OGC 12-128r19, section 2.1.3). The bytes depend on the rows
alone.
"""

import sqlite3
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

_WGS84 = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433],AUTHORITY["EPSG","4326"]]'
)
# fixed, so that the file does not depend on the time of writing
_LAST_CHANGE = "2024-01-01T00:00:00.000Z"
_SEMI_MAJOR_M, _FLATTENING, _SCALE = 6378137.0, 1 / 298.257223563, 0.9996

Row = Mapping[str, Any]


def write_geopackage(
    file: Path,
    layers: Mapping[str, tuple[str, Sequence[str], Sequence[Row]]],
    attributes: Mapping[str, Sequence[Row]],
    utm_zone: int,
) -> None:
    """Write `file`, which must not exist yet.

    `layers`: name -> (geometry type, column declarations after fid and geom, rows with `fid`,
    `geom` in UTM metres and the columns). `attributes`: name -> rows of a table without geometry.
    """
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA application_id=0x47504B47")
        database.execute("PRAGMA user_version=10300")
        _write_metadata_tables(database)
        for name, (kind, columns, rows) in layers.items():
            declared = ", ".join(
                ['"fid" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL', f'"geom" {kind}', *columns]
            )
            database.execute(f'CREATE TABLE "{name}" ({declared})')
            bounds = _write_rows(
                database, name, [column.split('"')[1] for column in columns], rows, utm_zone
            )
            database.execute(
                "INSERT INTO gpkg_contents VALUES (?, 'features', ?, '', ?, ?, ?, ?, ?, 4326)",
                (name, name, _LAST_CHANGE, *bounds),
            )
            database.execute(
                "INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', ?, 4326, 0, 0)", (name, kind)
            )
        for name, rows in attributes.items():
            keys = list(rows[0])
            database.execute(
                f'CREATE TABLE "{name}" ("fid" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, '
                + ", ".join(f'"{key}" TEXT' for key in keys)
                + ")"
            )
            database.executemany(
                f'INSERT INTO "{name}" ({", ".join(keys)}) VALUES ({", ".join("?" * len(keys))})',
                [tuple(row.values()) for row in rows],
            )
            database.execute(
                "INSERT INTO gpkg_contents VALUES "
                "(?, 'attributes', ?, '', ?, NULL, NULL, NULL, NULL, NULL)",
                (name, name, _LAST_CHANGE),
            )
    database.close()


def degrees_from_utm(xy: np.ndarray, zone: int) -> np.ndarray:
    """Northern UTM metres (n, 2) -> longitude and latitude in degrees.

    Krüger's series to the third order (Karney 2011, "Transverse Mercator with an accuracy of a few
    nanometers", equations 11, 15 and 36), then Newton's method for the latitude (equations 19 to
    21).
    """
    n = _FLATTENING / (2 - _FLATTENING)
    radius = _SCALE * _SEMI_MAJOR_M / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    beta = np.array([n / 2 - 2 * n**2 / 3 + 37 * n**3 / 96, n**2 / 48 + n**3 / 15, 17 * n**3 / 480])
    order = 2.0 * np.arange(1, 4)
    east, north = (xy[:, 0] - 500_000.0) / radius, xy[:, 1] / radius
    xi = north - np.sin(north[:, None] * order) * np.cosh(east[:, None] * order) @ beta
    eta = east - np.cos(north[:, None] * order) * np.sinh(east[:, None] * order) @ beta
    conformal = np.sin(xi) / np.hypot(np.sinh(eta), np.cos(xi))
    square = _FLATTENING * (2 - _FLATTENING)
    tangent = conformal / (1 - square)
    for _ in range(4):
        sigma = np.sinh(
            np.sqrt(square) * np.arctanh(np.sqrt(square) * tangent / np.hypot(1, tangent))
        )
        guess = tangent * np.hypot(1, sigma) - sigma * np.hypot(1, tangent)
        tangent += (
            (conformal - guess)
            / np.hypot(1, guess)
            * (1 + (1 - square) * tangent**2)
            / ((1 - square) * np.hypot(1, tangent))
        )
    return np.column_stack(
        [
            np.degrees(np.arctan2(np.sinh(eta), np.cos(xi))) + 6 * zone - 183,
            np.degrees(np.arctan(tangent)),
        ]
    )


def _write_metadata_tables(database: sqlite3.Connection) -> None:
    database.execute(
        "CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, "
        "srs_id INTEGER NOT NULL PRIMARY KEY, organization TEXT NOT NULL, "
        "organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT)"
    )
    database.executemany(
        "INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                "Undefined cartesian SRS",
                -1,
                "NONE",
                -1,
                "undefined",
                "undefined cartesian coordinate reference system",
            ),
            (
                "Undefined geographic SRS",
                0,
                "NONE",
                0,
                "undefined",
                "undefined geographic coordinate reference system",
            ),
            (
                "WGS 84 geodetic",
                4326,
                "EPSG",
                4326,
                _WGS84,
                "longitude/latitude coordinates in decimal degrees",
            ),
        ],
    )
    database.execute(
        "CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, "
        "data_type TEXT NOT NULL, identifier TEXT UNIQUE, description TEXT DEFAULT '', "
        "last_change DATETIME NOT NULL, min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, "
        "srs_id INTEGER)"
    )
    database.execute(
        "CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL, "
        "geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL, "
        "m TINYINT NOT NULL, CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name))"
    )


def _write_rows(
    database: sqlite3.Connection, name: str, columns: list[str], rows: Sequence[Row], utm_zone: int
) -> tuple[float, ...]:
    shapes = shapely.transform(
        np.array([row["geom"] for row in rows], dtype=object),
        lambda xy: degrees_from_utm(xy, utm_zone),
    )
    # version 0, little endian, no envelope
    header = b"GP" + struct.pack("<BBi", 0, 1, 4326)
    blobs = [header + wkb for wkb in shapely.to_wkb(shapes, byte_order=1)]
    database.executemany(
        f'INSERT INTO "{name}" VALUES ({", ".join("?" * (2 + len(columns)))})',
        [
            (row["fid"], blob, *(row.get(column) for column in columns))
            for row, blob in zip(rows, blobs, strict=True)
        ],
    )
    return (
        tuple(float(bound) for bound in shapely.total_bounds(shapes))
        if rows
        else (0.0, 0.0, 0.0, 0.0)
    )
