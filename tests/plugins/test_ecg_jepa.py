"""What tokens of both ECG-JEPA see: their lead and their moment, or what is left of a record; and Weimann's probe."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_plugins.ecg.ecg_jepa import ECGJEPA, LEADS
from melp_plugins.ecg.ecg_jepa_weimann import WHOLE, AttentionProbe, WeimannEncoder
from melp_plugins.ecg.kept_tokens import Kept


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def kims(depth: int = 1) -> ECGJEPA:
    torch.manual_seed(0)
    return ECGJEPA(depth=depth, width=32, heads=2).eval()


def weimanns() -> WeimannEncoder:
    torch.manual_seed(0)
    return WeimannEncoder(WHOLE, "xs", depth=2).eval()


def test_after_one_block_a_token_has_seen_its_lead_and_its_moment_and_after_two_all() -> None:
    signal = noise(1, 8, 2500).requires_grad_()
    for depth in (1, 2):
        token = kims(depth)(signal).tokens[0, 3 * 50 + 7]
        (gradient,) = torch.autograd.grad(token.square().sum(), signal)
        reached = gradient[0].unflatten(-1, (50, 50)).abs().amax(dim=-1) > 0  # (L, P)
        wanted = torch.zeros(8, 50, dtype=torch.bool)
        wanted[3], wanted[:, 7] = True, True
        assert torch.equal(reached, wanted if depth == 1 else torch.ones_like(wanted))


def test_the_order_of_leads_is_no_matter_if_they_are_named() -> None:
    encoder, signal = kims(2), noise(2, 8, 2500)
    order = [5, 0, 7, 1, 2, 6, 4, 3]
    with torch.no_grad():
        straight, other = encoder(signal), encoder.of_leads(signal[:, order], tuple(LEADS[i] for i in order))
    torch.testing.assert_close(straight.embedding, other.embedding, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        straight.tokens.unflatten(1, (8, 50))[:, order].flatten(1, 2), other.tokens, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("build", [lambda: kims(2), weimanns], ids=["kim", "weimann"])
def test_records_with_masks_of_another_size_are_encoded_as_each_alone(build: object) -> None:
    encoder = build()  # type: ignore[operator]
    normed = encoder.normed(encoder.local(noise(2, len(encoder.spec.leads), encoder.spec.samples)))
    masked = torch.zeros(normed.shape[:2], dtype=torch.bool)
    masked[0, 10:60], masked[1, 5:20] = True, True
    with torch.no_grad():
        together = encoder.contextual(normed, masked, None)
        alone = [encoder.contextual(normed[i : i + 1], masked[i : i + 1], None)[0] for i in range(2)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_tokens_that_are_kept_go_back_to_their_places() -> None:
    tokens, masked = noise(3, 6, 2), torch.tensor([[0, 1, 0, 0, 1, 0], [1, 1, 0, 1, 1, 1], [0] * 6]).bool()
    kept = Kept.of(tokens, masked)
    assert kept.tokens.shape == (3, 6, 2)
    assert torch.equal(kept.back(kept.tokens), torch.where(masked[..., None], 0.0, tokens))


def test_a_drawn_path_is_left_out_in_training_alone() -> None:
    encoder = ECGJEPA(depth=3, width=32, heads=2, drop_path=0.5)
    signal = noise(2, 8, 2500)
    torch.manual_seed(0)
    seen = [encoder.train()(signal).embedding for _ in range(6)]
    assert any(not torch.equal(seen[0], other) for other in seen[1:])
    assert torch.equal(encoder.eval()(signal).embedding, encoder(signal).embedding)


@pytest.mark.parametrize("options", [{"depth": 0}, {"width": 50}, {"heads": 5}, {"drop_path": 1.0}])
def test_sizes_that_cannot_be_are_told(options: dict[str, float]) -> None:
    with pytest.raises(mb.UserError, match="'ecg-jepa'"):
        ECGJEPA(**options)  # type: ignore[arg-type]


def test_weimanns_register_is_seen_by_all_and_always_there() -> None:
    encoder, signal = weimanns(), noise(1, 12, 5000)
    with torch.no_grad():
        before = encoder(signal)
        encoder.registers.neg_()
        after = encoder(signal)
        masked = torch.ones(1, 200, dtype=torch.bool)
        masked[0, 17] = False
        one = encoder.contextual(encoder.local(signal), masked, None)[0, 17]
        encoder.registers.neg_()
        other = encoder.contextual(encoder.local(signal), masked, None)[0, 17]
    assert (before.tokens - after.tokens).abs().amax(dim=-1).min() > 1e-4
    assert not torch.allclose(one, other, atol=1e-4)


def test_weimanns_probe_is_the_attention_of_one_query_written_head_by_head() -> None:
    torch.manual_seed(0)
    probe, tokens = AttentionProbe(12, 3, 5).eval(), noise(2, 7, 12)
    layers = probe.cross_attention_block
    query = layers["q"](probe.query_token)[0, 0]
    keys, values = layers["kv"](tokens).split(12, dim=-1)
    for record in range(2):
        pooled = []
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            weights = torch.softmax(keys[record, :, part] @ query[part] / math.sqrt(4), dim=0)
            pooled.append(weights @ values[record, :, part])
        torch.testing.assert_close(probe(tokens)[record], layers["proj"](torch.cat(pooled)), rtol=1e-4, atol=1e-6)
