"""Carrying out a plan: per method weights, features, then every missing row, each written as soon as it is known."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from melp_bench.checkpoint import Manifest, check_checkpoint, is_checkpoint
from melp_bench.embedding import Embedded, embed, prompt_encoder
from melp_bench.errors import NotApplicable
from melp_bench.evaluations.cells import run_cell
from melp_bench.evaluations.subject import Subject, TaskData
from melp_bench.model import Model
from melp_bench.plugins import Catalogue
from melp_bench.progress import Listener, stage_if_needed
from melp_bench.protocol import Protocol
from melp_bench.results import Outcome, ResultRecord, write_result
from melp_bench.runs.building import load_model
from melp_bench.runs.label_views import Views, describe, published_task
from melp_bench.runs.methods import Method, use_digest
from melp_bench.runs.overlap import OverlapCheck, refuse_tested_corpus
from melp_bench.runs.plan import Plan, Row
from melp_bench.runs.training import obtain
from melp_bench.store import Store
from melp_bench.throughput.machine import device_name
from melp_bench.throughput.timing import time_calls

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SPEED_BATCH = 16


@dataclass(frozen=True)
class Bench:
    """What every part of a run shares."""

    catalogue: Catalogue
    stores: Mapping[str, Store]
    fabric: Fabric
    listener: Listener
    features: Path  # the folder of kept features
    views: Views = field(default_factory=dict)  # label files of tasks with the published view


@dataclass(frozen=True)
class Ready:
    """A method that is ready to be scored."""

    subject: Subject
    tasks: Mapping[str, TaskData]
    facts: Mapping[str, Any]
    manifest: Manifest


def execute(plan: Plan, bench: Bench) -> list[Path]:
    """Compute the missing rows of the plan, each written as soon as it is known, and return the files written.

    On several ranks all take part in pretraining, and the first computes the rows.
    """
    rows = plan.missing()
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row.method.label, []).append(row)
    methods = [mine[0].method for mine in by_method.values()]
    for method in methods:
        if is_checkpoint(method.folder):
            check_checkpoint(method.folder)  # before hours are spent on the others
    budget = plan.protocol.pretrain
    refuse_tested_corpus(rows, plan.protocol, bench.stores)
    for method in methods:
        corpus = bench.stores[budget.dataset] if budget else None
        obtain(method, bench.catalogue, budget, corpus, bench.fabric, bench.listener)
    written: list[Path] = []
    if bench.fabric.global_rank or not rows:
        return written
    overlap = OverlapCheck(bench.stores, bench.listener)
    with bench.listener.stage("evaluate", "rows") as advance:
        for mine in by_method.values():
            advance(len(written), len(rows), mine[0].method.label)
            ready = _make_ready(mine, plan.protocol, bench)
            for row in mine:
                advance(len(written), len(rows), f"{row.method.label} {row.cell}")
                seen = overlap.facts(ready.manifest, bench.stores[row.cell.scored_alias], ready.tasks[row.cell.tasks[-1]])
                written.append(write_result(_row(row, plan.protocol, bench, ready, {"overlap": seen}), plan.results))
                advance(len(written), len(rows), "")
    return written


def _make_ready(rows: Sequence[Row], protocol: Protocol, bench: Bench) -> Ready:
    """Load the model of `rows`, which all have one method, and embed what they read."""
    method, device = rows[0].method, bench.fabric.device
    model, manifest = load_model(method.folder, bench.catalogue)
    model = model.to(device).eval()
    needed = sorted({task for row in rows for task in row.cell.tasks})
    aliases = sorted({task.partition("/")[0] for task in needed})
    embedded = {alias: _embedded(model, manifest, alias, method.label, bench) for alias in aliases}
    tasks = {task: _task_data(task, protocol, bench, embedded) for task in needed}
    facts = model_facts(method, model, manifest) | {"records_per_second": records_per_second(model, device)}
    return Ready(Subject(method.label, prompt_encoder(model, device)), tasks, facts, manifest)


def _embedded(model: Model, manifest: Manifest, alias: str, label: str, bench: Bench) -> Embedded:
    """Return the features of a store; a stage is shown where they are not kept from an earlier pass."""
    device, store = bench.fabric.device, bench.stores[alias]
    with stage_if_needed(bench.listener, f"embed {label}", "rec") as advance:
        return embed(
            model,
            use_digest(manifest),
            store,
            bench.features,
            device=device,
            advance=lambda done, total: advance(done, total, alias),
        )


def _task_data(name: str, protocol: Protocol, bench: Bench, embedded: Mapping[str, Embedded]) -> TaskData:
    """Return the records that a task is about, with their features."""
    alias, _, task_name = name.partition("/")
    store, features = bench.stores[alias], embedded[alias]
    if name in bench.views:
        return published_task(name, store, features, bench.views[name])
    chosen = np.flatnonzero(store.eligible(task_name))
    index = torch.from_numpy(chosen)
    task = store.task(task_name)
    return TaskData(
        name=name,
        classes=task.classes,
        labels=store.labels(task_name)[chosen],
        record_ids=store.record_ids[chosen],
        patients=store.patient_ids[chosen],
        folds=store.folds[chosen],
        split=protocol.datasets[alias].split,
        embedding=features.embedding[index],
        record=features.record[index],
        prompts=task.prompts,
        dataset=store.name,
    )


def _row(row: Row, protocol: Protocol, bench: Bench, ready: Ready, facts: Mapping[str, Any]) -> ResultRecord:
    """Return the computed row; a pair that cannot be scored is a row too, with its reason."""
    started = time.perf_counter()
    outcome: Outcome | None = None
    reason = ""
    try:
        outcome = run_cell(row.cell, ready.subject, ready.tasks, protocol.interval)
        if read := {task: describe(bench.views[task], ready.tasks[task]) for task in row.cell.tasks if task in bench.views}:
            outcome = outcome.model_copy(update={"details": {**outcome.details, "label_files": read}})
    except NotApplicable as verdict:
        reason = str(verdict)
    return ResultRecord(
        key=row.inputs.key,
        inputs=row.inputs,
        protocol=protocol.name,
        protocol_revision=protocol.revision,
        model=row.method.label,
        evaluation=row.cell.evaluation,
        evaluation_version=row.cell.version,
        task=row.cell.task,
        setting=row.cell.setting,
        generated=bench.stores[row.cell.scored_alias].generated,
        status="scored" if outcome is not None else "not-applicable",
        reason=reason,
        outcome=outcome,
        facts={**ready.facts, **facts},
        environment=environment(bench.fabric.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - started, 3),
    )


def model_facts(method: Method, model: Model, manifest: Manifest) -> dict[str, Any]:
    """Return what a reader may want to know of a model beside its scores."""
    encoder, spec = model.encoder, model.encoder.spec
    return {
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "corpora": list(manifest.corpora),
        "recipe": method.recipe.model_dump(mode="json"),
        "weights_sha256": manifest.weights_sha256,
        "signal": f"{spec.rate_hz:g} Hz, {spec.seconds:g} s, {len(spec.leads)} leads, {spec.scaling}",
        "pretraining": dict(manifest.pretraining),
    }


def records_per_second(model: Model, device: torch.device) -> float:
    """Return how many conformed records the model embeds in a second: the median over some batches of 16."""
    spec = model.encoder.spec
    signal = torch.randn(SPEED_BATCH, len(spec.leads), spec.samples, generator=torch.Generator().manual_seed(0)).to(device)

    def call() -> None:
        with torch.inference_mode():
            model.embed(signal)

    (first,) = time_calls(call, repeats=1, warmup=1, device=device)
    repeats = min(max(int(1 / max(first, 1e-9)), 1), 15)
    return round(SPEED_BATCH / statistics.median(time_calls(call, repeats=repeats, warmup=0, device=device)), 1)


def environment(device: torch.device) -> dict[str, str]:
    """Return what made the row: device, threads and versions."""
    versions = {package: metadata.version(package) for package in ("melp-bench", "torch", "transformers", "timm", "numpy")}
    return {
        "device": device.type,
        "processor": device_name(device),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
    } | versions
