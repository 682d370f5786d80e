"""Open datasets from their own servers into a folder: in parallel, resumable, checked against the source's digests.

What is being fetched lies in the target's folder `.melp-bench-fetch`, under names that no dataset reads, until its digest is
right; then it gets its own name in one step. Nothing is asked for twice: a file that was verified is known by its size and
time, one that was cut off goes on where it ended.
"""

from melp_bench.fetch.connection import refuse_secrets
from melp_bench.fetch.selection import fetch
from melp_bench.fetch.transfer import Patience
from melp_bench.fetch.verified_files import unfinished
from melp_bench.fetch.workers import FetchOutcome

__all__ = ["FetchOutcome", "Patience", "fetch", "refuse_secrets", "unfinished"]
