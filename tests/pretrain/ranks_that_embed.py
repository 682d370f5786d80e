"""Two processes that run a protocol together, each embedding its share; run as `python ranks_that_embed.py PROTOCOL FOLDER`.

Below FOLDER, `whole` is the home where both embed, and `one-fails` the home where the second cannot; what each process embedded
is in `whole.pt` and `one-fails.pt`.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from ranks import group

from melp_bench import embedding
from melp_bench.plugins import discover
from melp_bench.runs.run import carry_out
from melp_bench.runs.run_spec import make_spec
from melp_bench.windows import Windows, embed_windows

HOMES = ("whole", "one-fails")


def run_together(protocol: Path, home: Path, fails: bool, fabric: Fabric) -> dict[str, Any]:
    """Return how many records each process embedded in each batch."""
    embedded: list[int] = []

    def counted(encode: Any, windows: Windows, *rest: Any) -> Any:
        if fails and fabric.global_rank == 1:
            raise RuntimeError("no memory")
        embedded.append(len(windows))
        return embed_windows(encode, windows, *rest)

    embedding.embed_windows = counted  # type: ignore[assignment]
    carry_out(make_spec(protocol, out=home / "board"), CATALOGUE)
    of_all: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(of_all, embedded)
    return {"embedded": of_all}


if __name__ == "__main__":
    torch.set_num_threads(1)
    CATALOGUE, where = discover(), Path(sys.argv[2])
    for name in HOMES:
        os.environ["MELP_BENCH_HOME"] = str(where / name)
        group(2, partial(run_together, Path(sys.argv[1]), where / name, name == "one-fails"), where / f"{name}.pt")
