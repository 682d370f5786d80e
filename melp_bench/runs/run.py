"""A run from its words to its board: what `melp_bench.run` does, and the command of that name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from melp_bench.errors import UserError
from melp_bench.home import home, make_folder
from melp_bench.plugins import Catalogue, discover
from melp_bench.progress import Listener, Silence
from melp_bench.protocol import Pretrain, Protocol
from melp_bench.published.tensor_files import is_here
from melp_bench.results import ResultRecord, read_results
from melp_bench.runs.candidates import OnMade, candidate, check_references
from melp_bench.runs.cells import Failure, chosen, chosen_rows
from melp_bench.runs.kept import code_changes, take_over
from melp_bench.runs.loggers import build_loggers
from melp_bench.runs.measurements import Planned, measurements
from melp_bench.runs.plan import Plan, make_plan
from melp_bench.runs.published_files import PublishedFiles, open_label_files
from melp_bench.runs.ranks import num_ranks
from melp_bench.runs.references import CheckpointReference, PublishedReference, RecipeReference, Reference, parse, spread
from melp_bench.runs.run_spec import RunOptions, RunSpec, make_spec
from melp_bench.runs.stores import open_stores, unprepared
from melp_bench.signal import SignalSpec
from melp_bench.store import Store

if TYPE_CHECKING:
    from lightning_fabric import Fabric

NamedReference = tuple[str, Reference]
OnPlan = Callable[[Plan, Mapping[str, int]], None]
"""Called with the plan before any work, and how many rows of each model are made anew because code changed."""


@dataclass(frozen=True)
class Sketch:
    """What can be said of a run before its data and files are here: nothing of it can have been computed."""

    absent: Mapping[str, str]  # what is not here -> what brings it
    rows: tuple[tuple[str, str], ...]  # model and what is measured


@dataclass(frozen=True)
class RunResult:
    """What a run leaves: its plan, its rows in the plan's order, the folder of the board, and the cells that failed."""

    plan: Plan
    rows: tuple[ResultRecord, ...]
    board: Path
    failures: tuple[Failure, ...] = ()


def run(
    protocol: str | Path | Protocol,
    models: Sequence[str] | None = None,
    **options: Unpack[RunOptions],
) -> RunResult:
    """Pretrain (or load) models, evaluate them under a protocol, write the board, and return its rows.

    What is there already is not computed again. A cell that fails is named in the result's `failures`, and the others are
    made. Options are those of `melp-bench run`; see `RunOptions`.

    Raises:
        UserError: something that was named does not fit, or every cell failed.
        UnknownName: there is no such protocol, model, dataset or component.
    """
    return carry_out(make_spec(protocol, models, **options), discover())


def carry_out(
    spec: RunSpec,
    catalogue: Catalogue,
    *,
    listener: Listener | None = None,
    on_plan: OnPlan = lambda plan, changes: None,
    on_made: OnMade = lambda candidate, store: None,
) -> RunResult:
    """Do what is asked, and return what it leaves; on several ranks the first writes rows and board.

    `on_made` is called with each candidate that was pretrained, and its corpus. A cell that fails is named, and the others
    are made; where all fail, the first error is raised.
    """
    from melp_bench.runs.training import make_fabric

    listener, files = listener or Silence(), open_label_files(spec.protocol, spec.published_splits)
    references = _references(spec, catalogue)
    if unprepared(spec.protocol, catalogue):
        _expected_cells(spec, references, catalogue)  # what is wrong with it is told before any data is made
    several = num_ranks() > 1 or spec.engine.sharded
    made = partial(make_fabric, spec.device, _precision(spec.protocol), sharded=spec.engine.sharded)
    fabric: Fabric | None = made() if several else None
    loggers = build_loggers(spec.loggers, catalogue)
    with fabric.rank_zero_first() if fabric else nullcontext():
        stores = open_stores(spec.protocol, catalogue, listener, spec.workers)
    plan = _plan(spec, references, catalogue, stores, files)
    known = list(read_results(plan.results, listener.say))  # what is no row is told before any work
    on_plan(plan, code_changes(plan, known))
    failures: list[Failure] = []
    if missing := plan.missing():
        make_folder(spec.out / "results")  # a place that cannot be written is told before any work
        if spec.jobs > 1 or spec.on:
            from melp_bench.runs.shares import share_out

            failures = share_out(plan, spec, listener, on_made)
        else:
            from melp_bench.runs.execute import execute

            failures = execute(
                plan,
                catalogue,
                fabric=fabric or made(),
                listener=listener,
                features=home() / "features",
                loggers=loggers,
                on_made=on_made,
                engine=spec.engine,
            )
        if failures and len(failures) == sum(row.reason is None for row in missing):
            failures[0].raise_again()
    first = fabric is None or fabric.global_rank == 0
    if first:
        take_over(plan, known)
    records = list(read_results(plan.results, lambda told: None))  # it was told before
    if first:
        from melp_bench.board import write_board

        try:
            write_board(records, spec.out)
        except UserError as error:  # rows that are there can be read all the same
            if plan.missing():
                raise
            listener.say(str(error))
    mine = {record.key: record for record in records if record.protocol == spec.protocol.name}
    return RunResult(
        plan, tuple(mine[row.inputs.key] for row in plan.rows if row.inputs.key in mine), spec.out, tuple(failures)
    )


