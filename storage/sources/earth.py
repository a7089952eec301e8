"""Positions on the earth (WGS 84): latitude and longitude, ECEF, and a level frame at a place."""

import numpy as np

_SEMI_MAJOR_M, _FLATTENING = 6378137.0, 1 / 298.257223563
_ECCENTRICITY_2 = _FLATTENING * (2 - _FLATTENING)


def ecef_from_degrees(lat_lon_alt: np.ndarray) -> np.ndarray:
    """Degrees, degrees, metres (n, 3) -> earth-centred, earth-fixed metres (n, 3)."""
    lat, lon = np.radians(lat_lon_alt[:, 0]), np.radians(lat_lon_alt[:, 1])
    radius = _SEMI_MAJOR_M / np.sqrt(1 - _ECCENTRICITY_2 * np.sin(lat) ** 2)
    flat = (radius + lat_lon_alt[:, 2]) * np.cos(lat)
    up = (radius * (1 - _ECCENTRICITY_2) + lat_lon_alt[:, 2]) * np.sin(lat)
    return np.column_stack([flat * np.cos(lon), flat * np.sin(lon), up])


def east_north_up(ecef: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) from ECEF axes to east, north and up of the ellipsoid at `ecef` (3,).

    The latitude by Bowring's formula, below a millimetre near the ground.
    """
    x, y, z = ecef
    flat = np.hypot(x, y)
    reduced = np.arctan2(z, (1 - _FLATTENING) * flat)
    semi_minor = _SEMI_MAJOR_M * (1 - _FLATTENING)
    lat = np.arctan2(
        z + _ECCENTRICITY_2 / (1 - _ECCENTRICITY_2) * semi_minor * np.sin(reduced) ** 3,
        flat - _ECCENTRICITY_2 * _SEMI_MAJOR_M * np.cos(reduced) ** 3,
    )
    lon = np.arctan2(y, x)
    east = [-np.sin(lon), np.cos(lon), 0.0]
    north = [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)]
    return np.array([east, north, np.cross(east, north)])
