"""One training step as a module: records and reports in, every term of the loss out.

Shapes: B records, L leads, T samples, C classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from melp_bench.components import Objective, TextBatch
from melp_bench.errors import NotApplicable, UserError
from melp_bench.features import Features
from melp_bench.model import Model
from melp_bench.pretrain.gathered import Gather, rows_of_all
from melp_bench.pretrain.views import WHOLE, Part, Views, at_spec, looked_at, make_views, views_of

INPUTS = (
    "ecg", "text", "labels", "patients", "signal", "encoder", "reports", "text_encoder", "heads", "progress"
)  # fmt: skip
"""What there is beside an objective's own views and what its `local` returns."""
OF_REPORTS = {"text", "reports", "text_encoder"}


class Batch:
    """What one step reads; no dataclass, because mixed precision takes dataclasses apart and refuses frozen ones.

    Attributes:
        signal: (B, L, T), as the encoder's spec asks; None where nothing but reports is read.
        reports: tokenised, where the model reads them.
        labels: (B, C), where the dataset has them.
        patients: (B,) long, equal for the records of one person.
        parts: shares of the records as conformed by themselves, (B, L, T) each, where a view looks at one.
    """

    def __init__(
        self,
        signal: Tensor | None,
        reports: TextBatch | None = None,
        labels: Tensor | None = None,
        patients: Tensor | None = None,
        parts: Mapping[Part, Tensor] | None = None,
    ) -> None:
        self.signal, self.reports, self.labels, self.patients = signal, reports, labels, patients
        self.parts = {**(parts or {}), **({} if signal is None else {WHOLE: signal})}

    def __len__(self) -> int:
        return len(self.signal) if self.signal is not None else 0 if self.reports is None else len(self.reports.ids)

    def pieces(self, size: int) -> list[Batch]:
        """Return the batch cut into batches of `size` records, the last one of what is left."""
        cuts = [slice(begin, begin + size) for begin in range(0, len(self), size)]
        return [
            Batch(
                None if self.signal is None else self.signal[cut],
                None if self.reports is None else _reports_of(self.reports, cut),
                None if self.labels is None else self.labels[cut],
                None if self.patients is None else self.patients[cut],
                {part: tensor[cut] for part, tensor in self.parts.items()},
            )
            for cut in cuts
        ]


def _reports_of(batch: TextBatch, cut: slice) -> TextBatch:
    """Return some of the reports, padded as all are."""
    return TextBatch(batch.ids[cut], batch.mask[cut], batch.sentences[cut])


def local_of(objective: Objective) -> Callable[..., Mapping[str, Tensor | Features]] | None:
    """Return what an objective declares to do per record, before the gather; None if nothing."""
    found: Callable[..., Mapping[str, Tensor | Features]] | None = getattr(objective, "local", None)
    return found


def parameters_of(objective: Objective, method: Literal["local", "forward"]) -> tuple[str, ...]:
    """Return what an objective names in `local` (nothing where it has none) or in `forward`."""
    declared = getattr(objective, method, None)  # declared by each objective, not by the base class
    return () if declared is None else tuple(inspect.signature(declared).parameters)


def wanted_inputs(objective: Objective) -> tuple[str, ...]:
    """Return the names of what the loop makes for an objective: what `local` and `forward` name, less what `local` returns.

    Raises:
        UserError: a parameter is none of the inputs that the loop can make, or `forward` names nothing.
    """
    views = objective.views()
    known = [*INPUTS, *views, *(f"{name}_signal" for name in views)]
    local, forward = parameters_of(objective, "local"), parameters_of(objective, "forward")
    unknown = [name for name in (forward if local_of(objective) is None else local) if name not in known]
    if unknown or not forward:
        raise UserError(
            f"objective {type(objective).__name__!r} asks for {unknown or 'nothing'}; what there is: {', '.join(known)}"
        )
    return tuple(dict.fromkeys(name for name in (*local, *forward) if name in known))


