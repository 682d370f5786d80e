"""Text encoders of Hugging Face by name or local folder: BERT-like ones and T5's encoder, causal as MELP uses them, or plain.

Paper of the causal use: From Token to Rhythm (MELP), Wang et al. 2025 (arXiv 2506.21803), which reads a report as
`[BOS] words [CLS]` and takes the last state. Plain, a report is its first special token; T5 has none, there it is the mean of
its tokens. Sentences end at the tokenizer's own full stop, also where it is one token with marks before it (")."); that of a
decimal ("0.12") ends none. Text after the last full stop is a sentence of its own, and the one sentence of a report without a
word is its report state.
Its vocabulary is kept, extended by words of the reports that it breaks into pieces, or learned anew from them.
A checkpoint keeps configuration and tokenizer beside the weights, so that it opens without the hub. No repository's code runs.
Shapes: B reports, N tokens, S sentences, D channels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.hub import loading, longest_text, missing_weights, model_files
from melp_plugins.layers import masked_mean
from melp_plugins.text.bert import every_way, report_features, sentence_of
from melp_plugins.text.vocabulary import VOCABULARIES, change_vocabulary, published_head

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CONFIG, TOKENIZER, SPECIAL = "config.json", "tokenizer.json", "special_tokens.json"
T5 = ("t5", "mt5", "umt5")
CAUSAL = ("bert", "roberta", "xlm-roberta", "electra", "camembert")
LAYERS = ("encoder.layer", "encoder.block", "transformer.layer", "layers")
STOP = "."
SPACES = "▁ĠĊĉč"  # how SentencePiece writes a space, and byte pairs space, line feed, tab and carriage return
BOS = "[BOS]"
SENTINEL = "<extra_id_0>"  # hides words in T5's own pretraining (Raffel et al. 2020, arXiv 1910.10683)


@dataclass(frozen=True)
class Frame:
    """What stands around the words of a report, as ids, and what fills a batch."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    pad: int
    mask: int | None = None  # hides a word


