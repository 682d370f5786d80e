"""What is asked of all heads.

Shapes: B records or reports, Q segments, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from melp_bench.components import Heads, ScoresClasses, Widths
from melp_bench.errors import NotApplicable
from melp_bench.evaluations.report_writing import WritesReports
from melp_bench.features import Features
from melp_bench.testing.compare import demand_all_used, round_trip
from melp_bench.testing.verdict import demand

WIDTHS = Widths(ecg_record=24, ecg_tokens=20, ecg_positions=9, text=12)
"""Of encoders without segments of their own; widths all different, so that heads which mix them up fail to build or to run."""
RECORDS = 5


@dataclass(frozen=True)
class HeadsSubject:
    """Heads in `eval()`, and a way to build them for encoders of other widths."""

    heads: Heads
    build: Callable[[Widths], Heads]


def heads_subject(build: Callable[[Widths], Heads]) -> HeadsSubject:
    """Return the subject of heads' checks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = build(WIDTHS)
    if not isinstance(heads, Heads):
        raise TypeError(f"build returned {type(heads).__name__!r}; wanted melp_bench.Heads")
    return HeadsSubject(heads.eval(), build)


def features_of(widths: Widths, *, text: bool = False, records: int = RECORDS) -> Features:
    """Return features as an encoder of these widths makes them, drawn at random."""
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(records, *shape, generator=generator).requires_grad_()

    if text:
        mask = torch.arange(4) < (1 + torch.arange(records) % 4)[:, None]
        return Features(drawn(widths.text), drawn(widths.text), drawn(4, widths.text), mask, drawn(7, widths.text))
    segments = drawn(3, widths.ecg_segments) if widths.ecg_segments else None
    return Features(
        record=drawn(widths.ecg_record),
        embedding=drawn(widths.ecg_record),
        segments=segments,
        tokens=drawn(widths.ecg_positions, widths.ecg_tokens),
    )


def _widths(subject: HeadsSubject) -> str:
    heads, shown = subject.heads, []
    for name, features in (("ecg", heads.ecg(features_of(WIDTHS))), ("text", heads.text(features_of(WIDTHS, text=True)))):
        wanted = (RECORDS, heads.width)
        demand(tuple(features.record.shape) == wanted, f"{name}.record is {tuple(features.record.shape)}; wanted {wanted}")
        shown.append(f"{name} {tuple(features.record.shape)}")
    tokens = heads.ecg(features_of(WIDTHS)).tokens
    said = heads.ecg_tokens or WIDTHS.ecg_tokens
    demand(tokens is not None and tokens.shape[-1] == said, f"tokens have other channels than the {said} stated")
    return ", ".join(shown)


def _embedding(subject: HeadsSubject) -> str:
    for text in (False, True):
        given = features_of(WIDTHS, text=text)
        made = subject.heads.text(given) if text else subject.heads.ecg(given)
        demand(torch.equal(made.embedding, given.embedding), "the embedding is changed, which probes read without heads")
    return "as the encoders made it"


def _projected(subject: HeadsSubject) -> str:
    width = subject.heads.width
    widths = replace(WIDTHS, ecg_record=width, ecg_projected=True, text=width, text_projected=True)
    heads = subject.build(widths).eval()
    ecg, text = features_of(widths), features_of(widths, text=True)
    demand(torch.equal(heads.ecg(ecg).record, ecg.record), "a projected record is projected again")
    demand(torch.equal(heads.text(text).record, text.record), "a projected report is projected again")
    return "left alone"


def _neighbours(subject: HeadsSubject) -> str:
    given = features_of(WIDTHS)
    alone = given.apply({name: tensor[:1] for name, tensor in given.present().items()})
    with torch.no_grad():
        one, two = subject.heads.ecg(given).record[:1], subject.heads.ecg(alone).record
    worst = float((one - two).abs().max())
    demand(worst <= 1e-5 * max(float(one.abs().max()), 1.0), f"a record moves by {worst:.3g} with its neighbours")
    return f"moves by {worst:.1g}"


