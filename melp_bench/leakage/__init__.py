"""The same recording in two places, found by its signal; and which test records were seen in pretraining."""

from melp_bench.leakage.duplicates import Duplicate, Watch, find_duplicates, known_duplicates
from melp_bench.leakage.seen import Seen, refuse_shared_patients, seen_in_pretraining
from melp_bench.leakage.table import num_without_fingerprint

__all__ = [
    "Duplicate",
    "Seen",
    "Watch",
    "find_duplicates",
    "known_duplicates",
    "num_without_fingerprint",
    "refuse_shared_patients",
    "seen_in_pretraining",
]
