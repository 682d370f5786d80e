"""D-BETA's terms: which report is wrongly shown, what fusion may see, and what is rebuilt and counted."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.testing.inputs import make_inputs
from melp_bench.testing.small import SIZES, SmallEncoder, SmallModel
from melp_plugins.ecg.conv_transformer import conv_transformer
from melp_plugins.ecg.resnet1d import resnet1d_18
from melp_plugins.objectives.fused_masked import FusedMaskedRecord, FusedMaskedWords, fused_masked_record, fused_masked_words
from melp_plugins.objectives.fusion import Fusion
from melp_plugins.objectives.matching import Matching, etm, wrong_reports
from melp_plugins.objectives.report_similarity import report_similarity

SMALL = {"width": 8, "heads": 2}


def test_a_wrong_report_is_the_farthest_or_the_nearest_that_does_not_say_the_same() -> None:
    alike = torch.tensor([[1.0, 1.0, 0.2, 0.7], [1.0, 1.0, 0.2, 0.7], [0.2, 0.2, 1.0, 0.4], [0.7, 0.7, 0.4, 1.0]])
    states = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    far, there = wrong_reports(alike, states, near=False)
    assert (far.tolist()[0], far.tolist()[1], far.tolist()[3], there.all().item()) == (2, 2, 2, True)
    assert far[2].item() in (0, 1)
    near, _ = wrong_reports(alike, states, near=True)
    assert (near[0].item(), near[1].item(), near[2].item()) == (3, 3, 3)
    assert near[3].item() in (0, 1)
    assert not wrong_reports(torch.ones(3, 3), states[:3], near=True)[1].any()


def test_reports_that_share_no_word_are_told_by_their_states() -> None:
    states = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0]])
    far, _ = wrong_reports(torch.eye(3), states, near=False)
    near, _ = wrong_reports(torch.eye(3), states, near=True)
    assert (far.tolist()[:2], near.tolist()[:2]) == ([2, 2], [1, 0])


def asked(objective: Matching, ecg: mb.Features, text: mb.Features, record: int, report: int) -> Tensor:
    """Return the logit of one pair, asked alone and without padding."""
    assert ecg.tokens is not None
    assert text.tokens is not None
    tokens, words = ecg.tokens[record][ecg.tokens_mask[record]], text.tokens[report][text.tokens_mask[report]]  # type: ignore[index]
    fused, read = objective.fusion(tokens[None], words[None])
    logit: Tensor = objective.match(torch.cat([fused.mean(dim=1), read.mean(dim=1)], dim=-1))[0, 0]
    return logit


@pytest.mark.parametrize("negatives", ["far", "near"])
def test_matching_asks_every_record_twice(negatives: str) -> None:
    torch.manual_seed(0)
    objective = etm(SIZES, layers=2, negatives=negatives, **SMALL)
    inputs = make_inputs(("ecg", "text"), pairs=5)
    ecg, text = inputs["ecg"], inputs["text"]
    loss, count = objective(ecg, text)
    wrong, there = wrong_reports(report_similarity(text.token_ids, text.tokens_mask), text.record, near=negatives == "near")
    assert there.all()
    assert not (wrong == torch.arange(5)).any()
    terms = [F.softplus(-asked(objective, ecg, text, i, i)) for i in range(5)]
    terms += [F.softplus(asked(objective, ecg, text, i, int(wrong[i]))) for i in range(5)]
    assert count.item() == 10
    torch.testing.assert_close(loss, torch.stack(terms).mean(), rtol=1e-4, atol=1e-6)


def test_a_batch_in_which_all_say_the_same_has_no_wrong_report() -> None:
    inputs = make_inputs(("ecg", "text"), pairs=3)
    text = inputs["text"].apply({n: t[:1].expand(3, *t.shape[1:]) for n, t in inputs["text"].present().items()})
    loss, count = etm(SIZES, **SMALL)(inputs["ecg"], text)
    assert count.item() == 3
    assert torch.isfinite(loss)


def test_one_side_of_a_fusion_reads_the_other_as_it_was_a_layer_below() -> None:
    torch.manual_seed(0)
    fusion = Fusion(ecg=6, text=5, width=8, layers=1, heads=2).eval()
    record, words = torch.randn(2, 4, 6), torch.randn(2, 3, 5)
    x, y = fusion(record, words)
    a, b = fusion.record(record) + fusion.modality[0], fusion.words(words) + fusion.modality[1]
    torch.testing.assert_close(x, fusion.record_norm(fusion.record_layers[0](a, b)))
    torch.testing.assert_close(y, fusion.word_norm(fusion.word_layers[0](b, a)))
    only = Fusion(ecg=6, text=5, width=8, layers=2, heads=2, returned=["words"])
    assert (len(only.record_layers), len(only.word_layers)) == (1, 2)


def test_padding_is_not_read_across_modalities() -> None:
    torch.manual_seed(0)
    fusion = Fusion(ecg=6, text=5, width=8, layers=2, heads=2).eval()
    record, words, keep = torch.randn(1, 4, 6), torch.randn(1, 5, 5), torch.tensor([[True, True, True, False, False]])
    x, y = fusion(record, words, None, keep)
    a, b = fusion(record, words[:, :3])
    torch.testing.assert_close(x, a)
    torch.testing.assert_close(y[:, :3], b)


# ------------------------------------------------------------------------------------------------------------- masked


def attached(objective: FusedMaskedRecord, encoder: mb.ECGEncoder) -> FusedMaskedRecord:
    model = SmallModel()
    model.encoder = encoder
    objective.attach(model)
    return objective


def test_the_error_is_counted_on_masked_patches_alone() -> None:
    torch.manual_seed(0)
    objective = attached(fused_masked_record(SIZES, decoder_width=8, decoder_heads=2, **SMALL), SmallEncoder())
    assert objective.patches == 40
    signal, predicted, mask = torch.randn(2, 12, 200), torch.randn(2, 40, 60), torch.rand(2, 40) < 0.6
    total, number = 0.0, 0
    for record in range(2):
        for patch in mask[record].nonzero()[:, 0].tolist():
            guess = predicted[record, patch].view(12, 5)
            for lead in range(12):
                for place in range(5):
                    total += float(guess[lead, place] - signal[record, lead, 5 * patch + place]) ** 2
                    number += 1
    assert objective.loss(signal, predicted, mask).item() == pytest.approx(total / number, rel=1e-5)


def test_three_quarters_of_the_tokens_are_left_out_and_nothing_of_them_is_seen() -> None:
    torch.manual_seed(0)
    encoder = SmallEncoder()
    objective = attached(fused_masked_record(SIZES, decoder_width=8, decoder_heads=2, lead_mask=0.0, **SMALL), encoder).eval()
    assert objective.masked_of(40) == 30
    text = make_inputs(("text",), pairs=2)["text"]
    signal = torch.randn(2, 12, 200)
    mask = torch.rand(2, 40).argsort(1).argsort(1) < 30
    hidden = mask.repeat_interleave(5, dim=1)[:, None]  # patches of 5 samples
    decoded = [
        objective.decode(encoder.contextual(encoder.local(given), mask, None), mask, text)
        for given in (signal, torch.where(hidden, signal + 5, signal))
    ]
    torch.testing.assert_close(decoded[0], decoded[1])
    other = text.apply({"tokens": text.present()["tokens"] + torch.linspace(-1, 1, SIZES.text_tokens)})
    seen = objective.decode(encoder.contextual(encoder.local(signal), mask, None), mask, other)
    assert (seen - decoded[0])[mask].abs().max() > 1e-4  # the report is


def test_leads_at_rest_lie_at_their_median() -> None:
    torch.manual_seed(0)
    objective, signal = fused_masked_record(SIZES, lead_mask=0.5, **SMALL), torch.randn(64, 12, 21)
    rested = objective._leads_at_rest(signal)
    flat = (rested == signal.median(dim=-1, keepdim=True).values).all(dim=-1)
    assert flat.float().mean().item() == pytest.approx(0.5, abs=0.06)
    assert torch.equal(rested[~flat], signal[~flat])


def test_encoders_with_masked_encoding_are_trained_and_others_are_told() -> None:
    objective = fused_masked_record(SIZES)
    assert objective.fits(conv_transformer()) is None
    assert "needs an encoder with masked encoding" in (objective.fits(resnet1d_18(width=4)) or "")
    assert "masks none" in (fused_masked_record(SIZES, mask_ratio=0.001).fits(conv_transformer()) or "")


def test_hidden_words_are_guessed_beside_the_record_and_counted() -> None:
    torch.manual_seed(0)
    model, inputs = SmallModel(), make_inputs(("ecg", "reports"))
    objective: FusedMaskedWords = fused_masked_words(SIZES, chosen=0.6, **SMALL)
    objective.attach(model)
    for parameter in objective.guess.parameters():
        parameter.data.zero_()
    loss, count = objective(**inputs, text_encoder=model.text_encoder)
    assert loss.item() == pytest.approx(math.log(SIZES.vocab), rel=1e-5)  # who knows nothing has the vocabulary to choose from
    assert 0 < count.item() < inputs["reports"].mask.sum()


def test_hidden_words_can_be_read_off_the_record() -> None:
    torch.manual_seed(0)
    model, inputs = SmallModel(), make_inputs(("ecg", "reports"))
    ecg = inputs["ecg"].apply({n: t.detach() for n, t in inputs["ecg"].present().items()})
    objective = fused_masked_words(SIZES, chosen=1.0, **SMALL)
    objective.attach(model)
    optimiser = torch.optim.Adam([*objective.parameters(), *model.get_submodule("text_encoder").parameters()], lr=2e-2)
    for _ in range(50):
        optimiser.zero_grad()
        objective(ecg, inputs["reports"], model.text_encoder)[0].backward()
        optimiser.step()
    objective.eval()
    torch.manual_seed(1)
    true = objective(ecg, inputs["reports"], model.text_encoder)[0]
    torch.manual_seed(1)
    turned = ecg.apply({n: t.roll(1, 0) for n, t in ecg.present().items()})
    assert true < 0.8 * objective(turned, inputs["reports"], model.text_encoder)[0]


@pytest.mark.parametrize(
    ("build", "options", "told"),
    [
        (etm, {"negatives": "hard"}, "wanted one of far, near"),
        (etm, {"width": 10, "heads": 4}, "heads that divide"),
        (fused_masked_words, {"chosen": 0.0}, "'fused-masked-words' with chosen"),
        (fused_masked_record, {"mask_ratio": 1.0}, "wanted shares from 0 to 1"),
        (fused_masked_record, {"decoder_heads": 3}, "wanted shares from 0 to 1"),
    ],
)
def test_options_out_of_their_range_are_told(build, options, told) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(mb.UserError, match=told):
        build(SIZES, **options)
    with pytest.raises(mb.UserError, match="there is no text encoder"):
        build(mb.Sizes(shared=4, embedding=4, ecg_tokens=4))
