"""ECGFounder's networks of twelve leads and of one against their fixtures."""

from __future__ import annotations

from collections.abc import Mapping

from adapters import Adapter, watched
from filling import Fixture
from torch import Tensor

from melp_bench.published.fitting import fit
from melp_plugins.ecg import ecgfounder

ENTRIES = {entry.name: entry for entry in ecgfounder.melp_ecg_encoders()}
LAYERS = {"stem": "first_conv", "stage0": "stage_list.0", "stage1_block0": "stage_list.1.block_list.0"}
LAYERS |= {f"stage{number}": f"stage_list.{number}" for number in (3, 5)}


def outputs(fixture: Fixture, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Mapping[str, Tensor]:
    entry = ENTRIES["ecgfounder" if fixture.config["in_channels"] == 12 else "ecgfounder-1lead"]
    assert entry.published is not None
    model = fit(weights, entry.published, entry.build).module.eval()
    assert isinstance(model, ecgfounder.ECGFounder)
    features, seen = watched(model, LAYERS, inputs["ecg"])
    seen["stem"] = seen["stem"] * seen["stem"].sigmoid()
    found = {
        "features": features.embedding,
        "logits": model.logits(inputs["ecg"]),
        "sequence": features.tokens.transpose(1, 2),
        **{f"dbg_{name}": state for name, state in seen.items()},
    }
    for name, of in (("ecg_short", 1250), ("ecg_odd", 4999)):
        if name in inputs:
            other = model(inputs[name])
            found |= {f"features_{of}": other.embedding, f"sequence_{of}": other.tokens.transpose(1, 2)}
    return found


ADAPTERS = [Adapter(r"^ecgfounder_", outputs)]
