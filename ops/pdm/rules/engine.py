"""The decorators that compile the inner loops of the score with numba.

Compiled code is kept in a folder named after the hash of every module that compiles something (and
of vehicle.py, whose constants they use). Numba's own cache only checks the file that holds a
function, so after a change in `geometry.py` its callers would run outdated machine code.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba import config as numba_config

_PDM = Path(__file__).parents[1]
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_INTERNAL: dict[str, Any] = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
Function = TypeVar("Function", bound=Callable[..., Any])


def _cache_folder() -> Path:
    """Folder of the machine code of exactly these sources: in their `__pycache__`, or in the
    temporary folder if that is read-only.
    """
    texts = [file.read_bytes() for file in sorted(_PDM.rglob("*.py"))]
    sources = (
        b"".join(text for text in texts if b"ops.pdm.rules.engine" in text)
        + (_PDM / "rules" / "vehicle.py").read_bytes()
    )
    name = f"kernels-{numba.__version__}-{hashlib.sha256(sources).hexdigest()[:12]}"
    cache = _PDM / "rules" / "__pycache__"
    try:
        cache.mkdir(exist_ok=True)
        writable = os.access(cache, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        return Path(tempfile.gettempdir()) / f"latentvla-{os.getuid()}" / name
    for outdated in cache.glob("kernels-*"):
        if outdated.name != name:
            shutil.rmtree(outdated, ignore_errors=True)
    return cache / name


_FOLDER = _cache_folder()


def kernel(function: Function) -> Function:
    """Compile a function that Python calls, at its first call; the next process loads the machine
    code.
    """
    before: str = vars(numba_config)["CACHE_DIR"]
    vars(numba_config)["CACHE_DIR"] = str(_FOLDER)
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    finally:
        vars(numba_config)["CACHE_DIR"] = before


def inner(function: Function) -> Function:
    """Compile a function that only compiled code calls: without the Python wrapper that takes half
    the time.
    """
    return numba.njit(**_INTERNAL)(function)


def inner_sum(function: Function) -> Function:
    """`inner` for sums of products whose order of addition does not matter, so that they use vector
    registers.

    Everywhere else floating point is strict, because signs of small differences decide contacts.
    """
    return numba.njit(fastmath={"reassoc"}, **_INTERNAL)(function)
