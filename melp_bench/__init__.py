"""melp-bench: ECG and ECG-language encoders under one protocol. This is all that a plugin imports."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melp_bench.components import (
        ECGEncoder,
        Gauge,
        GuessesWords,
        Heads,
        Objective,
        PretrainingModel,
        ScoresClasses,
        Sizes,
        TextBatch,
        TextEncoder,
        TextSource,
        View,
        Widths,
    )
    from melp_bench.errors import NotApplicable, UnknownName, UserError
    from melp_bench.evaluations import Context, Evaluation, FittedProbe, Measurement, ModelTraits, TaskRecords
    from melp_bench.features import Features
    from melp_bench.hookspecs import hookimpl
    from melp_bench.leads import LEADS
    from melp_bench.masking import MaskedEncoding
    from melp_bench.metrics import Metric
    from melp_bench.predictions import Predictions
    from melp_bench.progress import LoggedRun, RunLogger, StepValues
    from melp_bench.published.family import Family
    from melp_bench.records import BadRecord, Dataset, Download, RecordInfo, Signal, Task, Wave
    from melp_bench.registry import Entry
    from melp_bench.runs.loaded import LoadedModel, load
    from melp_bench.runs.run import RunResult, run
    from melp_bench.signal import Crops, Filter, Scaling, SignalSpec

__version__ = "0.1.0"

_HOME = {
    "published.family": "Family",
    "components": "ECGEncoder Gauge GuessesWords Heads Objective PretrainingModel ScoresClasses Sizes TextBatch TextEncoder "
    "TextSource View Widths",
    "errors": "NotApplicable UnknownName UserError",
    "evaluations": "Context Evaluation FittedProbe Measurement ModelTraits TaskRecords",
    "features": "Features",
    "hookspecs": "hookimpl",
    "leads": "LEADS",
    "masking": "MaskedEncoding",
    "metrics": "Metric",
    "predictions": "Predictions",
    "progress": "LoggedRun RunLogger StepValues",
    "records": "BadRecord Dataset Download RecordInfo Signal Task Wave",
    "registry": "Entry",
    "runs.loaded": "LoadedModel load",
    "runs.run": "RunResult run",
    "signal": "Crops Filter Scaling SignalSpec",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = [
    "LEADS",
    "BadRecord",
    "Context",
    "Crops",
    "Dataset",
    "Download",
    "ECGEncoder",
    "Entry",
    "Evaluation",
    "Family",
    "Features",
    "Filter",
    "FittedProbe",
    "Gauge",
    "GuessesWords",
    "Heads",
    "LoadedModel",
    "LoggedRun",
    "MaskedEncoding",
    "Measurement",
    "Metric",
    "ModelTraits",
    "NotApplicable",
    "Objective",
    "Predictions",
    "PretrainingModel",
    "RecordInfo",
    "RunLogger",
    "RunResult",
    "Scaling",
    "ScoresClasses",
    "Signal",
    "SignalSpec",
    "Sizes",
    "StepValues",
    "Task",
    "TaskRecords",
    "TextBatch",
    "TextEncoder",
    "TextSource",
    "UnknownName",
    "UserError",
    "View",
    "Wave",
    "Widths",
    "hookimpl",
    "load",
    "run",
]


def __getattr__(name: str) -> Any:
    """Return a public name, imported on first use, so that `melp-bench --help` needs no torch."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'melp_bench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"melp_bench.{_MODULE_OF[name]}"), name)
