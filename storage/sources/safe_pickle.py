"""Reads pickles that hold plain containers and numpy arrays only.

`pickle.load` of an untrusted file can run arbitrary code. Here only the few globals that rebuild
containers and numpy arrays are admitted; any other is refused before it is looked up. Element types
of arrays are rebuilt from plain strings, never from a pickled state, because a forged state makes
numpy follow bytes as pointers. What a few bytes would blow up to gigabytes is refused beforehand.
"""

import codecs
import collections
import math
import pickle
import re
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import SourceError
from storage.sources.pickle_scan import check_opcodes
from storage.sources.raw_files import is_regular, read_regular

MAX_PICKLE_BYTES = 2**28  # a published log has about 10 MB
# Bytes of arrays and containers that may be made for each byte of the file: a large object that is
# written once can be copied by every few bytes after it.
MAX_GROWTH, FREE_BYTES = 50, 2**20


def read_plain_pickle(file: Path) -> Any:
    """The object in `file`.

    Raises SourceError if the file is missing or truncated, is larger than MAX_PICKLE_BYTES, or
    holds more than plain containers and numpy arrays.
    """
    if not is_regular(file):
        raise SourceError(
            "the log file does not exist",
            where=file,
            expected="a pickle",
            found="no file",
            do="check the raw folder",
        )
    data = read_regular(file, MAX_PICKLE_BYTES)
    try:
        check_opcodes(data)
        _MEMORY.left = MAX_GROWTH * len(data) + FREE_BYTES
        return _PlainUnpickler(BytesIO(data)).load()
    except _Refused as error:
        raise SourceError(
            "this pickle holds more than plain data",
            where=file,
            expected="lists, tuples, dicts, sets, strings, numbers, numpy arrays",
            found=str(error),
            do="do not open it with pickle.load, it could run code; get it from its publisher",
        ) from error
    # a damaged pickle calls the admitted functions with anything
    except Exception as error:
        raise SourceError(
            "this pickle cannot be read",
            where=file,
            expected="a whole pickle",
            found=f"{type(error).__name__}: {error}",
            do="download or write the file again",
        ) from error


class _Refused(pickle.UnpicklingError):
    """The pickle refers to something that is not admitted."""


_MEMORY = threading.local()  # `left`: bytes that the pickle being read may still take


def _take(size: int) -> None:
    _MEMORY.left -= size
    if _MEMORY.left < 0:
        raise _Refused(f"more than {MAX_GROWTH} bytes of data for each byte of the file")


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"persistent object {pid!r}")


class _DType:
    """The element type of an array while a pickle is read. Its pickled state adds the byte order
    alone; all else in it must say what the plain string says.
    """

    __slots__ = ("dtype",)

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[2:5] != (None, None, None):
            raise _Refused("numpy element type with fields or of another layout")
        if state[1] in ("<", ">", "="):
            self.dtype = self.dtype.newbyteorder(state[1])
        elif state[1] != "|":
            raise _Refused(f"numpy element type of byte order {state[1]!r}")


class _Array(np.ndarray):
    """An array whose pickled state is checked before numpy sees it; otherwise np.ndarray."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        _, shape, element, fortran, data = state if len(state) == 5 else (1, *state)
        dtype = _dtype_of(element)
        if dtype.hasobject:
            whole = type(data) is list and len(data) == _length(shape)
        else:
            whole = type(data) is bytes and len(data) == _length(shape) * dtype.itemsize
        if not whole:
            raise _Refused("numpy array whose data do not have its shape")
        _take(len(data) * (8 if dtype.hasobject else 1))
        super().__setstate__((1, shape, dtype, bool(fortran), data))

    def __repr__(self) -> str:
        return repr(self.view(np.ndarray))


_ELEMENT = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SU][1-9]\d{0,6}|O[48]?)")
_NDARRAY = "numpy.ndarray"  # as an argument of _reconstruct; no type, so nothing can be made of it


def _dtype(spec: Any, *_: Any) -> _DType:
    """Element type of a plain string as pickles have it, for example 'f8'."""
    if type(spec) is not str or not _ELEMENT.fullmatch(spec):
        raise _Refused(f"numpy element type {spec!r}"[:200])
    return _DType(np.dtype("O" if "O" in spec else spec))


def _dtype_of(element: Any) -> np.dtype:
    if type(element) is not _DType:
        raise _Refused("numpy array without an element type")
    return element.dtype


def _length(shape: Any) -> int:
    """Number of elements of an array of this shape."""
    if type(shape) is not tuple or any(type(size) is not int or size < 0 for size in shape):
        raise _Refused("numpy array of an impossible shape")
    return math.prod(shape)


def _bytes_of(text: str, encoding: str) -> bytes:
    """Protocols below 3 write bytes as a call of _codecs.encode with latin1; others are refused."""
    if encoding != "latin1":
        raise _Refused(f"_codecs.encode with {encoding!r}")
    _take(len(text))
    return codecs.latin_1_encode(text)[0]


def _bytearray(*arguments: Any) -> bytearray:
    """A bytearray of bytes; of a number it would take that many bytes of memory."""
    if [type(item) for item in arguments] not in ([], [bytes], [str, str]):
        raise _Refused("bytearray of something other than bytes")
    _take(len(arguments[0]) if arguments else 0)
    return bytearray(*arguments)


def _container(kind: Callable[..., Any]) -> Callable[..., Any]:
    """`kind` for a list of items or nothing, as pickles call it."""

    def make(*items: Any) -> Any:
        if [type(item) for item in items] not in ([], [list]):
            raise _Refused(f"{kind.__name__} of something other than a list")
        _take(100 * len(items[0]) if items else 100)
        return kind(*items)

    return make


def _complex(real: float, imaginary: float) -> complex:
    return complex(real, imaginary)


def _scalar(element: Any, data: Any) -> Any:
    """A numpy scalar; numpy's function would unpickle the bytes of an object dtype."""
    dtype = _dtype_of(element)
    if dtype.hasobject or type(data) is not bytes or len(data) != dtype.itemsize:
        raise _Refused("numpy scalar of object dtype or of another size")
    return np.frombuffer(data, dtype=dtype, count=1)[0]


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    """An empty array; its state follows."""
    if kind is not _NDARRAY or shape != (0,) or code not in (b"b", "b"):
        raise _Refused("numpy array that is not rebuilt from its state")
    return _Array((0,), np.int8)


def _frombuffer(buffer: Any, element: Any, shape: Any, order: Any) -> np.ndarray:
    dtype = _dtype_of(element)
    if dtype.hasobject or type(buffer) not in (bytes, bytearray) or order not in ("C", "F"):
        raise _Refused("numpy buffer of object dtype")
    if len(buffer) != _length(shape) * dtype.itemsize:
        raise _Refused("numpy buffer whose data do not have its shape")
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("collections", "OrderedDict"): _container(collections.OrderedDict),
    ("_codecs", "encode"): _bytes_of,
    **{
        (module, name): kind
        for module in ("builtins", "__builtin__")
        for name, kind in (
            ("set", _container(set)),
            ("frozenset", _container(frozenset)),
            ("complex", _complex),
            ("bytearray", _bytearray),
        )
    },
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}
