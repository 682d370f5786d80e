"""Masked encoding: what masked prediction and masked autoencoding ask of an encoder, and any token encoder can offer.

Shapes: B records, L leads, T samples, N tokens, R rows, P tokens of a row, E separators, C local channels, D channels.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class MaskedEncoding(Protocol):
    """An encoder that can be stopped between its tokens' own look at the signal and their look at each other.

    Its N tokens are `token_rows` rows of P = N / token_rows, row by row: 12 rows where each lead is cut by itself, one where a
    token sees all leads. `separators` states that stand for no signal surround every row of the context.
    """

    @property
    def local_width(self) -> int:
        """Channels of local features."""

    @property
    def context_width(self) -> int:
        """Channels of the context, and of what stands in for a masked token."""

    @property
    def token_rows(self) -> int:
        """Rows of tokens."""

    @property
    def separators(self) -> int:
        """States at each end of a row of the context."""

    def local(self, signal: Tensor) -> Tensor:
        """Return local features (B, N, C) of `signal` (B, L, T): each token's own, as they come out of the signal."""

    def normed(self, local: Tensor) -> Tensor:
        """Return local features (B, N, C) as the context is made from them: targets of masked prediction, of even size."""

    def contextual(self, normed: Tensor, masked: Tensor, stand_in: Tensor | None) -> Tensor:
        """Return the context (B, R (P + 2 E), D) of normed local features (B, N, C), in which tokens have seen each other.

        Where `masked` (B, N) is True, `stand_in` (D,) takes the token's place. Without one the token is left out: no other
        sees it, and its own state is 0.
        """


def in_rows(tokens: Tensor, encoder: MaskedEncoding) -> Tensor:
    """Return `tokens` (B, N, C), or a context with its separators, as rows (B, R, N / R, C)."""
    return tokens.reshape(len(tokens), encoder.token_rows, -1, tokens.shape[-1])


def without_separators(context: Tensor, encoder: MaskedEncoding) -> Tensor:
    """Return the states (B, N, D) of tokens out of a context (B, R (P + 2 E), D)."""
    if not encoder.separators:
        return context
    return in_rows(context, encoder)[:, :, encoder.separators : -encoder.separators].flatten(1, 2)
