"""Soft negatives: how alike texts are, against scikit-learn, and a sigmoid loss in which what says the same is a match."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfTransformer
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.testing.inputs import make_inputs
from melp_bench.testing.small import SIZES
from melp_plugins.objectives.beat import local_similarity
from melp_plugins.objectives.fg_clep import soft_reports, soft_sigmoid_loss, soft_tags, tag_similarity
from melp_plugins.objectives.report_similarity import report_similarity, tf_idf_similarity, word_counts

IDS = torch.tensor([[3, 4, 4, 5], [3, 9, 7, 0], [4, 3, 5, 4], [8, 8, 0, 0]])
MASK = IDS > 0


def test_similarity_is_the_cosine_of_scikit_learns_tf_idf() -> None:
    counts = np.array([[1, 2, 1, 0, 0, 0], [1, 0, 0, 1, 0, 1], [1, 2, 1, 0, 0, 0], [0, 0, 0, 0, 2, 0]])  # of 3 4 5 7 8 9
    got = word_counts(IDS, torch.arange(4)[:, None].expand_as(IDS).masked_fill(~MASK, -1), 4)
    assert got.tolist() == counts.tolist()
    want = TfidfTransformer().fit_transform(counts).toarray()
    np.testing.assert_allclose(tf_idf_similarity(got).numpy(), want @ want.T, atol=1e-6)


def test_equal_reports_are_alike_whatever_the_order_of_their_words_and_strangers_are_not() -> None:
    similarity = report_similarity(IDS, MASK)
    assert similarity[0, 2].item() == pytest.approx(1.0)
    assert similarity[3, :3].tolist() == [0.0, 0.0, 0.0]
    assert 0 < similarity[0, 1].item() < 0.5  # they share one common word
    assert torch.equal(similarity, similarity.T)
    assert similarity.diagonal().tolist() == [1.0] * 4
    silent = report_similarity(IDS, MASK & False)
    assert torch.equal(silent, torch.eye(4))


def test_a_tag_is_compared_with_the_nearest_tag_of_each_report() -> None:
    words = torch.tensor([[3, 4, 5, 6], [5, 6, 9, 0], [3, 4, 0, 0]])
    tags = torch.tensor([[0, 0, 1, 1], [0, 0, 1, -1], [0, 0, -1, -1]])
    got = tag_similarity(words, tags, 2)  # (report, tag, report)
    assert got.shape == (3, 2, 3)
    assert got[0].tolist() == [[1.0, 0.0, pytest.approx(1.0)], [1.0, pytest.approx(1.0), 0.0]]
    assert got[1].tolist() == [[pytest.approx(1.0), 1.0, 0.0], [0.0, 1.0, 0.0]]
    assert got[2, 0].tolist() == [pytest.approx(1.0), 0.0, 1.0]


def test_the_soft_loss_is_a_loop_over_pairs_and_falls_to_the_targets_entropy() -> None:
    logits, similarity = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[1.0, 0.3, 0.6]])
    want = 0.0
    for logit, alike in zip(logits[0].tolist(), similarity[0].tolist(), strict=True):
        target, yes = (alike if alike >= 0.5 else 0.0), 1 / (1 + math.exp(-logit))
        want -= target * math.log(yes) + (1 - target) * math.log(1 - yes)
    assert soft_sigmoid_loss(logits, similarity, threshold=0.5).item() == pytest.approx(want)
    best = torch.tensor([[20.0, -20.0, math.log(0.6 / 0.4)]])
    entropy = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    assert soft_sigmoid_loss(best, similarity, threshold=0.5).item() == pytest.approx(entropy, abs=1e-5)


def of(count: int) -> tuple[mb.Features, mb.Features]:
    inputs = make_inputs(("ecg", "text"), pairs=count)
    return inputs["ecg"], inputs["text"]


def test_reports_that_say_the_same_are_pulled_to_both_records() -> None:
    ecg, text = of(6)
    assert text.token_ids is not None
    assert text.tokens_mask is not None
    ids = text.token_ids.clone()
    mask = text.tokens_mask.clone()
    ids[1], mask[1] = ids[0], mask[0]
    text = text.apply({"token_ids": ids, "tokens_mask": mask})
    record = ecg.record.detach().clone().requires_grad_()
    loss = soft_reports(SIZES)(ecg.apply({"record": record}), text)
    loss.backward()
    pull = -(record.grad @ F.normalize(text.record, dim=-1).T)  # type: ignore[union-attr]  # towards each report, (B, B)
    assert pull[0, 1] > 0
    plain = soft_reports(SIZES, threshold=1.0)  # only what says the very same counts
    assert not plain.threshold < 1
    hard = F.binary_cross_entropy_with_logits(
        plain.logits(F.normalize(text.record, dim=-1) @ F.normalize(record, dim=-1).T),
        torch.block_diag(torch.ones(2, 2), torch.eye(4)),
        reduction="none",
    )
    torch.testing.assert_close(plain(ecg.apply({"record": record}), text), hard.sum(dim=1).mean())


def slow_tags(ecg: mb.Features, text: mb.Features, words: Tensor, tags: Tensor) -> tuple[float, int]:
    """Return the mean over tags, tag by tag and record by record, at SigLIP's first scale and bias."""
    assert ecg.segments is not None
    assert text.segments is not None
    assert text.segments_mask is not None
    alike = tag_similarity(words, tags, text.segments.shape[1])
    total, number = 0.0, 0
    for report in range(len(words)):
        cosine = local_similarity(
            ecg.segments,
            text.segments[report : report + 1],
            text.segments_mask[report : report + 1],
            beats_mask=ecg.segments_mask,
        )  # (1, records, tags)
        for tag in range(int(text.segments_mask[report].sum())):
            number += 1
            for record in range(len(words)):
                target = float(alike[report, tag, record])
                target = target if target >= 0.5 else 0.0
                logit = 10 * float(cosine[0, record, tag]) - 10
                total += math.log1p(math.exp(-logit)) * target + math.log1p(math.exp(logit)) * (1 - target)
    return total / number, number


