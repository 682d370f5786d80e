"""Long WFDB records with beat annotations, as segments of some seconds each with what is annotated in it.

Format of annotations: https://physionet.org/physiotools/wag/annot-5.htm, read through the `wfdb` package. A segment's id is the
record's with its number, "I01-0007"; its path is "I01#7". What is shorter than a segment at a record's end is left out.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import melp_bench as mb
from melp_bench.lead_names import known_lead
from melp_plugins.datasets.wfdb_files import read_wfdb
from melp_plugins.datasets.wfdb_header import read_header

SHORTEST_S, LONGEST_S = 2.0, 600.0


@dataclass(frozen=True)
class Annotation:
    """What is annotated at a sample; `note` is what the annotator adds, without brackets and null bytes."""

    sample: int
    symbol: str
    note: str


def checked_seconds(seconds: float) -> float:
    """Return a segment's length.

    Raises:
        UserError: it is none to make segments of.
    """
    if not (math.isfinite(seconds) and SHORTEST_S <= seconds <= LONGEST_S):
        raise mb.UserError(f"seconds is {seconds!r}; wanted {SHORTEST_S:g} to {LONGEST_S:g}")
    return seconds


def read_annotations(record: Path, annotator: str = "atr") -> list[Annotation]:
    """Return a record's annotations, by sample.

    Raises:
        UserError: the file is not there, or is no annotation file: without it nothing is said of any segment.
    """
    import wfdb  # slow to import, and only these datasets need it here

    path = Path(f"{record}.{annotator}")
    try:
        read = wfdb.rdann(str(record.absolute()), annotator)
    except Exception as error:  # wfdb meets a broken file with any exception there is
        told = "is not there" if not path.is_file() else f"cannot be read: {type(error).__name__}: {error}"
        raise mb.UserError(f"{str(path)!r} {told}; fetch it again, or take its record out of the folder") from error
    notes = read.aux_note or [""] * len(read.symbol)
    found = [
        Annotation(int(sample), symbol or "", (note or "").strip("\0 \t(")[:100])
        for sample, symbol, note in zip(read.sample, read.symbol, notes, strict=True)
    ]
    return sorted(found, key=lambda one: one.sample)


def segments(
    source: Path, path: str, seconds: float, annotations: list[Annotation]
) -> Iterator[tuple[str, str, list[Annotation]]]:
    """Yield record id, path and annotations of each segment of the record `source/path`.

    A record whose header cannot be read is one segment, so that it is listed, and quarantined when it is read.
    """
    name = Path(path).name
    try:
        header = read_header(source / f"{path}.hea")
    except (mb.BadRecord, OSError):
        yield f"{name}-0000", f"{path}#0", []
        return
    length = round(seconds * header.rate_hz)
    samples = [one.sample for one in annotations]
    for number in range(header.num_samples // length):
        first, last = (bisect_left(samples, end) for end in (number * length, (number + 1) * length))
        yield f"{name}-{number:04d}", f"{path}#{number}", annotations[first:last]


def read_segment(source: Path, path: str, seconds: float) -> mb.Signal:
    """Return the segment at `path` ("I01#7"): its standard leads, without what a catheter measured.

    Raises:
        BadRecord: it cannot be read.
    """
    record, _, number = path.rpartition("#")
    length = round(seconds * read_header(source / f"{record}.hea").rate_hz)
    signal = read_wfdb(source, record, part=range(int(number) * length, (int(number) + 1) * length))
    rows = [row for row, lead in enumerate(signal.leads) if known_lead(lead) is not None]
    if len(rows) == len(signal.leads):
        return signal
    return replace(
        signal,
        millivolts=signal.millivolts[rows],
        leads=tuple(signal.leads[row] for row in rows),
        steps=signal.steps and tuple(signal.steps[row] for row in rows),
    )
