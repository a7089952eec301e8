"""The lane network of a map: lanes and roadblocks with their successors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from storage.trajectory_table import MapLayer


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """A lane or lane connector."""

    token: str
    block: str  # its roadblock or roadblock connector
    polygon: shapely.Polygon
    path: np.ndarray  # (n, 3) centre line x, y, heading
    length_m: float
    speed_limit_mps: float | None
    successors: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A roadblock or roadblock connector."""

    token: str
    layer: MapLayer
    polygon: shapely.Polygon
    lanes: tuple[str, ...]
    predecessors: tuple[str, ...]
    successors: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Lanes and blocks of a map by token."""

    lanes: Mapping[str, Lane]
    blocks: Mapping[str, Block]

    def lanes_of(self, blocks: Sequence[str]) -> list[Lane]:
        """Lanes and connectors of blocks, in order, each once."""
        tokens = dict.fromkeys(lane for block in blocks for lane in self.blocks[block].lanes)
        return [self.lanes[token] for token in tokens]
