"""The base of logs that lack boxes, traffic lights or a map."""

import numpy as np

from storage.sources.contract import Agents, Lights, MapObject


class BareLog:
    """A log without boxes, traffic lights and map: its methods return empty data. A format that has
    one of them replaces the method.
    """

    __slots__ = ()

    def agents(self) -> Agents:
        """Empty: the format has no boxes."""
        none = np.zeros((0, 3))
        return Agents(
            np.zeros(0, np.int32),
            np.zeros(0, dtype=object),
            np.zeros(0, np.int8),
            none,
            np.zeros(0),
            np.zeros((0, 2)),
            none,
        )

    def lights(self) -> Lights:
        """Empty: the format has no traffic lights."""
        return Lights(np.zeros(0, np.int32), np.zeros(0, dtype=object), np.zeros(0, dtype=bool))

    def map_objects(self) -> list[MapObject]:
        """Empty: the format has no map."""
        return []
