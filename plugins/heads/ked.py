"""KED's heads: a perceptron on reports, and the label-query decoder, which asks a record for each class by its name.

Paper: Foundation model of ECG diagnosis: Diagnostics and explanations of any form and rhythm on ECG (Tian et al., Cell Reports
    Medicine 2024), https://doi.org/10.1016/j.xcrm.2024.101875
Written from the paper and parity data; names of parameters are the published ones.
The features of the classes' names are the decoder's queries, the record's tokens its memory, without positions. One layer norm
stands in three places: on tokens, on queries, and at the decoder's end. Queries attend to each other, so that the score of a
class depends on which others are asked for beside it.
Shapes: B records, N tokens, C classes, D channels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.heads.melp import check_projected

WIDTH, DEPTH, HEADS, HIDDEN, HEAD_HIDDEN = 768, 7, 4, 1024, 2048


class QueryLayer(nn.Module):
    """A pre-norm layer: queries attend to each other, then to the memory, then each is changed by itself."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, queries: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries (B, C, D) one layer on, and how they attend to the memory (B, N, D): (B, C, N), mean over heads."""
        normed = self.norm1(queries)
        queries = queries + self.self_attn(normed, normed, normed, need_weights=False)[0]
        read, attention = self.multihead_attn(self.norm2(queries), memory, memory)
        queries = queries + read
        return queries + self.linear2(F.relu(self.linear1(self.norm3(queries)))), attention


class QueryStack(nn.Module):
    """The layers, under the published name."""

    def __init__(self, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(QueryLayer(width, heads, hidden) for _ in range(depth))


class LabelQueryDecoder(nn.Module):
    """Queries made of the classes' names, and two logits of each: absent and present."""

    def __init__(self, *, width: int = WIDTH, depth: int = DEPTH, heads: int = HEADS, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.decoder_norm = nn.LayerNorm(width)
        self.decoder = QueryStack(width, depth, heads, hidden)
        self.mlp_head = nn.Sequential(nn.Linear(width, HEAD_HIDDEN), nn.GELU(), nn.Linear(HEAD_HIDDEN, 2))

    def decoded(self, tokens: Tensor, names: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries' states (B, C, D), and the last layer's attention to the tokens (B, C, N).

        `tokens` are (B, N, D), `names` (C, D).
        """
        memory = self.decoder_norm(tokens)
        queries = self.decoder_norm(names).expand(tokens.shape[0], -1, -1)  # (B, C, D)
        attention = tokens.new_zeros(tokens.shape[0], len(names), tokens.shape[1])
        for layer in self.decoder.layers:
            queries, attention = layer(queries, memory)
        return self.decoder_norm(queries), attention

    def forward(self, tokens: Tensor, names: Tensor) -> Tensor:
        """Return the logits (B, C, 2) of tokens (B, N, D) for classes of these names (C, D)."""
        logits: Tensor = self.mlp_head(self.decoded(tokens, names)[0])
        return logits


class KEDHeads(mb.Heads):
    """What is not in the shared space yet gets a projection: records and tokens a linear one, reports a perceptron.

    Features do not read the decoder; an objective that trains it must ask for its gradients.
    """

    def __init__(self, widths: mb.Widths, *, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.width = self.ecg_tokens = width
        self.record: nn.Module = nn.Identity() if widths.ecg_projected else nn.Linear(widths.ecg_record, width)
        self.tokens: nn.Module = nn.Identity() if widths.ecg_tokens == width else nn.Linear(widths.ecg_tokens, width)
        self.mlp_embed: nn.Module = nn.Identity()
        if widths.text and not widths.text_projected:
            inner = [nn.Linear(widths.text, width), nn.GELU(), nn.Linear(width, width), nn.GELU()]
            self.mlp_embed = nn.Sequential(*inner, nn.Linear(width, width))
        self.decoder = LabelQueryDecoder(width=width, depth=depth, heads=heads, hidden=hidden).requires_grad_(False)

    def ecg(self, features: mb.Features) -> mb.Features:
        """Return records and their tokens in the shared space."""
        changed = {"record": self.record(features.record)}
        if features.segments is not None:
            changed["segments"] = self.record(features.segments)
        if features.tokens is not None:
            changed["tokens"] = self.tokens(features.tokens)
        return features.apply(changed)

    def text(self, features: mb.Features) -> mb.Features:
        """Return reports, and their sentences if any, in the shared space."""
        changed = {"record": self.mlp_embed(features.record)}
        if features.segments is not None:
            changed["segments"] = self.mlp_embed(features.segments)
        return features.apply(changed)

    def class_scores(self, ecg: mb.Features, names: Tensor) -> Tensor:
        """Return the log-odds (B, C) that classes of these `names` (C, D) are present: the decoder's own answer.

        Raises:
            UserError: the records have no tokens.
        """
        if ecg.tokens is None:
            raise mb.UserError("heads 'ked' read a record's tokens, and the encoder offers none; take an encoder with tokens")
        absent, present = self.decoder(ecg.tokens, names).unbind(dim=-1)
        odds: Tensor = present - absent
        return odds


def ked(widths: mb.Widths, *, width: int = WIDTH, depth: int = DEPTH, heads: int = HEADS, hidden: int = HIDDEN) -> KEDHeads:
    """Return KED's heads into `width` shared channels.

    Raises:
        UserError: a size is not positive, the decoder's heads do not divide the width, the encoder offers no tokens, or it is
            projected already, to another width.
    """
    if min(width, depth, heads, hidden) < 1 or width % heads:
        raise mb.UserError(
            f"heads 'ked' with width {width}, depth {depth}, heads {heads}, hidden {hidden}; wanted positive numbers, and "
            "heads that divide the width"
        )
    if not widths.ecg_positions:
        raise mb.UserError("heads 'ked' read a record's tokens, and the encoder offers none; take an encoder with tokens")
    check_projected(widths, width)
    return KEDHeads(widths, width=width, depth=depth, heads=heads, hidden=hidden)


@mb.hookimpl
def melp_heads() -> list[mb.Entry[mb.Heads]]:
    """Offer KED's heads."""
    return [
        mb.Entry(
            name="ked",
            build=ked,
            summary="KED's: a perceptron for reports, and a decoder that asks a record for each class by its name",
            source="https://doi.org/10.1016/j.xcrm.2024.101875",
            license="none stated",
        )
    ]
