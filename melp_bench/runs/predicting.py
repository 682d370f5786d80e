"""A model and a kept probe on record files that nobody prepared: scores of the classes, and where the model looks.

Shapes: C classes, S prompts, N tokens, Q segments.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from melp_bench.checkpoint import read_manifest
from melp_bench.components import Signal
from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import FittedProbe
from melp_bench.plugins import Catalogue
from melp_bench.pretrain.attention import looks_of
from melp_bench.pretrain.step import Step
from melp_bench.records import BadRecord, ReadsFiles
from melp_bench.runs.building import build_step
from melp_bench.runs.components import build_component
from melp_bench.runs.loaded import LoadedModel
from melp_bench.runs.pictures import STEPS
from melp_bench.runs.probes import ProbeHeader
from melp_bench.signal import conform

MOST_LOOKS = 5
"""Classes whose attention is drawn: those of the highest scores."""

logger = logging.getLogger(__name__)
Reader = tuple[str, ReadsFiles]


@dataclass(frozen=True)
class Attention:
    """Where a model looks for some classes, by the attention of its last stage's objective."""

    sentences: tuple[str, ...]  # S: class and prompt
    time: NDArray[np.float64]  # (S, N) over the tokens
    segments: NDArray[np.float64]  # (S, Q)
    seconds: float  # that the tokens cover evenly, from the record's begin


@dataclass(frozen=True)
class Scored:
    """A record's scores, or why it has none.

    Attributes:
        path: as it was given.
        reader: the dataset that read it.
        scores: class -> probability, as the probe puts it, highest first.
    """

    path: Path
    reason: str = ""
    reader: str = ""
    signal: Signal | None = None
    scores: Mapping[str, float] | None = None
    attention: Attention | None = None


def file_readers(catalogue: Catalogue, chosen: str | None = None, options: Mapping[str, str] | None = None) -> list[Reader]:
    """Return the datasets that read a record's file by itself, built with `options` where one is chosen.

    Raises:
        UserError: the chosen one reads no single files, or an option does not fit it.
        UnknownName: there is no such dataset.
    """
    if chosen is not None:
        reader = build_component(catalogue.datasets[chosen], options or {})
        if not isinstance(reader, ReadsFiles):
            known = ", ".join(name for name, _ in file_readers(catalogue))
            raise UserError(f"dataset {chosen!r} reads no single files; those that do: {known}")
        return [(chosen, reader)]
    if options:
        raise UserError("options of a reader were given, and no reader; name it with --reader")
    found: list[Reader] = []
    for entry in catalogue.datasets:
        try:
            dataset = entry.build(**entry.resolve({}))
        except Exception:  # a stranger's code, or one with options that must be given
            continue
        if isinstance(dataset, ReadsFiles):
            found.append((entry.name, dataset))
    return found


def read_record(path: Path, readers: Sequence[Reader]) -> tuple[str, Signal]:
    """Return the dataset that reads a file, and the signal in it.

    Raises:
        BadRecord: none reads it, or it cannot be used.
    """
    for name, reader in readers:
        signal = reader.read_file(path)
        if signal is not None:
            return name, signal
    there = path.exists() or any(path.parent.glob(f"{_plain(path.name)}.*"))
    what = "no dataset reads such a file" if there else "there is no such file"
    raise BadRecord("not-read", f"{what}; read are files of {', '.join(name for name, _ in readers) or 'no dataset'}")


class Predictor:
    """A model with its probe; a record that cannot be scored is returned with the reason."""

    def __init__(self, model: LoadedModel, probe: FittedProbe, header: ProbeHeader, catalogue: Catalogue) -> None:
        self.model, self.probe, self.header = model, probe, header
        self._step = _attending(model, catalogue)

    def score(self, path: Path, readers: Sequence[Reader]) -> Scored:
        """Return the scores of the record in a file."""
        try:
            reader, signal = read_record(path, readers)
        except BadRecord as error:
            return Scored(path, reason=str(error))
        if (reason := self.model.spec.refusal(signal.leads)) is not None:
            return Scored(path, reason=reason, reader=reader)
        embedding = torch.from_numpy(self.model.embed(signal.millivolts, signal.rate_hz, signal.leads))
        if not bool(torch.isfinite(embedding).all()):
            return Scored(path, reason="its features are not finite", reader=reader)
        chances = torch.sigmoid(self.probe.logits(embedding[None])[0]).tolist()
        ranked = sorted(zip(self.probe.classes, chances, strict=True), key=lambda pair: -pair[1])
        return Scored(path, "", reader, signal, dict(ranked), self._looks(signal, [name for name, _ in ranked]))

    def _looks(self, signal: Signal, ranked: Sequence[str]) -> Attention | None:
        """Return where the model looks for the classes of the highest scores, of those that have a prompt."""
        named = [(name, self.header.prompts[name]) for name in ranked if name in self.header.prompts][:MOST_LOOKS]
        if self._step is None or not named:
            return None
        text = self._step.model.text_encoder
        if text is None:
            return None
        batch = torch.from_numpy(signal.millivolts)[None].to(self.model.device)
        one = conform(batch, rate_hz=signal.rate_hz, leads=signal.leads, spec=self.model.spec)
        reports = text.tokenize([f"{prompt.rstrip('.')}." for _, prompt in named]).to(self.model.device)
        try:
            looks = looks_of(self._step, one.expand(len(named), -1, -1), reports)
        except NotApplicable as reason:
            logger.info("no attention of %s: %s", self.model.name, reason)
            self._step = None
            return None
        sentences = tuple(f"{name}: {prompt}" for name, prompt in named)
        time, segments = (values[:, 0].double().cpu().numpy() for values in (looks.time, looks.segments))  # of its one sentence
        return Attention(sentences, time, segments, self.model.spec.seconds)


def _attending(model: LoadedModel, catalogue: Catalogue) -> Step | None:
    """Return the last stage's training step, which may know where sentences attend to; None where it cannot."""
    recipe = model.recipe
    if recipe.text is None or not recipe.stages or model.folder is None:
        return None
    if read_manifest(model.folder).pretraining.get("best_step", 0) < STEPS:  # until then sentences look nowhere
        return None
    try:
        return build_step(recipe.stages[-1], catalogue, model.model, classes=1).to(model.device)
    except UserError as error:
        logger.info("no attention of %s: %s", model.name, error)
        return None


def _plain(name: str) -> str:
    """Return a file's name without what a glob would read."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
