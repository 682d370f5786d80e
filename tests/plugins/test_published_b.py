"""MERL, ST-MEM, PTB-XL's reference encoders and timm's models: what each part does, apart from published numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import melp_bench as mb
from melp_bench.masking import in_rows
from melp_bench.published.fitting import KeyLayout, fit, publish
from melp_plugins.ecg import melp, merl, ptbxl_reference, st_mem
from melp_plugins.ecg.timm_image import HOP, WINDOW, TimmImage, bands, spectrogram
from melp_plugins.layers import AttentionPool
from melp_plugins.objectives.mae import MaskedAutoencoder

SIZES = mb.Sizes(shared=256, embedding=384, ecg_tokens=384)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------------------------- ST-MEM


@pytest.fixture(scope="module")
def small() -> st_mem.StMem:
    torch.manual_seed(0)
    return st_mem.StMem("small").eval()


@pytest.fixture(scope="module")
def masked(small: st_mem.StMem) -> MaskedAutoencoder:
    torch.manual_seed(0)
    objective = MaskedAutoencoder(SIZES, decoder_depth=1)
    objective.attach(SimpleNamespace(encoder=small))  # type: ignore[arg-type]
    return objective.eval()


def states_of(small: st_mem.StMem, signal: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the states (B, L, P + 2, D) of what is not masked (B, L, P)."""
    return in_rows(small.contextual(small.normed(small.local(signal)), mask.flatten(1), None), small)


def test_sine_cosine_positions_know_only_distances() -> None:
    table = st_mem.sine_cosine_table(30, 64)[0]
    gram = table[1:-1].double() @ table[1:-1].double().T
    frequencies = [10000 ** (-i / 32) for i in range(32)]
    for i, j in ((0, 0), (3, 17), (29, 1)):
        assert float(gram[i, j]) == pytest.approx(sum(math.cos((i - j) * w) for w in frequencies), abs=1e-4)
    assert not table[[0, -1]].any()


def test_all_patches_visible_are_the_whole_record(small: st_mem.StMem) -> None:
    signal = noise(1, 12, 2250)
    with torch.no_grad():
        visible = states_of(small, signal, torch.zeros(1, 12, 30, dtype=torch.bool))
        tokens = small(signal).tokens
    assert tokens is not None
    torch.testing.assert_close(visible[:, :, 1:-1].flatten(1, 2), small.norm(tokens), rtol=1e-4, atol=1e-5)


def test_visible_patches_are_encoded_as_if_there_were_no_others(small: st_mem.StMem, masked: MaskedAutoencoder) -> None:
    signal = noise(1, 12, 2250)
    mask = masked.choose(torch.rand(1, 12, 30, generator=torch.Generator().manual_seed(3)))
    kept = (~mask).nonzero()[:, 2].view(1, 12, -1)  # (B, L, K), in time's order
    with torch.no_grad():
        states = states_of(small, signal, mask)
        embedded = small.embed(signal).gather(2, kept[..., None].expand(-1, -1, -1, small.width))
        alone = small.norm(small.transform(embedded))  # (B, L, K + 2, D)
    torch.testing.assert_close(states[:, :, 1:-1][~mask].view(1, 12, -1, small.width), alone[:, :, 1:-1])
    torch.testing.assert_close(states[:, :, [0, -1]], alone[:, :, [0, -1]])
    assert not states[:, :, 1:-1][mask].any()


def test_masks_that_differ_from_lead_to_lead_are_told(small: st_mem.StMem) -> None:
    mask = torch.zeros(1, 12, 30, dtype=torch.bool)
    mask[:, 3, :4] = True
    with pytest.raises(mb.UserError, match="equally many patches of every lead"):
        states_of(small, noise(1, 12, 2250), mask)


def test_the_mask_leaves_those_of_the_smallest_noise(masked: MaskedAutoencoder) -> None:
    chance = torch.rand(2, 12, 30, generator=torch.Generator().manual_seed(5))
    mask = masked.choose(chance)
    assert mask.sum(dim=-1).eq(30 - 7).all()
    assert (chance.masked_fill(mask, 0).amax(dim=-1) < chance.masked_fill(~mask, 1).amin(dim=-1)).all()


def test_the_decoder_sees_one_lead_at_a_time(masked: MaskedAutoencoder) -> None:
    mask = masked.choose(torch.rand(1, 12, 30, generator=torch.Generator().manual_seed(6)))
    states = noise(1, 12, 32, 384)
    other = states.clone()
    other[:, 4] += 1
    with torch.no_grad():
        difference = (masked.decoder(states, mask) - masked.decoder(other, mask)).abs().amax(dim=(0, 2, 3))
    assert (difference > 0).nonzero().flatten().tolist() == [4]


