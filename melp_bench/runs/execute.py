"""Carrying out a plan: per candidate weights, then every missing row, each written as soon as it is known."""

from __future__ import annotations

import logging
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from melp_bench.checkpoint import Manifest, check_checkpoint, is_checkpoint, read_manifest
from melp_bench.errors import NotApplicable
from melp_bench.evaluations import Context, TaskRecords
from melp_bench.home import remove_leftovers
from melp_bench.measure import measure
from melp_bench.model import Model
from melp_bench.plugins import Catalogue
from melp_bench.prediction_files import FOLDER, write_predictions
from melp_bench.pretrain.engine import PLAIN, Engine
from melp_bench.progress import Advance, Listener, stage_if_needed
from melp_bench.recipe import Recipe
from melp_bench.results import Outcome, ResultRecord, write_result
from melp_bench.runs.building import load_model
from melp_bench.runs.candidates import Candidate, OnMade, features_digest
from melp_bench.runs.cells import Failure, failed
from melp_bench.runs.corpora import corpus_of
from melp_bench.runs.embedding_on_ranks import embed_on_all_ranks
from melp_bench.runs.kept import now
from melp_bench.runs.loggers import Loggers
from melp_bench.runs.overlap import OverlapCheck, refuse_tested_corpus
from melp_bench.runs.plan import Plan, Row
from melp_bench.runs.prepared_records import prepared
from melp_bench.runs.tasks import task_records
from melp_bench.runs.training import obtain
from melp_bench.throughput.machine import device_name
from melp_bench.throughput.timing import time_calls

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SPEED_BATCH = 16
logger = logging.getLogger(__name__)
FindTask = Callable[[str], TaskRecords]


def execute(
    plan: Plan,
    catalogue: Catalogue,
    *,
    fabric: Fabric,
    listener: Listener,
    features: Path,
    loggers: Loggers | None = None,
    on_made: OnMade = lambda candidate, store: None,
    engine: Engine = PLAIN,
) -> list[Failure]:
    """Compute the missing rows of the plan, each written as soon as it is known, and return the cells that failed.

    A row that does not fit its model is written with its reason, and nothing is loaded for it. `features` is the folder of kept
    features. On several ranks all take part in pretraining and embed what rows will read, and the first computes the rows; then
    an error in pretraining ends the run, as ranks that wait for one another must not part ways.
    """
    rows = plan.missing()
    fitting = [row for row in rows if row.reason is None]
    tasks = cache(partial(task_records, protocol=plan.protocol, stores=plan.stores, files=plan.files))
    candidates = list({row.candidate.told: row.candidate for row in fitting}.values())
    failures, lost = _obtain_all(plan, fitting, candidates, catalogue, tasks, fabric, listener, loggers, on_made, engine)
    for folder in (features, plan.results / plan.protocol.name, plan.results / FOLDER):
        remove_leftovers(folder)
    context_of = partial(_context, plan=plan, catalogue=catalogue, tasks=tasks, features=features, device=fabric.device)
    if fabric.world_size > 1:
        embed_on_all_ranks(plan, [row for row in fitting if row.candidate.told not in lost], context_of, fabric, listener)
    if fabric.global_rank or not rows:
        return failures
    made = len(failures)
    overlap = OverlapCheck(plan.stores, listener)
    with listener.stage("evaluate", "rows") as advance:
        advance(0, len(rows), "")
        for row in rows:
            if row.reason is not None:
                write_result(_record(row, plan, row.reason, {}, fabric.device), plan.results)
                made += 1
        for candidate in candidates:
            mine = [row for row in fitting if row.candidate is candidate and candidate.told not in lost]
            if not mine:
                continue
            advance(made, len(rows), candidate.told)
            with stage_if_needed(listener, f"embed {candidate.told}", "rec") as embedding:
                try:
                    manifest = read_manifest(candidate.folder)
                    context = context_of(candidate, manifest, advance=embedding)
                    facts = model_facts(context.model, manifest)
                    facts["licences"] = licences(manifest.recipe, catalogue)
                    facts["records_per_second"] = records_per_second(context.model, fabric.device)
                except Exception as error:
                    failures += _all_failed(mine, error, listener)
                    made += len(mine)
                    continue
                for row in mine:
                    advance(made, len(rows), f"{candidate.told} {row}")
                    try:
                        scored = plan.stores[row.planned.scored_alias], tasks(row.planned.scored_task)
                        _score(row, plan, context, {**facts, "overlap": overlap.facts(manifest, *scored)})
                    except Exception as error:
                        failures.append(_failed(row, error, listener))
                    made += 1
                    advance(made, len(rows), "")
    return failures


