"""What an evaluation is handed: one model on the datasets of a run, of which nothing is made that nobody asks for.

Shapes: N records of a task, B records asked for, L leads, T samples, P embedding channels, D channels of the space shared with
reports, Q segments, M tokens, K prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from melp_bench.components import ScoresClasses
from melp_bench.embedding import (
    Embedded,
    Records,
    StatesMeasurements,
    embed,
    embed_share,
    features_of,
    join_shares,
    prompt_encoder,
)
from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations.frozen import changes, freeze
from melp_bench.evaluations.task_records import TaskRecords
from melp_bench.features import Features
from melp_bench.model import Model
from melp_bench.progress import Advance
from melp_bench.signal import SignalSpec
from melp_bench.splits import Positions
from melp_bench.windows import conform_windows, embed_windows, pooled

BATCH = 64


@dataclass(frozen=True)
class ModelTraits:
    """What is known of a model before it has weights."""

    name: str
    reads_text: bool  # it has a text encoder
    is_checkpoint: bool = False  # its weights are there, and not made by the run


class Context:
    """One model, and the tasks it is scored on. The model is loaded, and records are embedded, when first asked for."""

    def __init__(
        self,
        name: str,
        load: Callable[[], Model],
        recordings: Mapping[str, Records],
        tasks: Callable[[str], TaskRecords],
        *,
        features: Path,
        identity: str,
        device: torch.device | None = None,
        advance: Advance = lambda done, total, note: None,
    ) -> None:
        """Keep what is given.

        `load` makes the model, `recordings` are the datasets by alias, `tasks` finds a task by name; `features` is the folder
        of kept features and `identity` the digest of all that they depend on besides the records.
        """
        self.name, self.device = name, device or torch.device("cpu")
        self._load, self._recordings, self._find = load, recordings, tasks
        self._folder, self._identity, self._advance = features, identity, advance
        self._tasks: dict[str, TaskRecords] = {}
        self._features: dict[str, TaskFeatures] = {}
        self._passes: dict[str, Embedded] = {}
        self._loaded: tuple[Model, dict[str, Tensor]] | None = None

    @property
    def model(self) -> Model:
        """The model, on `device`, in eval mode and frozen: to train, train a copy of it."""
        if self._loaded is None:
            model = self._load().to(self.device)
            self._loaded = model, freeze(model)
        return self._loaded[0]

    @contextmanager
    def guarding(self, evaluation: str) -> Iterator[None]:
        """Check that what runs inside leaves the model as it is.

        Raises:
            UserError: it does not; the evaluation is named, and the model is loaded anew when it is next asked for.
        """
        try:
            yield
        finally:
            changed = changes(*self._loaded) if self._loaded is not None else []
            if changed:
                self._loaded = None
        if changed:
            raise UserError(
                f"evaluation {evaluation!r} changed {len(changed)} parts of model {self.name!r}, the first is {changed[0]}; "
                "a model under test is frozen: train a copy, as copy.deepcopy(context.model)"
            )

    def task(self, name: str) -> TaskRecords:
        """Return the records of the task "alias/task".

        Raises:
            UserError: the run has no such task.
        """
        if name not in self._tasks:
            self._tasks[name] = self._find(name)
        return self._tasks[name]

    def features(self, task: TaskRecords) -> TaskFeatures:
        """Return the features of the task's records, each scale embedded when it is first read."""
        if task.name not in self._features or self._features[task.name].task is not task:
            self._features[task.name] = TaskFeatures(self, task)
        return self._features[task.name]

    def signals(self, task: TaskRecords, positions: Positions, spec: SignalSpec | None = None) -> Tensor:
        """Return the task's records at `positions` as `spec` (the encoder's, if none) asks for them, (B, L, T), on `device`."""
        spec = spec or self.model.encoder.spec
        return self._recordings[task.alias].batch(task.positions[positions], spec, device=self.device)

    def measurements(self, task: TaskRecords) -> list[dict[str, float]]:
        """Return what the source states of each of the task's records, by its names; nothing where it states nothing."""
        records = self._recordings[task.alias]
        if not isinstance(records, StatesMeasurements):
            return [{}] * len(task)
        return records.measurements(task.positions)

    def encode(self, signals: Tensor) -> Features:
        """Return all features of conformed `signals` (B, L, T), in one pass of the frozen model, on `device`."""
        with torch.no_grad():  # and not in inference mode, whose tensors nothing can be fitted on
            return features_of(self.model, signals.to(self.device))

    def embed_signals(self, signals: Tensor) -> Tensor:
        """Return what probes read, (B, P), of `signals` (B, L, T), which may have been changed but are as the encoder's `spec`
        says.

        Raises:
            UserError: a value is not finite.
        """
        parts = [self.encode(batch).embedding.float().cpu() for batch in torch.split(signals, BATCH)]
        return require_finite(self.name, torch.cat(parts), "record embeddings")

    def embed_native(self, signals: Tensor, *, rate_hz: float, leads: Sequence[str]) -> Tensor:
        """Return what probes read, (B, P), of `signals` (B, L, T) in millivolts, first prepared as the encoder asks.

        Raises:
            UserError: the encoder cannot be fed with these leads, or a value is not finite.
        """
        spec = self.model.encoder.spec
        windows = conform_windows(signals.to(self.device), rate_hz=rate_hz, leads=leads, spec=spec)
        embedding, _ = embed_windows(self.encode, windows, spec.crops)
        return require_finite(self.name, embedding.cpu(), "record embeddings")

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Return the unit vectors of `prompts` in the space shared with reports, (K, D).

        Raises:
            NotApplicable: the model has no text encoder.
            UserError: a value is not finite.
        """
        encode = prompt_encoder(self.model, self.device)
        if encode is None:
            raise NotApplicable("needs a text encoder")
        return require_finite(self.name, encode(prompts), "prompt features")

    def class_scorer(self, prompts: Sequence[Sequence[str]]) -> Callable[[TaskRecords, Positions], Tensor] | None:
        """Return the function from records to log-odds (B, C) by which the model's heads score classes; None without one.

        `prompts` are those of each of the C classes, which is asked for by the mean of their features. A record of several
        crops has the mean or maximum over them, as its encoder's spec says.
        """
        model = self.model
        heads: object = model.heads
        text = model.text_encoder
        if text is None or not isinstance(heads, ScoresClasses):
            return None
        with torch.no_grad():
            features = model.text(text.tokenize([one for of in prompts for one in of]).to(self.device)).record
        names = torch.stack([part.mean(dim=0) for part in torch.split(features, [len(of) for of in prompts])])  # (C, D)
        require_finite(self.name, names, "prompt features")

        def scores(task: TaskRecords, positions: Positions) -> Tensor:
            found, spec = [], model.encoder.spec
            for start in range(0, len(positions), BATCH):
                where = task.positions[positions[start : start + BATCH]]
                windows = self._recordings[task.alias].windows(where, spec, device=self.device)
                with torch.no_grad():
                    parts = [heads.class_scores(self.encode(one), names) for one in torch.split(windows.signals, BATCH)]
                odds = torch.cat(parts).float()
                found.append(odds if spec.crops is None else pooled(odds, windows.owners, spec.crops.pool))
            return require_finite(self.name, torch.cat(found).cpu(), "class scores") if found else torch.empty(0, len(names))

        return scores

    def embedded(self, alias: str) -> Embedded:
        """Return record and embedding of every record of a dataset: one pass, kept on disk."""
        if alias not in self._passes:
            self._passes[alias] = embed(*self._of(alias), device=self.device, advance=self._told(alias))
        return self._passes[alias]

    def embed_share(self, alias: str, *, rank: int, ranks: int) -> None:
        """Embed one rank's share of a dataset, for the first rank to join and read."""
        embed_share(*self._of(alias), device=self.device, rank=rank, ranks=ranks, advance=self._told(alias))

    def join_shares(self, alias: str, *, ranks: int) -> None:
        """Keep what all ranks embedded of a dataset, where all have."""
        _, identity, records, folder = self._of(alias)
        join_shares(identity, records, folder, device=self.device, ranks=ranks)

    def _of(self, alias: str) -> tuple[Callable[[], Model], str, Records, Path]:
        """Return what a pass over a dataset is made of."""
        return lambda: self.model, self._identity, self._recordings[alias], self._folder

    def _told(self, alias: str) -> Callable[[int, int], None]:
        return lambda done, total: self._advance(done, total, alias)


