"""Latency of one plan: all planners in one run on one machine, one row at a time.

The planners take turns, so other load on the machine affects all of them. A turn is several rows in
succession, because a planner in a car has its core to itself; directly after another network it
would first have to load its weights and code into the caches again. The timed call includes
everything from the camera's pixels and the ego status to the plan.
"""

import time
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch

from ops.planners.planner import Planner
from storage.dataset import FrameSet
from storage.metrics_table import LATENCY


def measure_latency(
    planners: Mapping[str, Planner],
    rows: FrameSet,
    *,
    calls: int = 60,
    turn: int = 10,
    threads: int = 1,
) -> pa.Table:
    """A table of schema LATENCY: p50 and p95 in ms of one plan over `calls` rows, evenly spaced in
    `rows`.

    A planner's turn is `turn` of these rows, after one untimed call. `threads` is torch's number of
    threads during the measurement.
    """
    previous_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    chosen = np.linspace(0, len(rows) - 1, calls).astype(int)
    spent_ms: dict[str, list[float]] = {name: [] for name in planners}
    try:
        for first in range(0, calls, turn):
            single_rows = [rows.take(np.array([number])) for number in chosen[first : first + turn]]
            for name, planner in planners.items():
                planner.plan(single_rows[0])
                for row in single_rows:
                    start = time.perf_counter()
                    planner.plan(row)
                    spent_ms[name].append(1e3 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(previous_threads)
    return pa.Table.from_pylist(
        [
            {
                "planner": name,
                "p50_ms": float(np.percentile(spent, 50)),
                "p95_ms": float(np.percentile(spent, 95)),
                "calls": calls,
                "parameters": planners[name].parameters,
                "device": _device(planners[name]),
                "threads": threads,
            }
            for name, spent in spent_ms.items()
        ],
        schema=LATENCY,
    )


def _device(planner: Planner) -> str:
    vlm = getattr(planner, "vlm", None)
    return "cpu" if vlm is None else str(vlm.action_rows_KD.device)
