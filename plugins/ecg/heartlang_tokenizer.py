"""HeartLang's QRS tokenizer: a record becomes the sentence of its heartbeats, lead by lead.

Paper: Reading Your Heart: Learning ECG Words and Sentences via Pre-training ECG Language Model (Jin et al., ICLR 2025),
    https://arxiv.org/abs/2502.10707
The published code states no licence; this is written from the paper and from measured behaviour.
Beats are found by XQRS (wfdb) in the first lead used and cut from all leads at the same places. A word is `word_samples` long
with the R peak in its middle; it reaches half way to the neighbouring peaks and is filled with zeros.
Shapes: B records, L leads, T samples, W words of a sentence, S samples of a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Sentence:
    """Heartbeats of records, in words; rows of zeros with lead and second 0 fill a sentence up."""

    words: Tensor  # (B, W, S)
    leads: Tensor  # (B, W) long: index of the lead + 1
    seconds: Tensor  # (B, W) long: the whole second in which the R peak lies + 1

    @property
    def mask(self) -> Tensor:
        """True where a word is a heartbeat, (B, W)."""
        return self.leads > 0


@dataclass(frozen=True)
class QRSTokenizer:
    """Records to sentences.

    Attributes:
        all_leads: False as published: a sentence longer than `max_words` loses its tail, which is whole leads. True: every lead
        keeps the
            same heartbeats, spread evenly over the record.
    """

    rate_hz: int = 100
    max_words: int = 256
    word_samples: int = 96
    used_leads: Sequence[int] = tuple(range(12))
    all_leads: bool = False

    def __call__(self, signal: Tensor) -> Sentence:
        """Return the sentences of `signal` (B, L, T), on its device; words carry its gradient, their places none."""
        read = [self.sentence(record, self.peaks(record.detach().cpu().numpy())) for record in signal]
        words, leads, seconds = (torch.stack([getattr(one, part) for one in read]) for part in ("words", "leads", "seconds"))
        return Sentence(words, leads, seconds)

    def peaks(self, record: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the samples of the R peaks of a record (L, T), found in the first lead used; none in a flat lead."""
        from wfdb import processing

        lead = record[self.used_leads[0]].astype(np.float64)
        if not np.isfinite(lead).all() or np.ptp(lead) == 0:
            return np.zeros(0, dtype=np.int64)
        return np.asarray(processing.xqrs_detect(lead, fs=self.rate_hz, verbose=False), dtype=np.int64)

    def sentence(self, record: Tensor, peaks: NDArray[np.int64]) -> Sentence:
        """Return the sentence, without a batch dimension, of a record (L, T) whose R peaks are given."""
        leads, seconds = (np.zeros(self.max_words, dtype=np.int64) for _ in range(2))
        samples = np.full((self.max_words, self.word_samples), -1, dtype=np.int64)  # (W, S) where a word's samples come from
        beats = self._places(peaks, record.shape[1])
        if self.all_leads:
            room = self.max_words // len(self.used_leads)
            kept = (
                np.unique(np.linspace(0, len(beats) - 1, room).round().astype(int)) if len(beats) > room else range(len(beats))
            )
            beats = [beats[index] for index in kept]
        row = 0
        for lead in self.used_leads:
            for peak, first, last, at in beats[: self.max_words - row]:
                samples[row, at : at + last - first] = np.arange(first, last)
                leads[row], seconds[row] = lead + 1, peak // self.rate_hz + 1
                row += 1
        where, which, when = (torch.from_numpy(table).to(record.device) for table in (samples, leads, seconds))
        words = record[which.clamp(min=1) - 1].gather(1, where.clamp(min=0)) * (where >= 0)  # (W, S)
        return Sentence(words, which, when)

    def _places(self, peaks: NDArray[np.int64], samples: int) -> list[tuple[int, int, int, int]]:
        """Return for each peak: its sample, the first and past-the-last sample of its word, and where in the word they start.

        A stretch that is too long is cut to the word around its peak. One that fits is moved right, out of the middle, if its
        part before the peak is longer than half a word; this happens to the last beat of a record that ends soon after it.
        """
        half, places = self.word_samples // 2, []
        middles = [int(a + b) // 2 for a, b in pairwise(peaks)]
        starts = [max(0, int(peaks[0]) - half), *middles] if len(peaks) else []
        ends = [*middles, min(samples, int(peaks[-1]) + half)] if len(peaks) else []
        for peak, start, end in zip(peaks.tolist(), starts, ends, strict=True):
            if end - start > self.word_samples:
                start, end = max(start, peak - half), min(end, peak + half)
            at = max(0, half - (peak - start))
            places.append((peak, start, min(end, start + self.word_samples - at), at))
        return places
