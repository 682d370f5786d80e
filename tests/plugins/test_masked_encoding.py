"""Masked encoding, of every encoder that offers it: what is masked is not seen, and nothing masked is the encoder itself."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.masking import in_rows, without_separators
from melp_bench.plugins import discover
from melp_bench.testing.small import SIZES, SmallEncoder
from melp_plugins.ecg import d_beta, ecg_fm, melp, merl_layers
from melp_plugins.ecg.conv_transformer import conv_transformer
from melp_plugins.ecg.ecg_jepa import ECGJEPA
from melp_plugins.ecg.ecg_jepa_weimann import WHOLE, WeimannEncoder
from melp_plugins.ecg.merl import MerlVitBackbone
from melp_plugins.ecg.patch_transformer import patch_transformer
from melp_plugins.ecg.st_mem import StMem
from melp_plugins.ecg.wav2vec2 import Size

CATALOGUE = discover()
SMALL: dict[str, dict[str, int]] = {
    "jepa": {"predictor_width": 32, "predictor_depth": 1, "predictor_heads": 1},
    "mae": {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 1},
    "crt": {"width": 32, "depth": 1, "heads": 1},
    "masked": {"negatives": 10},
}
BUILD: dict[str, Callable[[], mb.ECGEncoder]] = {
    "small": SmallEncoder,
    "conv-transformer": conv_transformer,
    "conv-transformer-post-norm": lambda: conv_transformer(extractor_norm="group", norm_first=False),
    "patch-transformer": patch_transformer,
    "patch-transformer-per-lead": lambda: patch_transformer(per_lead=True, patch=50, layers=1),
    "wav2vec2-cmsc": lambda: ecg_fm.Wav2Vec2CMSC(size="tiny"),
    "melp": lambda: melp.MELPEncoder(size="tiny"),
    "d-beta": d_beta.DBeta,
    "st-mem": lambda: StMem("small"),
    "ecg-jepa": lambda: ECGJEPA(depth=2, width=32, heads=2),
    "ecg-jepa-weimann": lambda: WeimannEncoder(WHOLE, "xs", depth=2),
    "merl-vit": lambda: MerlVitBackbone("tiny"),
}


@pytest.fixture(params=list(BUILD))
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> mb.ECGEncoder:
    for module in (ecg_fm, melp):
        monkeypatch.setitem(module.SIZES, "tiny", Size(1, 32, 2, 64))
    monkeypatch.setitem(d_beta.SIZES, "small", Size(1, 768, 12, 64))
    monkeypatch.setattr(StMem, "depth", 2)
    monkeypatch.setitem(merl_layers.VITS, "tiny", (64, 1))
    torch.manual_seed(0)
    return BUILD[request.param]().eval()


def signal_of(encoder: mb.ECGEncoder, records: int = 2) -> Tensor:
    spec = encoder.spec
    return torch.randn(records, len(spec.leads), spec.samples, generator=torch.Generator().manual_seed(1))


def every_third(normed: Tensor) -> Tensor:
    return (torch.arange(normed.shape[1]) % 3 == 1).expand(len(normed), -1)


def attached(name: str, encoder: mb.ECGEncoder) -> mb.Objective:
    torch.manual_seed(1)
    objective = CATALOGUE.objectives[name].build(SIZES, **SMALL.get(name, {}))
    objective.attach(SimpleNamespace(encoder=encoder))
    return objective


def test_it_keeps_the_protocol_and_its_widths(encoder: mb.ECGEncoder) -> None:
    assert isinstance(encoder, mb.MaskedEncoding)
    with torch.no_grad():
        local = encoder.local(signal_of(encoder))
        normed = encoder.normed(local)
        context = encoder.contextual(normed, torch.zeros(normed.shape[:2], dtype=torch.bool), None)
    assert local.shape == normed.shape == (2, local.shape[1], encoder.local_width)
    assert in_rows(local, encoder).shape[1] == encoder.token_rows
    assert context.shape == (2, local.shape[1] + 2 * encoder.separators * encoder.token_rows, encoder.context_width)
    assert without_separators(context, encoder).shape == (2, local.shape[1], encoder.context_width)


def test_with_nothing_masked_a_stand_in_changes_nothing(encoder: mb.ECGEncoder) -> None:
    assert isinstance(encoder, mb.MaskedEncoding)
    with torch.no_grad():
        normed = encoder.normed(encoder.local(signal_of(encoder)))
        none = torch.zeros(normed.shape[:2], dtype=torch.bool)
        one, two = (encoder.contextual(normed, none, s) for s in (None, torch.ones(encoder.context_width)))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "left out"])
def test_what_is_masked_is_seen_by_no_token(encoder: mb.ECGEncoder, replaced: bool) -> None:
    assert isinstance(encoder, mb.MaskedEncoding)
    stand_in = torch.ones(encoder.context_width) if replaced else None
    with torch.no_grad():
        normed = encoder.normed(encoder.local(signal_of(encoder)))
        masked = every_third(normed)
        other = torch.where(masked[..., None], 3 - 2 * normed, normed)
        one, two = encoder.contextual(normed, masked, stand_in), encoder.contextual(other, masked, stand_in)
        seen = encoder.contextual(torch.where(masked[..., None], normed, 3 - 2 * normed), masked, stand_in)
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(one, seen, atol=1e-3)


def test_the_state_of_what_is_left_out_is_0_and_of_the_rest_is_not(encoder: mb.ECGEncoder) -> None:
    assert isinstance(encoder, mb.MaskedEncoding)
    with torch.no_grad():
        normed = encoder.normed(encoder.local(signal_of(encoder)))
        masked = every_third(normed)
        states = without_separators(encoder.contextual(normed, masked, None), encoder)
    assert not states[masked].any()
    assert states[~masked].any(dim=-1).all()


def test_every_masked_method_trains_it(encoder: mb.ECGEncoder) -> None:
    signal = signal_of(encoder, 1)
    for name in ("masked", "mae", "jepa", "cpc", "crt"):
        assert CATALOGUE.objectives[name].build(SIZES).fits(encoder) is None
        encoder.zero_grad(set_to_none=True)
        objective = attached(name, encoder)
        given = {"signal": signal, "encoder": encoder} | ({"progress": 0.5} if name == "crt" else {})
        value = objective(**given)
        loss = value[0] if isinstance(value, tuple) else value
        assert torch.isfinite(loss)
        loss.backward()
        assert any(p.grad is not None and p.grad.any() for p in encoder.parameters())


def test_an_encoder_without_masked_encoding_is_told_so_in_a_line() -> None:
    class Plain(mb.ECGEncoder):
        spec = mb.SignalSpec(rate_hz=100.0)
        width = 4

        def forward(self, signal: Tensor) -> mb.Features:
            raise AssertionError

    for name in ("masked", "mae", "jepa", "crt"):
        objective = CATALOGUE.objectives[name].build(SIZES)
        assert "needs an encoder with masked encoding" in str(objective.fits(Plain()))
        assert objective.fits(SmallEncoder()) is None
        with pytest.raises(mb.NotApplicable, match="needs an encoder with masked encoding"):
            objective.attach(SimpleNamespace(encoder=Plain()))


def test_asking_whether_an_objective_fits_leaves_the_encoder_as_it_was() -> None:
    encoder = conv_transformer().train()
    before = {n: t.clone() for n, t in encoder.state_dict().items()}
    for name in ("masked", "mae", "jepa", "cpc", "crt"):
        CATALOGUE.objectives[name].build(SIZES).fits(encoder)
    assert encoder.training
    assert all(torch.equal(t, before[n]) for n, t in encoder.state_dict().items())


def test_patches_of_all_leads_are_rebuilt_as_stretches_of_all_leads() -> None:
    encoder = SmallEncoder()
    objective = attached("mae", encoder)
    objective.normalise_patches = False
    signal = signal_of(encoder, 3)
    mask = objective.choose(torch.rand(3, 1, 40, generator=torch.Generator().manual_seed(2)))
    assert mask.sum(dim=-1).eq(30).all()
    stretches = torch.stack([signal[:, :, 5 * i : 5 * i + 5].flatten(1) for i in range(40)], dim=1)[:, None]  # (B, 1, P, S)
    assert objective.loss(signal, stretches, mask).item() == 0
    assert objective.loss(signal, stretches + 2 * mask[..., None], mask).item() == pytest.approx(4)
    assert objective.decoder.decoder_head.out_features == 60
