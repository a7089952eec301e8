"""Processes and pools that end when their user is interrupted.

A terminal sends Ctrl-C to every process of a command. Only the first process acts on it: workers do
not take the signal, so that none of them prints a traceback in the middle of its start.
"""

import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from types import TracebackType


class _Worker(SpawnProcess):
    """A process that inherits a signal mask which holds SIGINT back."""

    def start(self) -> None:
        resource_tracker.ensure_running()  # its start would take the mask away
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class WorkerContext(SpawnContext):
    """Starts workers as `spawn` does."""

    Process = _Worker  # type: ignore[assignment]


class InterruptiblePool(ProcessPoolExecutor):
    """A pool whose `with` block does not wait for work that nobody will collect.

    After an exception the work that has not begun is dropped. After an interrupt (KeyboardInterrupt
    or another exception that is no Exception) the workers are ended as well.
    """

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            for process in list((self._processes or {}).values()):
                process.terminate()
        self.shutdown(wait=True, cancel_futures=kind is not None)
