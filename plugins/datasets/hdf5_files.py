"""HDF5 files, opened without trusting them: no link or storage outside the file, no virtual dataset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import melp_bench as mb

MAX_CHUNK_BYTES = 2_000_000_000


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading.

    Raises:
        BadRecord: it is not there, or whatever is done with it meanwhile fails.
    """
    if not path.is_file():
        raise mb.BadRecord("missing-file", path.name)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except mb.BadRecord:
        raise
    except Exception as error:  # h5py meets a broken file with any exception there is, wherever it is touched
        raise mb.BadRecord("unreadable-samples", f"{path.name!r}: {type(error).__name__}: {error}") from error


def own_dataset(file: Any, name: str) -> Any:
    """Return a dataset of numbers that lies in the file itself.

    Raises:
        BadRecord: it lies elsewhere, or its chunks are larger than memory should be.
    """
    link, value = file.get(name, getlink=True), None
    if isinstance(link, h5py.HardLink):
        value = file[name]
    if not isinstance(value, h5py.Dataset) or value.external or value.is_virtual:
        raise mb.BadRecord("unsafe-path", f"{Path(file.filename).name!r}: {name} is no dataset of the file's own")
    chunk = value.dtype.itemsize * int(np.prod(value.chunks or (1,), dtype=np.int64))
    if value.dtype.kind not in "fiu" or chunk > MAX_CHUNK_BYTES:
        raise mb.BadRecord(
            "wrong-shape", f"{Path(file.filename).name!r}: {name} is {value.dtype} in chunks of {chunk:,} bytes; wanted numbers"
        )
    return value
