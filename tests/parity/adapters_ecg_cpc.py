"""ECG-CPC against its fixture."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from adapters import Adapter
from filling import Fixture
from torch import Tensor

from melp_bench.published.fitting import fit
from melp_plugins.ecg.ecg_cpc import ECGCPC, FAMILY, unit_roots


def outputs(fixture: Fixture, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Mapping[str, Tensor]:
    model, ecg = fit(weights, FAMILY, ECGCPC).module.eval(), inputs["ecg"]
    whole, short = model(ecg), model(inputs["ecg_short"])
    encoded = model.encoder(ecg)
    first = model.s4_layers[0](encoded)
    normed = model.norms[0]((encoded + first).transpose(1, 2))
    unit = unit_roots()
    return {
        "embedding": whole.embedding,
        "sequence": whole.tokens,
        "embedding_short": short.embedding,
        "sequence_short": short.tokens,
        "kernel_layer0": model.s4_layers[0].kernel(),
        "dbg_encoder": encoded,
        "dbg_s4_0": first,
        "dbg_norm0": normed,
        "dbg_s4_1": model.s4_layers[1](normed.transpose(1, 2)),
        "omega": torch.view_as_real(unit),
        "z": torch.view_as_real(2 * (1 - unit[:-1]) / (1 + unit[:-1])),
    }


ADAPTERS = [Adapter("ecgcpc_s4", outputs)]
