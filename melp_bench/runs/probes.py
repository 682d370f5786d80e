"""A probe kept with its checkpoint: fitted on a task's training records by an evaluation, and read again with what it is of.

The file is safetensors; its header says, as JSON, of which model, task and records the probe is, and how well its classes were
told apart on validation records, which chose it. Test records are not touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from melp_bench.code_digest import code_digest
from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import Context, FitsProbe, FittedProbe, TaskRecords
from melp_bench.home import atomic_write, home, make_folder
from melp_bench.metrics.ranking import auroc
from melp_bench.plugins import Catalogue
from melp_bench.protocol import DatasetUse, EvaluationUse, Protocol
from melp_bench.runs.components import build_component
from melp_bench.runs.loaded import LoadedModel
from melp_bench.runs.tasks import task_records
from melp_bench.schema import Frozen, first_problem
from melp_bench.store import Store

FOLDER, KEY = "probes", "probe"
PARTS = ("weight", "bias", "mean", "scale")
Advance = Callable[[int, int], None]


class ProbeHeader(Frozen):
    """What a kept probe says of itself."""

    format: int = 1
    model: str
    identity: str  # of the model: a probe of other weights is refused
    task: str
    records: str  # the store's fingerprint
    classes: list[str]
    prompts: dict[str, str] = Field(default_factory=dict)  # class -> its first prompt
    validation_auroc: dict[str, float | None]  # by class; None where validation has one answer only
    evaluation: str
    options: dict[str, Any]
    version: int
    code: str
    corpora: list[str]  # what the model has seen
    details: dict[str, Any] = Field(default_factory=dict)


def fit_probe(
    model: LoadedModel,
    store: Store,
    task: str,
    catalogue: Catalogue,
    *,
    evaluation: str = "linear_probe",
    options: Mapping[str, Any] | None = None,
    advance: Advance = lambda done, total: None,
) -> tuple[FittedProbe, ProbeHeader]:
    """Return a probe of `task` of a store, split as a holdout, on all of its training labels, and what it says of itself.

    Raises:
        UserError: the evaluation fits no probe that can be kept, or none on this task; or the model cannot read the records.
        UnknownName: there is no such task or evaluation.
    """
    name, entry = f"{store.name}/{task}", catalogue.evaluations[evaluation]
    store.task(task)
    if (reason := store.refusal(model.spec)) is not None:
        raise UserError(f"{model.name!r} cannot read this dataset: {reason}")
    maker = build_component(entry, options or {})
    if not isinstance(maker, FitsProbe):
        raise UserError(f"evaluation {evaluation!r} fits no probe that can be kept; take linear_probe")
    measurement = [*maker.expand([name])][-1]  # of fractions, the largest comes last
    context = _context(model, store, name, evaluation, advance)
    try:
        probe = maker.fitted(context, measurement)
    except NotApplicable as error:
        raise UserError(f"no probe of {name!r}: {error}") from error
    records = context.task(name)
    return probe, ProbeHeader(
        model=model.name,
        identity=model.identity,
        task=name,
        records=store.fingerprint,
        classes=list(probe.classes),
        prompts={c: worded[0] for c, worded in records.prompts.items() if worded},
        validation_auroc=_validation(probe, context, records),
        evaluation=evaluation,
        options=dict(measurement.options),
        version=maker.version,
        code=code_digest(entry),
        corpora=list(model.corpora),
        details=dict(probe.details),
    )


def _context(model: LoadedModel, store: Store, task: str, evaluation: str, advance: Advance) -> Context:
    """Return what the evaluation is handed: the model, and one task of one store."""
    protocol = Protocol(
        name="probe",
        revision=1,
        summary="a probe that is kept",
        datasets={store.name: DatasetUse(dataset=store.name)},
        evaluations=[EvaluationUse(name=evaluation, tasks=[task])],
    )
    stores = {store.name: store}
    return Context(
        model.name,
        lambda: model.model,
        stores,
        lambda name: task_records(name, protocol, stores, {}),
        features=home() / "features",
        identity=model.identity,
        device=model.device,
        advance=lambda done, total, note: advance(done, total),
    )


def _validation(probe: FittedProbe, context: Context, records: TaskRecords) -> dict[str, float | None]:
    """Return how well each class is told apart among the validation records."""
    where = records.parts[0].validation
    logits = probe.logits(context.features(records).embedding[torch.from_numpy(where)]).numpy()
    areas = auroc(logits, records.labels[where].astype(np.float64)).reshape(-1)
    return {name: None if np.isnan(area) else round(float(area), 4) for name, area in zip(probe.classes, areas, strict=True)}


def probe_path(folder: Path, header: ProbeHeader) -> Path:
    """Return where a checkpoint keeps the probe of a task."""
    return folder / FOLDER / f"{re.sub(r'[^A-Za-z0-9._+-]+', '-', header.task).strip('-.')}.safetensors"


def write_probe(path: Path, probe: FittedProbe, header: ProbeHeader) -> None:
    """Write a probe, whole or not at all."""
    make_folder(path.parent)
    tensors = {name: getattr(probe, name).detach().float().cpu().contiguous().clone() for name in PARTS}
    atomic_write(path, save(tensors, metadata={KEY: header.model_dump_json()}))


def read_probe(path: Path, model: LoadedModel) -> tuple[FittedProbe, ProbeHeader]:
    """Return a kept probe of `model`.

    Raises:
        UserError: there is none, it is damaged, or it is of another model.
    """
    if not path.is_file():
        raise UserError(f"no probe {str(path)!r}; make one: melp-bench probe MODEL DATASET/TASK --out {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = ProbeHeader.model_validate_json((file.metadata() or {}).get(KEY, ""))
            tensors = {name: file.get_tensor(name) for name in PARTS}
    except ValidationError as error:
        raise UserError(f"{str(path)!r} is no probe of ours: {first_problem(error)}") from error
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{str(path)!r} is no whole safetensors file ({error}); make the probe again") from error
    width, classes = model.model.encoder.embedding_width, len(header.classes)
    wanted = {"weight": (width, classes), "bias": (classes,), "mean": (width,), "scale": (width,)}
    if header.identity != model.identity:
        raise UserError(
            f"{str(path)!r} is a probe of {header.model!r} with other weights, options or code than {model.name!r} has now; "
            "make it again: melp-bench probe"
        )
    if bad := [name for name in PARTS if tuple(tensors[name].shape) != wanted[name]]:
        raise UserError(
            f"{str(path)!r} is damaged: {bad[0]} has the shape {tuple(tensors[bad[0]].shape)}, not {wanted[bad[0]]}"
        )
    return FittedProbe(tuple(header.classes), **tensors, details=header.details), header


def kept_probes(model: LoadedModel) -> list[Path]:
    """Return the probes that are kept with the model's checkpoint."""
    return [] if model.folder is None else sorted((model.folder / FOLDER).glob("*.safetensors"))
