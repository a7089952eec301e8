"""What libjpeg says of a damaged JPEG while OpenCV decodes it.

libjpeg fills what it cannot decode with grey and writes a warning to file descriptor 2, which
OpenCV passes on to no caller. Here the descriptor leads to memory while an image is decoded, by one
thread at a time; what other threads write meanwhile follows on the real one.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

# beginnings of libjpeg's warnings about the pixels; others concern unknown revisions and colours
DAMAGE = (
    b"Corrupt JPEG data",
    b"Premature end of JPEG",
    b"Inconsistent progression sequence",
    b"Invalid progressive parameters",
)
_STDERR = 2
_LOCK = Lock()


@contextmanager
def jpeg_warnings() -> Iterator[list[str]]:
    """A list that holds, after the block, libjpeg's warnings about damaged pixels in it."""
    found: list[str] = []
    with _LOCK, _memory() as handle:
        try:
            real = os.dup(_STDERR)
        except OSError:  # there is no descriptor 2, as in a daemon
            real = None
        os.dup2(handle, _STDERR)
        try:
            yield found
        finally:
            if real is None:
                os.close(_STDERR)
            else:
                os.dup2(real, _STDERR)
                os.close(real)
            size = os.fstat(handle).st_size
            written = os.pread(handle, size, 0) if size else b""
            for line in written.splitlines(keepends=True):
                if line.startswith(DAMAGE):
                    found.append(line.decode(errors="replace").strip())
                elif real is not None:
                    os.write(_STDERR, line)


@contextmanager
def _memory() -> Iterator[int]:
    """A file that no full disk can cut, where the system has such files."""
    if sys.platform == "linux":
        handle = os.memfd_create("libjpeg")
        try:
            yield handle
        finally:
            os.close(handle)
    else:
        with tempfile.TemporaryFile() as file:
            yield file.fileno()