class TaskFeatures:
    """Features of a task's records on the CPU, float32; a scale that is never read is never made.

    `record` and `embedding` come from one pass over the whole dataset, which every task shares. `segments` and `tokens` come
    from a pass of their own over the task's records, and are held in memory; where that is too much, `Context.encode` works by
    the batch.
    """

    def __init__(self, context: Context, task: TaskRecords) -> None:
        self.context, self.task = context, task

    @cached_property
    def embedding(self) -> Tensor:
        """What probes read, (N, P)."""
        return self._of_task(self.context.embedded(self.task.alias).embedding, "record embeddings")

    @cached_property
    def record(self) -> Tensor:
        """Whole records in the space shared with reports, (N, D)."""
        return self._of_task(self.context.embedded(self.task.alias).record, "record features")

    @property
    def segments(self) -> Tensor:
        """Segments in the space shared with reports, (N, Q, D)."""
        return self._scales["segments"]

    @property
    def segments_mask(self) -> Tensor:
        """Which segments are real, (N, Q)."""
        return self._scales["segments_mask"]

    @property
    def tokens(self) -> Tensor:
        """The encoder's tokens, (N, M, D)."""
        return self._scales["tokens"]

    @property
    def tokens_mask(self) -> Tensor:
        """Which tokens are real, (N, M)."""
        return self._scales["tokens_mask"]

    @cached_property
    def _scales(self) -> Scales:
        parts: dict[str, list[Tensor]] = {}
        for start in range(0, len(self.task), BATCH):
            positions = np.arange(start, min(start + BATCH, len(self.task)))
            made = self.context.encode(self.context.signals(self.task, positions))
            for scale in ("segments", "tokens"):
                tensor, mask = getattr(made, scale), getattr(made, f"{scale}_mask")
                if tensor is not None:
                    real = torch.ones(tensor.shape[:2], dtype=torch.bool) if mask is None else mask.cpu()
                    parts.setdefault(scale, []).append(require_finite(self.context.name, tensor.float().cpu(), scale))
                    parts.setdefault(f"{scale}_mask", []).append(real)
        return Scales((name, _joined(tensors)) for name, tensors in parts.items())

    def _of_task(self, features: Tensor, what: str) -> Tensor:
        chosen = features[torch.from_numpy(self.task.positions)].float()
        return require_finite(self.context.name, chosen, what)


