"""What is asked of every text encoder.

Shapes: B reports, N words, Q sentences, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from melp_bench.components import TextBatch, TextEncoder, TextSource
from melp_bench.errors import NotApplicable
from melp_bench.features import Features
from melp_bench.testing.compare import (
    demand_all_used,
    demand_equal,
    demand_finite,
    demand_masks,
    demand_same,
    demand_widths,
    projected_sum,
    round_trip,
    under_two_seeds,
)
from melp_bench.testing.verdict import demand

REPORTS = (
    "Sinus rhythm. Normal ECG.",
    "Atrial fibrillation with rapid ventricular response. Left axis deviation. Possible anterior infarct, age undetermined.",
    "Sinus bradycardia, rate 48 bpm. First degree AV block; PR interval 236 ms. QRS duration 98 ms.",
    "Complete right bundle branch block. T wave inversion in V1 to V3.",
)
AWKWARD = {
    "an empty report": "",
    "blanks": "  \n ",
    "one word": "sinus",
    "no full stop": "sinus rhythm with frequent premature ventricular complexes",
    "full stops only": "... . .",
    "other alphabets": "Sinusrhythmus, Überleitung verzögert. 心电图正常 ❤",
    "1,000 words": "Sinus rhythm with occasional premature beats. " * 166 + "Normal ECG tracing today.",
    "1,000 words without a full stop": "sinus rhythm " * 500,
}


@dataclass(frozen=True)
class TextSubject:
    """An encoder in `eval()`, and a way to build it from a source of vocabulary."""

    encoder: TextEncoder
    rebuild: Callable[[TextSource], TextEncoder]

    def forward(self, reports: Sequence[str]) -> Features:
        """Return features of the reports without a graph."""
        return self.forward_batch(self.encoder.tokenize(list(reports)))

    def forward_batch(self, batch: TextBatch) -> Features:
        """Return features of tokenised reports without a graph."""
        with torch.no_grad():
            return self.encoder(batch)  # type: ignore[no-any-return]


def text_subject(rebuild: Callable[[TextSource], TextEncoder]) -> TextSubject:
    """Return the subject of a text encoder's checks, its vocabulary learnt from a few reports."""
    encoder = rebuild(TextSource(reports=REPORTS))
    if not isinstance(encoder, TextEncoder):
        raise TypeError(f"build returned {type(encoder).__name__!r}; wanted a melp_bench.TextEncoder")
    return TextSubject(encoder.eval(), rebuild)


def _tokens(subject: TextSubject) -> str:
    encoder = subject.encoder
    batch = encoder.tokenize([*REPORTS, *AWKWARD.values()])
    count = len(REPORTS) + len(AWKWARD)
    for name, dtype in (("ids", torch.long), ("mask", torch.bool), ("sentences", torch.long)):
        tensor = getattr(batch, name)
        demand(tensor.dtype == dtype, f"{name} is {tensor.dtype}; wanted {dtype}")
        demand(tensor.shape == batch.ids.shape and len(tensor) == count, f"{name} is {tuple(tensor.shape)} for {count} reports")
    low, high = int(batch.ids.min()), int(batch.ids.max())
    demand(low >= 0 and high < encoder.vocab_size, f"ids go from {low} to {high}; vocab_size is {encoder.vocab_size}")
    demand(bool((batch.ids[~batch.mask] == encoder.pad_id).all()), f"padding holds other ids than pad_id {encoder.pad_id}")
    demand(bool((batch.sentences[~batch.mask] == -1).all()), "padding belongs to a sentence; wanted -1")
    for report, row in zip([*REPORTS, *AWKWARD.values()], batch.sentences, strict=True):
        found = sorted(set(row[row >= 0].tolist()))
        demand(found == list(range(len(found))), f"sentences of {report[:40]!r} are numbered {found}; wanted 0, 1, 2 ...")
    for report, row in zip(REPORTS, batch.sentences, strict=False):
        demand(bool((row >= 0).any()), f"no token of {report[:40]!r} belongs to a sentence")
    return f"{encoder.vocab_size} ids, at most {batch.ids.shape[1]} tokens"


def _declared(subject: TextSubject) -> str:
    width, features = subject.encoder.width, subject.forward(REPORTS)
    demand(isinstance(features, Features), f"forward returned {type(features).__name__!r}; wanted melp_bench.Features")
    count = len(REPORTS)
    wanted = {"record": (count, width), "embedding": (count, -1), "segments": (count, -1, width), "tokens": (count, -1, width)}
    shapes = demand_widths(features, wanted)
    for name in ("segments_mask", "tokens_mask", "token_ids"):
        demand(getattr(features, name) is not None, f"Features.{name} is None; reports need it")
    demand_masks(features, at_least_one=True)
    demand_finite(features, "four ordinary reports")
    return shapes


