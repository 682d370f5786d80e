"""The samples of WFDB signal files as the converter gave them.

The common case, 16 bits, is read here; packed and compressed files go through the `wfdb` package, which needs half a second to
be imported. A skew is left as it is. Shapes: L leads, T samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench import BadRecord
from melp_plugins.datasets.wfdb_header import Header, Line

_BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5, "310": 4 / 3, "311": 4 / 3}
"""Bytes per sample of the uncompressed formats."""
_COMPRESSED = ("508", "516", "524")
"""FLAC of 8, 16 and 24 bits."""
_SIXTEEN_BITS = {"16": "<i2", "61": ">i2"}
FORMATS = (*_BYTES, *_COMPRESSED)
_MOST_COMPRESSED = 50_000_000
"""Samples of all leads together that a compressed file may promise: its size bounds nothing."""


def known_format(name: str) -> bool:
    """Return True if samples of this format can be read."""
    return name in FORMATS


def fewest_bytes(lines: Sequence[Line], num_samples: int) -> int:
    """Return how long the file of `lines`, all of one format, is at least."""
    samples = sum(line.per_frame for line in lines) * num_samples
    if lines[0].format in _COMPRESSED:
        return 1 if samples <= _MOST_COMPRESSED else samples
    return math.ceil(samples * _BYTES[lines[0].format]) + lines[0].offset


def digital_samples(record: Path, header: Header, rows: Sequence[int], part: range) -> NDArray[Any]:
    """Return the samples of the channels `rows` in the frames `part`, of a header whose files were checked, (L, T).

    Raises:
        BadRecord: they cannot be read.
    """
    files = {header.lines[row].file for row in rows}
    lines = [line for line in header.lines if line.file in files]
    try:
        if all(line.format in _SIXTEEN_BITS for line in lines):  # nearly all
            return _sixteen_bits(record.parent, header, rows, part)
        import wfdb  # slow to import, and few need it

        read = wfdb.rdrecord(
            str(record.absolute()),
            sampfrom=part.start,
            sampto=part.stop,
            physical=False,
            return_res=64,
            channels=list(rows),
            smooth_frames=False,
            ignore_skew=True,
        )
        return np.stack([np.asarray(signal) for signal in read.e_d_signal])
    except Exception as error:  # wfdb meets a broken file with any exception there is
        raise BadRecord("unreadable-samples", f"{record.name!r}: {type(error).__name__}: {error}") from error


def _sixteen_bits(folder: Path, header: Header, rows: Sequence[int], part: range) -> NDArray[np.int16]:
    """Return the frames `part` of 16-bit files, in which the leads of a file take turns, (L, T)."""
    found: dict[int, NDArray[np.int16]] = {}
    for name in dict.fromkeys(header.lines[row].file for row in rows):
        inside = [(row, line) for row, line in enumerate(header.lines) if line.file == name]
        ends = np.cumsum([line.per_frame for _, line in inside]).tolist()
        offset = inside[0][1].offset + 2 * ends[-1] * part.start
        frames = np.fromfile(folder / name, dtype=_SIXTEEN_BITS[inside[0][1].format], count=ends[-1] * len(part), offset=offset)
        frames = frames.reshape(-1, ends[-1])  # (frames, samples of all leads)
        for (row, line), end in zip(inside, ends, strict=True):
            found[row] = frames[:, end - line.per_frame : end].reshape(-1)
    return np.stack([found[row] for row in rows])
