"""Turns pip's installation report (stdin) into locks: requirements with the SHA-256 of each file.

    python .ci/lock.py locks/PLATFORM < report.json

`PLATFORM.txt` has every package but torch, whose build depends on the index: `PLATFORM-cuda.txt`
has the public build with the CUDA libraries that it needs, `PLATFORM-cpu.txt` the CPU build. A
report has one of the two; the lock of the other is kept if it has the same release.
"""

import json
import os
import re
import sys
from pathlib import Path

HEAD = "# Written by `make lock`; `make setup` on this platform installs these files alone."
CUDA = ("nvidia-", "cuda-", "triton==")  # packages that only a GPU build of torch needs
BUILDS = ("cpu", "cuda")
_TORCH = re.compile(r"^torch==([^ +]+)", re.MULTILINE)


def locked(report: dict) -> list[str]:
    """One requirement a package, sorted. Raises ValueError for a package without a hash."""
    lines = []
    for item in report["install"]:
        download, name = item["download_info"], item["metadata"]["name"]
        if "dir_info" in download:  # this project itself
            continue
        digest = download.get("archive_info", {}).get("hashes", {}).get("sha256")
        if digest is None:
            raise ValueError(f"the index gives no SHA-256 of {name}")
        lines.append(f"{name}=={item['metadata']['version']} --hash=sha256:{digest}")
    return sorted(lines, key=str.lower)


def write_locks(stem: str, lines: list[str]) -> None:
    """Write the lock of all packages and that of torch's build; remove the one of the other build
    if it has another release.
    """
    of_torch = [line for line in lines if line.lower().startswith(("torch==", *CUDA))]
    torch = _TORCH.search("\n".join(of_torch))
    assert torch is not None, "the report has no torch"
    build = "cpu" if "+cpu" in "\n".join(of_torch) else "cuda"
    write(Path(f"{stem}-{build}.txt"), of_torch)
    write(Path(f"{stem}.txt"), [line for line in lines if line not in of_torch])
    for other in (Path(f"{stem}-{name}.txt") for name in BUILDS if name != build):
        kept = _TORCH.search(other.read_text()) if other.exists() else None
        if kept is None or kept[1] != torch[1]:
            other.unlink(missing_ok=True)


def write(lock: Path, lines: list[str]) -> None:
    """Replace a lock, and say so."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    part = lock.with_name(f"{lock.name}.part")
    part.write_text("\n".join([HEAD, *lines]) + "\n")
    os.replace(part, lock)
    print(f"{lock}: {len(lines)} packages")


if __name__ == "__main__":
    write_locks(sys.argv[1], locked(json.load(sys.stdin)))
