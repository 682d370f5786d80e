"""The two first-party encoders: what a record's features depend on, and what they do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import melp_bench as mb
from melp_plugins.ecg.conv_transformer import conv_transformer
from melp_plugins.ecg.resnet1d import resnet1d_18

Build = Callable[..., mb.ECGEncoder]
BUILDS: dict[str, Build] = {
    "resnet1d-18": lambda **o: resnet1d_18(**{"width": 4, **o}),
    "conv-transformer": lambda **o: conv_transformer(**{"layers": 2, "width": 32, "pool_width": 16, "queries": 5, **o}),
    "conv-transformer as published": lambda **o: conv_transformer(
        **{
            "layers": 1,
            "width": 32,
            "pool_width": 16,
            "channels": (32,) * 4,
            "kernels": (2, 2, 2, 2),
            "strides": (2, 2, 2, 2),
            **o,
        },
        extractor_norm="group",
        norm_first=False,
    ),
}


@pytest.fixture(params=list(BUILDS))
def build(request: pytest.FixtureRequest) -> Build:
    return BUILDS[request.param]


def signal(count: int, samples: int = 1000) -> torch.Tensor:
    return torch.randn(count, 12, samples, generator=torch.Generator().manual_seed(2))


def test_a_record_does_not_depend_on_its_neighbours(build: Build) -> None:
    encoder, records = build().eval(), signal(5)
    together, alone = encoder(records).present(), encoder(records[3:4]).present()
    for name, tensor in together.items():
        torch.testing.assert_close(tensor[3:4], alone[name], rtol=1e-4, atol=1e-5)


def test_widths_are_as_stated(build: Build) -> None:
    encoder = build().eval()
    features = encoder(signal(1))
    assert features.tokens is not None
    assert features.tokens.shape[-1] == encoder.width
    assert features.record.shape == (1, encoder.record_width)
    assert features.embedding.shape == (1, encoder.embedding_width)


def test_eval_is_deterministic_and_weights_round_trip(build: Build) -> None:
    encoder, again, records = build().eval(), build().eval(), signal(2)
    assert not torch.equal(encoder(records).record, again(records).record)
    again.load_state_dict(encoder.state_dict(), strict=True)
    for name, tensor in encoder(records).present().items():
        assert torch.equal(tensor, again(records).present()[name]), name


def test_every_lead_and_every_second_reaches_the_embedding(build: Build) -> None:
    encoder, records = build().eval(), signal(1).requires_grad_()
    encoder(records).embedding.square().sum().backward()
    assert records.grad is not None
    assert (records.grad.abs().amax(dim=2) > 0).all()
    assert (records.grad.reshape(12, 10, 100).abs().amax(dim=(0, 2)) > 0).all()


def test_half_a_record_is_a_record(build: Build) -> None:
    encoder = build().eval()
    features = encoder(signal(2, samples=500))
    assert features.tokens is not None
    assert features.tokens.shape[1] < encoder(signal(2)).tokens.shape[1]  # type: ignore[union-attr]
    assert torch.isfinite(features.record).all()


@pytest.mark.parametrize("rate_hz", [100.0, 125.0, 500.0])
def test_any_rate_can_be_asked_for(build: Build, rate_hz: float) -> None:
    encoder = build(rate_hz=rate_hz).eval()
    assert encoder(signal(1, samples=encoder.spec.samples)).record.shape == (1, encoder.record_width)


def test_beats_mean_is_the_embedding_of_the_transformer() -> None:
    features = BUILDS["conv-transformer"]().eval()(signal(2))
    assert features.segments is not None
    torch.testing.assert_close(features.segments.mean(dim=1), features.embedding)


def test_the_default_extractor_keeps_amplitude_and_the_published_one_removes_it() -> None:
    records = 0.3 * signal(2)
    for name, keeps in (("conv-transformer", True), ("conv-transformer as published", False)):
        encoder = BUILDS[name]().eval()
        same = torch.allclose(encoder(records).record, encoder(2 * records).record, rtol=1e-3, atol=1e-3)
        assert same is not keeps, name


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (resnet1d_18, {"width": 0}),
        (conv_transformer, {"width": 100}),
        (conv_transformer, {"kernels": (3, 3)}),
        (conv_transformer, {"extractor_norm": "layer"}),
        (conv_transformer, {"layers": 0}),
    ],
)
def test_sizes_that_do_not_fit_are_the_users_mistake(make: Build, options: dict[str, object]) -> None:
    with pytest.raises(mb.UserError):
        make(**options)
