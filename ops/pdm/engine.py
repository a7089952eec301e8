"""The decorator that compiles the inner loops of the score. Not a home for loops: those live beside the rule they serve.

Compiled code is kept in a folder named after the hash of the package's sources. Numba's own cache only watches the file a
function stands in, so a change in `geometry.py` would leave old machine code in its callers; a new folder cannot.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba import config as numba_config

_HERE = Path(__file__).parent
Function = TypeVar("Function", bound=Callable[..., Any])


def _cache_folder() -> Path:
    """Folder of the compiled code of exactly these sources: beside them, or in the temporary folder if that is read-only."""
    sources = b"".join(file.read_bytes() for file in sorted(_HERE.glob("*.py")))
    name = f"kernels-{numba.__version__}-{hashlib.sha256(sources).hexdigest()[:12]}"
    beside = _HERE / "__pycache__"
    try:
        beside.mkdir(exist_ok=True)
        writable = os.access(beside, os.W_OK)
    except OSError:
        writable = False
    return (beside if writable else Path(tempfile.gettempdir()) / f"latentvla-{os.getuid()}") / name


_FOLDER = _cache_folder()


def kernel(function: Function) -> Function:
    """Compile a function with numba at its first call, without fast-math (signs of small differences must be right)."""
    before = numba_config.CACHE_DIR
    numba_config.CACHE_DIR = str(_FOLDER)
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        numba_config.CACHE_DIR = before
