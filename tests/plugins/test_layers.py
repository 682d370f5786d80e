"""Shared layers and measures beside their plain twins: the same numbers and gradients, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from melp_plugins.ecg.conv_transformer import companded
from melp_plugins.layers import Attention, EncoderLayer, convolve, sample_by_sample
from melp_plugins.views.noises import Wander
from melp_plugins.views.relative import level, spread, uniform
from melp_plugins.views.timing import TimeOut

B, N, D, C, HEADS = 3, 11, 16, 12, 2


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def twins(context: int | None = None) -> tuple[Attention, nn.MultiheadAttention]:
    """Return the layer and torch's, with the same weights and biases that are not zero."""
    fast = Attention(D, HEADS, context=context).double()
    plain = nn.MultiheadAttention(D, HEADS, kdim=context, vdim=context, batch_first=True).double()
    with torch.no_grad():
        for number, parameter in enumerate(fast.parameters()):
            parameter.copy_(0.5 * noise(*parameter.shape, seed=number + 9))
    plain.load_state_dict(fast.state_dict(), strict=True)
    return fast, plain


def gradients(out: Tensor, of: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad((out * noise(*out.shape, seed=5)).sum(), of))


def assert_alike(fast: Attention, plain: nn.MultiheadAttention, query: Tensor, context: Tensor, **options: object) -> None:
    """Check outputs, weights and the gradients of inputs and parameters; `query` may be one for all records."""
    for need_weights in (False, True):
        one, found = fast(query, context, context, need_weights=need_weights, **options)
        wide = query.expand(len(context), -1, -1)
        two, wanted = plain(wide, context, context, need_weights=need_weights, **options)
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)
        if need_weights:
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
        inputs = list({id(tensor): tensor for tensor in (query, context)}.values())
        names = [name for name, _ in fast.named_parameters()]
        mine = gradients(one, [*inputs, *fast.parameters()])
        other = gradients(two, [*inputs, *plain.parameters()])
        for name, a, b in zip(["query", "context"][-len(inputs) :] + names, mine, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


PADDING = torch.arange(N) >= torch.tensor([[N], [7], [2]])
CAUSAL = nn.Transformer.generate_square_subsequent_mask(N, dtype=torch.float64)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"key_padding_mask": PADDING},
        {"attn_mask": CAUSAL, "is_causal": True},
        {"attn_mask": CAUSAL, "key_padding_mask": PADDING},
    ],
    ids=["all", "padded", "causal", "causal and padded"],
)  # fmt: skip
def test_attention_of_a_sequence_on_itself_is_torchs(options: dict[str, object]) -> None:
    x = noise(B, N, D).requires_grad_()
    assert_alike(*twins(), x, x, **options)


@pytest.mark.parametrize("context", [None, C], ids=["as wide", "of another width"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("queries", [2, 6], ids=["few, which all records share", "too many for that"])
def test_attention_of_queries_that_all_records_share_is_torchs(context: int | None, padded: bool, queries: int) -> None:
    query, tokens = noise(1, queries, D, seed=1).requires_grad_(), noise(B, N, context or D, seed=2).requires_grad_()
    assert_alike(*twins(context), query, tokens, key_padding_mask=PADDING if padded else None)


def test_attention_of_each_records_own_queries_is_torchs() -> None:
    query, tokens = noise(B, 4, D, seed=1).requires_grad_(), noise(B, N, C, seed=2).requires_grad_()
    assert_alike(*twins(C), query, tokens, key_padding_mask=PADDING)


def test_attention_drops_what_it_is_told_to_in_training_alone() -> None:
    torch.manual_seed(0)
    layer, x = Attention(D, HEADS, dropout=0.5).double(), noise(B, N, D)
    assert not torch.equal(layer(x, x, x)[0], layer(x, x, x)[0])
    shared = noise(1, 2, D)
    assert not torch.equal(layer(shared, x, x)[0], layer(shared, x, x)[0])
    assert torch.equal(layer.eval()(x, x, x)[0], layer(x, x, x)[0])


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_transformer_layer_is_torchs(norm_first: bool, training: bool) -> None:
    fast = EncoderLayer(D, HEADS, 32, norm_first=norm_first).double().train(training)
    plain = (
        nn.TransformerEncoderLayer(D, HEADS, 32, 0.0, "gelu", batch_first=True, norm_first=norm_first).double().train(training)
    )
    plain.load_state_dict(fast.state_dict(), strict=True)
    x = noise(B, N, D)
    keep = ~PADDING[..., None]
    one, two = (layer(x, src_key_padding_mask=PADDING) * keep for layer in (fast, plain))
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("stride", "padding", "groups", "bias"), [(2, 3, 1, False), (1, 1, 2, True), (3, 0, 4, True)])
def test_a_convolution_sample_by_sample_is_the_layers(stride: int, padding: int, groups: int, bias: bool) -> None:
    layer = nn.Conv1d(8, 12, 5, stride=stride, padding=padding, groups=groups, bias=bias).double()
    x = noise(B, 8, 40).requires_grad_()
    one, two = convolve(layer, sample_by_sample(x)).squeeze(2), layer(x)
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)
    for a, b in zip(*(gradients(out, [x, *layer.parameters()]) for out in (one, two)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_companding_is_asinh_of_any_size_and_sign() -> None:
    x = torch.cat([torch.tensor([0.0, -0.0, 1e-12, -1e-12, 1e6, -1e6], dtype=torch.float64), 3 * noise(500)])
    torch.testing.assert_close(companded(x, 0.1), torch.asinh(x / 0.1), rtol=1e-13, atol=1e-18)
    torch.testing.assert_close(companded(x.float(), 0.1), torch.asinh(x / 0.1).float(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("samples", [1, 4, 37, 1000])
def test_level_and_spread_of_a_record_are_torchs_median_and_deviation(samples: int) -> None:
    signal = noise(B, 2, samples)
    assert torch.equal(level(signal), signal[..., ::4].median(dim=-1, keepdim=True).values)
    torch.testing.assert_close(spread(signal), signal.std(dim=(1, 2), keepdim=True), rtol=1e-12, atol=0)
    assert torch.equal(level(signal.clone().requires_grad_()), level(signal)), "another way where a gradient is asked for"


def test_wander_is_a_sine_per_lead_and_time_out_a_stretch_at_rest() -> None:
    signal = noise(B, 2, 300)
    made = Wander(strength=0.4)(signal, torch.Generator().manual_seed(1))
    drawn = torch.Generator().manual_seed(1)
    cycles, phase = 3 * uniform(signal, drawn, B, 1, 1), uniform(signal, drawn, B, 2, 1)
    time = torch.linspace(0, 1, 300, dtype=torch.float64)
    sine = torch.sin(2 * math.pi * (cycles * time + phase))
    torch.testing.assert_close(made, signal + 0.4 * signal.std(dim=(1, 2), keepdim=True) * sine, rtol=1e-9, atol=1e-12)
    rested = TimeOut(longest=0.5)(signal, torch.Generator().manual_seed(2))
    at_rest = (rested == level(signal)).all(dim=1)  # (B, T)
    assert torch.equal(torch.where(at_rest[:, None], level(signal), signal), rested)
    assert (at_rest.any(dim=1) & ~at_rest.all(dim=1)).any()
