"""Components that a plugin can offer and that are made of tensors; datasets, evaluations and metrics have files of their own.

Shapes: B records, L leads, T samples, N tokens, Q segments, D channels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from melp_bench.features import Features
from melp_bench.records import BadRecord, Dataset, Download, RecordInfo, Signal, Task
from melp_bench.signal import SignalSpec

__all__ = [
    "BadRecord",
    "Dataset",
    "Download",
    "ECGEncoder",
    "Gauge",
    "GuessesWords",
    "Heads",
    "Objective",
    "PretrainingModel",
    "RecordInfo",
    "ScoresClasses",
    "Signal",
    "Sizes",
    "Task",
    "TextBatch",
    "TextEncoder",
    "TextSource",
    "View",
    "Widths",
]

# ---------------------------------------------------------------------------------------------------------- encoders


class ECGEncoder(nn.Module, ABC):
    """Records in, features out. It states what it wants in `spec` and never asks which dataset it is fed.

    Attributes:
        spec: the signal it wants.
        width: channels of `Features.tokens`; of `record`, `segments` and `embedding` too where the next two say nothing else.
        record_width: channels of `Features.record` and `Features.segments`.
        embedding_width: channels of `Features.embedding`, which probes read.
        projected: True if `record` and `segments` already live in the space shared with reports (a published model with its own
            projection); then no head is put on them and `record_width` is the shared width.
        corpora: names of the datasets its published weights have seen.
        corpora_source: where that is said, if not in the paper that its entry names.
    """

    spec: SignalSpec
    width: int
    projected: bool = False
    corpora: tuple[str, ...] = ()
    corpora_source: str = ""

    @property
    def record_width(self) -> int:
        """Channels of `record` and `segments`."""
        return self.width

    @property
    def embedding_width(self) -> int:
        """Channels of `embedding`."""
        return self.width

    @abstractmethod
    def forward(self, signal: Tensor) -> Features:
        """Return features of `signal` (B, L, T), which is as `spec` asks: at least `record`, `embedding` and `tokens`."""


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
    """Reports in, features out: `record` is the whole report, `segments` its sentences, `tokens` its words.

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


@runtime_checkable
class GuessesWords(Protocol):
    """What a text encoder offers beside the rest if it can learn by guessing hidden words."""

    @property
    def mask_id(self) -> int | None:
        """The id that hides a word; None where the vocabulary has none."""

    def both_ways(self, batch: TextBatch) -> Tensor:
        """Return states of the tokens (B, N, D) that see what is before and what is after them, whatever `causal` says."""

    def word_table(self) -> Tensor:
        """Return the embedding of every id, (V, D), with its gradient: what the states are compared with."""

    def guessing_head(self) -> Mapping[str, Tensor]:
        """Return what published weights hold of a head that guesses words; nothing where there is none.

        By name: `transform.0.weight`, `transform.0.bias` (a linear map), `transform.2.weight`, `transform.2.bias` (a layer
        norm) and `bias` (V,).
        """


@dataclass(frozen=True)
class Widths:
    """What heads are built from: the widths of what encoders offer of their own."""

    ecg_record: int
    ecg_tokens: int
    ecg_segments: int = 0  # 0 where the encoder offers none
    ecg_projected: bool = False  # its record and segments are in the shared space already
    ecg_positions: int = 0  # how many tokens a record has; 0 where the encoder offers none
    text: int = 0  # 0 without a text encoder
    text_projected: bool = False


class Heads(nn.Module, ABC):
    """From what encoders offer into the space that records and reports share.

    Attributes:
        width: channels of the shared space.
        ecg_tokens: channels of the records' tokens after the heads; 0 where heads leave them as they are.
    """

    width: int
    ecg_tokens: int = 0

    @abstractmethod
    def ecg(self, features: Features) -> Features:
        """Return the features of records with `record`, and `segments` if any, in the shared space."""

    @abstractmethod
    def text(self, features: Features) -> Features:
        """Return the features of reports with `record`, and `segments` if any, in the shared space."""


@runtime_checkable
class ScoresClasses(Protocol):
    """What heads offer beside the rest if the model has a way of its own to ask a record for classes, and not the cosine."""

    def class_scores(self, ecg: Features, names: Tensor) -> Tensor:
        """Return the log-odds (B, C) of classes in records, whose features `ecg` are in the shared space.

        `names` (C, D) are the classes' names in the shared space: `Features.record` of a prompt, or the mean over several.
        """


