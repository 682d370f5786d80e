"""Text encoders of Hugging Face, on tiny local models made with transformers' own configuration classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
)

import melp_bench as mb
from melp_bench.errors import UserError
from melp_plugins.text.hugging_face import HuggingFaceText, hugging_face

WORDS = ["sinus", "rhythm", ".", "pr", "interval", "0", "12", "s", "normal", "axis", ",", "left", "bundle", "branch", "block"]
REPORTS = ["Sinus rhythm. PR interval 0.12 s. Normal axis", "Left bundle branch block", ""]
KINDS = ["causal", "plain", "t5", "distilbert", "roberta", "causal roberta"]


def save_bert(folder: Path, kind: str) -> Path:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(special + WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    size = tokenizer.get_vocab_size()
    torch.manual_seed(0)
    if kind == "distilbert":
        config = DistilBertConfig(vocab_size=size, dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=64)
        DistilBertModel(config).save_pretrained(folder)
    else:
        sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
        BertModel(BertConfig(vocab_size=size, max_position_embeddings=64, **sizes)).save_pretrained(folder)
    return folder


def save_t5(folder: Path) -> Path:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (".", -2.0), ("▁", -3.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS if word.isalpha()] + [(digit, -4.0) for digit in "012"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(pieces), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    return folder


def save_roberta(folder: Path) -> Path:
    """Save byte pairs as RoBERTa has them, which join a run of marks, ")." or "...", to one token."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), byte_level
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=special, initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([*REPORTS, "Rhythm (normal). Axis... Block"] * 9, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    RobertaModel(RobertaConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=64, **sizes)).save_pretrained(
        folder
    )
    return folder


def save(folder: Path, kind: str) -> Path:
    if "roberta" in kind:
        return save_roberta(folder)
    return save_t5(folder) if kind == "t5" else save_bert(folder, kind)


def built(folder: Path, kind: str, **options: int) -> HuggingFaceText:
    return hugging_face(mb.TextSource(), model=str(save(folder, kind)), causal="causal" in kind, **options).eval()


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceText:
    return built(tmp_path_factory.mktemp(request.param), request.param, max_tokens=32)


def tokens_of(encoder: HuggingFaceText, report: str) -> list[tuple[str, int]]:
    batch = encoder.tokenize([report])
    return [
        (encoder.tokenizer.id_to_token(i), s) for i, s in zip(batch.ids[0].tolist(), batch.sentences[0].tolist(), strict=True)
    ]


def test_a_decimal_ends_no_sentence_and_the_rest_after_the_last_full_stop_is_one(encoder: HuggingFaceText) -> None:
    marked = [(token.strip("▁Ġ"), sentence) for token, sentence in tokens_of(encoder, REPORTS[0])]
    assert {s for t, s in marked if t == "."} == {0, 1}
    assert [s for t, s in marked if t in ("rhythm", "interval", "s", "normal", "axis")] == [0, 1, 1, 2, 2]
    assert all(s == -1 for t, s in marked if t.startswith(("[", "<")) and t not in ("[UNK]", "<unk>"))


def test_the_frame_is_melps_or_the_tokenizers_own(encoder: HuggingFaceText) -> None:
    found = [token for token, _ in tokens_of(encoder, "normal")]
    kind = ("causal " if encoder.causal else "") + str(encoder.config.model_type)
    wanted = {
        "causal bert": ("[BOS]", "[CLS]"),
        "causal roberta": ("[BOS]", "<s>"),
        "roberta": ("<s>", "</s>"),
        "bert": ("[CLS]", "[SEP]"),
        "distilbert": ("[CLS]", "[SEP]"),
        "t5": ("▁normal", "</s>"),
    }
    assert (found[0], found[-1]) == wanted[kind]
    assert encoder.vocab_size == encoder.tokenizer.get_vocab_size()


