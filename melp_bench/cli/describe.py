"""What `melp-bench show` says of a component, a recipe or a protocol: facts by name, in the order a reader asks for them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from melp_bench.cli.model_facts import Facts, contaminated, reported
from melp_bench.errors import UserError

if TYPE_CHECKING:
    from melp_bench.components import Dataset, ECGEncoder, Heads, Objective, TextEncoder, View
    from melp_bench.defects import Switched
    from melp_bench.evaluations import Evaluation
    from melp_bench.metrics import Metric
    from melp_bench.progress import RunLogger
    from melp_bench.protocol import DatasetUse, EvaluationUse, Pretrain, Protocol
    from melp_bench.recipe import Part, Recipe, Stage
    from melp_bench.registry import Entry

HUB = re.compile(r"hf:[\w.-]+(?:/[\w.-]+)+")
"""What of the hub a user can import: a file, or a repository, whose files are named if it has several."""


def describe_component(kind: str, entry: Entry[Any], options: Mapping[str, Any]) -> Facts:
    """Return the facts of a component, which is built with `options`; one that does not build says why.

    Raises:
        UserError: an option is unknown, of the wrong type, or missing beside others.
    """
    from melp_bench.components import TextSource
    from melp_bench.testing.heads import WIDTHS
    from melp_bench.testing.small import SIZES
    from melp_bench.testing.text import REPORTS

    given: dict[str, tuple[object, ...]] = {"text encoder": (TextSource(reports=REPORTS),), "objective": (SIZES,)}
    given["heads"] = (WIDTHS,)
    facts: Facts = [("summary", entry.summary)]
    needed = [name for name, p in entry.options().items() if p.default is inspect.Parameter.empty and name not in options]
    if needed and not options:
        facts.append(("to see more", f"melp-bench show {entry.name} " + " ".join(f"--option {name}=VALUE" for name in needed)))
    else:
        facts += _try(kind, partial(entry.build, *given.get(kind, ()), **entry.resolve(options)))
    if kind == "ECG encoder":
        facts += _published(entry)
        facts.append(("reported", reported(entry.name)))
    return [
        *facts,
        ("source", entry.source),
        ("licence", entry.license_note),
        ("plugin", entry.plugin),
        ("options", "\n".join(f"{n} = {_default(p)}" for n, p in entry.options().items()) or "none"),
    ]


def _try(kind: str, build: Callable[[], Any]) -> Facts:
    """Return the facts of what `build` makes, or why it makes nothing."""
    try:
        return _built(kind, build)
    except UserError as error:
        return [("does not build", str(error))]
    except Exception as error:  # a stranger's code; the rest can still be shown
        return [("does not build", f"{type(error).__name__}: {error}")]


def _built(kind: str, build: Callable[[], Any]) -> Facts:
    """Return the facts of what `build` makes; of an ECG encoder without memory where it can be built so, in no time."""
    if kind == "ECG encoder":
        import torch

        with suppress(Exception), torch.device("meta"):  # not one whose steps depend on the signal's values
            return DESCRIBE[kind](build())
    return DESCRIBE[kind](build())


def _published(entry: Entry[Any]) -> Facts:
    """Return where a component's published files are, and the command that imports one."""
    from melp_bench.runs.references import has_own_weights

    family = entry.published
    if family is None and has_own_weights(entry):
        return [
            ("published files", "none to import: its weights come with it, or from what an option names"),
            ("evaluate", f"melp-bench run PROTOCOL --model {entry.name}"),
        ]
    if family is None:
        return [("published files", "none that we know; its weights are drawn at random, or learned by a recipe")]
    hub = HUB.search(family.files)
    file = hub.group() if hub else "FILE"
    more = f"\nadd --text {family.text.model} for the text tower, which zero-shot reads" if family.text is not None else ""
    command = f"melp-bench import {file} --family {entry.name}{more}"
    return [
        ("published files", family.files),
        ("import", command),
        ("evaluate", f"melp-bench run PROTOCOL --model {entry.name}@{file}"),
    ]


