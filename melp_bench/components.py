"""The four kinds of components a plugin can offer.

Shapes: B records, L leads, T samples, N tokens, Q beats, D channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from melp_bench.features import Features
from melp_bench.signal import LEADS, SignalSpec

# ---------------------------------------------------------------------------------------------------------- encoders


class ECGEncoder(nn.Module, ABC):
    """Records in, features out. It states what it wants in `spec` and never asks which dataset it is fed.

    Attributes:
        spec: the signal it wants.
        width: channels of `Features.tokens`; of `rhythm`, `beats` and `embedding` too where the next two say nothing else.
        rhythm_width: channels of `Features.rhythm` and `Features.beats`.
        embedding_width: channels of `Features.embedding`, which probes read.
        projected: True if `rhythm` and `beats` already live in the space shared with reports (a published model with its own
            projection); then no head is put on them and `rhythm_width` is the shared width.
        corpora: names of the datasets its published weights have seen.
    """

    spec: SignalSpec
    width: int
    projected: bool = False
    corpora: tuple[str, ...] = ()

    @property
    def rhythm_width(self) -> int:
        """Channels of `rhythm` and `beats`."""
        return self.width

    @property
    def embedding_width(self) -> int:
        """Channels of `embedding`."""
        return self.width

    @abstractmethod
    def forward(self, signal: Tensor) -> Features:
        """Return features of `signal` (B, L, T), which is as `spec` asks: at least `rhythm`, `embedding` and `tokens`."""


@dataclass(frozen=True)
class TextSource:
    """Where a text encoder's vocabulary comes from: reports to learn it from, or the assets of a checkpoint.

    Assets win; they are what `TextEncoder.assets` once returned (file name to text).
    """

    reports: Sequence[str] = ()
    assets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TextBatch:
    """Tokenised reports."""

    ids: Tensor  # (B, N) long
    mask: Tensor  # (B, N) bool, True where a token is real
    sentences: Tensor  # (B, N) long: index of the sentence a token belongs to, -1 for special tokens and padding

    def to(self, device: object) -> TextBatch:
        """Return the batch on `device`."""
        return TextBatch(self.ids.to(device), self.mask.to(device), self.sentences.to(device))  # type: ignore[call-overload]


class TextEncoder(nn.Module, ABC):
    """Reports in, features out: `rhythm` is the whole report, `beats` its sentences, `tokens` its words.

    Attributes:
        width: channels of its features.
        vocab_size: number of token ids.
        pad_id: the id of padding.
        causal: True if a word's state depends only on the words before it (captioning needs this).
        projected: as for `ECGEncoder`.
    """

    width: int
    vocab_size: int
    pad_id: int
    causal: bool = False
    projected: bool = False

    @abstractmethod
    def tokenize(self, reports: Sequence[str]) -> TextBatch:
        """Return the reports as ids on the CPU; an empty report is a valid report."""

    @abstractmethod
    def forward(self, batch: TextBatch) -> Features:
        """Return features of the reports, with masks and `token_ids`."""

    def assets(self) -> dict[str, str]:
        """Return what must lie beside the weights to build this encoder again: file name to text."""
        return {}


@dataclass(frozen=True)
class Sizes:
    """The widths an objective may need to build its own layers."""

    shared: int  # width of rhythm and beats after the heads, in the space both modalities share
    embedding: int  # width of ecg.embedding
    ecg_tokens: int
    text_tokens: int = 0  # 0 without a text encoder
    vocab: int = 0
    pad_id: int = 0
    classes: int = 0  # of the pretraining labels, for supervised objectives
    causal_text: bool = True  # False if words' states see the words after them, which captioning would learn to copy


class Objective(nn.Module, ABC):
    """One scalar, mean over the batch it is given; built as `build(sizes, **options)`.

    `forward` names what it needs by the names of its parameters, out of:

    - `ecg`: Features of the records, in the shared space; `text`: Features of their reports;
    - `view1`, `view2`: Features of two augmentations of the records; `half1`, `half2`: of their two halves;
    - `labels`: (B, C) float, 0 or 1;
    - `signal`: the conformed records (B, L, T), and `encoder`: the bare ECG encoder, for masked modelling.

    It never asks for its rank: with `needs_global_batch` the loop hands it the features of all ranks. A mean over
    something other than records (words, say) is returned with its count: `(mean, count)`.
    """

    scale: ClassVar[str]  # token | beat | rhythm | signal
    needs_global_batch: ClassVar[bool] = False

    # `forward` is declared by each objective with the parameters it needs.


# ---------------------------------------------------------------------------------------------------------- datasets


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
        measurements: numbers that the source states of the record (intervals in ms, axes in degrees), by the source's names.
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
class Signal:
    """A record's signal as the source has it: physical millivolts, its own rate, its own named leads."""

    millivolts: NDArray[np.float32]  # (L, T); NaN where a sample is missing
    rate_hz: float
    leads: tuple[str, ...] = LEADS
    steps: tuple[float, ...] | None = None  # (L,) millivolts per unit of the source; None where it has no units of its own
    repairs: tuple[str, ...] = ()  # reason codes of what the dataset mended, such as "gain-erratum"


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
        url: the folder that holds the files and SHA256SUMS.txt; with `listing="zenodo"`, the record in Zenodo's API.
        only: the files that the dataset reads; empty for all that are listed.
        always: files that are fetched whatever a user selects: tables without which no record is read, the licence.
        unpack: zip archives are unpacked into the folder and not kept.
    """

    url: str
    listing: Literal["sha256sums", "zenodo"] = "sha256sums"
    only: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    unpack: bool = False

    def __post_init__(self) -> None:
        """Check what would only be found out on the way."""
        if not self.url.startswith(("https://", "http://")) or self.listing not in ("sha256sums", "zenodo"):
            raise ValueError(
                f"Download({self.url!r}, listing={self.listing!r}): wanted an http address, and sha256sums or zenodo"
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
        generated: True if records are made, not measured; such rows are never ranked with real ones, and no source folder
            is asked for.
        has_official_folds: True if `RecordInfo.fold` is set by the source.
        download: where its files are served to everyone; None if they have to be asked for, or there are none.
    """

    version: str
    licence: str
    citation: str
    homepage: str = ""
    generated: bool = False
    has_official_folds: bool = False
    download: Download | None = None

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, Task]:
        """The dataset's tasks by name."""

    @abstractmethod
    def infos(self, source: Path) -> Iterable[RecordInfo]:
        """Yield what is known of every record, in a stable order.

        Raises:
            UserError: the folder lacks a file or a column that the dataset needs.
        """

    @abstractmethod
    def signal(self, source: Path, info: RecordInfo) -> Signal:
        """Return the record's signal.

        Raises:
            BadRecord: the native file cannot be used.
        """
