"""Features of all ranks: sent where they are read, once, with a mask of what the sender padded."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from melp_bench.features import Features
from melp_bench.pretrain.gathered import rows_of_all, with_masks


class TwoRanks:
    """Joins the rows of a tensor with those of another rank, which has the same, and remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, tensor: Tensor) -> Tensor:
        self.asked.append(tuple(tensor.shape))
        return tensor.repeat_interleave(2, dim=0)


def own() -> Features:
    return Features(record=torch.randn(3, 4), embedding=torch.randn(3, 5), tokens=torch.randn(3, 7, 4))


def test_nothing_is_sent_before_it_is_read_and_nothing_twice() -> None:
    gather, features = TwoRanks(), own()
    found = rows_of_all(features, gather)
    assert gather.asked == []
    assert torch.equal(found.record, features.record.repeat_interleave(2, dim=0))
    assert found.record is found.record
    assert gather.asked == [(3, 4)]
    assert found.segments is None
    assert found.segments_mask is None
    assert gather.asked == [(3, 4)]


def test_tokens_without_a_mask_get_one_that_says_all_are_real() -> None:
    gather, features = TwoRanks(), own()
    found = rows_of_all(features, gather)
    assert torch.equal(found.tokens_mask, torch.ones(6, 7, dtype=torch.bool))
    assert gather.asked == [(3, 7)]


def test_all_that_is_there_is_that_of_all_ranks_whichever_way_it_is_read() -> None:
    features, mask = own(), torch.ones(3, 7, dtype=torch.bool)
    wanted = with_masks(features).present()
    for read in (lambda f: f, lambda f: replace(f, segments=None), lambda f: f.apply({"segments_mask": None})):
        gather = TwoRanks()
        found = read(rows_of_all(features, gather)).present()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name].repeat_interleave(2, dim=0)) for name in wanted)
        assert sorted(gather.asked) == sorted(tuple(tensor.shape) for tensor in wanted.values())
    assert torch.equal(wanted["tokens_mask"], mask)


def test_other_values_are_joined_at_once_or_left() -> None:
    gather = TwoRanks()
    assert rows_of_all(torch.arange(3), gather).tolist() == [0, 0, 1, 1, 2, 2]
    assert rows_of_all(0.25, gather) == 0.25
    assert gather.asked == [(3,)]