class Step(nn.Module):
    """The model and its objectives, by the names of their terms; `forward` returns each term as (mean, count).

    Each objective is attached to the model here: the model has the weights that training begins with. `views` are those that
    a recipe names in place of an objective's own: term -> view -> what it is made of. With `ema`, an average follows the
    weights, keeps so much of itself at each step, and is used in `eval()`.

    Raises:
        UserError: an objective reads reports of a model without a text encoder, or what there is not.
    """

    def __init__(
        self,
        model: Model,
        objectives: Mapping[str, Objective],
        views: Mapping[str, Views] | None = None,
        *,
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.average, self.ema = model, None, ema
        self.wanted = {term: wanted_inputs(objective) for term, objective in objectives.items()}
        named = {term: views_of(term, objective, (views or {}).get(term, {})) for term, objective in objectives.items()}
        self.views = {term: at_spec(self._named(made, term), model.encoder.spec) for term, made in named.items()}
        if model.text_encoder is None and self.reads_reports:
            needy = [term for term, names in self.wanted.items() if OF_REPORTS & set(names)]
            raise UserError(f"objectives {needy} read reports, but the recipe has no [text] encoder")
        for term, objective in objectives.items():
            with _told(term, model):
                objective.attach(model)
        self.objectives = nn.ModuleDict(objectives)
        if ema:
            follows = get_ema_multi_avg_fn(ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(model, multi_avg_fn=follows, use_buffers=True).requires_grad_(False)

    @property
    def used(self) -> Model:
        """The model that makes features: in `eval()` the average, where there is one."""
        return self.model if self.average is None or self.training else cast("Model", self.average.module)

    def follow(self) -> None:
        """Let the average follow the weights, after each step of the optimiser; the first takes them as they are."""
        if self.average is not None:
            self.average.update_parameters(self.model)

    @property
    def reads_reports(self) -> bool:
        """Whether some objective reads reports."""
        return any(OF_REPORTS & set(names) for names in self.wanted.values())

    @property
    def reads_signals(self) -> bool:
        """Whether some objective reads more than reports."""
        return any(set(names) - OF_REPORTS for names in self.wanted.values())

    @property
    def parts(self) -> tuple[Part, ...]:
        """The shares of a record that views look at."""
        return tuple({looked_at(made): None for views in self.views.values() for made in views.values()})

    def forward(
        self,
        batch: Batch,
        generator: torch.Generator,
        gather: Gather | None = None,
        progress: float = 0.0,
        *,
        instead: Callable[[], Any] | None = None,
    ) -> Any:
        """Return term -> (mean over what it counts, that count), both zero-dimensional.

        `instead` is what else is to be done, and returned, where the parameters are at hand: those of a sharded module are only
        in a call.
        """
        if instead is not None:
            return instead()
        terms: dict[str, tuple[Tensor, Tensor]] = {}
        for term, given in self.given(batch, generator, progress):
            terms[term] = self.term(term, given, gather, len(batch))
        return terms

    def given(self, batch: Batch, generator: torch.Generator, progress: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each term with what its objective can name: inputs, views, and what its `local` made of them just now."""
        for term, inputs in self.inputs(batch, generator, progress):
            yield term, self.with_local(term, inputs)

    def inputs(self, batch: Batch, generator: torch.Generator, progress: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each term with what the model makes for it, inputs and views; all is made before the first."""
        made, views = self._inputs(batch, progress), self._views(batch, generator)
        for term in self._objectives():
            yield term, made | views[term]

    def with_local(self, term: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a term's inputs with what its objective's `local`, where it has one, makes of them."""
        objective = self._objectives()[term]
        with _told(term, self.model):
            if (local := local_of(objective)) is None:
                return dict(given)
            return {**given, **local(**{name: given[name] for name in parameters_of(objective, "local")})}

    def term(self, term: str, given: Mapping[str, Any], gather: Gather | None, records: int) -> tuple[Tensor, Tensor]:
        """Return a term, out of all that its objective can name: its mean, and over how many; over `records` by default."""
        objective = self._objectives()[term]
        with _told(term, self.model):
            value = objective(**self._for_forward(objective, given, gather))
        mean, count = value if isinstance(value, tuple) else (value, torch.tensor(float(records)))
        return mean, count.to(mean.device).float()

    def _named(self, views: Views, term: str) -> Views:
        """Return the views that a term names."""
        return {name: made for name, made in views.items() if {name, f"{name}_signal"} & set(self.wanted[term])}

    def _objectives(self) -> dict[str, Objective]:
        return {name: module for name, module in self.objectives.items() if isinstance(module, Objective)}

    def _for_forward(self, objective: Objective, given: Mapping[str, Any], gather: Gather | None) -> dict[str, Any]:
        """Return what `forward` names, out of all that is `given`."""
        names = parameters_of(objective, "forward")
        missing = [name for name in names if name not in given]
        if missing:
            raise UserError(f"{type(objective).__name__!r} asks for {missing} in forward; its local returns no such name")
        if gather is None or not objective.needs_global_batch:
            return {name: given[name] for name in names}
        return {name: rows_of_all(given[name], gather) for name in names}

    def _inputs(self, batch: Batch, progress: float) -> dict[str, Any]:
        """Return every input but views that some objective wants, each made once."""
        wanted = {name for names in self.wanted.values() for name in names}
        made: dict[str, Any] = {"signal": batch.signal, "labels": batch.labels, "patients": batch.patients}
        made |= {"reports": batch.reports, "text": batch.reports, "ecg": batch.signal}
        for name in wanted & made.keys():
            if made[name] is None:
                raise UserError(f"an objective reads {LACKING[name]}")
        model = self.used
        made |= {"encoder": model.encoder, "text_encoder": model.text_encoder, "heads": model.heads, "progress": progress}
        if batch.signal is not None and "ecg" in wanted:
            made["ecg"] = model.ecg(batch.signal)
        if batch.reports is not None and "text" in wanted:
            made["text"] = model.text(batch.reports)
        return made

    def _views(self, batch: Batch, generator: torch.Generator) -> dict[str, dict[str, Any]]:
        """Return term -> what it names of its views: features by the view's name, and the view itself; each made once."""
        made = make_views(self.views, batch.parts, generator)
        features: dict[int, Features] = {}  # by the tensor they are of, which terms may share
        found: dict[str, dict[str, Any]] = {}
        for term, signals in made.items():
            found[term] = {f"{name}_signal": signal for name, signal in signals.items()}
            for name, signal in signals.items():
                if name in self.wanted[term] and id(signal) not in features:
                    features[id(signal)] = self.used.ecg(signal)
                found[term] |= {name: features[id(signal)]} if name in self.wanted[term] else {}
        return found


LACKING = {
    "labels": "labels, but the pretraining dataset has no task of the name in [pretrain] labels",
    "patients": "patients, but the batch names none",
    "text": "reports, but the dataset has none",
    "reports": "reports, but the dataset has none",
    "ecg": "records, but there are only reports",
    "signal": "records, but there are only reports",
}


@contextmanager
def _told(term: str, model: Model) -> Iterator[None]:
    """Turn what does not apply into a line that names the term and the encoder.

    Raises:
        UserError: in its place.
    """
    try:
        yield
    except NotApplicable as reason:
        kind = type(model.encoder).__name__
        raise UserError(f"objective {term!r} cannot train {kind!r}: {reason}; choose another encoder or objective") from reason
