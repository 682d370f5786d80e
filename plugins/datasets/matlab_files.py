"""Numbers, text and structs of a MATLAB 5 file, read without trusting a byte of it.

Format: MAT-File Format, MathWorks, chapter 1 (level 5). Only what the datasets need: real arrays and one-element structs of
them, compressed or not. Every length is checked against the bytes that are there before it is followed, which
`scipy.io.loadmat` does not do: a flipped byte ends its process.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import melp_bench as mb

_MAX_BYTES = 50_000_000
_MAX_INFLATED = 200_000_000
_HEADER = 128
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {16: "u1", 17: "u2", 18: "u4"}
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _CHAR, _NUMERIC = 2, 4, range(6, 16)
_COMPLEX = 0x0800


def read_matlab(path: Path, names: Collection[str]) -> dict[str, Any]:
    """Return the variables of a file that are among `names`: arrays, str, or a dict of these for a struct of one element.

    Raises:
        BadRecord: the file is missing, empty, too large, or not what the format says.
    """
    if not path.is_file():
        raise mb.BadRecord("missing-file", path.name)
    size = path.stat().st_size
    if size == 0:
        raise mb.BadRecord("zero-byte-file", path.name)
    if size > _MAX_BYTES:
        raise mb.BadRecord("unreadable-samples", f"{path.name!r} has {size} bytes; wanted at most {_MAX_BYTES}")
    content = path.read_bytes()
    try:
        if content[124:128] != b"\x00\x01IM":
            raise ValueError("no little-endian MATLAB 5 file")
        return _variables(memoryview(content)[_HEADER:], names)
    except (ValueError, zlib.error, RecursionError) as error:
        raise mb.BadRecord("unreadable-samples", f"{path.name!r}: {error}") from error


def _variables(content: memoryview, names: Collection[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, data in _elements(content, padded=False):
        if kind == _COMPRESSED:
            kind, data = next(_elements(_inflated(data)), (0, data))
        if kind == _MATRIX:
            name, value = _matrix(data, names)
            if name in names:
                found.setdefault(name, value)
    return found


def _inflated(data: memoryview) -> memoryview:
    inflate = zlib.decompressobj()
    content = inflate.decompress(data, _MAX_INFLATED)
    if not inflate.eof:
        raise ValueError("a compressed variable is cut off, or too large")
    return memoryview(content)


def _elements(content: memoryview, *, padded: bool = True) -> Iterator[tuple[int, memoryview]]:
    """Yield type and bytes of each data element; inside a matrix they are padded to eight bytes."""
    at = 0
    while at + 8 <= len(content):
        first, second = (int(n) for n in np.frombuffer(content[at : at + 8], dtype="<u4"))
        if first >> 16:  # a small element: four bytes at most, in the tag itself
            kind, size, start, end = first & 0xFFFF, first >> 16, at + 4, at + 8
        else:
            kind, size, start = first, second, at + 8
            end = start + (-(-size // 8) * 8 if padded else size)
        if start + size > min(end, len(content)):
            raise ValueError(f"an element of {size} bytes at byte {at} goes beyond its end")
        yield kind, content[start : start + size]
        at = end


def _matrix(content: memoryview, names: Collection[str] | None) -> tuple[str, Any]:
    """Return name and value of a matrix; the value is None if its name is not wanted. `names` None: any name."""
    parts = _elements(content)
    flags, shape, name = (_part(parts) for _ in range(3))
    head, sizes = _numbers(*flags), tuple(int(n) for n in _numbers(*shape))
    if len(head) < 1 or not 2 <= len(sizes) <= 8 or any(n < 0 for n in sizes) or math.prod(sizes) > _MAX_INFLATED:
        raise ValueError(f"a matrix of the shape {sizes}")
    called = bytes(name[1]).decode("latin-1")
    if names is not None and called not in names:
        return called, None
    kind = int(head[0]) & 0xFF
    if kind == _STRUCT:
        return called, _struct(parts, sizes)
    if kind != _CHAR and (kind not in _NUMERIC or int(head[0]) & _COMPLEX):
        return called, None
    values = _numbers(*_part(parts))
    if len(values) != math.prod(sizes):
        raise ValueError(f"{called!r} has {len(values)} values for the shape {sizes}")
    if kind == _CHAR:
        return called, "".join(chr(int(n)) for n in values[:1000] if 0 < n < 0x110000)
    return called, values.reshape(sizes, order="F")


def _struct(parts: Iterator[tuple[int, memoryview]], sizes: tuple[int, ...]) -> dict[str, Any]:
    widths = _numbers(*_part(parts))
    _, letters = _part(parts)
    width = int(widths[0]) if len(widths) else 0
    if math.prod(sizes) != 1 or width < 1 or len(letters) % width:
        raise ValueError(f"a struct of the shape {sizes} with field names of {width} letters; wanted one element")
    fields = [bytes(letters[at : at + width]).split(b"\0")[0].decode("latin-1") for at in range(0, len(letters), width)]
    return {field: _matrix(_part(parts)[1], None)[1] for field in fields}


def _part(parts: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
    part = next(parts, None)
    if part is None:
        raise ValueError("a matrix lacks one of its parts")
    return part


def _numbers(kind: int, data: memoryview) -> Any:
    dtype = (_NUMBERS | _TEXTS).get(kind)
    if dtype is None or len(data) % np.dtype(dtype).itemsize:
        raise ValueError(f"{len(data)} bytes of the type {kind}; wanted numbers")
    return np.frombuffer(data, dtype=f"<{dtype}")