class View(ABC):
    """Another look at a record, made in a batch on the records' device.

    Attributes:
        part: the share of the record it looks at, taken before `conform`: (0.0, 0.5) is its first half.
    """

    part: tuple[float, float] = (0.0, 1.0)

    def at(self, spec: SignalSpec) -> View:
        """Return the view for records as `spec` asks for, where it speaks of hertz, seconds or leads; called once.

        Raises:
            UserError: it makes no sense of such records.
        """
        return self

    @abstractmethod
    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return the view of conformed `signal` (B, L, T), of the same shape; all that is random comes from `generator`."""


@dataclass(frozen=True)
class Sizes:
    """The widths an objective may need to build its own layers."""

    shared: int  # width of record and segments after the heads, in the space both modalities share
    embedding: int  # width of ecg.embedding
    ecg_tokens: int
    text_tokens: int = 0  # 0 without a text encoder
    vocab: int = 0
    pad_id: int = 0
    classes: int = 0  # of the pretraining labels, for supervised objectives
    causal_text: bool = True  # False if words' states see the words after them, which captioning would learn to copy


class PretrainingModel(Protocol):
    """What an objective can read of the model before training begins: `Model` is one."""

    encoder: ECGEncoder
    text_encoder: TextEncoder | None
    heads: Heads | None

    def ecg(self, signal: Tensor) -> Features:
        """Return features of `signal` (B, L, T), in the shared space."""

    def text(self, batch: TextBatch) -> Features:
        """Return features of reports, in the shared space."""


@dataclass(frozen=True)
class Gauge:
    """A number of an objective's own state that the log shows (a temperature, say), and the bounds that it is held to."""

    value: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def at_bound(self) -> bool:
        """Whether it has come to one of its bounds."""
        return any(math.isclose(self.value, bound, rel_tol=1e-4) for bound in (self.low, self.high))


class Objective(nn.Module, ABC):
    """One scalar, mean over the batch it is given; built as `build(sizes, **options)`.

    `forward` names what it needs by the names of its parameters, out of:

    - `ecg`: Features of the records, in the shared space; `text`: Features of their reports;
    - every name in `views()`: Features of that view of the records; with `_signal` after it, the view itself (B, L, T);
    - `labels`: (B, C) float, 0 or 1; `patients`: (B,) long, equal for the records of one person;
    - `signal`: the conformed records (B, L, T), and `encoder`: the bare ECG encoder, for masked modelling;
    - `reports`: the tokenised reports, a TextBatch, and `text_encoder`: the bare text encoder, for guessing hidden words;
    - `heads`: the heads, for what else they hold (a decoder); `progress`: float, the share of the steps that are done;
    - whatever its `local` returns.

    It never asks for its rank: with `needs_global_batch` the loop hands `forward` the tensors and features of all ranks (of
    features what it reads, which must not be chosen by chance). `local`, where an objective declares one, comes before: it
    names what it needs in the same way, sees the records of its own rank, and returns by name what `forward` may then name.
    What is costly per record (a target's features) belongs there, and what compares records in `forward`. A mean over
    something other than records (words, say) is returned with its count: `(mean, count)`.

    All that must survive a kill (a target, a queue, a count) is a parameter or a buffer; a target's parameters do not require
    a gradient, and are then not in the optimiser.

    Attributes:
        scale: "token", "beat", "rhythm" or "signal".
        needs_global_batch: whether `forward` is given the records of all ranks.
        keep: the weights that are kept: of the "lowest" validation loss, or the "last" where that does not tell a good encoder.
    """

    scale: ClassVar[str]
    needs_global_batch: ClassVar[bool] = False
    keep: ClassVar[Literal["lowest", "last"]] = "lowest"

    # `forward`, and `local` if any, are declared by each objective with the parameters it needs.

    def views(self) -> Mapping[str, Sequence[View]]:
        """Return how each view that it names is made: one after the other; a recipe may name others from the registry."""
        return {}

    def fits(self, encoder: ECGEncoder) -> str | None:
        """Return why it cannot train this encoder ("needs an encoder with masked encoding"), or None."""
        return None

    def attach(self, model: PretrainingModel) -> None:
        """Build what depends on the model, with its weights as training begins: called once, before the optimiser is built.

        Copy what is to be kept (`copy.deepcopy`): a module of the model that is held here would be in the state twice.
        """

    def after_step(self, progress: float) -> None:
        """Follow the model, after each step of the optimiser; `progress` is the share of the steps done, the last is 1."""

    def exported(self) -> nn.Module | None:
        """Return the module whose weights are kept in place of the encoder's (a teacher); None to keep the encoder."""
        return None

    def gauges(self) -> Mapping[str, Gauge]:
        """Return numbers of its state that every validation logs, by name; one at its bound is a sign of collapse."""
        return {}

    def chance(self, batch: int) -> float | None:
        """Return its loss where features tell nothing apart, ln(`batch`) of a contrast; None if there is no such value."""
        return None

    def attention(self, ecg: Features, text: Features) -> Tensor | None:
        """Return how each sentence of a report attends to its record's segments, (B, S, Q); None if nothing is attended to."""
        return None