class Scales(dict[str, Tensor]):
    """Features by scale; one that the model does not offer is not applicable."""

    def __missing__(self, scale: str) -> Tensor:
        raise NotApplicable(f"needs {scale.removesuffix('_mask')}, which the model does not offer")


def require_finite(name: str, features: Tensor, what: str) -> Tensor:
    """Return `features` (N, ...) of the model `name`, checked before they are scored.

    Raises:
        UserError: a value is NaN or infinite.
    """
    bad = ~torch.isfinite(features).flatten(1).all(dim=1)  # (N,)
    if bool(bad.any()):
        raise UserError(
            f"model {name!r} gave {what} that are not finite for {int(bad.sum())} of {len(bad)}; "
            f"the first is number {int(bad.int().argmax())}; check its weights and what it makes of flat or missing leads"
        )
    return features


def _joined(parts: list[Tensor]) -> Tensor:
    """Return tensors (B, n, ...) of batches one after the other, followed by zeros (False in a mask) where n differs."""
    longest = max(part.shape[1] for part in parts)

    def padded(part: Tensor) -> Tensor:
        rest: Any = part.new_zeros(len(part), longest - part.shape[1], *part.shape[2:])
        return torch.cat([part, rest], dim=1)

    return torch.cat([padded(part) for part in parts])
