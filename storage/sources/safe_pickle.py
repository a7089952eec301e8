"""Reads pickles that hold plain containers and numpy arrays only.

`pickle.load` of an untrusted file can run arbitrary code. Here only the few globals that rebuild
containers and numpy arrays are admitted; any other is refused before it is looked up. Element types
of arrays are rebuilt from plain strings, never from a pickled state, because a forged state makes
numpy follow bytes as pointers. Keys are plain values, because the hash of deeply nested tuples
overflows the stack, and what a few bytes would blow up to gigabytes is refused.

It builds on the unpickler that pickle keeps in Python, whose opcodes can be replaced one by one.
The one in C reads four times as fast (30 instead of 110 ms for a log of 3 MB), but believes a memo
index and makes a table of that length.
"""

import codecs
import collections
import math
import pickle
import re
import threading
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from storage.errors import SourceError
from storage.names import quoted
from storage.sources.raw_files import is_regular, read_regular, too_large

MAX_PICKLE_BYTES = 2**27  # a published log has about 10 MB
# Bytes of arrays and containers that may be made for each byte of the file: a large object that is
# written once can be copied by every few bytes after it.
MAX_GROWTH, FREE_BYTES = 50, 2**20
MAX_DEPTH = 100  # of containers in each other
_LEAVES = frozenset((str, int, float, bool, bytes, type(None)))


def read_plain_pickle(file: Path) -> Any:
    """The object in `file`.

    Raises SourceError if the file is missing or truncated, is larger than MAX_PICKLE_BYTES, unfolds
    into more than MAX_GROWTH times that, or holds more than plain containers and numpy arrays.
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
        _MEMORY.left = MAX_GROWTH * len(data) + FREE_BYTES
        content = _PlainUnpickler(BytesIO(data)).load()
        if _unfolded(content, {}) > MAX_GROWTH * len(data) + FREE_BYTES:
            raise _TooLarge(f"more than {MAX_GROWTH} values for each byte of the file")
        return content
    except _TooLarge as error:
        raise too_large(file, "data in proportion to the file", str(error)) from error
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


class _TooLarge(pickle.UnpicklingError):
    """The pickle unfolds into much more than its file."""


_MEMORY = threading.local()  # `left`: bytes that the pickle being read may still take


def _take(size: int) -> None:
    _MEMORY.left -= size
    if _MEMORY.left < 0:
        raise _TooLarge(f"more than {MAX_GROWTH} bytes of data for each byte of the file")


def _unfolded(value: Any, known: dict[int, int], depth: int = 0) -> int:
    """Number of values in `value` when what is shared is counted wherever it stands: lists that
    hold another one twice, in 30 levels, hold a thousand million. `known` is by identity.
    """
    kind = type(value)
    if kind in (dict, collections.OrderedDict):
        items = value.values()
    elif kind in (list, tuple, set, frozenset):
        items = value
    elif isinstance(value, np.ndarray):
        if not value.dtype.hasobject:
            return value.size + 1
        items = value.ravel().tolist()
    else:
        return 1
    if id(value) in known:
        return known[id(value)]
    if depth > MAX_DEPTH:
        raise _TooLarge(f"data nested more than {MAX_DEPTH} times")
    total = 1
    for item in items:
        total += 1 if type(item) in _LEAVES else _unfolded(item, known, depth + 1)
    known[id(value)] = total
    return total


_InPython: Any = vars(pickle)["_Unpickler"]  # typeshed has the one in C alone


class _PlainUnpickler(_InPython):
    dispatch: ClassVar[dict] = dict(_InPython.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"persistent object of type {type(pid).__name__}")

    def load_setitem(self) -> None:
        _require_plain(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _require_plain(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _require_plain(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        _require_plain(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        _require_plain(self.stack)
        super().load_frozenset()

    def load_empty_set(self) -> None:
        _take(200)
        super().load_empty_set()

    def load_bytearray8(self) -> None:
        data = self.read(int.from_bytes(self.read(8), "little"))
        self.append(bytearray(data))

    def load_build(self) -> None:
        if type(self.stack[-2]) not in (_Array, _DType):
            raise _Refused(f"a state of {type(self.stack[-2]).__name__}")
        super().load_build()

    def refuse(self) -> None:
        raise _Refused("an object of a class, or an opcode for one")


for _code, _method in (
    (pickle.SETITEM, _PlainUnpickler.load_setitem),
    (pickle.SETITEMS, _PlainUnpickler.load_setitems),
    (pickle.DICT, _PlainUnpickler.load_dict),
    (pickle.ADDITEMS, _PlainUnpickler.load_additems),
    (pickle.FROZENSET, _PlainUnpickler.load_frozenset),
    (pickle.EMPTY_SET, _PlainUnpickler.load_empty_set),
    (pickle.BYTEARRAY8, _PlainUnpickler.load_bytearray8),
    (pickle.BUILD, _PlainUnpickler.load_build),
    *((code, _PlainUnpickler.refuse) for code in (pickle.NEWOBJ, pickle.NEWOBJ_EX)),
    *((code, _PlainUnpickler.refuse) for code in (pickle.INST, pickle.OBJ)),
    *((code, _PlainUnpickler.refuse) for code in (pickle.EXT1, pickle.EXT2, pickle.EXT4)),
):
    _PlainUnpickler.dispatch[_code[0]] = _method

_PLAIN = (str, bytes, int, float, complex, type(None), np.generic)


def _require_plain(keys: Sequence[Any]) -> None:
    """Refuse keys other than plain values and tuples of them."""
    for key in keys:
        if type(key) is str or isinstance(key, _PLAIN):
            continue
        if type(key) is not tuple or not all(isinstance(item, _PLAIN) for item in key):
            raise _Refused(f"a key of type {type(key).__name__}")


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
            raise _Refused("numpy element type of another byte order")


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
        raise _Refused(f"numpy element type {quoted(spec)}")
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
        raise _Refused(f"_codecs.encode with {quoted(encoding)}")
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
        for item in items[0] if items else ():
            _require_plain(item[:1] if kind is collections.OrderedDict else [item])
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
