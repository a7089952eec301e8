"""Worker processes that end when their parent process ends.

Workers are spawned, because forking a process that holds threads of zarr or torch can hang. A
worker whose parent was killed ends at once, so that it does not write to folders of the next run.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from ops.workers import InterruptiblePool, WorkerContext


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """A pool of up to `processes` workers."""
    return InterruptiblePool(processes, WorkerContext(), initializer=_end_with_parent)


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The result of a task whose worker ended without one, twice; or took too long, once."""

    how: str  # "killed by SIGSEGV", "ended with status 1", "stopped after 3600 s"


def each_apart(
    function: Callable[[Any], Any],
    tasks: Sequence[Any],
    processes: int,
    timeout_s: float = float("inf"),
) -> Iterator[tuple[int, Any]]:
    """The index of every task with `function(task)` as they complete, in up to `processes` workers;
    a WorkerDied in place of the value of a task that ends its worker.

    A worker has one task at a time, so a crash is that task's alone: a new worker goes on with the
    others. As the system may have killed the worker for the memory that others took, the task is
    tried a second time, last and alone. `function` must be importable and must not raise.
    """
    again: list[int] = []
    workers: list[_Worker] = []

    def outcomes(queue: deque[int], count: int, is_last: bool) -> Iterator[tuple[int, Any]]:
        values: list[tuple[int, Any]] = []
        while True:
            workers[:] = [item for item in workers if item.task is not None or item.is_alive]
            idle = sum(worker.task is None for worker in workers)
            wanted = min(count - len(workers), len(queue) - idle)
            workers.extend(_Worker(function) for _ in range(wanted))
            for worker in workers:
                if worker.task is None and queue:
                    task = queue.popleft()
                    worker.start(task, tasks[task], timeout_s)
            yield from values  # the workers are busy while the caller deals with these
            values = []
            busy = [worker for worker in workers if worker.task is not None]
            if not busy:
                return
            for worker in _ready(busy):
                task, value = worker.outcome()
                if isinstance(value, WorkerDied):
                    workers.remove(worker)
                    if not is_last and not worker.is_late:
                        again.append(task)
                        continue
                values.append((task, value))

    try:
        yield from outcomes(deque(range(len(tasks))), processes, False)
        while len(workers) > 1:
            workers.pop().end()
        yield from outcomes(deque(again), 1, True)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """One process that does one task at a time."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = WorkerContext()
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.task: int | None = None
        self.deadline = float("inf")

    def start(self, task: int, work: Any, timeout_s: float) -> None:
        self.task, self.deadline = task, time.monotonic() + timeout_s
        self.timeout_s = timeout_s
        try:
            self.pipe.send(work)
        except (BrokenPipeError, ConnectionResetError):
            return  # it died meanwhile, which `outcome` finds

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive()

    @property
    def is_late(self) -> bool:
        return time.monotonic() >= self.deadline

    def outcome(self) -> tuple[int, Any]:
        """The finished task with its value, or with a WorkerDied, after which the worker is no
        more.
        """
        assert self.task is not None
        task, self.task = self.task, None
        try:
            if self.pipe.poll():
                return task, self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(timeout=5)
        how = _how_it_ended(self.process.exitcode)
        if self.is_late:
            how = f"stopped after {self.timeout_s:.0f} s without an end"
        self.end()
        return task, WorkerDied(how)

    def end(self) -> None:
        """Kill the process, if it still runs, and forget it."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _ready(busy: list[_Worker]) -> list[_Worker]:
    """Workers with a value, that died, or that are late; waits for the first."""
    left_s = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
    found = wait([worker.pipe for worker in busy], None if left_s == float("inf") else left_s)
    return [worker for worker in busy if worker.pipe in found or worker.is_late]


def _serve(function: Callable[[Any], Any], pipe: Connection) -> None:
    """Do tasks until the pipe ends."""
    _end_with_parent()
    while True:
        try:
            work = pipe.recv()
        except EOFError:
            return
        pipe.send(function(work))


def _how_it_ended(status: int | None) -> str:
    if status is not None and status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
