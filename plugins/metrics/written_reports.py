"""Metrics of written reports, as the evaluation `captioning` lays them out: a column per class, then six of words.

A class's column says with 1 that the written report states it, and the truth that it is so. Of words: for runs of one to four
words how many of the written ones are in the real report, and as truth how many were written; the words written, and as truth
those of the real report; and ROUGE-L. So BLEU is that of all drawn reports together, as it is defined, and not a mean over
reports, most of which share no run of four words. Papers: Papineni et al. 2002 (BLEU), Lin 2004 (ROUGE).
Shapes: N records, C classes, R sets of weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_plugins.metrics.means import mean_of_drawn

Floats = NDArray[np.float64]
Values = NDArray[np.floating[Any]]
WORDS = 6  # columns of words, the last ones


def macro_f1(values: Values, truth: NDArray[Any], weights: Floats) -> Floats:
    """Return the mean F1, (R,), of the classes that are true or stated in what was drawn."""
    classes = max(1, values.shape[1] - WORDS)  # a task has one at least
    stated, true = (array[:, :classes] > 0.5 for array in (values, truth))
    hits = (stated & true).T.astype(np.float64) @ weights  # (C, R)
    either = stated.T.astype(np.float64) @ weights + true.T.astype(np.float64) @ weights
    each = np.divide(2 * hits, either, out=np.full(hits.shape, np.nan), where=either > 0)
    known = ~np.isnan(each)
    mean: Floats = np.divide(
        np.where(known, each, 0.0).sum(axis=0), known.sum(axis=0), out=np.full(each.shape[1], np.nan), where=known.any(axis=0)
    )
    return mean


def corpus_bleu(values: Values, truth: NDArray[Any], weights: Floats) -> Floats:
    """Return BLEU-4 of all drawn reports together, (R,), from 0 to 100."""
    hits, runs = (array[:, -WORDS:-2].astype(np.float64).T @ weights for array in (values, truth))  # (4, R)
    written, real = (array[:, -2].astype(np.float64) @ weights for array in (values, truth))  # (R,)
    shares = np.divide(hits, runs, out=np.zeros(hits.shape), where=runs > 0).clip(0.0, 1.0)
    logs = np.log(shares, out=np.full(shares.shape, -np.inf), where=shares > 0).mean(axis=0)
    short = np.divide(real, written, out=np.full(real.shape, np.inf), where=written > 0)
    found: Floats = 100 * np.exp(np.minimum(0.0, 1 - short) + logs)
    return np.where(weights.sum(axis=0) > 0, found, np.nan)


def mean_rouge(values: Values, truth: NDArray[Any], weights: Floats) -> Floats:
    """Return the mean of the last column, (R,)."""
    found: Floats = mean_of_drawn(values[:, -1].astype(np.float64)[None] @ weights, weights)[0]
    return found


def label_f1_metric() -> mb.Metric:
    """Return whether written reports state what is true of the records."""
    return mb.Metric("report-f1", "label F1", macro_f1, needs="values", descriptive=True)


def bleu_metric() -> mb.Metric:
    """Return how many of the runs of one to four words that are written are in the real reports, from 0 to 100."""
    return mb.Metric("bleu", "BLEU-4", corpus_bleu, bounds=(0.0, 100.0), needs="values", descriptive=True)


def rouge_metric() -> mb.Metric:
    """Return how long the longest row of words is that both reports have in one order, as an F measure from 0 to 100."""
    return mb.Metric("rouge-l", "ROUGE-L", mean_rouge, bounds=(0.0, 100.0), needs="values", descriptive=True)


@mb.hookimpl
def melp_metrics() -> list[mb.Entry[mb.Metric]]:
    """Return the metrics of written reports."""
    return [
        mb.Entry(
            "report-f1",
            label_f1_metric,
            "F1 of the classes that written reports state",
            "https://arxiv.org/abs/1901.07042",
            "MIT",
        ),
        mb.Entry(
            "bleu",
            bleu_metric,
            "runs of words that written and real reports share",
            "https://aclanthology.org/P02-1040/",
            "MIT",
        ),
        mb.Entry(
            "rouge-l", rouge_metric, "the longest row of words in both reports", "https://aclanthology.org/W04-1013/", "MIT"
        ),
    ]