def _obtain_all(
    plan: Plan,
    rows: Sequence[Row],
    candidates: Sequence[Candidate],
    catalogue: Catalogue,
    tasks: FindTask,
    fabric: Fabric,
    listener: Listener,
    loggers: Loggers | None,
    on_made: OnMade,
    engine: Engine,
) -> tuple[list[Failure], set[str]]:
    """Make every candidate's checkpoint that is not there; return the cells that failed with one, and those candidates."""
    failures, lost = list[Failure](), set[str]()
    for candidate in candidates:
        if is_checkpoint(candidate.folder):
            check_checkpoint(candidate.folder)  # before hours are spent on the others
    budget = plan.protocol.pretrain
    refuse_tested_corpus(rows, plan.protocol, plan.stores, tasks)
    for candidate in candidates:
        corpus = corpus_of(budget, plan.stores) if budget else None
        mine = budget.model_copy(update={"seed": candidate.seed}) if budget and candidate.seed is not None else budget
        made = is_checkpoint(candidate.folder)
        try:
            obtain(candidate, catalogue, mine, corpus, fabric, listener, loggers=loggers, engine=engine)
        except Exception as error:
            if fabric.world_size > 1:
                raise
            lost.add(candidate.told)
            failures += _all_failed([row for row in rows if row.candidate is candidate], error, listener)
            continue
        if not made and corpus is not None and fabric.global_rank == 0:
            on_made(candidate, corpus)
    return failures, lost


def _all_failed(rows: Sequence[Row], error: Exception, listener: Listener) -> list[Failure]:
    """Tell once that a model's cells failed together, and return the failures."""
    found = [_failed(rows[0], error, listener), *(failed(row, error) for row in rows[1:])]
    if len(found) > 1:
        listener.say(f"        and with it {len(found) - 1} more of {rows[0].candidate.told}")
    return found


def _failed(row: Row, error: Exception, listener: Listener) -> Failure:
    """Tell that a cell failed, with the traceback in the log, and return the failure."""
    found = failed(row, error)
    logger.info("%s", found, exc_info=error)
    listener.say(f"failed  {found}")
    return found


def _context(
    candidate: Candidate,
    manifest: Manifest,
    *,
    plan: Plan,
    catalogue: Catalogue,
    tasks: FindTask,
    features: Path,
    device: torch.device,
    advance: Advance,
) -> Context:
    """Return what evaluations of the candidate are handed; nothing is loaded yet."""
    return Context(
        candidate.told,
        lambda: load_model(candidate.folder, catalogue)[0],
        {alias: prepared(store, plan.protocol.datasets[alias]) for alias, store in plan.stores.items()},
        tasks,
        features=features,
        identity=features_digest(manifest, catalogue),
        device=device,
        advance=advance,
    )


def _score(row: Row, plan: Plan, context: Context, facts: Mapping[str, Any]) -> Path:
    """Compute the row and return its file; a pair that cannot be scored is a row too, with its reason."""
    started, planned = time.perf_counter(), row.planned
    result: Outcome | str
    kept = ""
    try:
        with context.guarding(planned.name):
            predictions = planned.evaluation.run(context, planned.measurement)
        result = measure(predictions, planned.metrics, plan.protocol.interval)
        told: dict[str, Any] = {}
        for name in planned.measurement.tasks:
            for what, value in context.task(name).details.items():
                told.setdefault(what, {})[name] = value
        result = result.model_copy(update={"details": {**result.details, **told}})
        kept = write_predictions(predictions, plan.results)  # before the row: a row that is there has its predictions
    except NotApplicable as verdict:
        result = str(verdict)
    record = _record(row, plan, result, facts, context.device, round(time.perf_counter() - started, 3))
    return write_result(record.model_copy(update={"predictions": kept}), plan.results)


def _record(
    row: Row, plan: Plan, result: Outcome | str, facts: Mapping[str, Any], device: torch.device, seconds: float = 0.0
) -> ResultRecord:
    """Return the row with its outcome, or with the reason why there is none."""
    planned, created = row.planned, now()
    return ResultRecord(
        key=row.inputs.key,
        inputs=row.inputs,
        protocol=plan.protocol.name,
        protocol_revision=plan.protocol.revision,
        protocol_hash=plan.protocol.hash,
        model=row.candidate.label,
        evaluation=planned.name,
        evaluation_label=planned.evaluation.label,
        evaluation_version=planned.evaluation.version,
        order=planned.order,
        task=planned.measurement.task,
        setting=planned.measurement.setting,
        generated=plan.stores[planned.scored_alias].generated,
        status="not-applicable" if isinstance(result, str) else "scored",
        reason=result if isinstance(result, str) else "",
        outcome=None if isinstance(result, str) else result,
        facts=dict(facts),
        environment=environment(device),
        created=created,
        current_since=created,
        seconds=seconds,
    )


def model_facts(model: Model, manifest: Manifest) -> dict[str, Any]:
    """Return what a reader may want to know of a model beside its scores."""
    encoder, spec = model.encoder, model.encoder.spec
    return {
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "corpora": list(manifest.corpora),
        "recipe": manifest.recipe.model_dump(mode="json"),
        "weights_sha256": manifest.weights_sha256,
        "signal": str(spec),
        "pretraining": dict(manifest.pretraining),
    } | ({"collapse": signs} if (signs := manifest.pretraining.get("signs")) else {})


def licences(recipe: Recipe, catalogue: Catalogue) -> dict[str, str]:
    """Return the licence of each encoder that a model is built of, as its plugin states it."""
    found = {"ECG encoder": catalogue.ecg_encoders[recipe.encoder.name].license_note}
    if recipe.text is not None:
        found["text encoder"] = catalogue.text_encoders[recipe.text.name].license_note
    return found


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
