"""Embeddings of an encoder whose weights are frozen while its batch normalisation learns, as in a public suite.

There, batch normalisation of a "frozen" encoder returns to training mode with every epoch: training records are normalised by
their own batch, the running statistics move towards them, and validation and test records are normalised by what these have
become. Here a copy of the model sees the training records of a part in batches, in a new order each pass, as often as it takes
for its statistics to be those of the records (50 batches: of what they were, 0.9 to the power of 50 is left); what it makes of
them in the last pass is what probes learn from. Then its statistics are kept, and all other records are embedded with them.

Shapes: N records of the task, P embedding channels.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

import melp_bench as mb
from melp_bench.splits import SplitPart

BATCH = 128
FEWEST_BATCHES = 50


def num_batch_norms(context: mb.Context) -> int:
    """Return how many layers of the encoder normalise by batch."""
    return sum(isinstance(module, _BatchNorm) for module in context.model.encoder.modules())


def embed_while_learning(context: mb.Context, task: mb.TaskRecords, part: SplitPart, seed: int) -> Tensor:
    """Return the embeddings (N, P) of the task's records after batch normalisation saw the training records of `part`.

    Raises:
        NotApplicable: the encoder reads a record by crops, of which a batch holds several.
    """
    if context.model.encoder.spec.crops is not None:
        raise mb.NotApplicable("batch normalisation that learns is not defined for an encoder that reads records by crops")
    model = copy.deepcopy(context.model)
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    generator, rest = np.random.default_rng(seed), np.setdiff1d(np.arange(len(task)), part.train)
    passes = -(-FEWEST_BATCHES // -(-len(part.train) // BATCH)) if layers else 1
    found: Tensor | None = None
    for number in range(passes + 1):
        learning = number < passes
        positions = generator.permutation(part.train) if learning else rest
        for layer in layers:
            layer.train(learning)
        for batch in np.array_split(positions, max(1, -(-len(positions) // BATCH))):
            with torch.no_grad():
                embedding = model.ecg(context.signals(task, batch)).embedding.float().cpu()
            found = embedding.new_zeros(len(task), embedding.shape[1]) if found is None else found
            found[torch.from_numpy(batch)] = embedding
    if found is None or not bool(torch.isfinite(found).all()):
        raise mb.UserError(f"model {context.name!r} gave embeddings that are not finite while its batch normalisation learns")
    return found