def test_reports_do_not_depend_on_their_neighbours_or_on_padding(encoder: HuggingFaceText) -> None:
    together = encoder(encoder.tokenize([*REPORTS, "normal axis. " * 99]))
    assert together.tokens is not None
    assert together.tokens.shape[1] == 32
    for index, report in enumerate(REPORTS):
        alone = encoder(encoder.tokenize([report]))
        torch.testing.assert_close(alone.record[0], together.record[index], rtol=1e-4, atol=1e-5)
        assert alone.segments is not None
        assert together.segments is not None
        torch.testing.assert_close(alone.segments[0], together.segments[index, : alone.segments.shape[1]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("report", ["rhythm (normal). axis", "rhythm... axis", "rhythm. 12", "rhythm. \n\t12\n", "rhythm.axis"])
def test_a_full_stop_ends_a_sentence_however_it_is_joined_to_marks_and_parted_by_spaces(
    encoder: HuggingFaceText, report: str
) -> None:
    marked = [(token.strip("▁Ġ"), sentence) for token, sentence in tokens_of(encoder, report) if sentence >= 0]
    assert marked[0] == ("rhythm", 0)
    assert marked[-1][1] == 1
    at = next(index for index, (_, sentence) in enumerate(marked) if sentence == 1)
    assert marked[at - 1][0].endswith(".")
    assert all(token and "." not in token for token, _ in marked[at:])


@pytest.mark.parametrize(("report", "count"), [("axis", 1), ("", 1), ("...", 1), (". axis", 1), ("axis. normal. block", 3)])
def test_every_report_has_its_sentences_and_is_finite(encoder: HuggingFaceText, report: str, count: int) -> None:
    features = encoder(encoder.tokenize([report]))
    assert features.segments_mask is not None
    assert features.segments_mask.sum() == count
    assert all(value.isfinite().all() for value in features.present().values())


def test_only_the_causal_mode_hides_the_words_that_follow(encoder: HuggingFaceText) -> None:
    first = encoder(encoder.tokenize(["sinus rhythm normal"])).tokens
    second = encoder(encoder.tokenize(["sinus rhythm block"])).tokens
    assert first is not None
    assert second is not None
    word = len(encoder.frame.before)  # the state of "sinus"
    assert torch.allclose(first[0, word], second[0, word], atol=1e-6) == encoder.causal


def test_a_checkpoints_assets_build_it_again_without_the_folder(encoder: HuggingFaceText) -> None:
    source = mb.TextSource(assets=encoder.assets())
    again = hugging_face(source, model="nowhere/to-be-found", causal=encoder.causal, max_tokens=32).eval()
    again.load_state_dict(encoder.state_dict(), strict=True)
    batch = again.tokenize(REPORTS)
    assert torch.equal(batch.ids, encoder.tokenize(REPORTS).ids)
    torch.testing.assert_close(again(batch).record, encoder(batch).record)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_layers_get_no_gradient_and_the_others_do(tmp_path: Path, kind: str) -> None:
    encoder = built(tmp_path, kind, max_tokens=32, frozen_layers=1)
    encoder(encoder.tokenize(REPORTS)).record.square().sum().backward()
    groups: dict[bool, list[bool]] = {True: [], False: []}
    for name, parameter in encoder.body.named_parameters():
        groups[name.startswith(("encoder.layer.0.", "encoder.block.0.", "transformer.layer.0."))].append(
            parameter.grad is not None
        )
    assert not any(groups[True])
    assert len(groups[True]) > 5
    assert sum(groups[False]) > 5


def test_a_pretrained_folder_gives_its_own_weights(tmp_path: Path) -> None:
    encoder = built(tmp_path, "plain", max_tokens=64)
    want = BertModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    batch = encoder.tokenize([REPORTS[0]])
    torch.testing.assert_close(encoder(batch).tokens, want(input_ids=batch.ids).last_hidden_state)


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("t5", {"causal": True}, "no causal mode"),
        ("plain", {"frozen_layers": 9, "max_tokens": 32}, "3 layers"),
        ("plain", {"max_tokens": 999}, "and 64 tokens"),
        ("roberta", {"max_tokens": 63}, "and 62 tokens"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, kind: str, options: dict[str, int], said: str) -> None:
    folder = save(tmp_path, kind)
    with pytest.raises(UserError, match=said):
        hugging_face(mb.TextSource(), model=str(folder), **options)  # type: ignore[arg-type]


def test_roberta_reads_all_positions_that_it_has(tmp_path: Path) -> None:
    encoder = built(tmp_path, "roberta", max_tokens=62)
    assert encoder(encoder.tokenize(["axis " * 99])).record.isfinite().all()


def test_a_folder_without_a_model_and_damaged_assets_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load the text model") as caught:
        hugging_face(mb.TextSource(), model=str(tmp_path))
    assert "\n" not in str(caught.value)
    assets = {"config.json": json.dumps({"model_type": "bert"}), "tokenizer.json": "{}", "special_tokens.json": "{}"}
    with pytest.raises(UserError, match="damaged"):
        hugging_face(mb.TextSource(assets=assets), model="x")
    with pytest.raises(UserError, match="lacks"):
        hugging_face(mb.TextSource(assets={"config.json": "{}"}), model="x")
