"""What a model's parts offer beside the rest if it can write reports, word by word, with an eye on the record.

Shapes: B records, N words, D channels of the text encoder, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from melp_bench.features import Features


@runtime_checkable
class WritesReports(Protocol):
    """Heads that hold a decoder. The text encoder then has to be causal, with a `WordTable` and a `tokenizer` that spells."""

    def next_words(self, ecg: Features, text: Features) -> Tensor:
        """Return states (B, N, D): times the word table they are the logits of the word after each word.

        `ecg` are features of records (B, ...), with their tokens, and `text` those of the words so far, both as the model makes
        them.
        """


@runtime_checkable
class WordTable(Protocol):
    """A text encoder whose words a decoder's states are compared with."""

    def word_table(self) -> Tensor:
        """Return the embedding of every id, (V, D)."""


@runtime_checkable
class SpellsWords(Protocol):
    """What turns ids into words again: a tokenizer of the `tokenizers` package."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, without marks such as those of begin and end."""
