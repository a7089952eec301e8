"""Who writes: a process, told apart from all others, and whether it still lives.

A process id alone means nothing on a shared file system: another host or container has the same
ids, after a restart they are given again, and so they are while a host runs.
"""

import hashlib
import os
import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_HEX = "[0-9a-f]{8}"
_TAG = re.compile(rf"(?:({_HEX})-({_HEX})-(?:({_HEX})-)?)?([0-9]+)(?:-([0-9]+))?\Z")
_MAX_PID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Writer:
    """One process of one start of one host."""

    host: str  # name and machine id
    boot: str  # id of the start of its kernel; "" where the system does not tell
    pid: int
    namespace: str = ""  # of process ids, as containers have their own; "": not known
    started: int = 0  # clock ticks after the boot; 0: not known

    @property
    def tag(self) -> str:
        """For names of files and folders: digests of host, boot and namespace, process id and
        start.
        """
        names = "-".join(_short(text) for text in (self.host, self.boot, self.namespace))
        return f"{names}-{self.pid}-{self.started}"

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.split(' ')[0]}"


def this_writer() -> Writer:
    """This process."""
    return _writer(os.getpid())  # a forked process has an id of its own


def is_running(writer: Writer) -> bool | None:
    """Whether the process lives; None if that cannot be seen from here: it belongs to another host
    or container.
    """
    here = this_writer()
    if writer.boot != here.boot:  # restarted since, or another host
        return False if writer.host == here.host else None
    if (writer.namespace or here.namespace) != here.namespace:
        return None
    if not (writer.boot and writer.namespace) and writer.host != here.host:
        return None
    return _lives(writer.pid, writer.started)


def tag_is_running(tag: str) -> bool | None:
    """is_running() of a Writer.tag, also of earlier versions: without namespace and start, or a
    bare process id of this host. None too for text that is no tag.
    """
    match = _TAG.match(tag)
    if match is None:
        return None
    here = this_writer()
    host, boot, namespace, pid, started = match.groups()
    name = here.host if namespace else platform.node()
    spaces = {None: "", _short(""): "", _short(here.namespace): here.namespace}
    return is_running(
        Writer(
            here.host if host in (None, _short(name)) else "",
            here.boot if boot in (None, _short(here.boot)) else "another",
            min(int(pid), _MAX_PID),
            spaces.get(namespace, "another"),
            min(int(started or 0), 2**63),
        )
    )


def _lives(pid: int, started: int) -> bool:
    if not 1 <= pid <= _MAX_PID:
        return False
    try:
        os.kill(pid, 0)  # no signal, only the question; /proc may hide processes of other users
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        found = _start_of(pid)
    except OSError:
        return True  # it is hidden, or ends at this moment
    return found is not None and started in (0, found)


def _start_of(pid: int) -> int | None:
    """Start of a process in clock ticks after the boot; None for one that only waits to be reaped.
    Raises FileNotFoundError if there is none, or no /proc.
    """
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()  # a program's name may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def _writer(pid: int) -> Writer:
    host, boot, namespace = _this_machine()
    try:
        started = _start_of(pid) or 0
    except OSError:
        started = 0
    return Writer(host, boot, pid, namespace, started)


@cache
def _this_machine() -> tuple[str, str, str]:
    """Name and machine id, id of the boot, namespace of process ids; "" for what is not told."""
    texts = []
    for read in (
        lambda: Path("/etc/machine-id").read_text(),
        lambda: _BOOT_ID.read_text(),
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        try:
            texts.append(read().strip())
        except OSError:
            texts.append("")
    return f"{platform.node()} {texts[0]}", texts[1], texts[2]
