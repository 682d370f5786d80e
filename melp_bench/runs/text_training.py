"""Text stage 1: a BERT goes on guessing hidden words, in reports; what comes out is a folder that text encoders open."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from melp_bench.canonical import digest
from melp_bench.errors import UserError
from melp_bench.home import atomic_write, make_folder
from melp_bench.pretrain import loop, vocabulary
from melp_bench.pretrain.masked_words import TERM, MaskedWords, ReportSource, perplexity
from melp_bench.progress import Listener
from melp_bench.published.hub import first_position, loading, longest_text, missing_weights, quiet
from melp_bench.published.tensor_files import file_sha256
from melp_bench.recipe import Optimiser

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VERSION = 1
DONE, STATE = "pretraining.json", "state"
Vocabulary = Literal["keep", "extend", "train"]


@dataclass(frozen=True)
class Reports:
    """Reports with their parts: positions to train on, and those held out."""

    texts: Sequence[str]
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    corpus: str


@dataclass(frozen=True)
class TextPlan:
    """What is trained, and how long; everything that can move a weight.

    Attributes:
        model: of the hub (`hf:owner/name`) or a local folder; None for a new BERT of `layers` and `width`.
        vocabulary: kept, extended by at most `words` words, or learned anew with at most `words` (a new BERT's always is).
    """

    model: str | None
    vocabulary: Vocabulary
    words: int
    layers: int
    width: int
    max_tokens: int
    budget: loop.Budget
    learning_rate: float

    def identity(self, reports: Reports) -> str:
        """Return the digest of the plan, the reports and, where the model is a local folder, its files."""
        content = hashlib.sha256()
        for part in (reports.train, reports.held_out):
            for position in part:
                content.update(reports.texts[position].encode() + b"\0")
            content.update(b"\1")
        told = {"version": VERSION, "loop": loop.VERSION, "plan": asdict(self), "reports": content.hexdigest()}
        return digest(told | ({"files": files} if (files := _local_files(self.model)) else {}))


def _local_files(model: str | None) -> dict[str, str]:
    """Return the SHA-256 of each file of a local model; none of one on the hub."""
    folder = Path(model.removeprefix("hf:")).expanduser() if model else None
    if folder is None or not folder.is_dir():
        return {}
    return {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}


def pretrain_text(
    plan: TextPlan, reports: Reports, folder: Path, *, fabric: Fabric, listener: Listener, restart: bool = False
) -> dict[str, Any]:
    """Train, write model and tokenizer to `folder`, and return its record: perplexity before and after, curves, settings.

    A run that was stopped goes on from its last validation; one that is finished is not run again.

    Raises:
        UserError: `folder` holds something else, the model cannot be loaded, or the reports are too few.
    """
    identity = plan.identity(reports)
    known = _found(folder, identity, restart and fabric.global_rank == 0)
    if known is not None:
        return known
    model, tokenizer = _model(plan, reports, listener)
    source = ReportSource(reports.texts, reports.train, reports.held_out, tokenizer=tokenizer, max_tokens=plan.max_tokens)
    step = MaskedWords(model, mask_id=tokenizer.mask_token_id, vocab=len(tokenizer)).to(fabric.device)
    measure = partial(perplexity, batch_size=plan.budget.batch_size, seed=plan.budget.seed, device=fabric.device)
    before = measure(step, source)
    if fabric.global_rank == 0:
        make_folder(folder / STATE)
        atomic_write(folder / STATE / "identity", identity)
    fabric.barrier()
    with listener.stage(f"pretrain text {reports.corpus}", "steps") as advance:
        trained = loop.pretrain(
            step,
            {TERM: 1.0},
            source,
            budget=plan.budget,
            optimiser=Optimiser(learning_rate=plan.learning_rate, betas=(0.9, 0.999), weight_decay=0.01),
            fabric=fabric,
            folder=folder / STATE,
            report=advance,
        )
    record = {
        "identity": identity,
        "corpus": reports.corpus,
        "reports": {"train": len(reports.train), "held_out": len(reports.held_out)},
        "vocabulary": len(tokenizer),
        "perplexity": {"before": before, "after": measure(step, source)},
        "best_step": trained.best_step,
        "history": trained.history,
        "plan": asdict(plan),
    }
    if fabric.global_rank == 0:
        with quiet():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        atomic_write(folder / DONE, json.dumps(record, indent=1, allow_nan=False) + "\n")
        shutil.rmtree(folder / STATE)
    fabric.barrier()
    return record


def _found(folder: Path, identity: str, restart: bool) -> dict[str, Any] | None:
    """Return the record of a finished run of this identity; one of another identity is thrown away if `restart`."""
    done, begun = folder / DONE, folder / STATE / "identity"
    try:
        record: dict[str, Any] | None = json.loads(done.read_text(encoding="utf-8")) if done.is_file() else None
    except ValueError as error:
        raise UserError(f"{str(done)!r} is damaged; --restart begins again") from error
    others = record.get("identity") if record else begun.read_text(encoding="utf-8") if begun.is_file() else None
    if restart and others is not None:
        shutil.rmtree(folder)
        return None
    if others is None and folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{str(folder)!r} is not empty and holds no text pretraining; give another folder")
    if others not in (None, identity):
        raise UserError(f"{str(folder)!r} holds a run of other reports or settings; give another folder, or --restart")
    return record


def _model(plan: TextPlan, reports: Reports, listener: Listener) -> tuple[Any, Any]:
    """Return the masked language model and its tokenizer, its vocabulary as the plan asks."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    texts = [reports.texts[i] for i in reports.train]
    torch.manual_seed(plan.budget.seed)
    if plan.model is None:
        if plan.width % 64 or plan.layers < 1:
            raise UserError(f"a new BERT of width {plan.width} and {plan.layers} layers; wanted a multiple of 64, and a layer")
        learned = vocabulary.learn_wordpiece(texts, size=plan.words)
        wrapped = PreTrainedTokenizerFast(tokenizer_object=learned, **vocabulary.SPECIAL)  # type: ignore[no-untyped-call]
        config = BertConfig(
            vocab_size=len(wrapped),
            hidden_size=plan.width,
            num_hidden_layers=plan.layers,
            num_attention_heads=plan.width // 64,
            intermediate_size=4 * plan.width,
            max_position_embeddings=max(plan.max_tokens, 128),
            pad_token_id=wrapped.pad_token_id,
        )
        return BertForMaskedLM(config), wrapped
    with loading(plan.model) as where:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
        model, found = AutoModelForMaskedLM.from_pretrained(where, trust_remote_code=False, output_loading_info=True)
    if missing_weights(plan.model, model, found):
        listener.say(f"{plan.model!r} has no head that guesses hidden words; a new one is drawn, and learns with the rest")
    if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
        raise UserError(f"the tokenizer of {plan.model!r} has no [MASK] or no [PAD]; wanted a BERT's")
    if (longest := longest_text(model)) is not None and plan.max_tokens > longest:
        raise UserError(f"--max-tokens {plan.max_tokens}: {plan.model!r} reads at most {longest} tokens")
    if plan.vocabulary == "train" and first_position(model):
        raise UserError(
            f"{plan.model!r} counts positions from its padding's id, which a new vocabulary changes; use --vocabulary extend"
        )
    if plan.vocabulary == "extend":
        vocabulary.extend(model, tokenizer, vocabulary.broken_words(tokenizer.backend_tokenizer, texts, limit=plan.words))
    elif plan.vocabulary == "train":
        learned = vocabulary.learn_wordpiece(texts, size=plan.words)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=learned, **vocabulary.SPECIAL)  # type: ignore[no-untyped-call]
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        model.get_input_embeddings().weight.data.normal_(std=0.02)  # ids mean other words now
        model.config.pad_token_id = tokenizer.pad_token_id
    logging.getLogger(__name__).info("%s with a vocabulary of %d", plan.model, len(tokenizer))
    return model, tokenizer