def test_the_decoder_sees_nothing_of_a_masked_patch(masked: MaskedAutoencoder) -> None:
    mask = masked.choose(torch.rand(1, 12, 30, generator=torch.Generator().manual_seed(6)))
    states = noise(1, 12, 32, 384)
    other = torch.where(F.pad(mask, (1, 1))[..., None], states + 1, states)
    with torch.no_grad():
        torch.testing.assert_close(masked.decoder(states, mask), masked.decoder(other, mask))


def test_the_loss_reads_masked_patches_only_and_ignores_their_gain_and_offset(masked: MaskedAutoencoder) -> None:
    signal = noise(2, 12, 2250)
    mask = masked.choose(torch.rand(2, 12, 30, generator=torch.Generator().manual_seed(7))).float()
    target = signal.reshape(2, 12, 30, 75)
    perfect = (target - target.mean(dim=-1, keepdim=True)) / target.std(dim=-1, keepdim=True)
    wrong_where_visible = perfect + 5 * (1 - mask[..., None])
    assert float(masked.loss(signal, wrong_where_visible, mask)) == pytest.approx(0, abs=1e-6)
    assert float(masked.loss(3 * signal - 2, perfect, mask)) == pytest.approx(0, abs=1e-6)
    assert float(masked.loss(signal, perfect + 2 * mask[..., None], mask)) == pytest.approx(4, rel=1e-4)


def test_masked_training_says_which_encoder_it_needs(small: st_mem.StMem, masked: MaskedAutoencoder) -> None:
    assert "st-mem-base" in str(masked.fits(merl.melp_ecg_encoders()[0].build()))
    with pytest.raises(mb.UserError, match="mask_ratio"):
        MaskedAutoencoder(SIZES, mask_ratio=1.0)
    with pytest.raises(mb.NotApplicable, match="leaves none of the encoder's 30 patches visible with mask_ratio 0"):
        MaskedAutoencoder(SIZES, mask_ratio=0.99).attach(SimpleNamespace(encoder=small))  # type: ignore[arg-type]


