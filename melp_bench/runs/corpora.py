"""What a recipe is pretrained on: one store of the protocol, or several as one; and what of it a stage reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from melp_bench.pretrain.reports import ReportSource
from melp_bench.pretrain.source import PretrainSource
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.texts import read_reports, split_by_text
from melp_bench.pretrain.validation import Source
from melp_bench.protocol import Pretrain
from melp_bench.recipe import Recipe, Stage
from melp_bench.runs.building import pretraining_labels
from melp_bench.splits import holdout
from melp_bench.store import Store
from melp_bench.store.joined import JoinedStore


def corpus_of(budget: Pretrain, stores: Mapping[str, Store]) -> Store:
    """Return the store that the budget names, or those that it names as one."""
    parts = [stores[alias] for alias in budget.aliases]
    return parts[0] if len(parts) == 1 else JoinedStore(parts)


def parts_of(store: Store) -> list[Store]:
    """Return the stores that a corpus is made of: itself, where it is one."""
    return list(store.parts) if isinstance(store, JoinedStore) else [store]


def data_of(store: Store) -> str | list[str]:
    """Return the fingerprint of a corpus, or those of all its stores, in their order."""
    prints = [part.fingerprint for part in parts_of(store)]
    return prints[0] if len(prints) == 1 else prints


def without_reports(store: Store) -> list[str]:
    """Return the names of a corpus's datasets of which no record has a report."""
    return [part.name for part in parts_of(store) if not any(report.strip() for report in part.reports)]


def vocabulary_reports(recipe: Recipe, store: Store) -> list[str]:
    """Return the reports that a text encoder may learn its vocabulary from: all that some stage learns from."""
    if recipe.text is None:
        return []
    reports = [store.reports[i] for i in holdout(store.folds)[0].train]
    for stage in recipe.stages:
        if stage.reports is not None:
            own = read_reports(Path(stage.reports))
            reports += [own[i] for i in split_by_text(own)[0]]
    return reports


def source_of(stage: Stage, step: Step, budget: Pretrain, store: Store) -> Source:
    """Return what a stage learns from: records with what its objectives read beside them, or reports alone."""
    text = step.model.text_encoder if step.reads_reports else None
    if step.reads_signals or text is None:
        labels = pretraining_labels(budget, store)
        return PretrainSource(store, step.model.encoder.spec, text, labels, step.parts)
    if stage.reports is not None:
        reports = read_reports(Path(stage.reports))
        return ReportSource(text, reports, *split_by_text(reports))
    told = np.array([bool(report.strip()) for report in store.reports])
    (part,) = holdout(store.folds)
    return ReportSource(text, store.reports, part.train[told[part.train]], part.validation[told[part.validation]])
