"""MELP's heads: one per scale, beside each encoder.

Paper: From Token to Rhythm (MELP), Wang et al. 2025, https://arxiv.org/abs/2506.21803.
A linear map for segments and for sentences, a two-layer perceptron for whole reports. A record's vector is the mean of its
projected segments where the encoder offers segments of its own (MELP's does), and a linear map of the encoder's record where it
does not; segments then come from learned queries over the encoder's tokens. What is already projected gets no head.
Shapes: B records or reports, Q segments, D shared channels.
"""

from __future__ import annotations

from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.layers import QueryPool, masked_mean


class MELPHeads(mb.Heads):
    """A head per scale. With `queries=0` an encoder without segments stays without, which spares untrained parameters."""

    def __init__(self, widths: mb.Widths, *, width: int, queries: int) -> None:
        super().__init__()
        self.width = width
        own, projected = bool(widths.ecg_segments), widths.ecg_projected
        self.record: nn.Module = nn.Identity() if projected or own else nn.Linear(widths.ecg_record, width, bias=False)
        self.segments: nn.Module = nn.Identity()
        self.pool: QueryPool | None = None
        if own and not projected:
            self.segments = nn.Linear(widths.ecg_segments, width, bias=False)
        elif not own and queries and widths.ecg_positions:
            heads = next(h for h in (8, 4, 2, 1) if width % h == 0)
            self.pool = QueryPool(queries=queries, width=width, context=widths.ecg_tokens, heads=heads)
            self.segments = nn.Linear(width, width, bias=False)
        self.record_is_mean_of_segments = own and not projected
        self.report: nn.Module = nn.Identity()
        self.sentences: nn.Module = nn.Identity()
        if widths.text and not widths.text_projected:
            self.report = nn.Sequential(nn.Linear(widths.text, width), nn.GELU(), nn.Linear(width, width))
            self.sentences = nn.Linear(widths.text, width)

    def ecg(self, features: mb.Features) -> mb.Features:
        """Return records and segments in the shared space, tokens and embedding as they are."""
        segments = features.segments
        if segments is None and self.pool is not None and features.tokens is not None:
            segments = self.pool(features.tokens, features.tokens_mask)
        if segments is None:
            return features.apply({"record": self.record(features.record)})
        segments = self.segments(segments)  # (B, Q, D)
        mean = self.record_is_mean_of_segments
        record = masked_mean(segments, features.segments_mask) if mean else self.record(features.record)
        return features.apply({"record": record, "segments": segments})

    def text(self, features: mb.Features) -> mb.Features:
        """Return reports and sentences in the shared space, words as they are."""
        change: dict[str, Tensor] = {"record": self.report(features.record)}
        if features.segments is not None:
            change["segments"] = self.sentences(features.segments)
        return features.apply(change)


def melp(widths: mb.Widths, *, width: int = 128, queries: int = 12) -> MELPHeads:
    """Return MELP's heads into `width` shared channels, with `queries` for an encoder without segments of its own.

    Raises:
        UserError: an encoder is projected already, to another width; or an option is out of its range.
    """
    if width < 1 or queries < 0:
        raise mb.UserError(f"heads 'melp' with width {width}, queries {queries}; wanted at least 1, and at least 0")
    check_projected(widths, width)
    return MELPHeads(widths, width=width, queries=queries)


def check_projected(widths: mb.Widths, width: int) -> None:
    """Check that what is already projected lives in a space of the width that is shared.

    Raises:
        UserError: it does not.
    """
    given = [("ECG", widths.ecg_record)] if widths.ecg_projected else []
    given += [("text", widths.text)] if widths.text_projected else []
    for kind, found in given:
        if found != width:
            raise mb.UserError(
                f"the {kind} encoder is already projected to {found} channels, and the heads' width is {width}; "
                f"set heads.width={found}"
            )


@mb.hookimpl
def melp_heads() -> list[mb.Entry[mb.Heads]]:
    """Offer MELP's heads."""
    return [
        mb.Entry(
            name="melp",
            build=melp,
            summary="one head per scale; segments from learned queries where the encoder has none",
            source="https://arxiv.org/abs/2506.21803",
            license="MIT",
        )
    ]
