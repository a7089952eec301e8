"""Longitude and latitude (WGS 84) to UTM metres."""

import numpy as np

# WGS 84, and UTM's scale on the central meridian
_SEMI_MAJOR_M, _FLATTENING, _SCALE = 6378137.0, 1 / 298.257223563, 0.9996


def utm_from_degrees(lon_lat: np.ndarray, zone: int, north: bool = True) -> np.ndarray:
    """(n, 2) degrees -> (n, 2) easting and northing in metres.

    Krüger's series to the third order in the third flattening, as in Karney, "Transverse Mercator
    with an accuracy of a few nanometers" (2011), equations 7 to 11 and 35; below a millimetre
    inside a zone.
    """
    lon, lat = np.radians(lon_lat[:, 0] - (6 * zone - 183)), np.radians(lon_lat[:, 1])
    n = _FLATTENING / (2 - _FLATTENING)
    eccentricity = np.sqrt(_FLATTENING * (2 - _FLATTENING))
    tan_lat = np.tan(lat)
    sigma = np.sinh(eccentricity * np.arctanh(eccentricity * np.sin(lat)))
    tan_conformal = tan_lat * np.hypot(1.0, sigma) - sigma * np.hypot(1.0, tan_lat)
    xi, eta = (
        np.arctan2(tan_conformal, np.cos(lon)),
        np.arcsinh(np.sin(lon) / np.hypot(tan_conformal, np.cos(lon))),
    )
    order = 2.0 * np.arange(1, 4)
    alpha = np.array(
        [n / 2 - 2 * n**2 / 3 + 5 * n**3 / 16, 13 * n**2 / 48 - 3 * n**3 / 5, 61 * n**3 / 240]
    )
    east = eta + np.sinh(eta[:, None] * order) * np.cos(xi[:, None] * order) @ alpha
    north_m = xi + np.cosh(eta[:, None] * order) * np.sin(xi[:, None] * order) @ alpha
    radius = _SEMI_MAJOR_M / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    false_north_m = 0.0 if north else 10_000_000.0
    return np.column_stack(
        [500_000.0 + _SCALE * radius * east, false_north_m + _SCALE * radius * north_m]
    )