def test_tags_are_a_loop_over_tags_and_records() -> None:
    ecg, text = (f.apply({n: t.detach() for n, t in f.present().items()}) for f in of(5))
    g = torch.Generator().manual_seed(3)
    words = torch.randint(1, 6, (5, 9), generator=g)
    tags = torch.randint(-1, 4, (5, 9), generator=g)
    assert text.segments_mask is not None
    tags = torch.where(tags < text.segments_mask.sum(dim=1)[:, None], tags, -1)
    objective = soft_tags(SIZES)
    batch = mb.TextBatch(words, words > 0, tags)
    given = objective.local(batch)  # type: ignore[operator]
    mean, count = objective(ecg, text, **given)
    want, number = slow_tags(ecg, text, words, tags)
    assert count.item() == number
    assert mean.item() == pytest.approx(want, rel=1e-4)


def test_what_pads_a_gathered_batch_is_no_word() -> None:
    ecg, text = of(4)
    objective, words = soft_tags(SIZES), torch.randint(1, 9, (4, 6), generator=torch.Generator().manual_seed(1))
    given = {"words": words, "sentence": torch.ones_like(words)}
    padded = {name: F.pad(value, (0, 3)) for name, value in given.items()}
    torch.testing.assert_close(objective(ecg, text, **padded), objective(ecg, text, **given))


def test_what_is_missing_or_out_of_range_is_told() -> None:
    ecg, text = of(3)
    wordless = mb.Features(text.record, text.embedding)
    with pytest.raises(mb.UserError, match="needs the words' ids"):
        soft_reports(SIZES)(ecg, wordless)
    with pytest.raises(mb.UserError, match="give the heads queries"):
        soft_tags(SIZES)(mb.Features(ecg.record, ecg.embedding), text, words=IDS[:3], sentence=IDS[:3])
    for threshold in (0.0, 1.5):
        with pytest.raises(mb.UserError, match="threshold"):
            soft_tags(SIZES, threshold=threshold)
