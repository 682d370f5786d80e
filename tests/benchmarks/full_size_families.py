"""Every published family at full size, with random weights from a file: a run on real records, `check`, speed and memory.

    MELP_BENCH_HOME=HOME python full_size_families.py FOLDER [NAME...]

HOME holds the stores that `real-sample` reads (`melp-bench data prepare ludb --from ...`). Each model's file is written under
its published keys in FOLDER, is imported and scored as `NAME@FILE`, and is removed again; each command is a process of its own,
whose largest resident memory the system states. What it came to is kept in FOLDER, a file for each model; what is there already
is not made again. The numbers mean nothing but that it ran, how fast and in how much memory.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from melp_bench.home import atomic_write, home
from melp_bench.plugins import discover
from melp_bench.published.fitting import KeyLayout, publish
from melp_bench.throughput.cost import gflops_per_record, num_parameters

MODELS = (
    "ecg-jepa-weimann-xs", "ecg-jepa-weimann-small", "ecg-jepa-weimann-base", "ecg-jepa", "ecg-cpc", "ked", "xecg",
    "merl-resnet18", "merl-vit-tiny", "heartlang", "hubert-ecg:size=small", "hubert-ecg", "hubert-ecg:size=large", "ecg-coca",
    "ecgfounder", "ecgfounder-1lead", "st-mem-base", "st-mem-small", "melp", "d-beta", "ecg-fm",
)  # fmt: skip
CELLS = "linear_probe"  # the three tasks of LUDB: what transfers reads twenty times as many records
BATCH, REPEATS = 2, 3  # of a forward pass, after one to warm up


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """Return the entry's name and the options behind it: "hubert-ecg:size=small"."""
    entry, _, options = name.partition(":")
    return entry, dict(part.split("=", 1) for part in options.split(",") if part)


def file_name(name: str) -> str:
    """Return the name as part of a file's."""
    return name.replace(":", "-").replace("=", "-")


def write_file(name: str, path: Path) -> None:
    """Write random weights of the entry under its published keys."""
    entry_name, options = split_name(name)
    entry = discover().ecg_encoders[entry_name]
    family = entry.published
    if family is None:
        raise SystemExit(f"{entry_name!r} publishes nothing")
    torch.manual_seed(0)
    own = entry.build(**entry.resolve(options)).state_dict()
    kept = {key: tensor for key, tensor in own.items() if family.fresh_because(key) is None}
    layout = KeyLayout(next((prefix for prefix in family.prefixes if prefix != "*"), ""))
    tensors = publish(kept, {}, family, layout)
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, path)


def timed(words: list[str]) -> dict[str, Any]:
    """Return status, seconds, largest resident memory in MB and last lines of a command in a process of its own."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "melp_bench", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said = process.stdout.read().decode(errors="replace")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return {
        "status": process.returncode,
        "seconds": round(time.monotonic() - start, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "said": lines[-4:] if process.returncode else lines[-1:],
    }


def run(name: str, folder: Path) -> dict[str, Any]:
    """Return what scoring a model on real records came to, its file written before and removed after."""
    entry, _ = split_name(name)
    file = folder / f"{file_name(name)}.safetensors"
    write_file(name, file)
    words = ["run", "real-sample", "-m", f"{entry}@{file}", "--only", CELLS, "--workers", "1", "--out", str(folder / "board")]
    found = timed(words)
    file.unlink()
    for kept in ("checkpoints", "features"):
        shutil.rmtree(home() / kept, ignore_errors=True)
    return found


def check(name: str, _: Path) -> dict[str, Any]:
    """Return what `check` came to."""
    entry, options = split_name(name)
    return timed(["check", entry, *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))])


def cost(name: str, _: Path) -> dict[str, Any]:
    """Return parameters, operations and speed of an encoder on one thread, in processor time: others may share the cores.

    A record of a model that reads crops is as many of its crops as ten seconds have.
    """
    entry_name, options = split_name(name)
    entry = discover().ecg_encoders[entry_name]
    encoder = entry.build(**entry.resolve(options)).eval()
    spec = encoder.spec
    crops = 1 if spec.crops is None else round(10.0 / spec.seconds)
    signal, taken = torch.randn(BATCH * crops, len(spec.leads), spec.samples), []
    with torch.inference_mode():
        for _ in range(1 + REPEATS):
            start = time.process_time()
            encoder(signal)
            taken.append(time.process_time() - start)
    return {
        "parameters": num_parameters(encoder),
        "gflops": round(crops * gflops_per_record(encoder), 2),
        "records_per_second": round(BATCH / statistics.median(taken[1:]), 2),
    }


STAGES = {"cost": cost, "run": run, "check": check}


def main(folder: Path, names: Sequence[str]) -> None:
    """Make what lacks of each model: what it costs, then the runs, the cheapest first, then the checks."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    for stage, make in STAGES.items():
        for name in sorted(names, key=lambda name: known(name, folder).get("cost", {}).get("gflops", 0.0)):
            found = known(name, folder)
            if stage not in found:
                found[stage] = make(name, folder)
                atomic_write(folder / f"{file_name(name)}.json", json.dumps(found, indent=1) + "\n")
                sys.stdout.write(f"{name} {stage} {found[stage]}\n")
                sys.stdout.flush()


def known(name: str, folder: Path) -> dict[str, Any]:
    """Return what is there of a model."""
    path = folder / f"{file_name(name)}.json"
    return json.loads(path.read_text()) if path.exists() else {"model": name}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or MODELS)
