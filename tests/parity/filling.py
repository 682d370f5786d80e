"""A parity folder's model: published keys, the weights its fill rule makes, its inputs, and its expected outputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fill import rng
from torch import Tensor


@dataclass(frozen=True)
class Fixture:
    """One folder of the parity set."""

    folder: Path
    salt: str
    config: Mapping[str, Any]
    outputs: Mapping[str, Mapping[str, Any]]
    meta: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Fixture:
        """Return the fixture in `folder`."""
        meta = json.loads((folder / "fixture.json").read_text())
        return cls(folder, meta["salt"], meta["config"], meta["outputs"], meta)

    def weights(self) -> dict[str, Tensor]:
        """Return the published state dict as fill.json makes it, in the reference's order; empty without one."""
        path = self.folder / "fill.json"
        return filled(json.loads(path.read_text()), self.state_dict()) if path.exists() else {}

    def state_dict(self) -> list[tuple[str, tuple[int, ...], str]]:
        """Return the published keys with shape and dtype, in order."""
        rows = json.loads((self.folder / "state_dict.json").read_text())
        return [(key, tuple(shape), dtype) for key, shape, dtype in rows]

    def inputs(self) -> dict[str, Tensor]:
        """Return the inputs that fixture.json states: float32 scale times standard normal."""
        found = {}
        for row in self.meta["inputs"]:
            scale, _, law = row["rule"].partition(" * ")
            if law != "standard_normal":
                raise ValueError(f"{self.folder.name}: input rule {row['rule']!r} is not known")
            salt, _, name = row["seed_string"].partition(":")
            found[row["name"]] = torch.from_numpy(np.float32(scale) * normal(salt, name, tuple(row["shape"])))
        return found

    def expected(self) -> dict[str, np.ndarray]:
        """Return the stored outputs by name."""
        with np.load(self.folder / "fixture.npz", allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def strided(self, name: str, full: np.ndarray) -> np.ndarray:
        """Return what of a full output is stored."""
        return full[tuple(slice(None, None, step) for step in self.outputs[name]["stride"])]

    def checksum(self, weights: Mapping[str, Tensor]) -> str:
        """Return the SHA-256 of the floating weights, aliases counted once, as fixture.json states it."""
        digest = hashlib.sha256()
        for key, tensor in weights.items():
            if tensor.is_floating_point() and key not in self.meta["aliases"]:
                digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()


def normal(salt: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 standard normal numbers, made by the float32 generator."""
    return rng(salt, name).standard_normal(size=shape, dtype=np.float32)


def filled(fill: Mapping[str, Any], rows: list[tuple[str, tuple[int, ...], str]]) -> dict[str, Tensor]:
    """Return the tensors of a fill rule; `rows` gives shapes and dtypes."""
    form = {key: (shape, dtype) for key, shape, dtype in rows}
    made: dict[str, Tensor] = {}
    for key, kind, a, b in fill["fill"]:
        if kind == "alias":
            made[key] = made[a]
            continue
        shape, dtype = form[key]
        if kind == "const":
            made[key] = torch.full(shape, a, dtype=getattr(torch, dtype))
            continue
        noise = normal(fill["salt"], key, shape)
        drawn = np.float32(b) * (np.abs(noise) if kind == "abs" else noise)
        made[key] = torch.from_numpy(np.asarray(drawn if a == 0 else np.float32(a) + drawn))
    return made
