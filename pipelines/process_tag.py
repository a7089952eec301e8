"""Names the process of a run, so that another process can tell later whether it still lives.

A number alone does not: numbers are used again, containers on one machine number their processes
apart, and a lake may be seen from several machines.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

PROCESS_TAG = "latentvla/process"  # tag of a Dagster run
PIDS = range(1, 1 << 31)


@dataclass(frozen=True, slots=True)
class RunProcess:
    """One process of one boot of one machine."""

    host: str  # name and machine id
    boot: str  # id of the boot of its kernel
    namespace: str  # of process numbers; containers have their own
    pid: int
    started: int  # clock ticks after the boot

    def is_gone(self) -> bool | None:
        """True if the process has certainly ended, False if it lives, None if that cannot be seen
        from here: it ran on another machine or in another container.
        """
        here = this_process()
        if here is None:
            return None
        if self.boot != here.boot:  # restarted since, or another machine
            return True if self.host == here.host else None
        if self.namespace != here.namespace:
            return None
        return not _lives(self.pid, self.started)


def this_process() -> RunProcess | None:
    """This process; None on a system without /proc."""
    return _process(os.getpid())  # a forked process has a number of its own


def process_tags(run_id: str, process: RunProcess | None = None) -> dict[str, str]:
    """The tag of a run that a process executes, by default this one; empty on a system without
    /proc.
    """
    process = process or this_process()
    return {PROCESS_TAG: json.dumps({"run": run_id, **asdict(process)})} if process else {}


def process_of(run_id: str, tags: Mapping[str, str]) -> RunProcess | None:
    """The process that the tags of a run name; None if they name none, or that of another run:
    Dagster copies tags when a run is executed again.
    """
    try:
        values = json.loads(tags.get(PROCESS_TAG, ""))
        if values.pop("run") != run_id:
            return None
        process = RunProcess(**values)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    texts = (process.host, process.boot, process.namespace)
    numbers = (process.pid, process.started)
    sound = all(isinstance(text, str) for text in texts)
    sound = sound and all(isinstance(number, int) for number in numbers)
    return process if sound and process.pid in PIDS else None


@cache
def _process(pid: int) -> RunProcess | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
        started = _start_of(pid)
    except OSError:
        return None
    if started is None:
        return None
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    return RunProcess(f"{socket.gethostname()} {machine}", boot, namespace, pid, started)


def _lives(pid: int, started: int) -> bool:
    try:
        os.kill(pid, 0)  # no signal, only the question; /proc may hide processes of other users
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        return _start_of(pid) == started
    except OSError:
        return True  # it is hidden, or ends at this moment


def _start_of(pid: int) -> int | None:
    """Start of a process in clock ticks after the boot; None for one that only waits to be reaped.
    Raises FileNotFoundError if there is none.
    """
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()  # a program's name may hold anything
    return None if fields[0] in "ZX" else int(fields[19])