class HuggingFaceText(mb.TextEncoder):
    """A pretrained text model; `causal` makes it read from left to right and end on the token that stands for the report."""

    def __init__(
        self, body: nn.Module, tokenizer: Tokenizer, frame: Frame, *, causal: bool, max_tokens: int, pooler: bool = False
    ) -> None:
        super().__init__()
        self.body, self.tokenizer, self.frame = body, tokenizer, frame
        self.causal, self.max_tokens, self.pooler = causal, max_tokens, pooler
        self.head: Callable[[], Mapping[str, Tensor]] = dict
        self.config: PretrainedConfig = body.config  # type: ignore[assignment]
        self.width, self.pad_id = int(self.config.hidden_size), frame.pad
        self.vocab_size = int(self.config.vocab_size)
        written = {i: token.strip(SPACES) for token, i in tokenizer.get_vocab().items()}
        self._stops = [i for i, text in written.items() if text.endswith(STOP) and not any(c.isalnum() for c in text)]
        self._blanks = [i for i, text in written.items() if not text]  # spaces by themselves are no word

    def tokenize(self, reports: Sequence[str]) -> mb.TextBatch:
        """Return ids, mask and sentences; a report longer than `max_tokens` loses its last words."""
        room = self.max_tokens - len(self.frame.before) - len(self.frame.after)
        encoded = self.tokenizer.encode_batch(list(reports), add_special_tokens=False)
        before, after = list(self.frame.before), list(self.frame.after)
        rows = [[*before, *encoding.ids[:room], *after] for encoding in encoded]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        column = np.arange(max(lengths.max(initial=1), 1))
        mask = column < lengths[:, None]  # (B, N)
        word = mask & (column >= len(before)) & (column < lengths[:, None] - len(after))
        ids, stop = np.full(mask.shape, self.frame.pad, dtype=np.int64), np.zeros_like(mask)
        if rows:
            ids[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
            ends = [self._ends(encoding, report, room) for encoding, report in zip(encoded, reports, strict=True)]
            stop[word] = np.concatenate(ends)
        word &= ~np.isin(ids, self._blanks)
        return mb.TextBatch(*(torch.from_numpy(array) for array in (ids, mask, sentence_of(stop, word))))

    def _ends(self, encoding: Encoding, report: str, room: int) -> np.ndarray:
        """Return which of the first `room` tokens are full stops that end a sentence: not those between two digits."""
        stop = np.isin(encoding.ids[:room], self._stops)
        for index in np.flatnonzero(stop):
            _, end = encoding.offsets[index]
            stop[index] = not (report[end - 2 : end - 1].isdigit() and report[end : end + 1].isdigit())
        return stop

    def forward(self, batch: mb.TextBatch) -> mb.Features:
        """Return the features of reports; a sentence is the mean of its words' states."""
        out = self.body(input_ids=batch.ids, attention_mask=batch.mask.long())
        states: Tensor = out.last_hidden_state  # (B, N, D)
        if self.pooler:
            report: Tensor = out.pooler_output  # (B, D)
        elif self.causal:
            report = states[torch.arange(len(states), device=states.device), batch.mask.sum(1) - 1]  # (B, D)
        else:
            report = states[:, 0] if self.frame.before else masked_mean(states, batch.mask)
        return report_features(report, states, batch)

    @property
    def mask_id(self) -> int | None:
        """The id that hides a word, T5's first sentinel where it is a T5; None where the tokenizer has none."""
        return self.frame.mask

    def both_ways(self, batch: mb.TextBatch) -> Tensor:
        """Return the states of the tokens (B, N, D), each of which sees all others."""
        mask = every_way(batch.mask) if self.causal else batch.mask.long()
        states: Tensor = self.body(input_ids=batch.ids, attention_mask=mask).last_hidden_state
        return states

    def word_table(self) -> Tensor:
        """Return the embeddings (V, D) of the vocabulary."""
        table: Tensor = self.body.get_input_embeddings().weight  # type: ignore[operator]
        return table

    def guessing_head(self) -> Mapping[str, Tensor]:
        """Return the head that guesses words where the model's own files have one; words that were added have no bias."""
        return self.head()

    def assets(self) -> dict[str, str]:
        """Return configuration, tokenizer and the special tokens' ids."""
        special = {"before": self.frame.before, "after": self.frame.after, "pad": self.frame.pad, "mask": self.frame.mask}
        return {
            CONFIG: self.config.to_json_string(use_diff=False),
            TOKENIZER: self.tokenizer.to_str(),
            SPECIAL: json.dumps(special),
        }


def hugging_face(
    source: mb.TextSource,
    *,
    model: str,
    causal: bool = False,
    max_tokens: int = 128,
    frozen_layers: int = 0,
    pooler: bool = False,
    vocabulary: str = "keep",
    words: int = 2000,
) -> HuggingFaceText:
    """Return the text encoder `model`: `owner/name` on the hub (also as `hf:owner/name`), or a local folder.

    `frozen_layers` lower layers are not trained (MELP: 6 of 12); embeddings are. With `pooler` a report is the state that
    BERT's own pooler makes of its first token (MERL). The `vocabulary` is the model's ("keep"), has at most `words` more
    ("extend"), or is one of `words` that is learned from the reports ("train").

    Raises:
        UserError: there is no such model, it is of another kind, or an option does not fit it.
    """
    if vocabulary not in VOCABULARIES:
        raise mb.UserError(f"option 'vocabulary' of {model!r} is {vocabulary!r}; wanted one of {', '.join(VOCABULARIES)}")
    if source.assets:
        body, tokenizer, frame = _from_assets(source.assets, causal=causal, pooler=pooler)
    else:
        read = partial(change_vocabulary, how=vocabulary, reports=source.reports, words=words, model=model)
        body, tokenizer, frame = _from_hub(model, read, causal=causal, pooler=pooler)
    longest = longest_text(body)
    if max_tokens < len(frame.before) + len(frame.after) + 1 or (longest is not None and max_tokens > longest):
        raise mb.UserError(f"option 'max_tokens' of {model!r} is {max_tokens}; the model reads between 3 and {longest} tokens")
    layers = _layers(body)
    if not 0 <= frozen_layers <= len(layers):
        raise mb.UserError(f"option 'frozen_layers' of {model!r} is {frozen_layers}; the model has {len(layers)} layers")
    for layer in list(layers)[:frozen_layers]:
        layer.requires_grad_(False)
    made = HuggingFaceText(body, tokenizer, frame, causal=causal, max_tokens=max_tokens, pooler=pooler)
    if not source.assets:
        made.head = partial(published_head, model, vocab=made.vocab_size, same_words=vocabulary != "train")
    return made


def files_read(*, model: str, **_options: object) -> dict[str, str]:
    """Return the digests of the files that `hugging_face` reads for `model`."""
    return model_files(model)


def _from_hub(model: str, read: Callable[[Any, Any], Any], *, causal: bool, pooler: bool) -> tuple[nn.Module, Tokenizer, Frame]:
    """Return body, tokenizer and frame of a hub name or a folder, its weights loaded and its vocabulary changed by `read`."""
    from transformers import AutoConfig, AutoTokenizer

    with loading(model) as where:
        config = _configured(AutoConfig.from_pretrained(where, trust_remote_code=False), model, causal=causal)
        wrapped = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
        kind, options = _body_class(config, pooler=pooler)
        body, found = kind.from_pretrained(where, config=config, output_loading_info=True, **options)
    missing_weights(model, body, found)
    wrapped = read(body, wrapped)
    tokenizer = getattr(wrapped, "backend_tokenizer", None)
    if not isinstance(tokenizer, Tokenizer):
        raise mb.UserError(f"the tokenizer of {model!r} has no fast form (tokenizer.json); save one beside its weights")
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    frame = _frame(tokenizer, wrapped.pad_token_id, wrapped.cls_token_id, wrapped.bos_token_id, model, causal=causal)
    mask = wrapped.mask_token_id if wrapped.mask_token_id is not None else tokenizer.token_to_id(SENTINEL)
    frame = replace(frame, mask=mask)
    if tokenizer.get_vocab_size() > config.vocab_size:
        body.resize_token_embeddings(tokenizer.get_vocab_size(), mean_resizing=False)
    return body, tokenizer, frame


def _from_assets(assets: Mapping[str, str], *, causal: bool, pooler: bool) -> tuple[nn.Module, Tokenizer, Frame]:
    """Return body, tokenizer and frame of a checkpoint's assets, with weights still to be loaded."""
    from transformers import AutoConfig

    missing = [name for name in (CONFIG, TOKENIZER, SPECIAL) if name not in assets]
    if missing:
        raise mb.UserError(f"the checkpoint of this text encoder lacks {missing}; take it from where it was saved again")
    try:
        stated = json.loads(assets[CONFIG])
        config = _configured(AutoConfig.for_model(**stated), "the checkpoint", causal=causal)
        special = json.loads(assets[SPECIAL])
        frame = Frame(tuple(special["before"]), tuple(special["after"]), int(special["pad"]), special.get("mask"))
        tokenizer = Tokenizer.from_str(assets[TOKENIZER])
    except mb.UserError:
        raise
    except Exception as error:  # the tokenizers library raises a bare Exception
        raise mb.UserError(f"an asset of this text encoder is damaged ({error}); take the checkpoint again") from error
    kind, options = _body_class(config, pooler=pooler)
    return (kind(config) if config.model_type in T5 else kind.from_config(config, **options)), tokenizer, frame


def _configured(config: PretrainedConfig, model: str, *, causal: bool) -> PretrainedConfig:
    """Return the configuration, made causal if that is asked for."""
    if causal and config.model_type not in CAUSAL:
        raise mb.UserError(f"{model!r} is a {config.model_type!r}, which has no causal mode; set causal=false, or use a BERT")
    if causal:
        config.is_decoder = True
    config.use_cache = False
    return config


def _body_class(config: PretrainedConfig, *, pooler: bool) -> tuple[Any, dict[str, Any]]:
    from transformers import AutoModel, T5EncoderModel

    has_pooler = config.model_type in CAUSAL and config.model_type != "electra"
    if pooler and not has_pooler:
        raise mb.UserError(f"a {config.model_type!r} has no pooler; set pooler=false, or use a BERT")
    if config.model_type in T5:
        return T5EncoderModel, {}
    return AutoModel, {"add_pooling_layer": pooler} if has_pooler else {}


def _frame(tokenizer: Tokenizer, pad: int | None, cls: int | None, bos: int | None, model: str, *, causal: bool) -> Frame:
    """Return what stands around words: MELP's [BOS] and [CLS], or what the tokenizer itself puts there."""
    if causal:
        if cls is None:
            raise mb.UserError(f"the tokenizer of {model!r} has no [CLS] to end a report with; set causal=false")
        if bos is None or bos == cls:
            tokenizer.add_special_tokens([BOS])
            bos = tokenizer.token_to_id(BOS)
        return Frame((int(bos or 0),), (cls,), pad or 0)
    framed = tokenizer.encode("a", add_special_tokens=True)
    special = np.asarray(framed.special_tokens_mask, dtype=bool)
    words = np.flatnonzero(~special)
    return Frame(tuple(framed.ids[: words[0]]), tuple(framed.ids[words[-1] + 1 :]), pad or 0)


def _layers(body: nn.Module) -> nn.ModuleList:
    for name in LAYERS:
        found: object = body
        for part in name.split("."):
            found = getattr(found, part, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise mb.UserError(f"{type(body).__name__!r} is no text encoder that we know; wanted a BERT-like model or a T5")


@mb.hookimpl
def melp_text_encoders() -> list[mb.Entry[mb.TextEncoder]]:
    """Offer the text encoders of the hub."""
    return [
        mb.Entry(
            name="hf",
            build=hugging_face,
            reads=files_read,
            summary="any BERT-like or T5 encoder of Hugging Face, by name or local folder, causal (MELP) or plain",
            source="https://huggingface.co/docs/transformers",
            license="the model's own",
        )
    ]
