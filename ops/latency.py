"""How long one plan takes: every planner in one run on one machine, one row at a time, one thread. Not how good it is.

The planners take turns row by row, so a busy moment of the machine hits all of them. What is timed is the whole call,
from the camera's pixels and the ego status to the plan.
"""

import time
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch

from storage.dataset import FrameSet
from storage.metrics_table import LATENCY


class Timed(Protocol):
    """A planner that can be timed."""

    @property
    def parameters(self) -> int:
        """Learned numbers, 0 for a rule."""
        ...

    def plan(self, rows: FrameSet) -> np.ndarray:
        """(N, 8, 3) plans."""
        ...


def measure_latency(planners: Mapping[str, Timed], rows: FrameSet, *, calls: int = 60, warm_up: int = 3,
                    threads: int = 1) -> pa.Table:
    """A table of LATENCY: p50 and p95 in ms of one plan, over `calls` rows spread over `rows`."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        chosen = np.linspace(0, len(rows) - 1, warm_up + calls).astype(int)
        spent_ms: dict[str, list[float]] = {name: [] for name in planners}
        for row in chosen:
            one = rows.take(np.array([row]))
            for name, planner in planners.items():
                start = time.perf_counter()
                planner.plan(one)
                spent_ms[name].append(1e3 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(before)
    return pa.Table.from_pylist([
        {"planner": name, "p50_ms": float(np.percentile(spent[warm_up:], 50)),
         "p95_ms": float(np.percentile(spent[warm_up:], 95)), "calls": calls, "parameters": planners[name].parameters,
         "device": _device(planners[name]), "threads": threads} for name, spent in spent_ms.items()], schema=LATENCY)


def _device(planner: Timed) -> str:
    vlm = getattr(planner, "vlm", None)
    return "cpu" if vlm is None else str(vlm.action_rows_KD.device)
