"""Losses and their gradients in float64, against the published reference code's."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from fill import rng
from loss_folders import LOSSES, Normal
from melp_sentences import aggregate_sentence_emb
from merl_accuracy import pair_accuracies
from parity_folders import NONE
from torch import Tensor
from torch.nn import functional as F

from melp_plugins.objectives.beat import beat_alignment_loss
from melp_plugins.objectives.contrast import clip_loss
from melp_plugins.objectives.merl import cma_loss, uma_loss
from melp_plugins.objectives.token import coca_loss

if not LOSSES:
    pytest.skip(f"{NONE} with losses", allow_module_level=True)


def close(got: Tensor | None, want: np.ndarray) -> None:
    assert got is not None
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-9, atol=1e-11)


def leaf(value: Tensor) -> Tensor:
    return value.detach().clone().requires_grad_()


def log_scale() -> Tensor:
    return leaf(torch.tensor(math.log(1 / 0.07), dtype=torch.float64))


BEAT = [(s, "", {}) for s in (0.1, 0.3, 1.0)]
BEAT += [(0.3, "_mean", {"aggregation": "mean"})]
BEAT += [(0.3, "_t123", {"temperature1": 1.0, "temperature2": 2.0, "temperature3": 3.0})]


@pytest.mark.parametrize(("s", "suffix", "options"), BEAT)
def test_beat_alignment_equals_the_reference(
    batch: int, s: float, suffix: str, options: dict[str, object], want: dict[str, np.ndarray], salt: str, normal: Normal
) -> None:
    stem = f"beat/B{batch}/s{s}"
    counts = rng(salt, f"beat/B{batch}/counts").integers(1, 7, size=batch)
    assert counts.tolist() == want[f"beat_B{batch}_counts"].tolist()
    ecg = leaf(s * normal(f"{stem}/ecg", batch, 13, 256))
    sentences = torch.zeros(batch, 6, 256, dtype=torch.float64)
    for i, count in enumerate(counts):
        sentences[i, :count] = s * normal(f"{stem}/sent{i}", count, 256)
    sentences = leaf(sentences)
    mask = torch.arange(6) < torch.from_numpy(counts)[:, None]
    loss, attention = beat_alignment_loss(ecg, sentences, mask, **options)  # type: ignore[arg-type]
    loss.backward()
    key = f"beat_B{batch}_s{s}{suffix}"
    close(loss, want[f"{key}_loss"])
    close(attention, want[f"{key}_att"])
    close(ecg.grad, want[f"{key}_grad_ecg"])
    close(sentences.grad, want[f"{key}_grad_sent"])


@pytest.mark.parametrize("kind", ["norm", "raw"])
def test_clip_equals_the_reference(batch: int, kind: str, want: dict[str, np.ndarray], normal: Normal) -> None:
    x, y = (normal(f"clip/B{batch}/{name}", batch, 256) for name in "xy")
    x, y = (F.normalize(v, dim=-1) if kind == "norm" else 0.1 * v for v in (x, y))
    x, y, scale = leaf(x), leaf(y), log_scale()
    loss = clip_loss(x, y, scale)
    loss.backward()
    key = f"clip_B{batch}_{kind}"
    close(loss, want[f"{key}_loss"])
    close(x.grad, want[f"{key}_grad_x"])
    close(y.grad, want[f"{key}_grad_y"])
    close(scale.grad, want[f"{key}_grad_log_scale"])


def test_coca_equals_the_reference(batch: int, want: dict[str, np.ndarray], salt: str, normal: Normal) -> None:
    x, y = (leaf(F.normalize(normal(f"coca/B{batch}/{name}", batch, 256), dim=-1)) for name in "xy")
    logits, scale = leaf(normal(f"coca/B{batch}/logits", batch, 12, 50)), log_scale()
    labels = rng(salt, f"coca/B{batch}/labels").integers(1, 50, size=(batch, 12))
    lengths = rng(salt, f"coca/B{batch}/lengths").integers(1, 13, size=batch)
    labels[np.arange(12) >= lengths[:, None]] = 0
    assert (labels == want[f"coca_B{batch}_labels"]).all()
    contrast, caption = coca_loss(x, y, scale, logits, torch.from_numpy(labels))
    (contrast + caption).backward()
    key = f"coca_B{batch}"
    close(contrast, want[f"{key}_clip_loss"])
    close(caption, want[f"{key}_caption_loss"])
    for name, tensor in (("logits", logits), ("x", x), ("y", y), ("log_scale", scale)):
        close(tensor.grad, want[f"{key}_grad_{name}"])


def merl_inputs(batch: int, normal: Normal) -> dict[str, Tensor]:
    names = ("ecg_emb1", "ecg_emb2", "proj_ecg", "proj_text")
    made = {name: normal(f"merl/B{batch}/{name}", batch, 256) for name in names}
    made["ecg_emb2"] = made["ecg_emb2"] + 0.05 * made["ecg_emb1"]
    made["proj_text"] = made["proj_text"] + 0.05 * made["proj_ecg"]
    return {name: leaf(value) for name, value in made.items()}


def test_merl_equals_the_reference(batch: int, want: dict[str, np.ndarray], normal: Normal) -> None:
    made = merl_inputs(batch, normal)
    cma, uma = cma_loss(made["proj_ecg"], made["proj_text"]), uma_loss(made["ecg_emb1"], made["ecg_emb2"])
    (cma + uma).backward()
    close(cma, want[f"merl_B{batch}_cma"])
    close(uma, want[f"merl_B{batch}_uma"])
    for name, tensor in made.items():
        close(tensor.grad, want[f"merl_B{batch}_grad_{name}"])


def test_merl_as_melp_compares_with_it_equals_the_reference(batch: int, want: dict[str, np.ndarray], normal: Normal) -> None:
    made = merl_inputs(batch, normal)
    rounded = 1 / float(np.float32(1 / 0.07))  # the reference keeps the second term's scale as a float32 constant
    cma = cma_loss(made["proj_ecg"], made["proj_text"], form="melp")
    uma = uma_loss(0.1 * made["ecg_emb1"], 0.1 * made["ecg_emb2"], temperature=rounded, form="melp")
    (cma + uma).backward()
    key = f"merl_B{batch}_melprepo"
    close(cma, want[f"{key}_cma"])
    close(uma, want[f"{key}_uma"])
    for name, tensor in made.items():
        close(tensor.grad, want[f"{key}_grad_{name}"])


def test_merls_accuracies_equal_the_reference(batch: int, want: dict[str, np.ndarray], normal: Normal) -> None:
    made = merl_inputs(batch, normal)
    across, within = (made["proj_ecg"], made["proj_text"]), (made["ecg_emb1"], made["ecg_emb2"])
    got = [*pair_accuracies(*across), *pair_accuracies(*within)]
    np.testing.assert_allclose(got, want[f"merl_B{batch}_acc"], rtol=1e-9)


def test_sentences_equal_the_reference(want: dict[str, np.ndarray], normal: Normal) -> None:
    ids, states = torch.from_numpy(want["sent_ids"]), normal("sent/tok", 4, 24, 16)
    made = aggregate_sentence_emb(ids, states, stop=18, special=(30522, 3, 1, 0, 2, 4))
    assert [len(sentences) for sentences in made] == want["sent_count"].tolist()
    close(torch.cat(made), want["sent_out"])


COMPARED = (
    r"beat_B\d+_(counts|s[\d.]+(_mean|_t123)?_(loss|att|grad_ecg|grad_sent))",
    r"clip_B\d+_(norm|raw)_(loss|grad_(x|y|log_scale))",
    r"coca_B\d+_(labels|clip_loss|caption_loss|grad_(logits|x|y|log_scale))",
    r"merl_B\d+_(melprepo_)?(cma|uma|grad_(ecg_emb1|ecg_emb2|proj_ecg|proj_text))",
    r"merl_B\d+_acc",
    r"cmsc_B\d+_(patient_id|cmsc_loss|recon_loss|grad_features|grad_logit_scale|fairseq_loss|fairseq_grad_features)",
    r"sent_(ids|count|out)",
    r"ets_B\d+_(labels|loss|grad_x|grad_y)",
)


def test_every_stored_loss_is_compared_somewhere(want: dict[str, np.ndarray]) -> None:
    left = [key for key in want if not any(re.fullmatch(pattern, key) for pattern in COMPARED)]
    assert not left, "write a test that compares these, and name them in COMPARED"
