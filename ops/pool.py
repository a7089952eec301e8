"""Worker processes for work of one asset: fresh interpreters that end with the process that started
them. Not the work.

Forking a process that holds threads of zarr or torch can hang, so each worker starts anew. A worker
whose parent was killed ends at once: else it would go on writing to folders that the next run has
taken over.
"""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """A pool of up to `processes` workers."""
    return ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=_end_with_parent
    )


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
