"""Reads pickles that hold plain containers and numpy arrays only.

`pickle.load` of an untrusted file can run arbitrary code. Here only the few globals that rebuild
containers and numpy arrays are admitted; any other is refused before it is looked up.
"""

import codecs
import collections
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import SourceError


def read_plain_pickle(file: Path) -> Any:
    """The object in `file`.

    Raises SourceError if the file is missing or truncated, or holds more than plain containers and
    numpy arrays.
    """
    try:
        with file.open("rb") as stream:
            return _PlainUnpickler(stream).load()
    except FileNotFoundError as error:
        raise SourceError(
            "the log file does not exist",
            where=file,
            expected="a pickle",
            found="no file",
            do="check the raw folder",
        ) from error
    except _Refused as error:
        raise SourceError(
            "this pickle holds more than plain data",
            where=file,
            expected="lists, tuples, dicts, sets, strings, numbers, numpy arrays",
            found=str(error),
            do="do not open it with pickle.load, it could run code; get it from its publisher",
        ) from error
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        MemoryError,
        OverflowError,
    ) as error:
        raise SourceError(
            "this pickle cannot be read",
            where=file,
            expected="a whole pickle",
            found=f"{type(error).__name__}: {error}",
            do="download or write the file again",
        ) from error


class _Refused(pickle.UnpicklingError):
    """The pickle refers to something that is not admitted."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"persistent object {pid!r}")


def _bytes_of(text: str, encoding: str) -> bytes:
    """Protocols below 3 write bytes as a call of _codecs.encode with latin1; others are refused."""
    if encoding != "latin1":
        raise _Refused(f"_codecs.encode with {encoding!r}")
    return codecs.latin_1_encode(text)[0]


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    """A numpy scalar; numpy's function would unpickle the bytes of an object dtype."""
    if dtype.hasobject:
        raise _Refused("numpy scalar of object dtype")
    return np.frombuffer(data, dtype=dtype, count=1)[0]


def _reconstruct(kind: type, shape: tuple, code: Any) -> np.ndarray:
    if kind is not np.ndarray:
        raise _Refused(f"array of {kind!r}")
    return np.ndarray.__new__(np.ndarray, shape, code)


def _frombuffer(buffer: bytes, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
    if dtype.hasobject:
        raise _Refused("numpy buffer of object dtype")
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)  # type: ignore[call-overload]


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _bytes_of,
    **{
        (module, name): kind
        for module in ("builtins", "__builtin__")
        for name, kind in (
            ("set", set),
            ("frozenset", frozenset),
            ("complex", complex),
            ("bytearray", bytearray),
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
