"""melp-bench: ECG and ECG-language encoders under one protocol. This is all that a plugin imports."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melp_bench.checkpoints.family import Family
    from melp_bench.components import (
        BadRecord,
        Dataset,
        Download,
        ECGEncoder,
        Objective,
        RecordInfo,
        Signal,
        Sizes,
        Task,
        TextBatch,
        TextEncoder,
        TextSource,
    )
    from melp_bench.errors import NotApplicable, UnknownName, UserError
    from melp_bench.features import Features
    from melp_bench.hookspecs import hookimpl
    from melp_bench.registry import Entry
    from melp_bench.signal import LEADS, Scaling, SignalSpec

__version__ = "0.1.0"

_HOME = {
    "checkpoints.family": "Family",
    "components": (
        "BadRecord Dataset Download ECGEncoder Objective RecordInfo Signal Sizes Task TextBatch TextEncoder TextSource"
    ),
    "errors": "NotApplicable UnknownName UserError",
    "features": "Features",
    "hookspecs": "hookimpl",
    "registry": "Entry",
    "signal": "LEADS Scaling SignalSpec",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = [
    "LEADS",
    "BadRecord",
    "Dataset",
    "Download",
    "ECGEncoder",
    "Entry",
    "Family",
    "Features",
    "NotApplicable",
    "Objective",
    "RecordInfo",
    "Scaling",
    "Signal",
    "SignalSpec",
    "Sizes",
    "Task",
    "TextBatch",
    "TextEncoder",
    "TextSource",
    "UnknownName",
    "UserError",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    """Return a public name, imported on first use, so that `melp-bench --help` needs no torch."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'melp_bench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"melp_bench.{_MODULE_OF[name]}"), name)