def test_the_masked_loss_reaches_encoder_and_decoder(small: st_mem.StMem, masked: MaskedAutoencoder) -> None:
    masked(noise(1, 12, 2250), small).backward()
    for module in (small, masked):
        silent = [name for name, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
        assert silent == []
    small.zero_grad(set_to_none=True)


# --------------------------------------------------------------------------------------------------------------------- MERL


def test_an_attention_pool_without_attention_is_a_mean() -> None:
    pool, tokens = AttentionPool(20, 16).eval(), noise(3, 20, 16)
    with torch.no_grad():
        pool.mhsa.in_proj_weight[:32] = 0  # queries and keys
        pooled, attention = pool(tokens)
        first = (pool.cls_token + pool.positional_embedding[:, :1]).expand(3, -1, -1)
        mean = (torch.cat([first, tokens], dim=1) + pool.positional_embedding).mean(dim=1)
        value = mean @ pool.mhsa.in_proj_weight[32:].T + pool.mhsa.in_proj_bias[32:]
        want = pool.c_proj(pool.mhsa.out_proj(value))
    torch.testing.assert_close(attention, torch.full((3, 1, 20), 1 / 21))
    torch.testing.assert_close(pooled, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["merl-resnet18", "merl-vit-tiny"])
def test_the_encoder_alone_is_the_pooled_embedding_of_the_whole(name: str) -> None:
    entries = {entry.name: entry for entry in merl.melp_ecg_encoders()}
    whole, alone, projected = entries[name].build(), entries[f"{name}-encoder"].build(), entries[name].build(probe="projected")
    alone.load_state_dict({key: t for key, t in whole.state_dict().items() if key.startswith("ecg_encoder.")})
    projected.load_state_dict(whole.state_dict())
    signal = noise(2, 12, 5000)
    with torch.no_grad():
        one, two, three = (model.eval()(signal) for model in (whole, alone, projected))
    assert torch.equal(one.embedding, two.embedding)
    assert torch.equal(one.record, three.embedding)
    assert (whole.projected, alone.projected) == (True, False)
    assert projected.embedding_width == three.embedding.shape[1] == 256


def test_probes_of_melp_read_the_projection_in_the_corrected_entry_only() -> None:
    entries = {entry.name: entry for entry in melp.melp_ecg_encoders()}
    with torch.no_grad():
        published, corrected = (entries[name].build(caption_queries=2) for name in ("melp", "melp-projected"))
        corrected.load_state_dict(published.state_dict(), strict=True)
        tokens = noise(2, 9, 768)
        one, two = published.eval().pooled(tokens), corrected.eval().pooled(tokens)
    assert torch.equal(one.record, two.record)
    assert torch.equal(two.embedding, two.record)
    torch.testing.assert_close(one.embedding @ published.proj_contrast, two.embedding, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(one.embedding, two.embedding, atol=1e-2)


def test_an_unknown_probe_is_refused_by_name() -> None:
    with pytest.raises(mb.UserError, match="'middle'"):
        merl.MerlResNet(18, probe="middle")


def test_uniform_views_differ_by_dropout_in_training_only() -> None:
    heads, pooled = merl.MerlHeads(32), noise(4, 32)
    heads.linear2.load_state_dict(heads.linear1.state_dict())
    one, two = heads.eval()(pooled)
    assert torch.equal(one, two)
    torch.manual_seed(0)
    one, two = heads.train()(pooled)
    assert not torch.equal(one, two)


# ----------------------------------------------------------------------------------------------------- reference encoders


@pytest.mark.parametrize("build", [ptbxl_reference.xresnet1d101, ptbxl_reference.inception1d, ptbxl_reference.resnet1d_wang])
def test_a_records_logits_are_the_largest_over_its_crops(build: Callable[..., ptbxl_reference.Reference]) -> None:
    torch.manual_seed(0)
    model = build(classes=4).eval()
    signal = noise(2, 12, 1000)
    with torch.no_grad():
        crops = torch.stack([model.logits(signal[..., start : start + 250]) for start in range(0, 751, 125)])
        torch.testing.assert_close(model.record_logits(signal), crops.amax(dim=0), rtol=1e-4, atol=1e-5)


def test_a_fresh_xresnet_block_is_its_shortcut() -> None:
    block, x = ptbxl_reference.XBlock(64, 64, 256, 5, 2).eval(), noise(2, 64, 63)
    torch.testing.assert_close(block(x), F.relu(block.idpath(x)))
    assert block(x).shape == (2, 256, 32)


def test_an_xresnets_file_repeats_its_convolutions_and_loads_again() -> None:
    model, family = ptbxl_reference.xresnet1d101(classes=3), ptbxl_reference.XRESNET
    published = publish(model.state_dict(), {}, family, KeyLayout())
    repeated = [key for key in published if ".convpath.0." in key]
    assert len(repeated) == sum(".convs." in key for key in published) > 0
    again = fit(published, family, ptbxl_reference.xresnet1d101)
    assert again.options == {"classes": 3}
    assert all(torch.equal(tensor, again.module.state_dict()[key]) for key, tensor in model.state_dict().items())
    published[repeated[0]] = published[repeated[0]] + 1
    with pytest.raises(mb.UserError, match="should repeat"):
        fit(published, family, ptbxl_reference.xresnet1d101)


# --------------------------------------------------------------------------------------------------------------------- timm


def test_every_lead_fills_its_band_of_the_image() -> None:
    signal = noise(2, 12, 50)
    image = bands(signal, 224)
    for row in range(224):
        assert torch.equal(image[:, 0, row], signal[:, row * 12 // 224])


@pytest.mark.parametrize("hertz", [15.625, 62.5, 125.0])
def test_a_tone_is_a_line_in_the_spectrogram(hertz: float) -> None:
    time = torch.arange(5000) / 500.0
    image = spectrogram(torch.sin(2 * math.pi * hertz * time).expand(1, 12, -1))
    assert image.shape == (1, 12, WINDOW // 2 + 1, 5000 // HOP + 1)
    assert (image[..., 3:-3].argmax(dim=2) == round(hertz * WINDOW / 500)).all()


@pytest.mark.parametrize("image", ["spectrogram", "patches"])
@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "resnet10t"])
def test_any_timm_model_reads_records_one_by_one(model: str, image: str) -> None:
    encoder, signal = TimmImage(model=model, image=image, size=64).eval(), noise(3, 12, 5000)
    with torch.no_grad():
        together, alone = encoder(signal), encoder(signal[1:2])
    assert together.tokens is not None
    assert together.tokens.shape[::2] == (3, encoder.width)
    torch.testing.assert_close(together.embedding[1:2], alone.embedding, rtol=1e-4, atol=1e-5)


def test_a_misspelt_timm_model_or_image_is_answered_with_names() -> None:
    with pytest.raises(mb.UserError, match="resnet18"):
        TimmImage(model="resnet118")
    with pytest.raises(mb.UserError, match="spectrogram, patches"):
        TimmImage(image="painting")
