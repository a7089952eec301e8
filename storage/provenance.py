"""Where an artefact was made: commit of the code, packages, interpreter, machine."""

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from storage.versions import COUNTED_PACKAGES

ROOT = Path(__file__).resolve().parents[1]
# packages that can change a result: those that count in versions, and those that run them
PACKAGES = (
    "latentvla",
    *(name for distributions in COUNTED_PACKAGES.values() for name in distributions),
    "dagster",
    "ray",
)
_GIT_S = 10.0  # longest wait for git


@cache
def commit() -> dict[str, Any]:
    """`commit` (40 hex digits) and `dirty` (there are changes that are not committed) of the
    checkout that this code runs from; empty outside a checkout.
    """
    try:
        top = Path(_git("rev-parse", "--show-toplevel").strip())
        if top.resolve() != ROOT:
            return {}  # installed below somebody else's checkout
        head = _git("rev-parse", "HEAD").strip()
        return {"commit": head, "dirty": bool(_git("status", "--porcelain").strip())}
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return {}


@cache
def packages() -> dict[str, str]:
    """Installed versions of PACKAGES."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Host, interpreter, platform, cores, and the GPU if this process uses one."""
    return {**_host(), **_gpu()}


@cache
def _host() -> dict[str, str]:
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": str(os.cpu_count()),
    }


def _gpu() -> dict[str, str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {"gpu": torch.cuda.get_device_name(), "gpus": str(torch.cuda.device_count())}


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), "-c", "core.fsmonitor=false", *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=_GIT_S,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
    ).stdout
