"""Native files to a packed store, and the store to conformed batches."""

from melp_bench.store.layout import hash_fold, store_path
from melp_bench.store.prepare import Progress, prepare
from melp_bench.store.reader import Store, open_store
from melp_bench.store.verify import Verification, verify

__all__ = ["Progress", "Store", "Verification", "hash_fold", "open_store", "prepare", "store_path", "verify"]
