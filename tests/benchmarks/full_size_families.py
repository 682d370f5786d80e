"""Every published family at full size, with random weights from a file: a run on real records, `check`, speed and memory.

    MELP_BENCH_HOME=HOME python full_size_families.py FOLDER [NAME...]

HOME holds the stores that `real-sample` reads (`melp-bench data prepare ludb --from ...`). Each model's file is written under
its published keys in FOLDER, is imported and scored as `NAME@FILE`, and is removed again; each command is a process of its own,
whose largest resident memory the system states. A line of JSON is printed for each model and kept in FOLDER/families.jsonl;
a model that is there already is passed over. The numbers mean nothing but that it ran, how fast and in how much memory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from melp_bench.cli.fresh_process import in_fresh_process
from melp_bench.home import home
from melp_bench.plugins import discover
from melp_bench.published.fitting import KeyLayout, publish
from melp_bench.throughput.rows import Work

MODELS = (
    "ecgfounder", "ecgfounder-1lead", "ecg-jepa", "ecg-jepa-weimann-base", "ecg-jepa-weimann-small", "ecg-jepa-weimann-xs",
    "hubert-ecg:size=small", "hubert-ecg", "hubert-ecg:size=large", "ked", "ecg-cpc", "ecg-coca", "ecg-fm", "st-mem-base",
    "heartlang", "melp", "merl-resnet18", "merl-vit-tiny", "d-beta", "xecg",
)  # fmt: skip
CELLS = "linear_probe"  # the three tasks of LUDB: what transfers reads twenty times as many records
WORK = Work(mode="forward", batch=4, repeats=3, device="cpu", dtype="float32", threads=1)


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """Return the entry's name and the options behind it: "hubert-ecg:size=small"."""
    entry, _, options = name.partition(":")
    return entry, dict(part.split("=", 1) for part in options.split(",") if part)


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


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Return what a model's run, check and speed came to."""
    entry, options = split_name(name)
    file, board = folder / f"{name.replace(':', '-').replace('=', '-')}.safetensors", folder / "board"
    write_file(name, file)
    run = ["run", "real-sample", "-m", f"{entry}@{file}", "--only", CELLS, "--workers", "1", "--out", str(board)]
    found: dict[str, Any] = {"model": name, "run": timed(run)}
    file.unlink()
    shutil.rmtree(home() / "checkpoints", ignore_errors=True)
    shutil.rmtree(home() / "features", ignore_errors=True)
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    found["check"] = timed(["check", entry, *words])
    speed = in_fresh_process(entry, options, WORK)
    found |= {
        "parameters": speed.parameters,
        "gflops": round(speed.gflops_per_record, 2),
        "records_per_second": round(speed.records_per_second, 2),
    }
    return found


def main(folder: Path, names: list[str]) -> None:
    """Measure each model that is not in the folder's list."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "families.jsonl"
    done = {json.loads(line)["model"] for line in listed.read_text().splitlines()} if listed.exists() else set()
    for name in names or MODELS:
        if name in done:
            continue
        line = json.dumps(measured(name, folder))
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        with listed.open("a") as handle:
            handle.write(line + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
