"""The whole extension contract: nine hooks. A plugin is a module (or object) with any of them, listed as an entry point.

[project.entry-points.melp_bench]
my-encoder = "my_package.my_module"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from melp_bench.components import ECGEncoder, Heads, Objective, TextEncoder, View
    from melp_bench.evaluations import Evaluation
    from melp_bench.metrics import Metric
    from melp_bench.progress import RunLogger
    from melp_bench.records import Dataset
    from melp_bench.registry import Entry

PROJECT = "melp_bench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def melp_ecg_encoders() -> list[Entry[ECGEncoder]]:  # type: ignore[empty-body]
    """Return ECG encoders; each is built as `build(**options)`."""


@hookspec
def melp_text_encoders() -> list[Entry[TextEncoder]]:  # type: ignore[empty-body]
    """Return text encoders; each is built as `build(source, **options)`, `source` a `TextSource`."""


@hookspec
def melp_heads() -> list[Entry[Heads]]:  # type: ignore[empty-body]
    """Return heads into the space shared with reports; each is built as `build(widths, **options)`, `widths` a `Widths`."""


@hookspec
def melp_objectives() -> list[Entry[Objective]]:  # type: ignore[empty-body]
    """Return alignment or self-supervised objectives; each is built as `build(sizes, **options)`, `sizes` a `Sizes`."""


@hookspec
def melp_views() -> list[Entry[View]]:  # type: ignore[empty-body]
    """Return views of records, augmentations for example; each is built as `build(**options)`."""


@hookspec
def melp_evaluations() -> list[Entry[Evaluation]]:  # type: ignore[empty-body]
    """Return evaluations; each is built as `build(**options)`."""


@hookspec
def melp_metrics() -> list[Entry[Metric]]:  # type: ignore[empty-body]
    """Return metrics; each is made as `build(**options)`."""


@hookspec
def melp_datasets() -> list[Entry[Dataset]]:  # type: ignore[empty-body]
    """Return datasets; each is built as `build(**options)`."""


@hookspec
def melp_loggers() -> list[Entry[RunLogger]]:  # type: ignore[empty-body]
    """Return loggers of pretrainings; each is built as `build(**options)`."""
