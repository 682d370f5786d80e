"""The reference encoders of PTB-XL's benchmark against their fixtures."""

from __future__ import annotations

import re
from collections.abc import Mapping

from adapters import Adapter
from filling import Fixture
from torch import Tensor, nn

from melp_bench.published.fitting import fit
from melp_plugins.ecg import ptbxl_reference

ENTRIES = {entry.name: entry for entry in ptbxl_reference.melp_ecg_encoders()}


def outputs(fixture: Fixture, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Mapping[str, Tensor]:
    entry = ENTRIES[fixture.folder.name.split("_")[1]]
    assert entry.published is not None
    model = fit(weights, entry.published, entry.build).module.eval()
    assert isinstance(model, ptbxl_reference.Reference)
    stages: nn.Module = model.layers[0].im if entry.name == "inception1d" else model.layers
    wanted = {name: int(found.group(1)) for name in fixture.outputs if (found := re.fullmatch(r"dbg_(\d+)", name))}
    seen: dict[str, Tensor] = {}
    handles = [
        stages.get_submodule(str(index)).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
        for name, index in wanted.items()
    ]
    features = model(inputs["ecg"])
    for handle in handles:
        handle.remove()
    return {
        "logits": model.logits(inputs["ecg"]),
        "logits_10s": model.logits(inputs["ecg_10s"]),
        "pooled": features.embedding,
        "feature_map": features.tokens.transpose(1, 2),
        **seen,
    }


ADAPTERS = [Adapter(r"^ptbxl_", outputs)]
