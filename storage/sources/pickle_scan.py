"""Looks through the opcodes of a pickle without running them, for those that take memory out of
proportion to the file.

CPython's unpickler believes a pickle's numbers: one opcode of five bytes makes its memo 2^28
entries long. The scan jumps over runs of harmless opcodes with one regular expression, so it takes
half the time of reading.
"""

import pickle
import re
from functools import cache

MAX_SETS = 1_000_000  # an empty one is one byte in the file and 216 in memory


_FIXED = {  # bytes of the argument -> opcodes
    0: rb"\x97\x98N\x88\x89\]ael)t\x85\x86\x87}dsu\x90\x9102\x31(\x94\x93RboQ\x81\x92",
    1: rb"Khq\x80",
    2: rb"M",
    4: rb"Jj",
    8: rb"G\x95",
}
_COUNTED = (b"\x8c", b"C", b"U", b"\x8a")  # a length of one byte, then as many bytes
_LONG = {b"X": 4, b"B": 4, b"T": 4, b"\x8b": 4, b"\x8d": 8, b"\x8e": 8, b"\x96": 8}


@cache
def _harmless() -> re.Pattern[bytes]:
    """A run of opcodes that take no more memory than a small multiple of their bytes."""
    lengths = b"|".join(re.escape(bytes([size])) + b".{%d}" % size for size in range(256))
    opcodes = [
        *(b"[%b].{%d}" % (codes, size) for size, codes in _FIXED.items()),
        *(re.escape(code) + b"(?:" + lengths + b")" for code in _COUNTED),
        rb"r..\x00\x00",  # a memo index of two bytes
        rb"[ILSVFgP][^\n]*\n",  # an argument that ends with its line
        rb"[ci][^\n]*\n[^\n]*\n",
    ]
    return re.compile(b"(?:" + b"|".join(opcodes) + b")*+", re.DOTALL)


def check_opcodes(data: bytes) -> None:
    """Raise pickle.UnpicklingError for a memo index that the file cannot have filled, an argument
    that reaches beyond its end, an opcode that is not known, or too many sets.
    """
    position, sets, harmless = 0, 0, _harmless()
    while True:
        run = harmless.match(data, position)
        position = run.end() if run else position
        opcode = data[position : position + 1]
        if opcode in (b".", b""):  # the end, which the unpickler judges
            return
        if opcode in _LONG:
            start = position + 1 + _LONG[opcode]
            position = start + int.from_bytes(data[position + 1 : start], "little")
            if position > len(data):
                raise pickle.UnpicklingError("an argument reaches beyond the end of the file")
        elif opcode == b"r":
            _check_memo(int.from_bytes(data[position + 1 : position + 5], "little"), data)
            position += 5
        elif opcode == b"p":
            end = data.index(b"\n", position)
            _check_memo(int(data[position + 1 : end]), data)
            position = end + 1
        elif opcode == b"\x8f":
            position, sets = position + 1, sets + 1
            if sets > MAX_SETS:
                raise pickle.UnpicklingError(f"more than {MAX_SETS} sets")
        else:
            raise pickle.UnpicklingError(f"unknown or incomplete opcode {opcode!r}")


def _check_memo(index: int, data: bytes) -> None:
    if not 0 <= index <= len(data):
        raise pickle.UnpicklingError(f"memo index {index} in a file of {len(data)} bytes")
