"""What a dataset is and what it says of its records: the fourth kind of component, which needs no torch.

Shapes: L leads, T samples.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from melp_bench.leads import LEADS

_NOTHING = """
| nan | none | null | nil | n/a | #n/a | na | <na> | nat | - | -- | --- | . | ? | unknown | unk | undefined | missing
| not available | not known | not stated | anonymous | anonymous patient | anonymized | anonymised
| unbekannt | keine angabe | k. a. | inconnu | desconocido | desconhecido"""
NOT_STATED = frozenset(word.strip() for word in _NOTHING.split("|"))
"""What tables write where they know nothing, in lower case: no value of any column of any dataset."""


def stated(cell: str) -> str:
    """Return a cell of a table without blanks around it; "" where it is a word for "not known"."""
    text = cell.strip()
    return "" if text.casefold() in NOT_STATED else text


@dataclass(frozen=True)
class Task:
    """A question about records: classes by name, each answered by the statements that make it true.

    Attributes:
        members: class name -> the statements of which any makes the class positive.
        prompts: class name -> paraphrases for zero-shot, in our own words.
        keep_unlabelled: keep records that carry none of the classes (they are negatives of every class).
    """

    name: str
    members: Mapping[str, frozenset[str]]
    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keep_unlabelled: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the label columns."""
        return tuple(self.members)


@dataclass(frozen=True)
class RecordInfo:
    """All that is known of a record before its signal is opened.

    Attributes:
        record_id: unique within the dataset.
        patient_id: None where the source has no patients; a record is then its own patient.
        statements: labels as the source states them, by name (SCP codes, for example).
        fold: the official fold, 1 to 10; None where there is none.
        path: the native file, relative to the source folder; None for generated records.
        measurements: numbers that the source states of the record (intervals in ms, axes in degrees), by the source's names;
            waves that it marks by those of `wave_measurements`.
    """

    record_id: str
    patient_id: str | None = None
    statements: frozenset[str] = frozenset()
    report: str = ""
    age: float | None = None
    sex: str | None = None  # "F", "M" or None
    fold: int | None = None
    path: str | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Wave:
    """A wave that somebody marked in a record: "P", "QRS" or "T", in seconds from its start."""

    kind: str
    onset_s: float
    peak_s: float
    offset_s: float


_ENDS = ("onset", "peak", "offset")
_WAVE = re.compile(r"([A-Za-z]+) (\d+) (onset|peak|offset) s")


def wave_measurements(waves: Iterable[Wave]) -> dict[str, float]:
    """Return waves as measurements of their record: "QRS 3 onset s", and so on, numbered by kind from 1."""
    found: dict[str, float] = {}
    counts: dict[str, int] = {}
    for wave in waves:
        number = counts[wave.kind] = counts.get(wave.kind, 0) + 1
        places = zip(_ENDS, (wave.onset_s, wave.peak_s, wave.offset_s), strict=True)
        found |= {f"{wave.kind} {number} {end} s": second for end, second in places}
    return found


def waves_of(measurements: Mapping[str, float]) -> list[Wave]:
    """Return the waves among a record's measurements, by their onsets; one of which a place is not stated is left out."""
    places: dict[tuple[str, int], dict[str, float]] = {}
    for name, value in measurements.items():
        if form := _WAVE.fullmatch(name):
            places.setdefault((form[1], int(form[2])), {})[form[3]] = value
    whole = [Wave(kind, *(at[end] for end in _ENDS)) for (kind, _), at in places.items() if len(at) == len(_ENDS)]
    return sorted(whole, key=lambda wave: (wave.onset_s, wave.kind))


@dataclass(frozen=True)
class Signal:
    """A record's signal as the source has it: physical millivolts, its own rate, its own named leads."""

    millivolts: NDArray[np.float32]  # (L, T); NaN where a sample is missing
    rate_hz: float
    leads: tuple[str, ...] = LEADS
    steps: tuple[float, ...] | None = None  # (L,) millivolts per unit of the source; None where it has no units of its own
    repairs: tuple[str, ...] = ()  # reason codes of what the dataset mended, such as "gain-erratum"
    quality_flags: tuple[str, ...] = ()  # what looks wrong to the dataset and was left as it is, such as "checksum-not-stated"


