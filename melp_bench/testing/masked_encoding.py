"""What is asked of an encoder that offers masked encoding.

Shapes: B records, L leads, T samples, N tokens, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from melp_bench.components import ECGEncoder
from melp_bench.errors import NotApplicable
from melp_bench.masking import MaskedEncoding, in_rows, without_separators
from melp_bench.testing.compare import TOLERANCE
from melp_bench.testing.verdict import demand


@torch.no_grad()
def masks_are_kept(encoder: ECGEncoder, signal: Tensor) -> str:
    """Return what was found; every third token of a row is masked, replaced by a stand-in and left out.

    Raises:
        NotApplicable: it offers no masked encoding.
        Broken: widths are not as declared, or a masked token is seen.
    """
    if not isinstance(encoder, MaskedEncoding):
        raise NotApplicable("it offers no masked encoding")
    local = encoder.local(signal)
    normed = encoder.normed(local)
    batch, tokens = local.shape[:2]
    rows = encoder.token_rows
    demand(local.shape == normed.shape, f"local features are {tuple(local.shape)}, normed {tuple(normed.shape)}")
    demand(local.shape[2] == encoder.local_width, f"local features have {local.shape[2]} channels, local_width says another")
    demand(tokens % rows == 0, f"{tokens} tokens are not {rows} rows of equal length")
    row = torch.arange(tokens // rows, device=signal.device) % 3 == 1
    masked = row.repeat(rows).expand(batch, -1)  # (B, N)
    other = torch.where(masked[..., None], 3 - 2 * normed, normed)
    stand_in = torch.linspace(-1, 1, encoder.context_width, device=signal.device)
    wanted = (batch, tokens + 2 * encoder.separators * rows, encoder.context_width)
    for how, instead in (("replaced", stand_in), ("left out", None)):
        one, two = encoder.contextual(normed, masked, instead), encoder.contextual(other, masked, instead)
        demand(one.shape == wanted, f"with tokens {how} the context is {tuple(one.shape)}; wanted {wanted}")
        moved = float((one - two).abs().max() / one.abs().max().clamp_min(1e-6))
        demand(moved <= TOLERANCE, f"tokens that are {how} are seen: the context moves by {moved:.2g} with what they were")
    states = without_separators(one, encoder)
    demand(not bool(states[masked].any()), "the states of tokens that are left out are not 0")
    demand(in_rows(states, encoder).shape[1] == rows, "the context is not of as many rows as the tokens")
    return f"{tokens} tokens in {rows} rows"
