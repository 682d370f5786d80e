"""The folders of the parity sets: of the models in one set, of further models in the other; each is named by a variable."""

from __future__ import annotations

import os
from pathlib import Path

SETS = ("MELP_BENCH_PARITY", "MELP_BENCH_PARITY_FM")
NONE = f"neither {' nor '.join(SETS)} names a folder"


def folders_with(pattern: str) -> list[Path]:
    """Return the folders of all sets that hold a file of this name or pattern, in order."""
    roots = [Path(os.environ[name]) for name in SETS if os.environ.get(name)]
    return sorted({path.parent for root in roots for path in root.glob(f"*/{pattern}")}, key=lambda path: path.name)