class BadRecord(Exception):
    """A record that cannot be used; `prepare` quarantines it under `code` with `detail`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


@dataclass(frozen=True)
class Download:
    """Where a dataset's files are served to everyone, with their digests; what `melp-bench data fetch` reads.

    Patterns are globs on the names in the list; `*` crosses folders, and a folder's name stands for all that is in it.

    Attributes:
        url: the folder that holds the files and SHA256SUMS.txt; with `listing="zenodo"`, the record in Zenodo's API; with
            `listing="figshare"`, an article in figshare's, or the list of a collection's articles.
        only: the files that the dataset reads; empty for all that are listed.
        always: files that are fetched whatever a user selects: tables without which no record is read, the licence.
        unpack: zip and tar archives are unpacked into the folder and not kept.
    """

    url: str
    listing: Literal["sha256sums", "zenodo", "figshare"] = "sha256sums"
    only: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    unpack: bool = False

    def __post_init__(self) -> None:
        """Check what would only be found out on the way."""
        if not self.url.startswith(("https://", "http://")) or self.listing not in ("sha256sums", "zenodo", "figshare"):
            raise ValueError(
                f"Download({self.url!r}, listing={self.listing!r}): wanted an http address, and sha256sums, zenodo or figshare"
            )

    def address(self, name: str, mirror: str = "") -> str:
        """Return the address of the file `name`, which is quoted, at the source or at a `mirror` of it."""
        base = (mirror or self.url).rstrip("/")
        return f"{base}/files/{name}/content" if self.listing == "zenodo" else f"{base}/{name}"


class Dataset(ABC):
    """What a source has. It reads native files at prepare time only; the hot path reads the store.

    Attributes:
        version: of the source's release (or of the generator); part of the fingerprint.
        tasks: by name.
        generated: True if records are made, not measured; such rows are never ranked with real ones. Where they are not served
            as files either (`download`), no source folder is asked for.
        has_official_folds: True if `RecordInfo.fold` is set by the source.
        download: where its files are served to everyone; None if they have to be asked for, or there are none.
        num_records: how many the release has; 0 where that is not known.
        release: what the files say of the release they are, once `infos` has yielded every record; "" where they say nothing.
        remarks: what a user should know before work starts (columns and what they were taken for, cells that were not
            understood), a sentence each; known once `infos` has yielded every record.
    """

    version: str
    licence: str
    citation: str
    homepage: str = ""
    generated: bool = False
    has_official_folds: bool = False
    download: Download | None = None
    num_records: int = 0
    release: str = ""
    remarks: Sequence[str] = ()

    @property
    def reads_files(self) -> bool:
        """True if records are read from a folder: measured ones, and simulated ones that their source serves as files."""
        return not self.generated or self.download is not None

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, Task]:
        """The dataset's tasks by name; none of one that says nothing of its records.

        Where the files decide them, they are known once `infos` has yielded every record, and empty before; a store keeps them.
        """

    @abstractmethod
    def infos(self, source: Path) -> Iterable[RecordInfo]:
        """Yield what is known of every record, in a stable order.

        Raises:
            UserError: the folder lacks a file or a column that the dataset needs.
        """

    def files(self, source: Path, info: RecordInfo) -> Iterator[str]:
        """Yield the names, below `source`, of the native files that `signal` reads, whether they are there or not.

        A store knows by them whether its source changed. Here: the record's path, what stands behind "#" left out; where it has
        no ending, also with those of WFDB.
        """
        name = (info.path or "").partition("#")[0]
        if name:
            yield name
            if not PurePosixPath(name).suffix:
                yield from (f"{name}{ending}" for ending in (".hea", ".dat", ".mat"))

    @abstractmethod
    def signal(self, source: Path, info: RecordInfo) -> Signal:
        """Return the record's signal.

        Raises:
            BadRecord: the native file cannot be used.
        """


@runtime_checkable
class ReadsFiles(Protocol):
    """What a dataset offers beside the rest if it reads the file of a record by itself, without the folder's table."""

    def read_file(self, path: Path) -> Signal | None:
        """Return the signal of the record in a file, or with the name `path`; None where it is none that the dataset reads.

        Raises:
            BadRecord: it is one, and cannot be used.
        """
