"""Captioning: a model's own decoder writes the report of each test record, and what it states is compared with what is true.

Reports are written by beam search (see `beam_search`), word by word from nothing but the record. Label F1: the classes that a
written report states by rule (see `report_labels`; the phrases of a class are its name and its task's prompts) against the
record's own, the mean over classes; the details say in what share of answers the rule agrees with the truth on the real
reports. BLEU-4 is that of all reports together, from the runs of words that are counted per record (its metric is checked
against torchmetrics), ROUGE-L the mean of torchmetrics' F measure. Of fluent reports that state other diseases both are high,
so that label F1 comes first.

The model is fitted to nothing. One whose heads have no decoder, or whose words cannot be spelled, is not applicable.

Shapes: n records of a test part, C classes, V vocabulary, N ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import melp_bench as mb
from melp_bench.evaluations.report_writing import SpellsWords, WordTable, WritesReports
from melp_bench.features import Features
from melp_plugins.evaluations.beam_search import beam_search
from melp_plugins.evaluations.report_labels import stated_classes

BATCH = 64
COLUMNS = ("runs of 1 word", "runs of 2 words", "runs of 3 words", "runs of 4 words", "words", "ROUGE-L")
"""What the metrics of `metrics/written_reports.py` read behind the classes."""


class Captioning(mb.Evaluation):
    """One row per task, of its scored records that have a report."""

    version = 1
    label = "captioning"
    metrics = ("report-f1", "bleu", "rouge-l")
    reads_prompts = True

    def __init__(self, *, beams: int = 4, most_words: int = 60, length_penalty: float = 1.0, records: int = 500) -> None:
        """Check the options; of a larger test part the first `records` by id are written of, 0 for all.

        Raises:
            UserError: there is no beam or word, or a number of records or a penalty is negative.
        """
        if min(beams, most_words) < 1 or min(records, length_penalty) < 0:
            told = f"beams = {beams}, most_words = {most_words}, records = {records}, length_penalty = {length_penalty}"
            raise mb.UserError(f"evaluation 'captioning' has {told}; wanted at least 1, 1, 0 and 0")
        self.beams, self.most_words, self.length_penalty, self.records = beams, most_words, length_penalty, records

    def fits(self, model: mb.ModelTraits) -> str | None:
        """Return why a model without a text encoder cannot be scored."""
        return None if model.reads_text else "needs a text encoder"

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task."""
        return [mb.Measurement(task, (task,), options=dict(vars(self))) for task in tasks]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return what written reports state and how their words agree, (1, n, C + 6).

        Raises:
            NotApplicable: the model cannot write, or no scored record has a report.
            UserError: torchmetrics is not installed.
        """
        task = context.task(measurement.task)
        writer = Writer(context)
        told = np.array([bool(task.reports[i].strip()) for i in task.scored.tolist()], dtype=bool)
        chosen = task.scored[told][: self.records or None]
        if len(chosen) == 0:
            raise mb.NotApplicable(f"no scored record of {task.name!r} has a report")
        written: list[str] = []
        for start in range(0, len(chosen), BATCH):
            features = context.encode(context.signals(task, chosen[start : start + BATCH]))
            written += [writer.write(features, row, self) for row in range(len(features.record))]
        real = [task.reports[i].strip() for i in chosen.tolist()]
        phrases = {name: (name, *task.prompts.get(name, ())) for name in task.classes}
        truth = task.labels[chosen].astype(np.float64)
        shared, whole = word_counts(written, real)
        values = np.concatenate([_stated(written, phrases), shared, rouge_l(written, real)[:, None]], axis=1)
        return mb.Predictions(
            scores=values[None],
            labels=np.concatenate([truth, whole, np.full((len(chosen), 1), 100.0)], axis=1),
            record_ids=task.record_ids[chosen],
            patients=task.patients[chosen],
            classes=(*task.classes, *COLUMNS),
            kind="value",
            details={
                "written": len(written),
                "different_reports": len(set(written)),
                "agreement_of_real_reports": round(float((_stated(real, phrases) == truth).mean()), 6),
                "first": [
                    {"record": str(task.record_ids[i]), "written": text} for i, text in zip(chosen[:3], written, strict=False)
                ],
            },
        )


class Writer:
    """A context's model as a function from a record's features to a report."""

    def __init__(self, context: mb.Context) -> None:
        """Find the decoder, the words, and the marks of begin and end.

        Raises:
            NotApplicable: one of them is not there.
        """
        text, heads, spelling = _parts(context)
        if text is None:
            raise mb.NotApplicable("needs a text encoder")
        if not isinstance(heads, WritesReports):
            raise mb.NotApplicable("needs heads with a decoder that writes reports")
        words: object = text
        if not text.causal or not isinstance(words, WordTable) or not isinstance(spelling, SpellsWords):
            raise mb.NotApplicable("needs a causal text encoder with a word table and a tokenizer")
        marks = text.tokenize([""]).ids[0].tolist()
        if len(marks) < 2 or marks[0] == marks[-1]:
            raise mb.NotApplicable("needs a text encoder that marks where a report begins and ends")
        self.read, self.heads, self.spelling, self.device = context.model.text, heads, spelling, context.device
        self.begin, self.end, self.table = int(marks[0]), int(marks[-1]), words.word_table().detach()
        self.barred = [self.begin, text.pad_id]

    def write(self, records: Features, row: int, how: Captioning) -> str:
        """Return the report of one record of a batch."""
        one = Features(**{name: tensor[row : row + 1] for name, tensor in records.present().items()})

        def next_word(ids: Tensor) -> Tensor:
            batch = mb.TextBatch(ids, torch.ones_like(ids, dtype=torch.bool), torch.full_like(ids, -1)).to(self.device)
            same = Features(**{name: tensor.expand(len(ids), *tensor.shape[1:]) for name, tensor in one.present().items()})
            with torch.no_grad():
                states = self.heads.next_words(same, self.read(batch))[:, -1]  # (R, D)
            logits = (states @ self.table.T).float()
            logits[:, self.barred] = float("-inf")
            return logits.log_softmax(dim=-1)

        best = beam_search(
            next_word, self.begin, self.end, beams=how.beams, most_words=how.most_words, length_penalty=how.length_penalty
        )
        return self.spelling.decode(list(best.ids)).strip()


def _parts(context: mb.Context) -> tuple[mb.TextEncoder | None, object, object]:
    """Return the text encoder, the heads, and what spells the encoder's words."""
    model = context.model
    return model.text_encoder, model.heads, getattr(model.text_encoder, "tokenizer", None)


