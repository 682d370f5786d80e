"""Sentence contrast: the sentences that are read, which of them are one, and the loss by loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.objectives.report_sentences import single_sentences
from melp_plugins.objectives.sentence_contrast import sentence_contrast, several_positives
from melp_plugins.text.bert import bert

REPORTS = ["sinus rhythm. normal axis.", "atrial fibrillation.", "left axis deviation. sinus rhythm. old infarction.", ""]
SIZES = mb.Sizes(shared=8, embedding=4, ecg_tokens=4, text_tokens=8, vocab=200)


def text(*, causal: bool) -> mb.TextEncoder:
    torch.manual_seed(0)
    return bert(mb.TextSource(REPORTS), layers=1, width=8, heads=2, causal=causal, dropout=0.0).eval()


@pytest.mark.parametrize("causal", [True, False])
def test_a_sentence_alone_is_the_report_of_one_sentence(causal: bool) -> None:
    encoder = text(causal=causal)
    apart, place = single_sentences(encoder.tokenize(REPORTS), pad_id=encoder.pad_id)
    wanted = encoder.tokenize([f"{s.rstrip('.')}." for report in REPORTS[:3] for s in report.split(". ")])
    for part in ("ids", "mask", "sentences"):
        assert torch.equal(getattr(apart, part)[:6], getattr(wanted, part)), part
    assert place.tolist()[:3] == [[0, 1, -1], [2, -1, -1], [3, 4, 5]]


def slow(records: Tensor, texts: Tensor, positive: list[set[int]], scale: float) -> float:
    """Return the loss record by record and text by text."""
    cosine = [[float(F.normalize(r, dim=0) @ F.normalize(t, dim=0)) * scale for t in texts] for r in records]
    rows, columns = [], []
    for i, own in enumerate(positive):
        total = sum(math.exp(c) for c in cosine[i])
        rows.append(-sum(math.log(math.exp(cosine[i][u]) / total) for u in own) / len(own))
    for u in range(len(texts)):
        own = {i for i, some in enumerate(positive) if u in some}
        total = sum(math.exp(cosine[i][u]) for i in range(len(records)))
        columns.append(-sum(math.log(math.exp(cosine[i][u]) / total) for i in own) / len(own))
    return (sum(rows) / len(rows) + sum(columns) / len(columns)) / 2


class Model:
    """Reads reports as an encoder does, without heads."""

    def __init__(self, encoder: mb.TextEncoder) -> None:
        self.encoder, self.read = encoder, 0

    def text(self, batch: mb.TextBatch) -> mb.Features:
        self.read += len(batch.ids)
        return self.encoder(batch)


def test_the_loss_is_that_of_loops_and_a_shared_sentence_is_one_text() -> None:
    encoder = text(causal=True)
    objective, model = sentence_contrast(SIZES).double(), Model(encoder.double())
    objective.attach(model)
    records = torch.randn(3, 8, generator=torch.Generator().manual_seed(1)).double()
    features = mb.Features(records, records)
    made = objective.local(features, encoder.tokenize(REPORTS[:3]))
    assert model.read == 5, "the sentence that two reports share is read once"
    loss = objective(**made)
    said = ["sinus rhythm.", "normal axis.", "atrial fibrillation.", "left axis deviation.", "old infarction."]
    texts = encoder(encoder.tokenize(said)).record.detach()
    wanted = slow(records, texts, [{0, 1}, {2}, {3, 0, 4}], 1 / 0.07)
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-7)  # the scale is made in single precision
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_the_batch_of_all_ranks_is_one_batch() -> None:
    """What ranks gather, sentences padded to the longest report, gives the loss of the whole batch."""
    encoder = text(causal=True).double()
    objective = sentence_contrast(SIZES).double()
    objective.attach(Model(encoder))
    records = torch.randn(3, 8, generator=torch.Generator().manual_seed(2)).double()
    batch = encoder.tokenize(REPORTS[:3])
    whole = objective(**objective.local(mb.Features(records, records), batch))
    parts = []
    for rows in (slice(0, 2), slice(2, 3)):
        reports = mb.TextBatch(batch.ids[rows], batch.mask[rows], batch.sentences[rows])
        parts.append(objective.local(mb.Features(records[rows], records[rows]), reports))
    longest = max(part["number"].shape[1] for part in parts)
    gathered = {
        "records": torch.cat([part["records"] for part in parts]),
        "said": torch.cat([F.pad(part["said"], (0, 0, 0, longest - part["said"].shape[1])) for part in parts]),
        "number": torch.cat([F.pad(part["number"], (0, longest - part["number"].shape[1])) for part in parts]),
    }
    assert float(objective(**gathered).detach()) == pytest.approx(float(whole.detach()), rel=1e-12)


def test_several_positives_of_one_each_are_symmetric_cross_entropies() -> None:
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(3))
    target = torch.arange(5)
    wanted = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    assert torch.allclose(several_positives(logits, torch.eye(5).bool()), wanted)


def test_without_a_text_encoder_it_is_refused() -> None:
    with pytest.raises(mb.UserError, match="needs a text encoder"):
        sentence_contrast(mb.Sizes(shared=8, embedding=4, ecg_tokens=4))
