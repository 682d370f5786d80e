"""HeartLang's VQ-HBR: heartbeats named by the codes of a learned vocabulary, and rebuilt from them.

Paper: Reading Your Heart: Learning ECG Words and Sentences via Pre-training ECG Language Model (Jin et al., ICLR 2025),
    https://arxiv.org/abs/2502.10707
The published code states no licence; this is written from the paper. Parameter names are the published ones.
Shapes: B records, W words, S samples of a word, D channels, C channels of a code, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from melp_plugins.ecg.heartlang_former import WIDTH, WORD_SAMPLES, STECGFormer
from melp_plugins.ecg.heartlang_tokenizer import Sentence

CODE_WIDTH = 128
DECAY = 0.99


@dataclass(frozen=True)
class Quantized:
    """Words named by codes."""

    vectors: Tensor  # (B, W, C) the codes' vectors; the gradient goes to what was quantised
    codes: Tensor  # (B, W) long
    margins: Tensor  # (B, W) squared distance of the second nearest code less that of the nearest
    loss: Tensor  # () commitment


class Codebook(nn.Module):
    """The codes' vectors, learned by moving averages and not by gradients."""

    weight: Tensor

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", F.normalize(torch.randn(codes, width), dim=-1))


class Quantizer(nn.Module):
    """The nearest code of a vector on the unit sphere.

    In training, a code moves to the mean direction of what it names (van den Oord et al. 2017 on the sphere, as BEiT v2) and
    its use is counted. The published quantiser counts in evaluation too; `count_in_eval` does the same. No output depends on
    the count.
    """

    cluster_size: Tensor

    def __init__(self, codes: int, width: int, *, count_in_eval: bool) -> None:
        super().__init__()
        self.embedding = Codebook(codes, width)
        self.register_buffer("cluster_size", torch.zeros(codes))
        self.count_in_eval = count_in_eval

    def forward(self, states: Tensor) -> Quantized:
        """Return the codes of `states` (B, W, C), and learn from them in training."""
        quantized = self.named(states)
        if self.training or self.count_in_eval:
            self._count(quantized.codes)
        if self.training:
            self._move(F.normalize(states.detach(), dim=-1).flatten(0, -2), quantized.codes.flatten())
        return quantized

    def named(self, states: Tensor) -> Quantized:
        """Return the codes of `states` (B, W, C), and learn nothing."""
        table = self.embedding.weight  # (K, C)
        unit = F.normalize(states, dim=-1)
        distance = unit.square().sum(-1, keepdim=True) + table.square().sum(-1) - 2 * unit @ table.T  # (B, W, K)
        nearest = distance.topk(2, dim=-1, largest=False)
        codes = nearest.indices[..., 0]
        vectors = table[codes]
        loss = F.mse_loss(unit, vectors)
        return Quantized(unit + (vectors - unit).detach(), codes, nearest.values[..., 1] - nearest.values[..., 0], loss)

    @torch.no_grad()
    def learn(self, unit: Tensor, codes: Tensor, real: Tensor) -> None:
        """Move and count the codes that name directions `unit` (B, W, C); the first batch's `real` words become codes first.

        As many words as there are codes, evenly spread over the batch, take the place of the published start by k-means.
        """
        if not bool(self.cluster_size.any()):
            words = unit[real]
            count = min(len(words), len(self.cluster_size))
            self.embedding.weight[:count] = words[torch.linspace(0, max(len(words) - 1, 0), count).long().to(words.device)]
        else:
            self._move(unit.flatten(0, -2), codes.flatten())
        self._count(codes)

    @torch.no_grad()
    def _count(self, codes: Tensor) -> None:
        used = torch.bincount(codes.flatten(), minlength=len(self.cluster_size)).to(self.cluster_size)
        self.cluster_size.mul_(DECAY).add_(used, alpha=1 - DECAY)

    @torch.no_grad()
    def _move(self, unit: Tensor, codes: Tensor) -> None:
        table = self.embedding.weight
        total = torch.zeros_like(table).index_add_(0, codes, unit)
        used = total.new_zeros(len(table)).index_add_(0, codes, total.new_ones(len(codes))) > 0
        table[used] = F.normalize(DECAY * table[used] + (1 - DECAY) * F.normalize(total[used], dim=-1), dim=-1)


class VQHBR(nn.Module):
    """Encoder, vocabulary and decoder of heartbeats."""

    def __init__(self, *, codes: int, count_in_eval: bool, width: int = WIDTH, hidden: int = 2048) -> None:
        super().__init__()
        self.encoder = STECGFormer(depth=4, heads=2, hidden=hidden, dropout=0.0, width=width)
        self.decoder = STECGFormer(depth=2, heads=2, hidden=hidden, inner=CODE_WIDTH, dropout=0.0, width=width)
        self.quantize = Quantizer(codes, CODE_WIDTH, count_in_eval=count_in_eval)
        self.encode_task_layer = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, CODE_WIDTH))
        self.decode_task_layer = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, WORD_SAMPLES))

    def states(self, sentence: Sentence) -> Tensor:
        """Return the encoder's states (B, W, D); zero where a word is all zeros."""
        live = sentence.words.ne(0).any(dim=-1, keepdim=True)  # (B, W, 1)
        encoded: Tensor = self.encoder(sentence.words, sentence.leads, sentence.seconds)
        return encoded[:, 1:] * live

    def before_codes(self, sentence: Sentence) -> Tensor:
        """Return what is quantised (B, W, C)."""
        out: Tensor = self.encode_task_layer(self.states(sentence))
        return out

    def encode(self, sentence: Sentence) -> Quantized:
        """Return the sentence in codes."""
        out: Quantized = self.quantize(self.before_codes(sentence))
        return out

    def decode(self, vectors: Tensor, sentence: Sentence) -> Tensor:
        """Return words (B, W, S) rebuilt of codes' vectors (B, W, C); of the sentence only places are read."""
        out: Tensor = self.decode_task_layer(self.decoder(vectors, sentence.leads, sentence.seconds)[:, 1:])
        return out

    def forward(self, sentence: Sentence) -> tuple[Tensor, Tensor]:
        """Return the rebuilt words (B, W, S) and the training loss: of rebuilding, filled-up words too, and of commitment."""
        quantized = self.encode(sentence)
        rebuilt = self.decode(quantized.vectors, sentence)
        return rebuilt, F.mse_loss(rebuilt, sentence.words) + quantized.loss
