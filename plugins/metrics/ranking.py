"""Ranking metrics: whether records with a class score above those without it. Only the order of the scores counts.

Papers: AUROC, Hanley and McNeil 1982; average precision as the area under the precision-recall curve, Davis and Goadrich 2006,
without interpolation.
"""

from __future__ import annotations

import melp_bench as mb
from melp_bench.metrics import weighted_auroc, weighted_precision


def auroc() -> mb.Metric:
    """Return the area under the ROC curve: how often a record with the class scores above one without it."""
    return mb.Metric("auroc", "macro AUROC", weighted_auroc)


def auprc() -> mb.Metric:
    """Return the average precision: precision at every record with the class, the mean over them."""
    return mb.Metric("auprc", "macro AUPRC", weighted_precision)


@mb.hookimpl
def melp_metrics() -> list[mb.Entry[mb.Metric]]:
    """Return the ranking metrics."""
    return [
        mb.Entry(
            name="auroc",
            build=auroc,
            summary="area under the ROC curve, mean over the classes",
            source="https://doi.org/10.1148/radiology.143.1.7063747",
            license="MIT",
        ),
        mb.Entry(
            name="auprc",
            build=auprc,
            summary="average precision, mean over the classes",
            source="https://doi.org/10.1145/1143844.1143874",
            license="MIT",
        ),
    ]
