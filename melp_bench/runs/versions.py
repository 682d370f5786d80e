"""The versions of the host's own parts that move numbers: what they are, and what they are part of.

A component's code is known by its digest, see `melp_bench.code_digest`. The host's parts state a `VERSION` each, so that a
renamed variable makes nobody train again; whoever changes what they compute raises it. Stores have their format in their
fingerprint, and an evaluation of the host's has its version in its row.
"""

from __future__ import annotations

from melp_bench import embedding, measure, model, signal
from melp_bench.metrics.bootstrap import VERSION as BOOTSTRAP
from melp_bench.pretrain import loop

WEIGHTS = {"signal": signal.VERSION, "model": model.VERSION, "loop": loop.VERSION}
"""What trained weights depend on."""
FEATURES = {"signal": signal.VERSION, "model": model.VERSION, "embedding": embedding.VERSION}
"""What the features of a model with its weights depend on."""
ROWS = FEATURES | {"bootstrap": BOOTSTRAP, "measure": measure.VERSION}
"""What a row depends on besides its model's weights."""


def versions() -> dict[str, int]:
    """Return the version of every part of the host that moves numbers, by its module's name."""
    return WEIGHTS | FEATURES | ROWS
