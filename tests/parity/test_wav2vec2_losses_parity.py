"""CMSC, ETS and wav2vec 2.0's masked prediction against the published losses and gradients."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from fill import rng
from filling import Fixture
from loss_folders import LOSSES, Normal, salt_of, stored
from parity_folders import NONE
from torch import Tensor
from torch.nn import functional as F

from melp_bench.published.fitting import fit
from melp_plugins.ecg.melp import FAMILY as MELP
from melp_plugins.ecg.melp import MELPEncoder
from melp_plugins.objectives.cmsc import clocs_loss, cmsc_loss
from melp_plugins.objectives.ets import ets_loss
from melp_plugins.objectives.masked import FAMILY, Masked, PretrainingHead, Quantised, contrast_loss, others

if not LOSSES:
    pytest.skip(f"{NONE} with losses", allow_module_level=True)
Want = dict[str, np.ndarray]


def close(got: Tensor | None, want: np.ndarray, rtol: float = 1e-9, atol: float = 1e-11) -> None:
    assert got is not None
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=rtol, atol=atol)


def test_cmsc_as_melp_has_it_equals_the_reference(batch: int, want: Want, normal: Normal) -> None:
    features = normal(f"cmsc/B{batch}/features", 2 * batch, 256).requires_grad_()
    scale = torch.tensor(math.log(1 / 0.07), dtype=torch.float64, requires_grad=True)
    patients = torch.from_numpy(want[f"cmsc_B{batch}_patient_id"])
    loss = cmsc_loss(features[0::2], features[1::2], patients, scale)
    close(loss, want[f"cmsc_B{batch}_cmsc_loss"])
    loss.backward()
    close(features.grad, want[f"cmsc_B{batch}_grad_features"])
    close(scale.grad, want[f"cmsc_B{batch}_grad_logit_scale"])


def test_cmsc_as_fairseq_has_it_equals_the_reference(batch: int, want: Want, normal: Normal) -> None:
    features = normal(f"cmsc/B{batch}/features", 2 * batch, 256).requires_grad_()
    loss = clocs_loss(features[0::2], features[1::2], torch.from_numpy(want[f"cmsc_B{batch}_patient_id"]))
    close(loss, want[f"cmsc_B{batch}_fairseq_loss"])
    loss.backward()
    close(features.grad, want[f"cmsc_B{batch}_fairseq_grad_features"])


def test_reconstruction_loss_equals_the_reference(batch: int, want: Want, normal: Normal) -> None:
    logits = normal(f"cmsc/B{batch}/logits", 14 * batch, 101)
    close(contrast_loss(logits[None]), want[f"cmsc_B{batch}_recon_loss"])


def test_ets_equals_the_reference(batch: int, want: Want, normal: Normal) -> None:
    x, y = ((0.2 * normal(f"ets/B{batch}/{name}", batch, 256)).requires_grad_() for name in "xy")
    loss = ets_loss(x, y, torch.from_numpy(want[f"ets_B{batch}_labels"]))
    close(loss, want[f"ets_B{batch}_loss"])
    loss.backward()
    close(x.grad, want[f"ets_B{batch}_grad_x"])
    close(y.grad, want[f"ets_B{batch}_grad_y"])


class Prediction:
    """The masked prediction of the fixture: the model of melp_ecgfm_q13, the mask and the negatives as stated."""

    def __init__(self, folder: Path) -> None:
        self.want, self.salt = stored(folder / "wav2vec2_contrastive.npz"), salt_of(folder)
        fixture = Fixture.read(folder.parent / "melp_ecgfm_q13")
        weights = fixture.weights()
        self.encoder = fit(weights, MELP, MELPEncoder).module.eval()
        head = fit(weights, FAMILY, PretrainingHead).module
        self.model = Masked(probability=0.65, length=10, negatives=100, lead_mask=0.0)
        self.model.head = head
        self.model.eval()
        self.mask = torch.from_numpy(self.want["mask"])
        drawn = rng(self.salt, "w2v/neg").integers(0, 199, size=(2, 20000))
        np.testing.assert_array_equal(drawn[:, :64], self.want["neg_raw_first64"])
        self.negatives = others(torch.from_numpy(drawn).view(2, 200, 100))
        with torch.no_grad():
            self.convolved = self.encoder.local(fixture.inputs()["ecg"])
            self.local = self.encoder.normed(self.convolved)
            self.logits, self.quantised = self.model.predict(self.encoder, self.local, self.mask, self.negatives)


@pytest.fixture(scope="module")
def prediction(losses: Path) -> Prediction:
    return Prediction(losses)


@pytest.mark.slow
def test_masked_prediction_equals_the_reference(prediction: Prediction) -> None:
    want, quantised = prediction.want, prediction.quantised
    np.testing.assert_array_equal(quantised.codes.numpy(), want["quantizer_codes"])
    close(quantised.vectors[:, ::5, ::3], want["quantized"], 1e-4, 1e-5)
    time_major = prediction.logits.transpose(0, 1).flatten(0, 1)[::3, ::2]
    close(time_major.masked_fill(time_major.isinf(), -1e9), want["logits"], 1e-4, 1e-4)
    assert int(prediction.logits.isinf().sum()) == int(want["n_code_collisions"])
    close(contrast_loss(prediction.logits), want["ce_mean"], 1e-4)
    close(contrast_loss(prediction.logits) * 400, want["ce_sum"], 1e-4)


@pytest.mark.slow
def test_masked_context_and_extra_losses_equal_the_reference(prediction: Prediction) -> None:
    want, quantised = prediction.want, prediction.quantised
    with torch.no_grad():
        context = prediction.encoder.contextual(prediction.local, prediction.mask, prediction.model.head.mask_emb)
    close(context[:, ::7, ::5], want["features"], 1e-4, 3e-5)
    close(quantised.prob_perplexity, want["prob_perplexity"], 1e-4)
    close(quantised.code_perplexity, want["code_perplexity"], 1e-4)
    diversity = (640 - quantised.prob_perplexity) / 640
    close(torch.stack([diversity, prediction.convolved.square().mean()]), want["extra_losses"], 1e-4, 1e-6)


@pytest.mark.slow
def test_the_stated_mask_is_the_readmes(prediction: Prediction) -> None:
    for row, mask in enumerate(prediction.mask):
        chosen = rng(prediction.salt, f"w2v/mask{row}").choice(312, 200, replace=False)
        assert sorted(chosen.tolist()) == mask.nonzero()[:, 0].tolist()
    assert isinstance(prediction.quantised, Quantised)
    assert torch.equal(F.one_hot(prediction.quantised.codes, 320).sum(-1), torch.ones(2, 200, 2, dtype=torch.long))
