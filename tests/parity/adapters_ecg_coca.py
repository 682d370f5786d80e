"""ECG-CoCa's ECG tower against its fixture."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from adapters import Adapter
from filling import Fixture
from torch import Tensor

from melp_bench.published.fitting import fit
from melp_plugins.ecg.ecg_coca import FAMILY, ECGCoCa


def outputs(fixture: Fixture, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Mapping[str, Tensor]:
    model, ecg = fit(weights, FAMILY, ECGCoCa).module.eval(), inputs["ecg"]
    features, states = model(ecg), [model.embedded(ecg)]
    for block in model.blocks:
        states.append(block(states[-1]))
    return {
        "pooled": features.record,
        "ecg_features": F.normalize(features.record, dim=-1),
        "tokens": features.tokens,
        "last_layer": states[-1],
        "dbg_ln_pre": states[0],
        **{f"dbg_block{index}": state.transpose(0, 1) for index, state in enumerate(states[1:])},
    }


ADAPTERS = [Adapter("ecgchat_coca_ecg", outputs)]
