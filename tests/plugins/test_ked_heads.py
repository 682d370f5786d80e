"""KED's heads: what they ask of an encoder, what the score of a class depends on, and that the check of such scores bites."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.testing.heads import HEADS_CHECKS, WIDTHS, HeadsSubject, heads_subject
from melp_bench.testing.verdict import Broken
from melp_plugins.heads.ked import KEDHeads, ked

SMALL = {"width": 16, "depth": 2, "heads": 2, "hidden": 8}
SCORES = HEADS_CHECKS["a score of its own for classes is one"]
READ_WIDTHS = mb.Widths(ecg_record=16, ecg_tokens=16, ecg_projected=True, ecg_positions=5, text=12)


def built(widths: mb.Widths) -> KEDHeads:
    return ked(widths, **SMALL)


def records(count: int = 3, seed: int = 0) -> mb.Features:
    drawn = torch.randn(count, 6, 16, generator=torch.Generator().manual_seed(seed))
    return mb.Features(record=drawn[:, 0], embedding=drawn[:, 0], tokens=drawn[:, 1:])


def test_a_projected_encoders_records_and_tokens_stay_and_sentences_are_moved_as_reports_are() -> None:
    torch.manual_seed(0)
    heads, given = built(READ_WIDTHS).eval(), records()
    assert heads.ecg(given).present().keys() == given.present().keys()
    assert all(torch.equal(tensor, given.present()[name]) for name, tensor in heads.ecg(given).present().items())
    words = torch.randn(2, 12)
    said = heads.text(mb.Features(record=words, embedding=words, segments=words[:, None]))
    assert said.segments is not None
    torch.testing.assert_close(said.segments[:, 0], said.record)


def test_a_score_is_the_difference_of_two_logits_and_depends_on_the_classes_beside_it() -> None:
    torch.manual_seed(0)
    heads, given, names = built(READ_WIDTHS).eval(), records(), torch.randn(4, 16)
    assert given.tokens is not None
    with torch.no_grad():
        scores, logits = heads.class_scores(given, names), heads.decoder(given.tokens, names)
        fewer = heads.class_scores(given, names[:2])
    torch.testing.assert_close(torch.sigmoid(scores), torch.softmax(logits, dim=-1)[..., 1])
    assert (fewer - scores[:, :2]).abs().max() > 1e-4
    assert not any(parameter.requires_grad for parameter in heads.decoder.parameters())  # features do not read it


def test_what_does_not_fit_is_one_line() -> None:
    without = mb.Widths(ecg_record=16, ecg_tokens=16, ecg_projected=True, text=12)
    with pytest.raises(mb.UserError, match="the encoder offers none"):
        built(without)
    with pytest.raises(mb.UserError, match="heads that divide the width"):
        ked(READ_WIDTHS, **{**SMALL, "heads": 3})
    bare = mb.Features(record=torch.zeros(1, 16), embedding=torch.zeros(1, 16))
    with pytest.raises(mb.UserError, match="offers none"):
        built(READ_WIDTHS).class_scores(bare, torch.zeros(2, 16))


class WrongScores(KEDHeads):
    """Heads that score classes as badly as `wrong` says."""

    wrong = ""

    def class_scores(self, ecg: mb.Features, names: Tensor) -> Tensor:
        scores = super().class_scores(ecg, names)
        if self.wrong == "shape":
            return scores.T
        if self.wrong == "neighbours":
            return scores - scores.mean(dim=0) * len(scores)
        if self.wrong == "order":
            return scores + torch.arange(len(names))
        return names.sum(dim=-1).expand_as(scores) if self.wrong == "same" else scores


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("", ""),
        ("shape", "class_scores are"),
        ("neighbours", "with its neighbours"),
        ("order", "with the order in which"),
        ("same", "the same for different records"),
    ],
)
def test_the_check_of_class_scores_bites(wrong: str, says: str) -> None:
    def build(widths: mb.Widths) -> WrongScores:
        made = WrongScores(widths, **SMALL)
        made.wrong = wrong
        return made

    subject: HeadsSubject = heads_subject(build)
    assert subject.build(WIDTHS).width == 16
    if not wrong:
        assert SCORES(subject) == "(5, 3)"
        return
    with pytest.raises(Broken, match=says):
        SCORES(subject)
