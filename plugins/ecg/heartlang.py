"""HeartLang: the pretrained encoder on heartbeats, its vocabulary of heartbeats, and the fine-tuned classifier.

Paper: Reading Your Heart: Learning ECG Words and Sentences via Pre-training ECG Language Model (Jin et al., ICLR 2025),
    https://arxiv.org/abs/2502.10707
The published code and weights state no licence. Pretrained on MIMIC-IV-ECG. Written from the paper; parameter names are the
published ones, the pretrained encoder's under `backbone.`.
As published: 10 s at 100 Hz in millivolt; beats are found in lead I, and a sentence of more than 256 beats loses its last
leads. The corrected entry `heartlang-all-leads` keeps the same 21 beats of every lead instead. The published quantiser counts
the use of its codes in evaluation too; here it does so only with `count_in_eval`.
Shapes: B records, L leads, T samples, W words, S samples of a word, D channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.family import Shapes
from melp_plugins.ecg.heartlang_codes import VQHBR
from melp_plugins.ecg.heartlang_former import WIDTH, WORD_SAMPLES, WORDS, STECGFormer
from melp_plugins.ecg.heartlang_tokenizer import QRSTokenizer, Sentence

Build = Callable[..., mb.ECGEncoder]
PAPER = "https://arxiv.org/abs/2502.10707"
LICENSE = "none stated"
SPEC = mb.SignalSpec(rate_hz=100.0, seconds=10.0, scaling=mb.Scaling.MILLIVOLT)
CORPORA = ("mimic-iv-ecg",)

# ----------------------------------------------------------------------------------------------------------------- encoders


class BeatEncoder(mb.ECGEncoder):
    """What HeartLang's models share: the spec, the corpus and the tokenizer."""

    spec = SPEC
    corpora: tuple[str, ...] = CORPORA
    width = WIDTH

    def __init__(self, all_leads: bool) -> None:
        super().__init__()
        self.tokenizer = QRSTokenizer(round(SPEC.rate_hz), WORDS, WORD_SAMPLES, tuple(range(len(SPEC.leads))), all_leads)


class HeartLang(BeatEncoder):
    """The pretrained encoder; the record is the class token."""

    def __init__(self, all_leads: bool = False) -> None:
        super().__init__(all_leads)
        self.backbone = STECGFormer()

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features: tokens are heartbeats, lead by lead, with a mask."""
        return self.read(self.tokenizer(signal))

    def read(self, sentence: Sentence) -> mb.Features:
        """Return features of a sentence."""
        states = self.backbone(sentence.words, sentence.leads, sentence.seconds)  # (B, 1 + W, D)
        record = states[:, 0]
        return mb.Features(record=record, embedding=record, tokens=states[:, 1:], tokens_mask=_real(sentence))


class HeartLangClassifier(HeartLang):
    """The fine-tuned model: a linear head on the class token."""

    def __init__(self, all_leads: bool = False, *, classes: int = 5) -> None:
        super().__init__(all_leads)
        self.mlp_head = nn.Linear(WIDTH, classes)
        self.mlp_head.requires_grad_(False)  # features do not read it

    def logits(self, sentence: Sentence) -> Tensor:
        """Return the logits (B, classes)."""
        out: Tensor = self.mlp_head(self.read(sentence).embedding)
        return out


class HeartLangVocabulary(BeatEncoder):
    """The vector-quantised model of heartbeats as an encoder: tokens are its states, the record is their mean."""

    def __init__(self, all_leads: bool = False, *, codes: int = 8192, count_in_eval: bool = False) -> None:
        super().__init__(all_leads)
        self.vqhbr = VQHBR(codes=codes, count_in_eval=count_in_eval)
        for unread in (self.vqhbr.decoder, self.vqhbr.encode_task_layer, self.vqhbr.decode_task_layer):
            unread.requires_grad_(False)  # features do not read them

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features; a record without a heartbeat is zero."""
        sentence = self.tokenizer(signal)
        states, mask = self.vqhbr.states(sentence), sentence.mask
        record = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        return mb.Features(record=record, embedding=record, tokens=states, tokens_mask=_real(sentence))