def _default(parameter: inspect.Parameter) -> str:
    return "(must be given)" if parameter.default is inspect.Parameter.empty else repr(parameter.default)


def _ecg(encoder: ECGEncoder) -> Facts:
    from melp_bench.throughput.cost import gflops_per_record, num_parameters

    spec = encoder.spec
    widths = f"tokens {encoder.width}, record {encoder.record_width}, embedding {encoder.embedding_width}"
    return [
        ("wants", f"{spec}; {' '.join(spec.leads)}"),
        ("widths", widths + (", in the space shared with reports" if encoder.projected else "")),
        ("parameters", f"{num_parameters(encoder):,}"),
        ("GFLOPs per record", f"{gflops_per_record(encoder):.3g}"),
        ("corpora", ", ".join(encoder.corpora) or "none: no published weights have seen data"),
        ("said by", encoder.corpora_source or ("the source below" if encoder.corpora else "")),
        ("contaminates", contaminated(encoder.corpora)),
    ]


def _text(encoder: TextEncoder) -> Facts:
    from melp_bench.throughput.cost import num_parameters

    return [
        ("width", str(encoder.width)),
        ("causal", "yes: a word depends only on those before it" if encoder.causal else "no"),
        ("parameters", f"{num_parameters(encoder):,} with a vocabulary of {encoder.vocab_size:,}"),
    ]


def _objective(objective: Objective) -> Facts:
    from melp_bench.pretrain.step import wanted_inputs

    return [
        ("scale", objective.scale),
        ("wants", ", ".join(wanted_inputs(objective))),
        *((f"view {name}", ", then ".join(map(repr, made))) for name, made in objective.views().items()),
        ("batch", "the global one, gathered" if objective.needs_global_batch else "each rank's own"),
        ("keeps", "the weights of the lowest validation loss" if objective.keep == "lowest" else "the last weights"),
    ]


def _view(view: View) -> Facts:
    begin, end = view.part
    return [("looks at", "the whole record" if (begin, end) == (0.0, 1.0) else f"{begin:g} to {end:g} of the record")]


def _heads(heads: Heads) -> Facts:
    return [
        ("shared width", str(heads.width)),
        ("tokens", f"narrowed to {heads.ecg_tokens} channels" if heads.ecg_tokens else "as the encoder makes them"),
        ("parameters", f"{sum(p.numel() for p in heads.parameters()):,} beside small encoders"),
    ]


def _dataset(dataset: Dataset) -> Facts:
    return [
        ("version", dataset.version),
        ("records are", "generated: rows are never ranked with real ones" if dataset.generated else "measured"),
        ("folds", "official" if dataset.has_official_folds else "by the SHA-256 of the patient id"),
        ("tasks", "\n".join(f"{name}: {', '.join(task.classes)}" for name, task in dataset.tasks.items())),
        ("data licence", dataset.licence),
        ("citation", dataset.citation),
        ("homepage", dataset.homepage),
    ]


def _metric(metric: Metric) -> Facts:
    low, high = metric.bounds
    return [
        ("label", metric.label),
        ("better", "higher" if metric.higher_is_better else "lower"),
        ("bounds", f"{low:g} to {high:g}"),
        ("needs", metric.needs + (" that validation chooses" if metric.needs == "thresholds" else "")),
    ]


def _logger(logger: RunLogger) -> Facts:
    return [("can be used here", "yes" if (missing := logger.missing()) is None else f"no: {missing}")]


def _evaluated(evaluation: Evaluation) -> Facts:
    return [
        ("label", f"{evaluation.label}, version {evaluation.version}"),
        ("metrics", ", ".join(evaluation.metrics)),
        ("rows", "\n".join(f"{row.task} {row.setting}".strip() for row in evaluation.expand(["DATASET/TASK"]))),
    ]


DESCRIBE: dict[str, Callable[[Any], Facts]] = {
    "ECG encoder": _ecg,
    "text encoder": _text,
    "heads": _heads,
    "objective": _objective,
    "view": _view,
    "evaluation": _evaluated,
    "metric": _metric,
    "dataset": _dataset,
    "logger": _logger,
}


