"""Ends all processes of `dagster dev` within seconds when it is stopped or killed.

Dagster keeps a code server until its runs have finished, which takes hours for a training, and a
`dagster dev` that is killed tells nobody. So it holds one end of a named pipe open here. Each
process that it starts, and each that those start, waits at the other end: when the pipe closes, for
whatever reason, the process stops as at Ctrl-C, which Dagster records in its runs, and is killed
with its children when it has not ended after GRACE_S.
"""

import atexit
import os
import shutil
import signal
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from pipelines.stopping import GRACE_S, end_children, watch_for_stop

PIPE = "_LATENTVLA_DEV_PIPE"  # path of the pipe, for the child processes
IS_DEV = "DAGSTER_IS_DEV_CLI"  # variable that `dagster dev` and `dg dev` set before all else
_SHUTDOWN_S = GRACE_S + 3.0  # of `dagster dev`: all that it started is to end first


@cache
def join_dev_processes() -> None:
    """From here on this process ends with `dagster dev`, if it is `dagster dev` or was started by
    it; otherwise does nothing. Only the first call counts.
    """
    if pipe := os.environ.get(PIPE):
        threading.Thread(target=_end_with, args=(pipe,), name="dev", daemon=True).start()
    elif os.environ.get(IS_DEV) and threading.current_thread() is threading.main_thread():
        _lead()


def _lead() -> None:
    """Make the pipe, hold it, and close it at the first signal."""
    folder = Path(tempfile.mkdtemp(prefix="latentvla-dev-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.mkfifo(folder / "pipe", 0o600)
    held = os.open(folder / "pipe", os.O_RDWR)  # not inherited
    os.environ[PIPE] = str(folder / "pipe")
    atexit.register(end_children, _SHUTDOWN_S)
    watch_for_stop(_SHUTDOWN_S, at_first=partial(os.close, held), always=(signal.SIGTERM,))


def _end_with(pipe: str) -> None:
    """Wait until nobody holds the pipe, then end this process."""
    try:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # else it waits for a holder
        os.set_blocking(reader, True)
        os.read(reader, 1)
    except OSError:  # it has been removed: `dagster dev` has ended
        pass
    _stop_proxy(pipe)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE_S)
    end_children()
    os._exit(128 + signal.SIGTERM)


def _stop_proxy(pipe: str) -> None:
    """Interrupt the process before a code server that restarts it: it opens no instance, so it does
    not wait at the pipe.
    """
    import psutil

    with suppress(psutil.Error):
        parent = psutil.Process().parent()
        if parent and parent.environ().get(PIPE) == pipe and "code-server" in parent.cmdline():
            parent.send_signal(signal.SIGINT)
