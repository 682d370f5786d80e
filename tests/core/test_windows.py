"""The windows of a record: which crops there are, what is in them, and what is made of their features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from melp_bench.errors import UserError
from melp_bench.features import Features
from melp_bench.filtering import Filter
from melp_bench.leads import LEADS
from melp_bench.signal import Crops, Scaling, SignalSpec, conform
from melp_bench.windows import Windows, conform_windows, embed_windows, joined, pooled, starts


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("samples", "overlap", "expected"),
    [
        (1000, 0.0, [0, 200, 400, 600, 800]), (999, 0.0, [0, 200, 400, 600]), (500, 0.5, [0, 100, 200, 300]), (200, 0.5, [0]),
        (80, 0.0, [0]),
    ],
)  # fmt: skip
def test_crops_lie_one_after_the_other_wholly_within_the_record(samples: int, overlap: float, expected: list[int]) -> None:
    assert list(starts(samples, SignalSpec(rate_hz=100, seconds=2, crops=Crops(overlap)))) == expected
    assert list(starts(samples, SignalSpec(rate_hz=100, seconds=2))) == [0]


@pytest.mark.parametrize("scaling", list(Scaling))
@pytest.mark.parametrize("wanted", [None, Filter(band=(0.5, 20.0))])
def test_crops_are_cut_from_the_whole_record_as_it_is_filtered_and_scaled(scaling: Scaling, wanted: Filter | None) -> None:
    lengths = [2300, 900, 3000]  # of 250 Hz: 9.2 s, 3.6 s, 12 s
    batch = noise(3, 12, 3000) + 1
    spec = SignalSpec(rate_hz=100, seconds=4, scaling=scaling, filter=wanted, crops=Crops(0.5))
    windows = conform_windows(batch, rate_hz=250, leads=LEADS, spec=spec, lengths=torch.tensor(lengths))
    assert windows.signals.shape[1:] == (12, 400)
    assert windows.owners.tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 2]
    for row, length in enumerate(lengths):
        alone = SignalSpec(rate_hz=100, seconds=length / 250, scaling=scaling, filter=wanted)
        whole = conform(batch[row : row + 1, :, :length], rate_hz=250, leads=LEADS, spec=alone)[0]
        own = windows.signals[windows.owners == row]
        for number, crop in enumerate(own):
            part = whole[:, 200 * number : 200 * number + 400]
            assert torch.allclose(crop[:, : part.shape[1]], part, atol=1e-5)
            assert not crop[:, part.shape[1] :].any()


def test_without_crops_a_record_has_the_one_window_of_conform() -> None:
    x, spec = noise(2, 12, 1200), SignalSpec(rate_hz=100, seconds=4)
    windows = conform_windows(x, rate_hz=250, leads=LEADS, spec=spec)
    assert torch.equal(windows.signals, conform(x, rate_hz=250, leads=LEADS, spec=spec))
    assert windows.owners.tolist() == [0, 1]


def encode(signals: Tensor) -> Features:
    level = signals.mean(dim=(1, 2))[:, None]
    return Features(record=-level, embedding=torch.cat([level, 2 * level], dim=1), tokens=signals.transpose(1, 2))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_records_embedding_is_the_mean_or_the_maximum_over_its_own_crops(batch_size: int) -> None:
    signals = torch.arange(5.0)[:, None, None].expand(5, 12, 20)  # levels 0 to 4
    windows = Windows(signals, torch.tensor([0, 1, 1, 2, 1]))
    embedding, record = embed_windows(encode, windows, Crops(pool="mean"), batch_size=batch_size)
    level = torch.tensor([0.0, (1 + 2 + 4) / 3, 3.0])
    assert torch.allclose(embedding, torch.stack([level, 2 * level], dim=1))
    assert torch.allclose(record, -level[:, None])
    embedding, record = embed_windows(encode, windows, Crops(pool="max"), batch_size=batch_size)
    assert embedding[:, 0].tolist() == [0, 4, 3]
    assert record[:, 0].tolist() == [0, -1, -3]


def test_one_window_each_is_not_touched_by_pooling() -> None:
    values = noise(4, 3)
    for pool in ("mean", "max"):
        assert torch.equal(pooled(values, torch.tensor([0, 1, 2, 3]), pool), values)  # type: ignore[arg-type]


def test_groups_of_records_are_joined_under_their_own_places() -> None:
    parts = [Windows(noise(3, 1, 4), torch.tensor([0, 0, 1])), Windows(noise(1, 1, 4, seed=1), torch.tensor([0]))]
    whole = joined(parts, [torch.tensor([2, 0]), torch.tensor([1])])
    assert whole.owners.tolist() == [2, 2, 0, 1]
    assert torch.equal(whole.signals[3], parts[1].signals[0])


def test_a_policy_that_is_none_is_refused() -> None:
    for wrong in (lambda: Crops(overlap=1.0), lambda: Crops(pool="median")):  # type: ignore[arg-type]
        with pytest.raises(UserError, match="is no policy"):
            wrong()
