"""An ECG encoder and a text encoder, with one head per scale beside each, into a space that both share.

Heads, as MELP (Wang et al. 2025) has them: a linear map for segments and for sentences, a two-layer perceptron for whole reports.
A record's vector is the mean of its projected segments where the encoder offers segments of its own (MELP), and a linear map of the
encoder's record where it does not. An encoder that is already `projected` gets no head.

Shapes: B records or reports, L leads, T samples, Q segments or sentences, N tokens, D shared channels, P probe channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melp_bench.components import ECGEncoder, Sizes, TextBatch, TextEncoder
from melp_bench.errors import UserError
from melp_bench.features import Features
from melp_bench.layers import QueryPool, masked_mean

VERSION = 1
"""Raise with any change that can move what heads make of features."""


class Model(nn.Module):
    """Encoders and heads. Segments of an encoder without segments come from `segment_queries` learned queries over its tokens.

    With `segment_queries=0` such an encoder stays without segments, which spares parameters that no objective would train.

    Raises:
        UserError: the encoder's features are not as wide as it says, or projected encoders disagree on the shared width.
    """

    def __init__(
        self, encoder: ECGEncoder, text_encoder: TextEncoder | None = None, *, shared: int = 128, segment_queries: int = 12
    ) -> None:
        super().__init__()
        _check_shared(encoder, text_encoder, shared)
        self.encoder, self.text_encoder, self.shared = encoder, text_encoder, shared
        own_segments = _offers_segments(encoder)
        width = encoder.record_width
        self.record_head: nn.Module = (
            nn.Identity() if encoder.projected or own_segments else nn.Linear(width, shared, bias=False)
        )
        self.segment_pool: QueryPool | None = None
        self.segment_head: nn.Module = nn.Identity()
        if own_segments and not encoder.projected:
            self.segment_head = nn.Linear(width, shared, bias=False)
        elif not own_segments and segment_queries:
            heads = next(h for h in (8, 4, 2, 1) if shared % h == 0)
            self.segment_pool = QueryPool(queries=segment_queries, width=shared, context=encoder.width, heads=heads)
            self.segment_head = nn.Linear(shared, shared, bias=False)
        self.record_is_mean_of_segments = own_segments and not encoder.projected
        self.report_head: nn.Module = nn.Identity()
        self.sentence_head: nn.Module = nn.Identity()
        if text_encoder is not None and not text_encoder.projected:
            self.report_head = nn.Sequential(nn.Linear(text_encoder.width, shared), nn.GELU(), nn.Linear(shared, shared))
            self.sentence_head = nn.Linear(text_encoder.width, shared)

    def forward(self, signal: Tensor, batch: TextBatch | None = None) -> tuple[Features, Features | None]:
        """Return the features of records, and of their reports where these are given."""
        return self.ecg(signal), None if batch is None else self.text(batch)

    def ecg(self, signal: Tensor) -> Features:
        """Return features of `signal` (B, L, T): record and segments in the shared space, tokens and embedding as they are."""
        features: Features = self.encoder(signal)
        segments = features.segments
        if segments is None and self.segment_pool is not None and features.tokens is not None:
            segments = self.segment_pool(features.tokens, features.tokens_mask)
        if segments is None:
            return features.apply({"record": self.record_head(features.record)})
        segments = self.segment_head(segments)  # (B, Q, D)
        mean = self.record_is_mean_of_segments
        record = masked_mean(segments, features.segments_mask) if mean else self.record_head(features.record)
        return features.apply({"record": record, "segments": segments})

    def text(self, batch: TextBatch) -> Features:
        """Return features of reports: record and sentences in the shared space, words as they are.

        Raises:
            UserError: the model has no text encoder.
        """
        if self.text_encoder is None:
            raise UserError("the model has no text encoder; name one in the recipe to use reports")
        features: Features = self.text_encoder(batch)
        change = {"record": self.report_head(features.record)}
        if features.segments is not None:
            change["segments"] = self.sentence_head(features.segments)
        return features.apply(change)

    def embed(self, signal: Tensor) -> Tensor:
        """Return what probes read, (B, P), for `signal` (B, L, T)."""
        embedding: Tensor = self.encoder(signal).embedding
        return embedding

    def sizes(self, classes: int = 0) -> Sizes:
        """Return the widths that objectives are built from; `classes` is the number of pretraining labels."""
        text = self.text_encoder
        return Sizes(
            shared=self.shared,
            embedding=self.encoder.embedding_width,
            ecg_tokens=self.encoder.width,
            text_tokens=0 if text is None else text.width,
            vocab=0 if text is None else text.vocab_size,
            pad_id=0 if text is None else text.pad_id,
            classes=classes,
            causal_text=text is None or text.causal,
        )


def _check_shared(encoder: ECGEncoder, text_encoder: TextEncoder | None, shared: int) -> None:
    """Check that what is already projected lives in a space of the width that is shared."""
    given = [("ECG", encoder.record_width)] if encoder.projected else []
    if text_encoder is not None and text_encoder.projected:
        given.append(("text", text_encoder.width))
    for kind, width in given:
        if width != shared:
            raise UserError(
                f"the {kind} encoder is already projected to {width} channels, and shared is {shared}; set shared={width}"
            )


def _offers_segments(encoder: ECGEncoder) -> bool:
    """Return whether the encoder makes segments, read off one silent record, with its widths checked by the way."""
    spec, training = encoder.spec, encoder.training
    like = next(encoder.parameters(), torch.empty(0))
    encoder.eval()
    with torch.no_grad():
        found: Features = encoder(torch.zeros(1, len(spec.leads), spec.samples, device=like.device, dtype=like.dtype))
    encoder.train(training)
    said = {"record": encoder.record_width, "segments": encoder.record_width}
    said |= {"embedding": encoder.embedding_width, "tokens": encoder.width}
    for name, tensor in found.present().items():
        if name in said and tensor.shape[-1] != said[name]:
            kind = type(encoder).__name__
            raise UserError(f"{kind!r} returns {name} with {tensor.shape[-1]} channels, and says {said[name]}; mend its widths")
    return found.segments is not None
