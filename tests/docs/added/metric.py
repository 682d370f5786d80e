"""A metric, and so a column of every board: the mean negative logarithm of what was said of what was true."""

import math

import numpy as np

import melp_bench as mb


def logarithmic_loss(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    said = np.where(labels.astype(bool), probabilities, 1 - probabilities)  # (N, C)
    total = weights.sum(axis=0)
    mean = -np.log(np.clip(said, 1e-7, 1)).T @ weights / np.where(total > 0, total, np.nan)  # (C, R)
    return np.asarray(mean)


def metric() -> mb.Metric:
    return mb.Metric(
        "added-log-loss",
        "log loss",
        logarithmic_loss,
        higher_is_better=False,
        bounds=(0.0, math.inf),
        needs="probabilities",
    )


@mb.hookimpl
def melp_metrics() -> list[mb.Entry[mb.Metric]]:
    return [mb.Entry("added-log-loss", metric, "the mean negative logarithm of what was said of what was true")]
