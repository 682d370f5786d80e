"""Native files to a packed store, and the store to conformed batches. Only the reader needs torch: it is imported when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from melp_bench.store.layout import store_path
from melp_bench.store.prepare import Progress, prepare
from melp_bench.store.verify import Verification, verify, verify_source

if TYPE_CHECKING:
    from melp_bench.store.reader import Store, open_store

__all__ = [
    "Progress",
    "Store",
    "Verification",
    "open_store",
    "prepare",
    "store_path",
    "verify",
    "verify_source",
]


def __getattr__(name: str) -> Any:
    """Return a name of the reader."""
    if name not in ("Store", "open_store"):
        raise AttributeError(f"module 'melp_bench.store' has no attribute {name!r}")
    return getattr(importlib.import_module("melp_bench.store.reader"), name)