def carry_out_share(spec: RunSpec, keys: Collection[str]) -> list[Failure]:
    """Make the missing rows of these keys, in a process of its own, and return the cells that failed; no board is written."""
    from melp_bench.runs.execute import execute
    from melp_bench.runs.training import make_fabric

    catalogue, files = discover(), open_label_files(spec.protocol, spec.published_splits)
    stores = open_stores(spec.protocol, catalogue, Silence(), spec.workers)
    whole = _plan(spec, _references(spec, catalogue), catalogue, stores, files)
    plan = replace(whole, rows=tuple(row for row in whole.rows if row.inputs.key in keys))
    failures = execute(
        plan,
        catalogue,
        fabric=make_fabric(spec.device, _precision(spec.protocol)),
        listener=Silence(),
        features=home() / "features",
        loggers=build_loggers(spec.loggers, catalogue),
        engine=spec.engine,
    )
    return [replace(one, error=None) for one in failures]  # an exception of a plugin may not travel


def look_ahead(spec: RunSpec, catalogue: Catalogue) -> tuple[Plan, Mapping[str, int]] | Sketch:
    """Return the plan of a run with the rows that changed code makes anew, or what is to be had first; nothing is touched."""
    files, references = open_label_files(spec.protocol, spec.published_splits), _references(spec, catalogue)
    absent = {f"corpus {alias}": what for alias, what in unprepared(spec.protocol, catalogue).items()}
    for _, reference in references:
        if isinstance(reference, PublishedReference) and not is_here(reference.file):
            absent[reference.file] = "it is to be fetched, which the run does"
    if absent:
        rows = _expected_cells(spec, references, catalogue)
        return Sketch(absent, tuple((label, str(row)) for label, row in rows))
    stores = open_stores(spec.protocol, catalogue, Silence(), spec.workers)
    plan = _plan(spec, references, catalogue, stores, files)
    return plan, code_changes(plan, read_results(plan.results))


def _expected_cells(spec: RunSpec, references: Sequence[NamedReference], catalogue: Catalogue) -> list[tuple[str, Planned]]:
    """Return the cells that are asked for, as model and measurement, as far as they are known without data.

    Raises:
        UserError: a model cannot be trained or is not there, or a pattern of cells fits none.
    """
    check_references([reference for _, reference in references], catalogue, spec.settings)
    planned = measurements(spec.protocol, catalogue)
    labels = [_label(reference, spec, catalogue) for _, reference in references]
    return chosen([(label, row) for label in labels for row in planned], spec.only, spec.skip)


def _plan(
    spec: RunSpec,
    references: Sequence[NamedReference],
    catalogue: Catalogue,
    stores: Mapping[str, Store],
    files: PublishedFiles,
) -> Plan:
    """Return the plan of what is asked, given its data."""
    from melp_bench.runs.training import as_resolved

    pretrain = as_resolved(spec.protocol.pretrain, spec.device) if spec.protocol.pretrain else None
    candidates = [
        candidate(
            reference,
            catalogue,
            settings=spec.settings,
            pretrain=budget,
            stores=stores,
            checkpoints=home() / "checkpoints",
            engine=spec.engine,
        )
        for name, reference in references
        for budget in _budgets(pretrain, name, reference)
    ]
    plan = make_plan(spec.protocol, candidates, catalogue, stores, spec.out / "results", files)
    return replace(plan, rows=chosen_rows(plan.rows, spec.only, spec.skip))


def _budgets(pretrain: Pretrain | None, name: str, reference: Reference) -> list[Pretrain | None]:
    """Return the budget of a model once for every seed that it is to be pretrained by."""
    if pretrain is None or not isinstance(reference, RecipeReference):
        return [pretrain]
    seeds = range(pretrain.seed, pretrain.seed + pretrain.seeds.get(name, 1))
    return [pretrain.model_copy(update={"seed": seed}) for seed in seeds]


def _references(spec: RunSpec, catalogue: Catalogue) -> list[NamedReference]:
    """Return what every model that is asked for stands for, each under the name it was given."""
    bare_recipe = spec.protocol.pretrain.recipe if spec.protocol.pretrain else None
    names = [name for model in spec.models for name in spread(model, catalogue)]
    return [(name, parse(name, catalogue, bare_recipe=bare_recipe)) for name in names]


def encoder_spec(spec: RunSpec, catalogue: Catalogue) -> SignalSpec | None:
    """Return what the encoder of the one model that is asked for wants; None where that is not known before it is imported.

    Raises:
        UserError: several models are asked for.
    """
    from melp_bench.checkpoint import read_manifest
    from melp_bench.runs.candidates import recipe_of
    from melp_bench.runs.components import signal_spec
    from melp_bench.runs.resolution import resolve

    references = _references(spec, catalogue)
    if len(references) != 1:
        raise UserError(f"{len(references)} models are given; wanted one")
    (_, reference) = references[0]
    if isinstance(reference, PublishedReference):
        return signal_spec(reference.encoder, {})
    if isinstance(reference, RecipeReference):
        part = resolve(recipe_of(reference), catalogue, spec.settings).encoder
    else:
        part = read_manifest(reference.folder).recipe.encoder
    return signal_spec(catalogue.ecg_encoders[part.name], part.options)


def _label(reference: Reference, spec: RunSpec, catalogue: Catalogue) -> str:
    """Return the name that a reader will see, as far as it is known."""
    from melp_bench.checkpoint import read_manifest
    from melp_bench.runs.candidates import recipe_of
    from melp_bench.runs.resolution import resolve

    if isinstance(reference, RecipeReference):
        return resolve(recipe_of(reference), catalogue, spec.settings).name
    if isinstance(reference, CheckpointReference):
        return read_manifest(reference.folder).recipe.name
    return f"{reference.encoder.name}@{Path(reference.file).name}"


def _precision(protocol: Protocol) -> str:
    return protocol.pretrain.precision if protocol.pretrain else "32"
