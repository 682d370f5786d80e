"""Published checkpoint files: tensors by name, and nothing in the file is ever run."""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from melp_bench.errors import UserError
from melp_bench.published.hub import silent_tries

logger = logging.getLogger(__name__)

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
INERT: list[Any] = [  # plain values that training code leaves beside the weights
    *(Namespace, PosixPath, PurePosixPath, np.dtype, np.ndarray),
    *(
        (value.__reduce__()[0], f"{package}.multiarray.{name}")
        for value, name in ((np.float64(0), "scalar"), (np.empty(0), "_reconstruct"))
        for package in ("numpy.core", "numpy._core")
    ),
    *{type(np.dtype(kind)) for kind in (*"?bhilqBHILQefdFDUS",)},
]
NESTED = 3
"""How deep in a file's mappings state dicts are looked for."""
_HUB = re.compile(r"hf:([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/([\w.-]+(?:/[\w.-]+)*))?")


@dataclass(frozen=True)
class Published:
    """A published file, read.

    Attributes:
        source: as it was named.
        sha256: of the file's bytes.
        parts: the state dicts in it, by name ("model", "checkpoint.model"; empty for the top level): tensors by published key,
            in the file's order. Where one was chosen, that one.
    """

    source: str
    sha256: str
    parts: dict[str, dict[str, Tensor]]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by published key; where there are several parts, with the part's name and a dot before it."""
        return next(iter(self.parts.values())) if len(self.parts) == 1 else under_names(self.parts)


def under_names(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of several state dicts as one, each key with the name of its part and a dot before it."""
    return {f"{name}.{key}" if name else key: tensor for name, inner in parts.items() for key, tensor in inner.items()}


def read_published(where: str) -> Published:
    """Return the tensors of a file, or of `hf:owner/name[/file]`; `#NAME` behind it chooses one of the state dicts in it.

    Raises:
        UserError: there is no such file, it is no checkpoint, it is damaged, it needs unpickling of classes, or it has no such
            part.
    """
    path, chosen = locate(where), chosen_part(where)
    payload = _read(path, where)
    parts = _state_dicts(payload)
    if not parts:
        raise UserError(f"{where!r} holds no tensors by name (its top level: {_summary(payload)}); wanted a state dict")
    if chosen:
        if chosen not in parts:
            known = ", ".join(repr(name) for name in parts if name) or "none with a name"
            raise UserError(f"{where!r}: the file has no part {chosen!r}; it has {known}")
        parts = {chosen: parts[chosen]}
    if strange := [key for inner in parts.values() for key, tensor in inner.items() if _is_strange(tensor)]:
        raise UserError(f"{where!r}: {strange[0]!r} is sparse, quantised or without values; wanted plain tensors")
    return Published(where, file_sha256(path), parts)


def chosen_part(where: str) -> str:
    """Return the name behind the last "#", which chooses a part of a file; empty without one, or where a file is called so."""
    return where.rpartition("#")[2] if "#" in where and not Path(where).is_file() else ""


def _without_part(where: str) -> str:
    part = chosen_part(where)
    return where.removesuffix(f"#{part}") if part else where


def locate(where: str) -> Path:
    """Return the local file that `where` names, whatever part of it; one on the hub is fetched.

    Raises:
        UserError: there is no such file.
    """
    where = _without_part(where)
    path = _fetch(where) if where.startswith("hf:") else Path(where)
    if not path.is_file():
        raise UserError(f"no checkpoint file {where!r}; give a file ({', '.join(SUFFIXES)}) or 'hf:owner/name/file'")
    return path


def is_here(where: str) -> bool:
    """Return whether `locate` would find the file, or say that there is none, without fetching anything."""
    if not where.startswith("hf:"):
        return True
    from huggingface_hub import try_to_load_from_cache

    match = _HUB.fullmatch(_without_part(where))
    if match is None or match[2] is None:
        return False
    return isinstance(try_to_load_from_cache(match[1], match[2]), str)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, where: str) -> Any:
    if path.stat().st_size == 0:
        raise UserError(f"{where!r} is an empty file; fetch it again")
    if _is_safetensors(path):
        try:
            return load_file(path)
        except (SafetensorError, ValueError) as error:
            raise UserError(f"{where!r} is not a whole safetensors file ({_line(error)}); fetch it again") from error
    try:
        with torch.serialization.safe_globals(INERT), warnings.catch_warnings(), path.open("rb") as file:
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # what cannot be read for it is said below
            return torch.load(file, map_location="cpu", weights_only=True)  # of a path it would judge the name
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named:
            raise UserError(
                f"{where!r} needs the class {named.group(1)!r} to be unpickled, which could run any code; refused. Open it in "
                "the code it came from and save its state dict alone, as safetensors or with torch.save"
            ) from error
        raise UserError(f"{where!r} is not a PyTorch checkpoint ({_kind(path)}); wanted {', '.join(SUFFIXES)}") from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{where!r} cannot be read as a PyTorch checkpoint ({_kind(path)}); fetch it again") from error


def _is_safetensors(path: Path) -> bool:
    """Return what the content says, whatever the name; the name decides where the content says nothing."""
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return True
    pickled = head.startswith(b"\x80") and head[2:3] not in (b"", b"\0")
    return path.suffix == ".safetensors" and not (pickled or head.startswith(b"PK"))


def _state_dicts(payload: Any, name: str = "", depth: int = NESTED) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of a mapping, and of the mappings in it, by the mapping's name and by key."""
    if not isinstance(payload, Mapping):
        return {}
    found = {name: tensors} if (tensors := _only_tensors(payload)) else {}
    for key, inner in payload.items() if depth else ():
        if isinstance(key, str):
            found |= _state_dicts(inner, f"{name}.{key}" if name else key, depth - 1)
    return found


def _is_strange(tensor: Tensor) -> bool:
    return tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided


def _only_tensors(mapping: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {key: value.detach() for key, value in mapping.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _summary(payload: Any) -> str:
    if isinstance(payload, Mapping):
        return ", ".join(repr(str(key)[:40]) for key in list(payload)[:6]) or "an empty mapping"
    return type(payload).__name__


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"PK"):
        return "a damaged zip archive" if not zipfile.is_zipfile(path) else "a zip archive without whole tensors in it"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself"
    return "a text file" if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head) else "unknown or damaged content"


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _fetch(where: str) -> Path:
    """Return the local path of a hub file, downloaded by huggingface_hub's own client into its own cache."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    match = _HUB.fullmatch(where)
    if match is None or ".." in where:
        raise UserError(f"{where!r} is no hub address; wanted 'hf:owner/name' or 'hf:owner/name/file'")
    repository, name = match.groups()
    try:
        with silent_tries():
            if name is None:
                files = [file for file in HfApi().list_repo_files(repository) if file.endswith(SUFFIXES)]
                if len(files) != 1:
                    listed = ", ".join(files[:12]) or "none there"
                    raise UserError(f"{where!r} has {len(files)} weight files; name one: {listed}")
                name = files[0]
            return Path(hf_hub_download(repository, name))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise UserError(f"cannot fetch {where!r} ({_line(error)}); download it yourself and give the file") from error
