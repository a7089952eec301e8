"""Peak resident memory of this process and all its descendants, from /proc."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class PeakMemory:
    """The highest value measured so far."""

    mb: float = 0.0  # MiB; pages that processes share count once for each process


@contextmanager
def peak_memory(every_s: float = 0.5) -> Iterator[PeakMemory]:
    """Measure the process tree every `every_s` seconds while the block runs."""
    peak, stop = PeakMemory(), threading.Event()

    def watch() -> None:
        while True:
            peak.mb = max(peak.mb, _tree_mb(os.getpid()))
            if stop.wait(every_s):
                return

    thread = threading.Thread(target=watch, name="peak-memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _tree_mb(root: int) -> float:
    """Resident memory of the process `root` and its descendants, MiB."""
    parents: dict[int, int] = {}
    resident: dict[int, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(
                line.split(":", 1)
                for line in (folder / "status").read_text(errors="replace").splitlines()
                if ":" in line
            )
        except OSError:  # the process has ended meanwhile, or hides from us
            continue
        parents[int(folder.name)] = int(status["PPid"])
        resident[int(folder.name)] = float(status.get("VmRSS", "0 kB").split()[0]) / 1024
    tree, grown = {root}, True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree, grown = tree | children, bool(children)
    return sum(resident.get(pid, 0.0) for pid in tree)