def describe_recipe(recipe: Recipe) -> Facts:
    """Return the facts of a method."""
    return [
        ("summary", recipe.summary),
        ("encoder", _part(recipe.encoder)),
        ("text encoder", _part(recipe.text) if recipe.text else "none"),
        ("heads", _part(recipe.heads) if recipe.heads else "none"),
        *((f"stage {stage.name}", _stage(stage)) for stage in recipe.stages),
        *([] if recipe.stages else [("stages", "none: nothing is trained")]),
        ("reported", reported(recipe.name)),
        ("source", recipe.source),
    ]


def _stage(stage: Stage) -> str:
    """Return what a stage trains by, and how, a line each."""
    lines = [f"{stage.share:.0%} of the steps"] if stage.share < 1 else []
    lines += [f"{o.weight:g} x {o.term}{'' if o.term == o.name else ' = ' + o.name}{_options(o)}" for o in stage.objectives]
    lines += [f"{part} starts from {source}" for part, source in stage.start.items()]
    lines += [f"not trained: {', '.join(frozen)}"] if (frozen := stage.untrained()) else []
    lines += [f"reports of {stage.reports}"] if stage.reports else []
    said = stage.optimiser.model_dump()
    name = {"adamw": "AdamW", "sgd": "SGD", "lars": "LARS"}[said.pop("name")]
    return "\n".join([*lines, f"{name}: " + ", ".join(f"{n} {v}" for n, v in said.items())])


def _part(part: Part) -> str:
    return part.name + _options(part)


def _options(part: Part) -> str:
    return "".join(f" {key}={value}" for key, value in part.options.items())


def _budget(budget: Pretrain) -> str:
    return f"{budget.steps} steps of {budget.batch_size} from {' and '.join(budget.aliases)}"


def describe_protocol(protocol: Protocol) -> Facts:
    """Return the facts of a measuring rule."""
    budget = protocol.pretrain
    interval = protocol.interval
    return [
        ("summary", protocol.summary),
        ("revision", f"{protocol.revision}, {protocol.hash}"),
        ("defects", "\n".join(_defect(name, where, protocol) for name, where in protocol.defects.items() if where)),
        ("datasets", "\n".join(f"{alias}: {_dataset_use(use)}" for alias, use in protocol.datasets.items())),
        ("pretraining", _budget(budget) if budget else "none"),
        ("evaluations", "\n".join(_evaluation_use(use) for use in protocol.evaluations)),
        ("interval", f"{interval.level:.0%} bootstrap over patients, {interval.resamples} resamples"),
        ("models", ", ".join(protocol.models)),
    ]


def _defect(name: str, where: Switched, protocol: Protocol) -> str:
    """Return a switch that is on, what it is, and where it was found."""
    from melp_bench.defects import defect

    one, here = defect(name), "" if isinstance(where, bool) else f" (in {', '.join(where)})"
    of_files = one.of_labels and any(use.split == "published" for use in protocol.datasets.values())
    sets = "is in the label files themselves" if of_files else f"sets {one.changes}"
    return f"{name}{here}: {one.summary}\n  {sets}\n  found in {one.source}"


def _dataset_use(use: DatasetUse) -> str:
    """Return a dataset as a protocol uses it, with what is not as usual."""
    said = use.model_dump(exclude={"dataset", "options", "split"}, exclude_defaults=True)
    return ", ".join([use.dataset, use.split, *(f"{key} = {value}" for key, value in (use.options | said).items())])


def _evaluation_use(use: EvaluationUse) -> str:
    """Return an evaluation as a protocol uses it: its tasks, and the options and metrics that the protocol names."""
    metrics = [" ".join([m.name, *(f"{key}={value}" for key, value in m.options.items())]) for m in use.metrics]
    lines = [f"{use.name}: {', '.join(use.tasks)}"]
    lines += ["  " + ", ".join(f"{key} = {value}" for key, value in use.options.items())] if use.options else []
    return "\n".join(lines + ([f"  metrics {', '.join(metrics)}"] if metrics else []))
