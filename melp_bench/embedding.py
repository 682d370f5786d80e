"""Embedding: one pass of a model over a store, kept, so that every task, fraction and seed reads the same features.

Shapes: N records, P embedding channels, D channels of the space shared with reports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from melp_bench.canonical import digest
from melp_bench.home import atomic_write, make_folder
from melp_bench.model import Model
from melp_bench.store import Store
from melp_bench.windows import embed_windows

VERSION = 1
"""Raise with any change that can move a feature."""

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Embedded:
    """Features of every record of a store, in its order."""

    embedding: Tensor  # (N, P) what probes read
    record: Tensor  # (N, D) in the shared space


def embed(
    model: Model,
    identity: str,
    store: Store,
    cache: Path,
    *,
    device: torch.device,
    batch_size: int = 64,
    advance: Advance = lambda done, total: None,
) -> Embedded:
    """Return the features of every record of `store`, read from `cache` if an equal pass was made before.

    `identity` is the digest of all that the features depend on besides the records: the weights, and how they are used.
    """
    key = digest({"model": identity, "data": store.fingerprint, "version": VERSION, "device": device.type})
    path = make_folder(cache) / f"{key}.safetensors"
    if (kept := _read(path, len(store))) is not None:
        return kept
    model = model.to(device).eval()
    parts: list[tuple[Tensor, Tensor]] = []
    advance(0, len(store))
    with torch.inference_mode():
        for start in range(0, len(store), batch_size):
            positions = np.arange(start, min(start + batch_size, len(store)))
            windows = store.windows(positions, model.encoder.spec, device=device)
            embedding, record = embed_windows(model.ecg, windows, model.encoder.spec.crops)
            parts.append((embedding.cpu(), record.cpu()))
            advance(int(positions[-1]) + 1, len(store))
    tensors = {"embedding": torch.cat([e for e, _ in parts]), "record": torch.cat([r for _, r in parts])}
    atomic_write(path, save(tensors))
    return Embedded(**tensors)


def _read(path: Path, num_records: int) -> Embedded | None:
    """Return kept features; None where there are none, or where the file is damaged and must be made again."""
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError):
        return None
    if set(tensors) != {"embedding", "record"}:
        return None
    embedded = Embedded(tensors["embedding"], tensors["record"])
    return embedded if len(embedded.embedding) == len(embedded.record) == num_records else None


def prompt_encoder(model: Model, device: torch.device) -> Callable[[Sequence[str]], Tensor] | None:
    """Return the function from prompts to unit vectors (K, D) in the shared space; None without a text encoder."""
    text = model.text_encoder
    if text is None:
        return None

    def encode(prompts: Sequence[str]) -> Tensor:
        with torch.inference_mode():
            return F.normalize(model.text(text.tokenize(prompts).to(device)).record.float(), dim=-1).cpu()

    return encode
