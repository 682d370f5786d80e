"""Evaluations: the contract, and what every evaluation is handed. The evaluations themselves are plugins."""

from melp_bench.evaluations.context import Context, ModelTraits, TaskFeatures
from melp_bench.evaluations.evaluation import Evaluation, Measurement
from melp_bench.evaluations.fitted_probe import FitsProbe, FittedProbe
from melp_bench.evaluations.task_records import PublishedRows, TaskRecords

__all__ = [
    "Context",
    "Evaluation",
    "FitsProbe",
    "FittedProbe",
    "Measurement",
    "ModelTraits",
    "PublishedRows",
    "TaskFeatures",
    "TaskRecords",
]