class HeartLangInTraining(BeatEncoder):
    """The encoder beside the vocabulary that names its words: what pretraining needs. Features are the encoder's.

    What features do not read is trained by the objectives that read it.
    """

    corpora = ()

    def __init__(
        self, *, width: int, depth: int, heads: int, hidden: int, codes: int, hidden_of_codes: int, all_leads: bool
    ) -> None:
        super().__init__(all_leads)
        self.width = width
        self.backbone = STECGFormer(depth=depth, heads=heads, hidden=hidden, vocabulary=codes, width=width)
        self.vqhbr = VQHBR(codes=codes, count_in_eval=False, width=width, hidden=hidden_of_codes)
        self.vqhbr.requires_grad_(False)
        self.backbone.lm_head.requires_grad_(False)
        self.backbone.mask_token.requires_grad_(False)

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features: tokens are heartbeats, lead by lead, with a mask."""
        sentence = self.tokenizer(signal)
        states = self.backbone(sentence.words, sentence.leads, sentence.seconds)  # (B, 1 + W, D)
        return mb.Features(record=states[:, 0], embedding=states[:, 0], tokens=states[:, 1:], tokens_mask=_real(sentence))


def heartlang_in_training(
    *,
    width: int = 96,
    depth: int = 2,
    heads: int = 2,
    hidden: int = 192,
    codes: int = 64,
    hidden_of_codes: int = 192,
    all_leads: bool = False,
) -> HeartLangInTraining:
    """Return HeartLang with its vocabulary, by default at a demo's size; the recipe `heartlang` has the published ones.

    Raises:
        UserError: a size is not positive.
    """
    if min(width, depth, heads, hidden, hidden_of_codes) < 1 or codes < 2:
        raise mb.UserError(
            f"'heartlang-in-training' with width {width}, depth {depth}, heads {heads}, hidden {hidden}, codes {codes}, "
            f"hidden_of_codes {hidden_of_codes}; wanted two codes, and one of each other at least"
        )
    sizes = {"width": width, "depth": depth, "heads": heads, "hidden": hidden, "hidden_of_codes": hidden_of_codes}
    return HeartLangInTraining(codes=codes, all_leads=all_leads, **sizes)


def _real(sentence: Sentence) -> Tensor:
    """Return True where a token is a heartbeat, (B, W); everywhere for a record in which no beat was found."""
    return sentence.mask | ~sentence.mask.any(dim=1, keepdim=True)


# ------------------------------------------------------------------------------------------------- published files and hook


def _vocabulary_options(shapes: Shapes) -> dict[str, Any]:
    return {"codes": shapes["quantize.embedding.weight"][0]}


def _classifier_options(shapes: Shapes) -> dict[str, Any]:
    if "mlp_head.weight" not in shapes:
        raise mb.UserError("this checkpoint has no 'mlp_head.weight'; a pretrained HeartLang file is of the family 'heartlang'")
    return {"classes": shapes["mlp_head.weight"][0]}


HUB = "hf:PKUDigitalHealth/HeartLang"
NAMES_CODES = "names masked heartbeats by their codes in pretraining"
PRETRAINED = mb.Family(
    name="heartlang",
    anchor="token_embed.tokenConv.weight",
    renames=(("*", "backbone.*"),),
    unused=(("lm_head.*", NAMES_CODES),),
    files=f"{HUB} (heartlang_base/checkpoint-200.pth)",
)
VOCABULARY = mb.Family(
    name="heartlang-vqhbr",
    anchor="quantize.embedding.weight",
    renames=(("*", "vqhbr.*"),),
    unused=(
        ("quantize.embedding.cluster_size", "of the k-means start; what is counted is 'quantize.cluster_size'"),
        ("quantize.embedding.embed_avg", "of the k-means start"),
        ("quantize.embedding.initted", "says that the k-means start is over"),
    ),
    options=_vocabulary_options,
    files=f"{HUB} (vqhbr/checkpoint-100.pth)",
)
FINETUNED = mb.Family(
    name="heartlang-finetuned",
    anchor="mlp_head.weight",
    unused=(("backbone.lm_head.*", NAMES_CODES),),
    options=_classifier_options,
    files="your own fine-tuning run of https://github.com/PKUDigitalHealth/HeartLang",
)


def _entry(name: str, build: Build, summary: str, published: mb.Family) -> mb.Entry[mb.ECGEncoder]:
    return mb.Entry(name=name, build=build, summary=summary, source=PAPER, license=LICENSE, published=published)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return HeartLang's models, and the encoder that drops no lead."""
    all_leads = "HeartLang's encoder that keeps all leads of fast rhythms"
    return [
        _entry("heartlang", HeartLang, "HeartLang's transformer on heartbeats", PRETRAINED),
        _entry("heartlang-all-leads", partial(HeartLang, True), all_leads, PRETRAINED),
        _entry("heartlang-finetuned", HeartLangClassifier, "HeartLang fine-tuned, with its classifier", FINETUNED),
        _entry("heartlang-vqhbr", HeartLangVocabulary, "HeartLang's vector-quantised vocabulary of heartbeats", VOCABULARY),
        mb.Entry(
            name="heartlang-in-training",
            build=heartlang_in_training,
            summary="HeartLang's transformer beside its vocabulary, for pretraining both",
            source=PAPER,
            license="MIT",
        ),
    ]
