"""HeartLang: its tokenizer, its transformer and its vocabulary, apart from published numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from melp_bench.published.fitting import KeyLayout, fit, publish
from melp_plugins.ecg.heartlang import FINETUNED, HeartLangClassifier
from melp_plugins.ecg.heartlang_codes import CODE_WIDTH, DECAY, VQHBR, Quantizer
from melp_plugins.ecg.heartlang_former import STECGFormer
from melp_plugins.ecg.heartlang_tokenizer import QRSTokenizer


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gap", [60, 79, 95])
def test_a_word_is_the_record_around_its_peak_up_to_the_middles(gap: int) -> None:
    record, peaks = noise(12, 1000).double(), np.arange(50, 950, gap)
    words = QRSTokenizer().sentence(record, peaks).words
    row = 0
    for lead in range(12):
        for beat, peak in enumerate(peaks[: max(0, 256 - row)]):
            left = (peaks[beat - 1] + peak) // 2 if beat else peak - 48
            right = (peak + peaks[beat + 1]) // 2 if beat + 1 < len(peaks) else peak + 48
            for at in range(96):
                sample = peak - 48 + at
                assert words[row, at] == (record[lead, sample] if left <= sample < right and 0 <= sample < 1000 else 0)
            row += 1
            if row == 256:
                return


def test_a_word_never_reaches_further_than_half_its_length_from_a_slow_beat() -> None:
    record, peaks = noise(12, 1000), np.array([100, 400, 700])
    words = QRSTokenizer().sentence(record, peaks).words
    for beat, peak in enumerate(peaks):
        assert torch.equal(words[beat], record[0, peak - 48 : peak + 48])


def test_the_beat_at_the_end_of_a_record_starts_its_word_when_it_would_not_fit_before_the_middle() -> None:
    record = noise(12, 1000)
    words = QRSTokenizer().sentence(record, np.array([880, 990])).words
    assert torch.equal(words[1, :65], record[0, 935:1000])
    assert not words[1, 65:].any()


def test_the_published_tokenizer_loses_leads_of_a_fast_rhythm_and_the_corrected_one_keeps_all() -> None:
    record, peaks = noise(12, 1000), np.arange(20, 1000, 40)
    published, corrected = (QRSTokenizer(all_leads=all_leads).sentence(record, peaks) for all_leads in (False, True))
    assert published.leads.max() == 256 // len(peaks) + 1 < 12
    counts = torch.bincount(corrected.leads, minlength=13)
    assert counts[1:].tolist() == [256 // 12] * 12
    by_lead = [corrected.seconds[corrected.leads == lead].tolist() for lead in range(1, 13)]
    assert all(seconds == by_lead[0] for seconds in by_lead)
    assert {min(by_lead[0]), max(by_lead[0])} == {1, 10}


def test_both_tokenizers_agree_where_everything_fits() -> None:
    record, peaks = noise(12, 1000), np.arange(30, 1000, 80)
    published, corrected = (QRSTokenizer(all_leads=all_leads).sentence(record, peaks) for all_leads in (False, True))
    assert torch.equal(published.words, corrected.words)
    assert torch.equal(published.leads, corrected.leads)


def test_a_flat_record_is_an_empty_sentence() -> None:
    sentence = QRSTokenizer()(torch.zeros(2, 12, 1000))
    assert not sentence.mask.any()
    assert not sentence.words.any()


def test_the_transformer_with_circular_words_moves_with_them_only_through_positions() -> None:
    former = STECGFormer(depth=1).eval()
    with torch.no_grad():
        former.pos_embed.zero_()
        words = noise(1, 256, 96)
        states, rolled = former(words), former(words.roll(7, dims=1))
    torch.testing.assert_close(states[:, 1:].roll(7, dims=1), rolled[:, 1:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(states[:, 0], rolled[:, 0], rtol=1e-4, atol=1e-4)


def test_a_hidden_word_reaches_no_state() -> None:
    former, words = STECGFormer(depth=1).eval(), noise(1, 256, 96)
    hidden = torch.zeros(1, 256, dtype=torch.bool)
    hidden[:, 98:103] = True  # its neighbours too, as the convolution reaches one word to each side
    other = words.clone()
    other[:, 100] += 1
    with torch.no_grad():
        torch.testing.assert_close(former(words, masked=hidden), former(other, masked=hidden))
        assert not torch.allclose(former(words), former(other))


def test_a_code_is_the_nearest_on_the_sphere() -> None:
    quantizer, states = Quantizer(20, 6, count_in_eval=False).eval(), noise(2, 5, 6)
    quantized = quantizer(states)
    for record in range(2):
        for word in range(5):
            unit = states[record, word] / states[record, word].norm()
            distances = [float((unit - code).square().sum()) for code in quantizer.embedding.weight]
            assert quantized.codes[record, word] == int(np.argmin(distances))
            assert float(quantized.margins[record, word]) == pytest.approx(np.diff(sorted(distances)[:2])[0], abs=1e-5)


def test_codes_are_counted_in_evaluation_only_on_demand() -> None:
    states = noise(2, 5, 6)
    for count, decay in ((False, 1.0), (True, DECAY)):
        quantizer = Quantizer(20, 6, count_in_eval=count).eval()
        quantizer.cluster_size.fill_(3.0)
        codes = quantizer(states).codes
        used = torch.bincount(codes.flatten(), minlength=20)
        torch.testing.assert_close(quantizer.cluster_size, decay * 3.0 + (1 - decay) * used)


def test_training_moves_only_the_codes_that_are_used_towards_what_they_name() -> None:
    quantizer, states = Quantizer(50, 6, count_in_eval=False).train(), noise(1, 8, 6)
    before = quantizer.embedding.weight.clone()
    codes = quantizer(states).codes.flatten()
    moved = (quantizer.embedding.weight != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == sorted(set(codes.tolist()))
    torch.testing.assert_close(quantizer.embedding.weight.norm(dim=1), torch.ones(50))
    unit = F.normalize(states, dim=-1).flatten(0, 1)
    for code in set(codes.tolist()):
        mean = F.normalize(unit[codes == code].sum(dim=0), dim=0)
        assert quantizer.embedding.weight[code] @ mean >= before[code] @ mean


def test_the_gradient_of_a_code_goes_to_what_it_names() -> None:
    quantizer, states = Quantizer(20, 6, count_in_eval=False).eval(), noise(1, 4, 6).requires_grad_()
    direction = noise(1, 4, 6, seed=1)
    (by_code,) = torch.autograd.grad((quantizer(states).vectors * direction).sum(), states)
    (by_unit,) = torch.autograd.grad((F.normalize(states, dim=-1) * direction).sum(), states)
    torch.testing.assert_close(by_code, by_unit)


def test_the_vocabulary_learns_to_rebuild_one_sentence() -> None:
    torch.manual_seed(0)
    model = VQHBR(codes=32, count_in_eval=False).train()
    sentence = QRSTokenizer().sentence(noise(12, 1000), np.arange(30, 1000, 90))
    batch = type(sentence)(sentence.words[None], sentence.leads[None], sentence.seconds[None])
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        _, loss = model(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert model.decoder.token_embed.tokenConv.in_channels == CODE_WIDTH


def test_the_number_of_classes_is_read_off_a_fine_tuned_file() -> None:
    model = HeartLangClassifier(classes=7)
    again = fit(publish(model.state_dict(), {}, FINETUNED, KeyLayout()), FINETUNED, HeartLangClassifier)
    assert again.options == {"classes": 7}


@pytest.mark.skipif("MELP_BENCH_REAL_ECG" not in os.environ, reason="MELP_BENCH_REAL_ECG names no folder of records")
def test_the_tokenizer_finds_annotated_beats_of_real_records() -> None:
    import wfdb

    folder = Path(os.environ["MELP_BENCH_REAL_ECG"])
    headers = sorted(path for path in folder.glob("**/ludb/**/*.hea"))[:12]
    if not headers:
        pytest.skip("there are no LUDB records in the folder")
    found = known = 0
    for header in headers:
        record = wfdb.rdrecord(str(header.with_suffix("")))
        marks = wfdb.rdann(str(header.with_suffix("")), "i")
        peaks = [sample for sample, symbol in zip(marks.sample, marks.symbol, strict=True) if symbol == "N"]
        signal = torch.from_numpy(record.p_signal.T.astype(np.float32)).unfold(1, 5, 5).mean(dim=-1)  # 500 to 100 Hz
        mine = 5 * QRSTokenizer().peaks(signal.numpy())
        known += len(peaks)
        found += sum(np.abs(mine - peak).min(initial=10**6) <= 50 for peak in peaks)  # 100 ms
    assert found >= 0.9 * known > 0
