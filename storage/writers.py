"""Who writes: a process, told apart from those of other hosts and from before the last start.

A process id alone means nothing on a shared file system: another host or container has the same
ids, and after a restart they are given again.
"""

import hashlib
import os
import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TAG = re.compile(r"(?:([0-9a-f]{8})-([0-9a-f]{8})-)?([0-9]+)\Z")


@dataclass(frozen=True, slots=True)
class Writer:
    """A process of one start of one host."""

    host: str
    boot: str  # "" where the system does not tell
    pid: int

    @property
    def tag(self) -> str:
        """For names of files and folders: digests of host and start, and the process id."""
        return f"{_short(self.host)}-{_short(self.boot)}-{self.pid}"

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_writer() -> Writer:
    """This process."""
    host, boot = _this_machine()
    return Writer(host, boot, os.getpid())


def is_running(writer: Writer) -> bool | None:
    """Whether the process exists; None if it belongs to another host, which cannot be asked."""
    return _runs(_short(writer.host), _short(writer.boot), writer.pid)


def tag_is_running(tag: str) -> bool | None:
    """is_running() of a Writer.tag. A bare process id, as earlier versions wrote it, is one of
    this host. None too for text that is no tag.
    """
    match = _TAG.match(tag)
    if match is None:
        return None
    here = this_writer()
    return _runs(
        match[1] or _short(here.host), match[2] or _short(here.boot), min(int(match[3]), 2**31 - 1)
    )


def _runs(host: str, boot: str, pid: int) -> bool | None:
    here = this_writer()
    if host != _short(here.host):
        return None
    if boot != _short(here.boot) or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def _this_machine() -> tuple[str, str]:
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    return platform.node(), boot
