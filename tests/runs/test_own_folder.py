"""A hospital's folder of records with a table of labels, from the command line to rows, whatever leads it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.cli import _run
from melp_bench.plugins import Catalogue, discover
from melp_bench.results import ResultRecord, read_results
from melp_plugins.datasets.synthetic import Synthetic

EIGHT = ("I", "II", *mb.LEADS[6:])
PROTOCOL = """
name = "hospital"
revision = 1
summary = "our own records"
models = ["random-init"]

[datasets.ours]
dataset = "wfdb-folder"
split = "cross-validate"

[pretrain]
dataset = "ours"
steps = 2

[interval]
resamples = 10

[[evaluations]]
name = "linear_probe"
tasks = ["ours/all"]
options = { fractions = [1.0], seeds = [0], epochs = 2 }

[[evaluations]]
name = "knn"
tasks = ["ours/all"]
"""


class OneLead(mb.ECGEncoder):
    """Reads lead II alone."""

    width = 8

    def __init__(self, *, missing: str = "derive") -> None:
        super().__init__()
        leads = ("II",) if missing == "derive" else mb.LEADS
        self.spec = mb.SignalSpec(rate_hz=100.0, seconds=5.0, leads=leads, missing_leads=missing)  # type: ignore[arg-type]
        self.layer = nn.Conv1d(len(leads), self.width, 25, 25)

    def forward(self, signal: Tensor) -> mb.Features:
        tokens = self.layer(signal).transpose(1, 2)
        return mb.Features(record=tokens.mean(dim=1), embedding=tokens.mean(dim=1), tokens=tokens)


class Hospital:
    """A folder of native records with the leads `leads`, a protocol that names it, and a command line with its own home."""

    def __init__(self, folder: Path, leads: tuple[str, ...], records: int = 40) -> None:
        self.folder, self.source, made = folder, folder / "records", Synthetic(num_records=records, seed=3)
        self.source.mkdir(parents=True)
        lines = ["record;patient;sinus;other rhythm"]
        for number, info in enumerate(made.infos(folder)):
            signal = made.signal(folder, info)
            millivolts = signal.millivolts[[signal.leads.index(lead) for lead in leads]].T.astype(np.float64)
            wfdb.wrsamp(f"r{number}", int(signal.rate_hz), ["mV"] * len(leads), list(leads), millivolts,
                        fmt=["16"] * len(leads), write_dir=str(self.source))  # fmt: skip
            lines.append(f"r{number};{info.patient_id};{int(number % 3 > 0)};{int(number % 3 == 0)}")
        (self.source / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "hospital.toml").write_text(PROTOCOL, encoding="utf-8")

    def call(self, *words: str) -> int:
        return _run([*words, "--workers", "1"], verbose=False)

    def prepare(self) -> int:
        return self.call("data", "prepare", "wfdb-folder", "--from", str(self.source))

    def run(self, *more: str) -> int:
        return self.call("run", str(self.folder / "hospital.toml"), "--device", "cpu", *more)

    def rows(self) -> dict[tuple[str, str], ResultRecord]:
        found = read_results(self.folder / "home" / "leaderboard" / "results")
        return {(row.model, row.evaluation): row for row in found}


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[str, ...]], Hospital]:
    """Return what makes a hospital; its catalogue has encoders of one lead besides those that are installed."""
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))

    def more() -> Catalogue:
        catalogue = discover()
        for name, missing in (("one-lead", "derive"), ("zero-filled", "zero")):
            build = OneLead if missing == "derive" else ZeroFilled
            catalogue.ecg_encoders.add(mb.Entry(name=name, build=build, summary="", plugin="melp-bench-test"))
        return catalogue

    monkeypatch.setattr("melp_bench.plugins.discover", more)
    return lambda leads: Hospital(tmp_path, leads)


class ZeroFilled(OneLead):
    """Wants twelve leads and takes zeros for those that are not there."""

    def __init__(self) -> None:
        super().__init__(missing="zero")


def test_a_folder_is_prepared_and_scored_without_a_line_of_python(
    hospital: Callable[[tuple[str, ...]], Hospital], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = hospital(mb.LEADS)
    assert ours.run("--dry-run", "--set", "encoder.layers=1") == 0
    assert "corpus ours is not there; first: melp-bench data prepare wfdb-folder --from DIR" in capsys.readouterr().out
    assert ours.run("--set", "encoder.layers=1") == 2
    assert "run: melp-bench data prepare wfdb-folder --from DIR" in capsys.readouterr().err
    assert ours.prepare() == 0
    assert ours.run("--set", "encoder.layers=1") == 0
    rows = ours.rows()
    assert [evaluation for _, evaluation in sorted(rows)] == ["knn", "linear_probe"]
    for row in rows.values():
        assert row.outcome is not None
        assert [one.name for one in row.outcome.classes] == ["sinus", "other rhythm"]
        assert [one.positives for one in row.outcome.classes] == [26, 14]
        assert row.inputs.tasks["ours/all"]["split"] == "cross-validate"
        assert not row.generated


def test_eight_leads_are_enough_for_an_encoder_of_twelve(hospital: Callable[[tuple[str, ...]], Hospital]) -> None:
    ours = hospital(EIGHT)
    assert ours.prepare() == 0
    assert ours.run("--set", "encoder.layers=1") == 0
    assert {row.status for row in ours.rows().values()} == {"scored"}


def test_one_lead_is_scored_where_an_encoder_takes_it_and_refused_in_one_line_where_not(
    hospital: Callable[[tuple[str, ...]], Hospital], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = hospital(("II",))
    assert ours.prepare() == 0
    models = ["--model", "random-init+one-lead", "--model", "random-init+zero-filled", "--model", "random-init"]
    assert ours.run(*models) == 0
    rows = ours.rows()
    assert "Traceback" not in capsys.readouterr().out
    scored = {model for (model, _), row in rows.items() if row.status == "scored"}
    assert scored == {model for model, _ in rows} - {"random-init"}
    assert len(scored) == 2
    for evaluation in ("linear_probe", "knn"):
        row = rows["random-init", evaluation]
        assert row.status == "not-applicable"
        assert row.reason.startswith("record 'r0' of 'wfdb-folder' and 39 others: leads I, III, aVR, aVL, aVF, V1")
        assert "cannot be derived from II" in row.reason
        assert "\n" not in row.reason