def _gradient(subject: HeadsSubject) -> str:
    heads = subject.build(WIDTHS).train()
    made = [heads.ecg(features_of(WIDTHS)), heads.text(features_of(WIDTHS, text=True))]
    names = ("record", "segments", "tokens")
    parts = [tensor.square().sum() for one in made for name, tensor in one.present().items() if name in names]
    if isinstance(heads, WritesReports):
        parts.append(heads.next_words(made[0], features_of(WIDTHS, text=True)).square().sum())
    torch.autograd.backward(torch.stack(parts).sum())
    demand_all_used(heads)
    return f"{sum(p.numel() for p in heads.parameters()):,} parameters"


def _class_scores(subject: HeadsSubject) -> str:
    heads = subject.heads
    if not isinstance(heads, ScoresClasses):
        raise NotApplicable("classes are scored by the cosine")
    with torch.no_grad():
        ecg, names = heads.ecg(features_of(WIDTHS)), heads.text(features_of(WIDTHS, text=True)).record[:3]
        scores = heads.class_scores(ecg, names)
        alone = ecg.apply({name: tensor[:1] for name, tensor in ecg.present().items()})
        one, swapped = heads.class_scores(alone, names), heads.class_scores(ecg, names.flip(0))
    wanted = (RECORDS, len(names))
    demand(tuple(scores.shape) == wanted, f"class_scores are {tuple(scores.shape)}; wanted {wanted}")
    demand(bool(torch.isfinite(scores).all()), "class_scores are not finite")
    near = 1e-4 * max(float(scores.abs().max()), 1.0)
    moved = float((one - scores[:1]).abs().max())
    demand(moved <= near, f"the scores of a record move by {moved:.3g} with its neighbours")
    moved = float((swapped.flip(1) - scores).abs().max())
    demand(moved <= near, f"the scores of classes move by {moved:.3g} with the order in which they are asked for")
    apart = float((scores.amax(dim=0) - scores.amin(dim=0)).min())
    demand(apart > 1e-6, "the scores of a class are the same for different records")
    return f"{tuple(scores.shape)}"


def _next_words(subject: HeadsSubject) -> str:
    heads = subject.heads
    if not isinstance(heads, WritesReports):
        raise NotApplicable("no reports are written")
    with torch.no_grad():
        ecg, text = heads.ecg(features_of(WIDTHS)), features_of(WIDTHS, text=True)
        if text.tokens is None:
            raise NotApplicable("reports have no words")
        states = heads.next_words(ecg, text)
        begun = heads.next_words(ecg, text.apply({"tokens": text.tokens[:, :3]}))
        alone = [f.apply({name: tensor[:1] for name, tensor in f.present().items()}) for f in (ecg, text)]
        one = heads.next_words(*alone)
        others = heads.next_words(ecg.apply({n: t.flip(0) for n, t in ecg.present().items()}), text)
    wanted = tuple(text.tokens.shape)
    demand(tuple(states.shape) == wanted, f"next_words are {tuple(states.shape)}; wanted {wanted}")
    demand(bool(torch.isfinite(states).all()), "next_words are not finite")
    near = 1e-4 * max(float(states.abs().max()), 1.0)
    moved = float((begun - states[:, :3]).abs().max())
    demand(moved <= near, f"the state of a word moves by {moved:.3g} with the words behind it")
    moved = float((one - states[:1]).abs().max())
    demand(moved <= near, f"the states of a report move by {moved:.3g} with its neighbours")
    demand(float((others - states).abs().max()) > near, "next_words are the same for other records")
    return f"{wanted}"


def _round_trip(subject: HeadsSubject) -> str:
    other = round_trip(subject.heads, lambda: subject.build(WIDTHS))
    given = features_of(WIDTHS)
    with torch.no_grad():
        same = torch.equal(other.ecg(given).record, subject.heads.ecg(given).record)
    demand(same, "records differ after the round trip")
    return f"{len(subject.heads.state_dict())} tensors"


HEADS_CHECKS: dict[str, Callable[[HeadsSubject], str]] = {
    "records and reports land in the shared width": _widths,
    "the embedding is left alone": _embedding,
    "what is projected already is left alone": _projected,
    "a record does not depend on its neighbours": _neighbours,
    "gradient reaches every parameter": _gradient,
    "a score of its own for classes is one": _class_scores,
    "a word's state depends on the record and the words before it": _next_words,
    "weights survive a strict round trip": _round_trip,
}
