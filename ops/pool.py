"""A pool of worker processes that end when their parent process ends.

Workers are spawned, because forking a process that holds threads of zarr or torch can hang. A
worker whose parent was killed ends at once, so that it does not write to folders of the next run.
"""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor

from ops.workers import InterruptiblePool, WorkerContext


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """A pool of up to `processes` workers."""
    return InterruptiblePool(processes, WorkerContext(), initializer=_end_with_parent)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
