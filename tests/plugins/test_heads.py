"""Heads: MERL's are those of its published models, and what each kind of heads leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.model import Model, widths_of
from melp_bench.plugins import discover
from melp_plugins.ecg.merl import MerlBackbone, MerlHeads, MerlResNet, MerlViT
from melp_plugins.heads.merl import MERLHeads, merl
from melp_plugins.objectives.merl import uma

CATALOGUE = discover()
TEXT_WIDTH = 24


def filled(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Return the module in `eval()`, batch statistics and all drawn from a seed."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator) * 0.05
            tensor.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
    return module.eval()


def whole_and_parts(name: str) -> tuple[MerlResNet | MerlViT, MerlBackbone, MERLHeads]:
    """Return a published model as one encoder, and the same weights as a bare encoder with heads."""
    whole = CATALOGUE.ecg_encoders[name].build()
    backbone = CATALOGUE.ecg_encoders[f"{name}-encoder"].build()
    assert isinstance(whole, MerlResNet | MerlViT)
    assert isinstance(backbone, MerlBackbone)
    filled(whole, 1)
    backbone.ecg_encoder.load_state_dict(whole.ecg_encoder.state_dict())
    form = "attention" if isinstance(whole, MerlResNet) else "mlp"
    heads = merl(widths_of(backbone), width=256, form=form)
    if isinstance(whole, MerlResNet):
        assert heads.narrow is not None
        assert heads.pool is not None
        heads.narrow.weight.data.copy_(whole.downconv.weight[..., 0])
        heads.narrow.bias.data.copy_(whole.downconv.bias)
        heads.pool.load_state_dict(whole.att_pool_head.state_dict())
    else:
        heads.record.load_state_dict(whole.proj_e.state_dict())
    return whole, backbone.eval(), heads.eval()


def signal(encoder: mb.ECGEncoder) -> Tensor:
    spec = encoder.spec
    return torch.randn(2, len(spec.leads), spec.samples, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ["merl-resnet18", "merl-vit-tiny"])
def test_merls_heads_on_its_bare_encoder_are_its_published_model(name: str) -> None:
    whole, backbone, heads = whole_and_parts(name)
    records = signal(whole)
    with torch.no_grad():
        want, got = whole(records), Model(backbone, None, heads).ecg(records)
    torch.testing.assert_close(got.record, want.record, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.embedding, want.embedding, rtol=1e-4, atol=1e-5)
    assert heads.width == 256


@pytest.mark.parametrize(("name", "reads"), [("merl-resnet18", "tokens"), ("merl-vit-tiny", "embedding")])
def test_uni_modal_alignment_reads_behind_merls_heads_what_the_published_model_reads(name: str, reads: str) -> None:
    whole, backbone, heads = whole_and_parts(name)
    model, records = Model(backbone, None, heads), signal(whole)
    objective = uma(model.sizes(), reads=reads, dropout=0.0)
    published = filled(MerlHeads(objective.linear1.in_features, TEXT_WIDTH), 3)
    objective.linear1.weight.data.copy_(published.linear1.weight)  # type: ignore[operator, union-attr, arg-type]
    objective.linear2.weight.data.copy_(published.linear2.weight)  # type: ignore[operator, union-attr, arg-type]
    with torch.no_grad():
        first, second = published(whole.uniform_input(records))
        want = torch.stack([first, second])
        features = model.ecg(records)
        vector = features.embedding if reads == "embedding" else features.tokens.mean(dim=1)  # type: ignore[union-attr]
        got = torch.stack([objective.linear1(vector), objective.linear2(vector)])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_the_reports_projection_is_the_published_one() -> None:
    widths = mb.Widths(ecg_record=8, ecg_tokens=8, ecg_positions=3, text=TEXT_WIDTH)
    heads, published = merl(widths, width=256), filled(MerlHeads(8, TEXT_WIDTH), 4)
    heads.report.load_state_dict(published.proj_t.state_dict())  # type: ignore[union-attr]
    report = torch.randn(3, TEXT_WIDTH, generator=torch.Generator().manual_seed(5))
    got = heads.text(mb.Features(record=report, embedding=report)).record
    torch.testing.assert_close(got, published.proj_t(report))  # type: ignore[operator]


def test_merls_attention_takes_fewer_tokens_than_it_has_positions_and_refuses_more() -> None:
    heads = merl(mb.Widths(ecg_record=8, ecg_tokens=8, ecg_positions=5), width=16).eval()
    record, tokens = torch.randn(2, 8), torch.randn(2, 6, 8)
    assert heads.ecg(mb.Features(record, record, tokens=tokens[:, :3])).record.shape == (2, 16)
    with pytest.raises(mb.UserError, match="has 5 positions, and records have 6 tokens"):
        heads.ecg(mb.Features(record, record, tokens=tokens))


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("merl", {"form": "conv"}, "'conv'; wanted one of attention, mlp"),
        ("merl", {"width": 30}, "is 30; wanted a multiple of 4"),
        ("melp", {"width": 0}, "width 0, queries 12; wanted at least 1"),
        ("melp", {"queries": -1}, "queries -1; wanted"),
    ],
)
def test_an_option_out_of_its_range_is_refused(name: str, options: dict[str, object], told: str) -> None:
    with pytest.raises(mb.UserError, match=told):
        CATALOGUE.heads[name].build(mb.Widths(ecg_record=8, ecg_tokens=8, ecg_positions=3), **options)


def test_an_encoder_without_tokens_has_merls_other_form() -> None:
    widths = mb.Widths(ecg_record=8, ecg_tokens=8)
    with pytest.raises(mb.UserError, match=r"set heads\.form=mlp"):
        merl(widths)
    assert merl(widths, form="mlp").ecg_tokens == 0