def _stated(reports: Sequence[str], phrases: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
    """Return which classes reports state, (n, C), 1 or 0."""
    found = [stated_classes(report, phrases) for report in reports]
    return np.array([[float(name in one) for name in phrases] for one in found], dtype=np.float64)


def word_counts(written: Sequence[str], real: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for runs of 1 to 4 words how many written ones the real report has, and the words written, (n, 5); and of what.

    A run counts no more often than the real report has it; case does not count.
    """
    shared, whole = np.zeros((2, len(written), 5))
    for row, pair in enumerate(zip(written, real, strict=True)):
        one, other = (text.casefold().split() for text in pair)
        for size in range(1, 5):
            mine, theirs = _runs(one, size), _runs(other, size)
            shared[row, size - 1], whole[row, size - 1] = (mine & theirs).total(), mine.total()
        shared[row, 4], whole[row, 4] = len(one), len(other)
    return shared, whole


def _runs(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def rouge_l(written: Sequence[str], real: Sequence[str]) -> NDArray[np.float64]:
    """Return ROUGE-L of each written report, (n,), from 0 to 100; of an empty one 0.

    Raises:
        UserError: torchmetrics is not installed.
    """
    try:
        from torchmetrics.functional.text import rouge_score
    except ImportError as error:
        raise mb.UserError("captioning needs torchmetrics; install it with: pip install 'melp-bench[captions]'") from error
    pairs = [(one.casefold(), other.casefold()) for one, other in zip(written, real, strict=True)]
    scores = [float(rouge_score(*pair, rouge_keys="rougeL")["rougeL_fmeasure"]) if pair[0] else 0.0 for pair in pairs]
    return 100 * np.array(scores, dtype=np.float64)


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return captioning."""
    return [
        mb.Entry(
            "captioning",
            Captioning,
            "reports that a model's own decoder writes: what they state, and how their words agree",
            "https://arxiv.org/abs/2205.01917",
            "MIT",
        )
    ]
