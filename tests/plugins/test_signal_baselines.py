"""Models of transformers and of any time series as encoders: what they make of a record is what their own code makes of it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.testing import check_component
from melp_bench.testing.ecg import beating_signal
from melp_plugins.ecg import hugging_face_signal as hf
from melp_plugins.ecg import time_series
from melp_plugins.ecg.hugging_face_signal import HuggingFaceSignal, hugging_face_signal
from melp_plugins.ecg.time_series import MomentEncoder, chronos, moment_size, sinusoids

HF = next(entry for entry in hf.melp_ecg_encoders() if entry.name == "hf")
CHRONOS, MOMENT = time_series.melp_ecg_encoders()
needs_chronos = pytest.mark.skipif(find_spec("chronos") is None, reason="chronos-forecasting is not installed")
LEADS = ("II", "V1", "V5")


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    folder = tmp_path_factory.mktemp("wav2vec2")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"conv_dim": (16, 16), "conv_kernel": (10, 8), "conv_stride": (5, 4), "num_feat_extract_layers": 2}
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        **sizes,
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=250, do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def patchtst(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import PatchTSTConfig, PatchTSTModel

    folder = tmp_path_factory.mktemp("patchtst")
    torch.manual_seed(0)
    config = PatchTSTConfig(
        num_input_channels=3,
        context_length=200,
        patch_length=20,
        patch_stride=20,
        d_model=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=32,
    )
    PatchTSTModel(config).save_pretrained(folder)
    return folder


def record(encoder: mb.ECGEncoder) -> Tensor:
    return beating_signal(encoder.spec, 2)


@torch.no_grad()
def test_a_model_of_one_series_is_fed_as_its_feature_extractor_feeds_it(wav2vec2: Path) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    encoder = hugging_face_signal(model=str(wav2vec2), seconds=4.0).eval()
    assert (encoder.spec.rate_hz, encoder.spec.samples, len(encoder.spec.leads)) == (250.0, 1000, 12)
    signal = record(encoder)
    extractor, body = AutoFeatureExtractor.from_pretrained(wav2vec2), AutoModel.from_pretrained(wav2vec2).eval()
    for row in range(2):
        states = []
        for lead in signal[row].numpy():
            fed = extractor(lead, sampling_rate=250, return_tensors="pt")
            states.append(body(fed.input_values).last_hidden_state[0])
        tokens = torch.stack(states).mean(dim=0)
        made = encoder(signal[row : row + 1])
        torch.testing.assert_close(made.tokens[0], tokens, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(made.embedding[0], tokens.mean(dim=0), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_model_of_several_channels_is_fed_what_its_config_says(patchtst: Path) -> None:
    from transformers import AutoModel

    encoder = hugging_face_signal(model=str(patchtst), rate_hz=100.0, leads=LEADS).eval()
    assert (encoder.spec.seconds, encoder.spec.leads) == (2.0, LEADS)
    signal = record(encoder)
    states = AutoModel.from_pretrained(patchtst).eval()(past_values=signal.mT).last_hidden_state  # (B, L, N, D)
    made = encoder(signal)
    torch.testing.assert_close(made.tokens, states.mean(dim=1), rtol=1e-4, atol=1e-5)


def test_it_keeps_the_promises_of_an_encoder(patchtst: Path, wav2vec2: Path) -> None:
    for options in ({"model": str(wav2vec2), "seconds": "2"}, {"model": str(patchtst), "rate_hz": "100", "leads": "II,V1,V5"}):
        verdicts = check_component("ECG encoder", HF, options=options)
        broken = [f"{v.property}: {v.detail}" for v in verdicts if v.ok is False]
        assert [b for b in broken if "masked_spec_embed" not in b] == []  # of training alone


def test_its_files_are_part_of_what_its_features_depend_on(wav2vec2: Path, patchtst: Path) -> None:
    digests = HF.read_digests({"model": str(wav2vec2)})
    assert set(digests) == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert digests["model.safetensors"] != HF.read_digests({"model": str(patchtst)})["model.safetensors"]


def test_what_cannot_be_fed_is_refused_in_one_line(wav2vec2: Path, patchtst: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, Wav2Vec2FeatureExtractor

    BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)).save_pretrained(
        tmp_path / "bert"
    )
    sound, pickled, unfed = tmp_path / "sound", tmp_path / "pickled", tmp_path / "unfed"
    for folder in (sound, pickled, unfed):
        folder.mkdir()
        for path in wav2vec2.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
    Wav2Vec2FeatureExtractor(sampling_rate=16_000).save_pretrained(sound)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    (unfed / "preprocessor_config.json").unlink()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": "owner/name"}, "wanted a local folder"),
        ({"model": str(tmp_path / "bert")}, "reads 'input_ids'; wanted a model of signals"),
        ({"model": str(sound)}, "16000 Hz; say what rate its samples are to be, as rate_hz=500"),
        ({"model": str(pickled)}, "safetensors"),
        ({"model": str(unfed)}, "cannot load the signal model"),
        ({"model": str(patchtst), "rate_hz": 100.0}, "reads 3 channels"),
        ({"model": str(patchtst), "leads": LEADS}, "states no rate"),
    ]
    for options, said in cases:
        with pytest.raises(mb.UserError, match=said) as caught:
            hugging_face_signal(**options)
        assert "\n" not in str(caught.value)
    assert isinstance(hugging_face_signal(model=str(sound), rate_hz=500.0), HuggingFaceSignal)


# ----------------------------------------------------------------------------------------------------------- Chronos

T5 = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 1, "num_decoder_layers": 1}


def chronos_folder(kind: str, folder: Path) -> Path:
    """Save a small Chronos model with random weights."""
    from chronos.chronos2 import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    bolt = {"context_length": 512, "input_patch_size": 16, "input_patch_stride": 16, "quantiles": [0.1, 0.5, 0.9]}
    bins = {
        "tokenizer_class": "MeanScaleUniformBins",
        "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
        "context_length": 512,
        "prediction_length": 64,
        "n_tokens": 256,
        "n_special_tokens": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "use_eos_token": True,
        "model_type": "seq2seq",
        "num_samples": 20,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    if kind == "t5":
        config = T5Config(**T5, vocab_size=256, chronos_config=bins, chronos_pipeline_class="ChronosPipeline")
        T5ForConditionalGeneration(config).save_pretrained(folder)
    elif kind == "bolt":
        made = {**bolt, "prediction_length": 64, "use_reg_token": True}
        config = T5Config(**T5, chronos_config=made, chronos_pipeline_class="ChronosBoltPipeline", decoder_start_token_id=0)
        ChronosBoltModelForForecasting(config).save_pretrained(folder)
    else:
        core = {name: T5[name] for name in ("d_model", "d_ff", "d_kv", "num_heads", "num_layers")}
        made = {**bolt, "output_patch_size": 16, "use_reg_token": True}
        two = Chronos2CoreConfig(**core, chronos_config=made, chronos_pipeline_class="Chronos2Pipeline")
        Chronos2Model(two).save_pretrained(folder)
    return folder


@needs_chronos
@pytest.mark.parametrize("kind", ["t5", "bolt", "2"])
def test_chronos_encodes_leads_as_its_own_pipeline_embeds_series(kind: str, tmp_path: Path) -> None:
    from chronos import BaseChronosPipeline

    folder = chronos_folder(kind, tmp_path)
    encoder = chronos(model=str(folder), leads=LEADS).eval()
    assert (encoder.spec.rate_hz, encoder.spec.samples) == (51.2, 512)
    signal = record(encoder)
    pipeline = BaseChronosPipeline.from_pretrained(folder, dtype="float32")
    if kind == "2":
        whole = torch.stack(pipeline.embed(signal)[0])[:, :, :-2]  # without register and masked future
    else:
        whole = pipeline.embed(signal.flatten(0, 1))[0][:, :-1].unflatten(0, signal.shape[:2])  # without end or register
    with torch.no_grad():
        made = encoder(signal)
    torch.testing.assert_close(made.tokens, whole.mean(dim=1), rtol=1e-4, atol=1e-5)
    assert not any("decoder" in name for name, _ in encoder.named_parameters())


@needs_chronos
def test_chronos_bolt_keeps_the_promises_of_an_encoder(tmp_path: Path) -> None:
    options = {"model": str(chronos_folder("bolt", tmp_path)), "leads": "II,V1,V5"}
    assert [v for v in check_component("ECG encoder", CHRONOS, options=options) if v.ok is False] == []


def test_chronos_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(time_series, "find_spec", lambda name: None)
    with pytest.raises(mb.UserError, match=r"pip install 'melp-bench\[timeseries\]'"):
        chronos(model=str(tmp_path))


# ------------------------------------------------------------------------------------------------------------ MOMENT


@torch.no_grad()
def test_moment_is_patches_positions_and_t5_lead_by_lead() -> None:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    encoder = MomentEncoder(width=16, layers=2, heads=2, head_width=8, ff=32).eval()
    config = T5Config(
        d_model=16,
        d_ff=32,
        d_kv=8,
        num_heads=2,
        num_layers=2,
        vocab_size=3,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    body = T5EncoderModel(config).eval()
    body.encoder.load_state_dict(encoder.encoder.state_dict(), strict=False)
    signal, table = record(encoder), encoder.patch_embedding.value_embedding.weight.numpy()
    leads = []
    for lead in signal[0].double().numpy():
        scaled = (lead - lead.mean()) / (lead.std() + 1e-5)
        rows = []
        for place in range(64):
            position = np.zeros(16)
            for pair in range(8):
                angle = place / 10_000 ** (2 * pair / 16)
                position[2 * pair], position[2 * pair + 1] = np.sin(angle), np.cos(angle)
            rows.append(table @ scaled[8 * place : 8 * place + 8] + position)
        leads.append(body(inputs_embeds=torch.tensor(np.array(rows), dtype=torch.float32)[None]).last_hidden_state[0])
    torch.testing.assert_close(encoder(signal[:1]).tokens[0], torch.stack(leads).mean(dim=0), rtol=1e-3, atol=1e-4)


def test_moments_size_is_read_off_its_tensors() -> None:
    size = {"width": 32, "layers": 3, "heads": 2, "head_width": 8, "ff": 48}
    shapes = {name: tuple(tensor.shape) for name, tensor in MomentEncoder(**size).state_dict().items()}
    assert moment_size(shapes) == size


def test_positions_are_those_of_the_transformer() -> None:
    table = sinusoids(5, 4)
    assert torch.allclose(table[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert torch.allclose(table[3], torch.tensor([np.sin(3), np.cos(3), np.sin(0.03), np.cos(0.03)]).float())
