"""How long one plan takes: every planner in one run on one machine, one row at a time, one thread.
Not how good it is.

The planners take turns, so a busy moment of the machine hits all of them; a turn is a few rows one
after the other, as a planner in a car has its core to itself: right after another network it would
first have to fetch its weights and its code back into the caches. What is timed is the whole call,
from the camera's pixels and the ego status to the plan.
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
    """A table of LATENCY: p50 and p95 in ms of one plan, over `calls` rows spread over `rows`.

    A planner's turn is `turn` of these rows, and before them the first one uncounted.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    chosen = np.linspace(0, len(rows) - 1, calls).astype(int)
    spent_ms: dict[str, list[float]] = {name: [] for name in planners}
    try:
        for first in range(0, calls, turn):
            ones = [rows.take(np.array([row])) for row in chosen[first : first + turn]]
            for name, planner in planners.items():
                planner.plan(ones[0])
                for one in ones:
                    start = time.perf_counter()
                    planner.plan(one)
                    spent_ms[name].append(1e3 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(before)
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
