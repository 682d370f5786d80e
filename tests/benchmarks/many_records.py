"""A folder in the form of MIMIC-IV-ECG with as many records as wanted, and what `prepare` needs for it, as a line of JSON.

    python many_records.py make FOLDER 800000
    python many_records.py prepare FOLDER STORE

Headers are as many as records, each of its own name (links to one of eight in each folder); samples are one second of lead II
at 100 Hz, in a file that a folder's thousand headers share. So what is measured is what a record costs besides its samples:
800,000 need 0.1 GB of disk and a quarter of an hour of a core. Reports differ.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from melp_bench.signal import LEADS
from melp_bench.store import prepare
from melp_plugins.datasets.mimic_iv_ecg import MIMICIVECG
from melp_plugins.datasets.synthetic import Synthetic

LEAD = "II"
KINDS, IN_A_FOLDER = 8, 1_000
RATE_HZ, SAMPLES, PER_MILLIVOLT = 100, 100, 200


def make(folder: Path, count: int) -> None:
    """Write `count` records below `folder`."""
    corpus = Synthetic(num_records=KINDS, rate_hz=float(RATE_HZ), seconds=10.0)
    row = LEADS.index(LEAD)
    hearts = [corpus.signal(folder, info).millivolts[row, 200 : 200 + SAMPLES] for info in corpus.infos(folder)]
    digital = [np.round(heart * PER_MILLIVOLT).astype("<i2") for heart in hearts]  # (T,) each
    headers = [
        f"made{kind} 1 {RATE_HZ} {SAMPLES}\nshared.dat 16+{kind * samples.nbytes} {PER_MILLIVOLT}(0)/mV 16 0 {samples[0]} "
        f"{int(samples.sum(dtype=np.int64)) & 0xFFFF} 0 {LEAD}\n"
        for kind, samples in enumerate(digital)
    ]
    folder.mkdir(parents=True)
    with (folder / "record_list.csv").open("w") as listed, (folder / "machine_measurements.csv").open("w") as machine:
        listed.write("subject_id,study_id,file_name,ecg_time,path\n")
        machine.write("subject_id,study_id,rr_interval," + ",".join(f"report_{n}" for n in range(18)) + "\n")
        for number in range(count):
            inner = f"files/{number // IN_A_FOLDER:04d}"
            if number % IN_A_FOLDER == 0:
                (folder / inner).mkdir(parents=True)
                (folder / inner / "shared.dat").write_bytes(b"".join(samples.tobytes() for samples in digital))
                for kind, text in enumerate(headers):
                    (folder / inner / f"made{kind}").write_text(text)
            study, patient = 40_000_000 + number, 10_000_000 + number // 5
            os.link(f"{folder}/{inner}/made{number % KINDS}", f"{folder}/{inner}/{study}.hea")
            listed.write(f"{patient},{study},{study},2180-07-23,{inner}/{study}\n")
            lines = ["Sinus rhythm", f"PR interval {120 + number % 97} ms", "Left axis deviation", "Abnormal ECG"]
            machine.write(f"{patient},{study},{600 + number % 500},{','.join(lines)}{',' * 14}\n")


def measure(folder: Path, root: Path) -> dict[str, object]:
    """Return what preparing `folder` to `root` by one process takes: seconds, of its parts too, and the peak of memory."""
    times: list[tuple[int, float]] = []
    began, imported = time.perf_counter(), peak_mb()
    before = time.process_time()

    def progress(done: int, total: int) -> None:
        times.append((done, time.process_time()))
        if len(times) % 80 == 1:  # for who watches a long run
            print(f"{done:,} of {total:,}, {times[-1][1] - before:.0f} s of CPU, {peak_mb()} MB", file=sys.stderr)  # noqa: T201

    store = prepare(MIMICIVECG(), name="many", source=folder, root=root, workers=1, progress=progress)
    first, last = times[0], times[-1]
    tenths = [times[place] for place in np.linspace(0, len(times) - 1, 11).astype(int).tolist()]
    return {
        "records": len(store),
        "quarantined": sum(store.manifest.quarantined.values()),
        "wall_s": round(time.perf_counter() - began, 1),
        "listed_cpu_s": round(first[1] - before, 1),
        "read_cpu_s": round(last[1] - first[1], 1),
        "joined_cpu_s": round(time.process_time() - last[1], 1),
        "ms_per_record_by_tenth": [
            round(1000 * (after[1] - one[1]) / max(1, after[0] - one[0]), 3) for one, after in pairwise(tenths)
        ],
        "peak_mb": peak_mb(),
        "peak_before_mb": imported,
        "store_mb": round(sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6),
    }


def peak_mb() -> int:
    """Return the most memory this process has had, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


if __name__ == "__main__":
    what, place, *more = sys.argv[1:]
    if what == "make":
        make(Path(place), int(more[0]))
    else:
        print(json.dumps(measure(Path(place), Path(more[0]))))  # noqa: T201
