"""Ends a command within seconds when it is asked to stop, and leaves no process behind.

Ctrl-C (SIGINT) and SIGTERM raise KeyboardInterrupt, so that what is being written is put away and
Dagster records the run as failed. Whatever then still holds the process, a long call into a library
or a wait for workers, is given GRACE_S seconds; a second signal shortens that. Finished artefacts
and checkpoints are complete at every moment, so nothing is lost.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from select import select

GRACE_S = 5.0  # from the first signal to the end of the process
MESSAGE = "stopped; the same command resumes a training from its last checkpoint"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_S = 3600.0  # select takes no infinite time


@dataclass(slots=True)
class Stop:
    """Whether this process was asked to stop."""

    signal: int | None = None
    told: bool = False  # the message is printed

    @property
    def exit_code(self) -> int:
        """As a shell reports a program that the signal ended: 130 or 143."""
        return 128 + (self.signal or signal.SIGINT)

    def tell(self) -> None:
        """Print the message once, not through sys.stderr: another thread may hold it."""
        if not self.told:
            self.told = True
            os.write(2, f"{MESSAGE}\n".encode())


_STOP = Stop()


def raise_if_stopped() -> None:
    """Raise KeyboardInterrupt if this process was asked to stop: for code after a library that has
    caught the interrupt.
    """
    if _STOP.signal is not None:
        raise KeyboardInterrupt


def watch_for_stop(
    grace_s: float = GRACE_S,
    at_first: Callable[[], object] = lambda: None,
    always: Collection[int] = (),
) -> Stop:
    """From here to its end this process obeys SIGINT and SIGTERM as the module says. Call it once,
    in the main thread of a program.

    The signals are noticed apart from their handlers, because Dagster puts its own in their place.
    `at_first` is called at the first signal, `grace_s` replaces GRACE_S, and the signals in
    `always` are obeyed also where they were ignored.
    """
    # an interrupt in the middle of Dagster's database is reported there as a connection's fault
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = quiet_destructors
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    heard = [
        number
        for number in _SIGNALS
        if number in always or signal.getsignal(number) is not signal.SIG_IGN
    ]
    # A shell starts its background jobs with SIGINT ignored. Dagster gives SIGTERM the handler of
    # SIGINT, so that has to be a function, or SIGTERM would be ignored too.
    for number in (*heard, signal.SIGINT):
        signal.signal(number, partial(_interrupt, heard))
    watch = partial(_watch, reader, _STOP, heard, grace_s, at_first)
    threading.Thread(target=watch, name="stop", daemon=True).start()
    return _STOP


@contextmanager
def interrupts_told(stop: Stop) -> Iterator[None]:
    """Let no exception out of the block once the process was asked to stop: it is a consequence."""
    try:
        yield
    except BaseException:
        if stop.signal is None:
            raise


def _interrupt(heard: Collection[int], number: int, _: object) -> None:
    if number not in heard:
        return
    _STOP.signal = _STOP.signal or number
    raise KeyboardInterrupt


def quiet_destructors(unraisable: "sys.UnraisableHookArgs") -> None:
    """A hook for what a destructor raises: the interrupt, ours or Dagster's, may hit any line, and
    what is reported of that is no news.
    """
    if _STOP.signal is None and issubclass(unraisable.exc_type, Exception):
        sys.__unraisablehook__(unraisable)


def _watch(
    reader: int,
    stop: Stop,
    heard: Collection[int],
    grace_s: float,
    at_first: Callable[[], object],
) -> None:
    """Wait for a first signal, then for a second one or the end of the grace."""
    numbers, deadline = list[int](), float("inf")
    while len(numbers) < 2 and (left_s := deadline - time.monotonic()) > 0:
        if not select([reader], [], [], min(left_s, _POLL_S))[0]:
            continue
        numbers += [byte for byte in os.read(reader, 64) if byte in heard]
        if numbers and stop.signal is None:
            stop.signal = numbers[0]
        if numbers and deadline == float("inf"):
            deadline = time.monotonic() + grace_s
            at_first()
    stop.tell()
    end_children()
    os._exit(stop.exit_code)


def end_children(grace_s: float = 0.0) -> None:
    """Kill every descendant of this process that has not ended after `grace_s` seconds."""
    try:
        import psutil

        children = psutil.Process().children(recursive=True)
    except Exception as error:  # the process ends in any case
        print(f"child processes may be left: {error}", file=sys.stderr)
        return
    for child in psutil.wait_procs(children, grace_s)[1]:
        try:
            child.kill()
        except psutil.Error:  # it has ended meanwhile
            continue