def _sentences(subject: TextSubject) -> str:
    batch = subject.encoder.tokenize(list(REPORTS))
    counted = (batch.sentences.amax(dim=1) + 1).tolist()
    mask = subject.forward_batch(batch).segments_mask
    offered = [] if mask is None else mask.sum(dim=1).tolist()
    demand(offered == counted, f"reports have {counted} sentences by their tokens; features offer {offered}")
    return f"{counted} sentences"


def _awkward(subject: TextSubject) -> str:
    for when, report in AWKWARD.items():
        features = subject.forward([report])
        demand(len(features.record) == 1, f"{when}: rhythm is {tuple(features.record.shape)}; wanted one report")
        demand_finite(features, when)
        demand_finite(subject.forward([report, *REPORTS]), f"{when}, among others")
    subject.encoder.zero_grad(set_to_none=True)
    torch.autograd.backward(projected_sum(subject.encoder(subject.encoder.tokenize([*AWKWARD.values()]))))
    for name, parameter in subject.encoder.named_parameters():
        if parameter.grad is not None:
            demand(bool(torch.isfinite(parameter.grad).all()), f"awkward reports give {name} a gradient that is not finite")
    subject.encoder.zero_grad(set_to_none=True)
    return ", ".join(AWKWARD)


def _alone(subject: TextSubject) -> str:
    batch, worst = subject.forward(REPORTS), 0.0
    for row, report in enumerate(REPORTS):
        worst = max(worst, demand_equal(batch, row, subject.forward([report]), 0, f"report {row} alone and in a batch"))
    return f"largest difference {worst:.1g}"


def _padding(subject: TextSubject) -> str:
    worst = 0.0
    for name in ("one word", "no full stop", "an empty report"):
        alone = subject.forward([AWKWARD[name]])
        among = subject.forward([AWKWARD["1,000 words"], AWKWARD[name], REPORTS[1]])
        worst = max(worst, demand_equal(alone, 0, among, 1, f"{name}, alone and padded beside 1,000 words"))
    return f"largest difference {worst:.1g}"


def _deterministic(subject: TextSubject) -> str:
    worst = demand_same(*under_two_seeds(lambda: subject.forward(REPORTS)), "the same reports twice")
    return f"largest difference {worst:.1g}"


def _causal(subject: TextSubject) -> str:
    if not subject.encoder.causal:
        raise NotApplicable("it does not claim to be causal")
    batch = subject.encoder.tokenize([REPORTS[1]])
    length = int(batch.mask.sum())
    one = subject.forward_batch(batch).tokens
    worst = 0.0
    for position in range(1, length):
        ids = batch.ids.clone()
        ids[0, position] = (ids[0, position] + 1) % subject.encoder.vocab_size
        two = subject.forward_batch(replace(batch, ids=ids)).tokens
        if one is None or two is None:
            raise TypeError("Features.tokens is None")
        moved = ((one[0, :position] - two[0, :position]).abs().max() / one.abs().max()).item()
        demand(moved <= 1e-5, f"changing word {position} of {length} moves earlier words' states by {moved:.2g}")
        worst = max(worst, moved)
    return f"{length - 1} words changed, earlier states move by {worst:.1g}"


def _round_trip(subject: TextSubject) -> str:
    assets = subject.encoder.assets()
    source = TextSource(assets=assets) if assets else TextSource(reports=REPORTS)
    other = TextSubject(round_trip(subject.encoder, lambda: subject.rebuild(source)), subject.rebuild)
    ours, theirs = (s.encoder.tokenize(list(REPORTS)).ids for s in (subject, other))
    demand(torch.equal(ours, theirs), "a second build from the first one's assets tokenises reports differently")
    worst = demand_same(subject.forward(REPORTS), other.forward(REPORTS), "before and after the round trip")
    return f"{len(assets)} assets, {len(subject.encoder.state_dict())} tensors, largest difference {worst:.1g}"


def _gradient(subject: TextSubject) -> str:
    subject.encoder.zero_grad(set_to_none=True)
    torch.autograd.backward(projected_sum(subject.encoder(subject.encoder.tokenize(list(REPORTS)))))
    reached = demand_all_used(subject.encoder)
    subject.encoder.zero_grad(set_to_none=True)
    return reached


TEXT_CHECKS: dict[str, Callable[[TextSubject], str]] = {
    "tokens are well formed": _tokens,
    "features have the declared widths": _declared,
    "sentences are counted as its tokens count them": _sentences,
    "awkward reports give finite features and gradients": _awkward,
    "a batch of one is a batch": _alone,
    "padding does not matter": _padding,
    "eval() is deterministic": _deterministic,
    "a word depends only on words before it": _causal,
    "weights and assets survive a strict round trip": _round_trip,
    "gradient reaches every parameter": _gradient,
}
