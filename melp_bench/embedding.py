"""Embedding: one pass of a model over a dataset, kept, so that every task, fraction and seed reads the same features.

Shapes: N records, B records of a batch, L leads, T samples, P embedding channels, D channels of the space shared with reports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from melp_bench.canonical import digest
from melp_bench.features import Features
from melp_bench.home import atomic_write, make_folder
from melp_bench.model import Model
from melp_bench.signal import SignalSpec
from melp_bench.splits import Positions
from melp_bench.windows import Windows, embed_windows

VERSION = 2
"""Raise with any change that can move a feature."""


class Records(Protocol):
    """Records that can be embedded: a store, or what a test puts in its place."""

    @property
    def fingerprint(self) -> str:
        """The digest of the records."""

    def __len__(self) -> int: ...

    def batch(self, positions: Positions, spec: SignalSpec, device: str | torch.device = "cpu") -> Tensor:
        """Return the records at `positions` as `spec` asks for them, (B, L, T), on `device`."""

    def windows(self, positions: Positions, spec: SignalSpec, device: str | torch.device = "cpu") -> Windows:
        """Return the windows by which an encoder of `spec` reads the records at `positions`."""


@runtime_checkable
class StatesMeasurements(Protocol):
    """What records offer beside the rest if their source states numbers of them."""

    def measurements(self, positions: Positions) -> list[dict[str, float]]:
        """Return what the source states of the records at `positions`, by its names."""


@dataclass(frozen=True)
class Embedded:
    """Features of every record of a dataset, in its order."""

    embedding: Tensor  # (N, P) what probes read
    record: Tensor  # (N, D) in the shared space


def embed(
    load: Callable[[], Model],
    identity: str,
    records: Records,
    cache: Path,
    *,
    device: torch.device,
    batch_size: int = 64,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Embedded:
    """Return the features of every one of `records`, read from `cache` if an equal pass was made before.

    `load` gives the model, in eval mode on `device`; it is called only if there is something to embed. `identity` is the digest
    of all that the features depend on besides the records: weights, how they are used, and the code that uses them.
    """
    path = _path(identity, records, cache, device)
    if (kept := _read(path, len(records))) is not None:
        return kept
    embedded = _passed(load(), records, _batches(len(records), batch_size), device, advance)
    _keep(embedded, path)
    return embedded


def embed_share(
    load: Callable[[], Model],
    identity: str,
    records: Records,
    cache: Path,
    *,
    device: torch.device,
    rank: int,
    ranks: int,
    batch_size: int = 64,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Embed one rank's batches of what `embed` would, and leave them in `cache` for `join_shares`.

    Nothing is done where the whole is kept, or the share, which a run that was stopped may have left.
    """
    path, batches = _path(identity, records, cache, device), _batches(len(records), batch_size)[rank::ranks]
    share, size = _share(path, rank, ranks), sum(map(len, batches))
    if size and _read(path, len(records)) is None and _read(share, size) is None:
        atomic_write(share, save(vars(_passed(load(), records, batches, device, advance))))


def join_shares(
    identity: str, records: Records, cache: Path, *, device: torch.device, ranks: int, batch_size: int = 64
) -> None:
    """Keep in `cache` what all ranks embedded, byte for byte what `embed` would keep; nothing where a share is missing."""
    path, batches = _path(identity, records, cache, device), _batches(len(records), batch_size)
    mine = {rank: batches[rank::ranks] for rank in range(min(ranks, len(batches)))}
    found = [_read(_share(path, rank, ranks), sum(map(len, of))) for rank, of in mine.items()]
    shares = [share for share in found if share is not None]
    if shares and len(shares) == len(found):
        back = torch.argsort(torch.from_numpy(np.concatenate([rows for of in mine.values() for rows in of])))
        embedding, record = (torch.cat([getattr(s, name) for s in shares])[back] for name in ("embedding", "record"))
        _keep(Embedded(embedding, record), path)


def _keep(embedded: Embedded, path: Path) -> None:
    """Write the features of all records, and remove shares of them."""
    atomic_write(path, save(vars(embedded)))
    for share in path.parent.glob(f"{path.stem}-*-of-*{path.suffix}"):
        share.unlink(missing_ok=True)


def _share(path: Path, rank: int, ranks: int) -> Path:
    """Return where a rank leaves its share of what is kept at `path`."""
    return path.with_name(f"{path.stem}-{rank}-of-{ranks}{path.suffix}")


def _path(identity: str, records: Records, cache: Path, device: torch.device) -> Path:
    """Return where the features of all records are kept, in `cache`, which is made."""
    key = digest({"model": identity, "data": records.fingerprint, "version": VERSION, "device": device.type})
    return make_folder(cache) / f"{key}.safetensors"


def _batches(num_records: int, batch_size: int) -> list[Positions]:
    """Return the positions of all records, by the batch."""
    return [np.arange(start, min(start + batch_size, num_records)) for start in range(0, num_records, batch_size)]


def _passed(
    model: Model,
    records: Records,
    batches: Sequence[Positions],
    device: torch.device,
    advance: Callable[[int, int], None],
) -> Embedded:
    """Return the features of the records in `batches`, one after the other."""
    parts, done, total = list[tuple[Tensor, Tensor]](), 0, sum(map(len, batches))
    advance(0, total)
    with torch.inference_mode():
        for positions in batches:
            windows = records.windows(positions, model.encoder.spec, device=device)
            embedding, record = embed_windows(partial(features_of, model), windows, model.encoder.spec.crops)
            parts.append((embedding.cpu(), record.cpu()))
            done += len(positions)
            advance(done, total)
    return Embedded(torch.cat([e for e, _ in parts]), torch.cat([r for _, r in parts]))


def features_of(model: Model, signal: Tensor) -> Features:
    """Return the features of conformed `signal` (B, L, T): the one place where records are embedded to be scored."""
    features: Features = model.ecg(signal)
    return features


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
