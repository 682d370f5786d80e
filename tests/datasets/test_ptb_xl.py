"""PTB-XL: the table as published, and every way in which a copy of it is not."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import wfdb
from rich.console import Console

from melp_bench.cli.census import print_census
from melp_bench.errors import UserError
from melp_bench.signal import LEADS
from melp_bench.store import Store, prepare
from melp_bench.store.record_list import list_records
from melp_plugins.datasets.ptb_xl import PTBXL

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
needs_records = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ptb-xl/")
SOURCE = Path(REAL or "") / "ptb-xl"
ROW = {
    "ecg_id": "1",
    "patient_id": "15709.0",
    "age": "56.0",
    "sex": "1",
    "report": "sinusrhythmus",
    "scp_codes": "{'NORM': 100.0, 'SR': 0.0}",
    "strat_fold": "3",
    "filename_hr": "records500/00000/00001_hr",
    "filename_lr": "records100/00000/00001_lr",
}


def source(folder: Path, *rows: dict[str, str]) -> Path:
    """Return a source whose records are made; each row changes the published first one."""
    table = [ROW | {"ecg_id": str(n + 1)} | row for n, row in enumerate(rows)]
    with (folder / "ptbxl_database.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerows(table)
    rng = np.random.default_rng(0)
    for directory, name, rate in (("records500", "00001_hr", 500), ("records100", "00001_lr", 100)):
        place = folder / directory / "00000"
        place.mkdir(parents=True, exist_ok=True)
        wfdb.wrsamp(name, rate, ["mV"] * 12, list(LEADS), rng.integers(-999, 999, (rate * 10, 12)) / 1000.0, fmt=["16"] * 12,
                    adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(place))  # fmt: skip
    return folder


def make(folder: Path, **options: int) -> Store:
    return prepare(PTBXL(**options), name="ptb-xl", source=folder, root=folder / "store")


@pytest.mark.parametrize("rate", [500, 100])
def test_the_option_rate_chooses_the_files(rate: int, tmp_path: Path) -> None:
    store = make(source(tmp_path, {}), rate=rate)
    assert store.rates_hz.tolist() == [rate]
    assert store.num_samples.tolist() == [10 * rate]


def test_a_row_becomes_a_record(tmp_path: Path) -> None:
    store = make(source(tmp_path, {}, {"age": "300.0", "sex": "0", "patient_id": "", "strat_fold": "10", "scp_codes": "{}"}))
    assert store.record_ids.tolist() == ["1", "2"]
    assert store.patient_ids.tolist() == ["15709", "2"]
    assert store.ages.tolist() == [56.0, 90.0]
    assert store.sexes.tolist() == ["F", "M"]
    assert store.folds.tolist() == [3, 10]
    assert store.reports[0] == "sinusrhythmus"
    assert store.statements == [frozenset({"NORM", "SR"}), frozenset()]
    assert store.labels("super")[:, store.task("super").classes.index("NORM")].tolist() == [True, False]
    assert store.eligible("super").tolist() == [True, False]


def test_a_statement_counts_whatever_its_likelihood(tmp_path: Path) -> None:
    store = make(source(tmp_path, {"scp_codes": "{'IMI': 0.0}"}))
    assert store.labels("super")[0, store.task("super").classes.index("MI")]


def test_a_record_whose_file_is_not_here_is_quarantined(tmp_path: Path) -> None:
    store = make(source(tmp_path, {}, {"filename_hr": "records500/00000/00002_hr"}, {"filename_hr": ""}))
    assert store.manifest.quarantined == {"missing-file": 2}


def test_a_file_name_out_of_the_source_is_quarantined(tmp_path: Path) -> None:
    store = make(source(tmp_path, {}, {"filename_hr": "records500/../../x"}, {"filename_hr": "/etc/passwd"}))
    assert store.manifest.quarantined == {"unsafe-path": 2}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"scp_codes": "__import__('os').system('true')"}, "scp_codes"),
        ({"scp_codes": "['NORM']"}, "scp_codes"),
        ({"scp_codes": "{1: 2}"}, "scp_codes"),
        ({"scp_codes": "(" * 5000}, "scp_codes"),
        ({"age": "old"}, "age is 'old'"),
        ({"strat_fold": ""}, "lacks ecg_id or strat_fold"),
        ({"strat_fold": "11"}, "fold 11"),
    ],
)
def test_a_cell_that_is_not_what_it_should_be_is_named(row: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as error:
        make(source(tmp_path, row))
    assert "\n" not in str(error.value)


def test_a_patient_in_two_folds_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="patient '15709' is in the folds 3 and 4"):
        make(source(tmp_path, {}, {"strat_fold": "4"}))


def test_a_table_without_a_column_names_what_it_has_and_what_it_lacks(tmp_path: Path) -> None:
    table = source(tmp_path, {}) / "ptbxl_database.csv"
    table.write_text(table.read_text().replace("scp_codes", "codes"))
    with pytest.raises(UserError, match=r"lacks the columns \['scp_codes'\]; it has .*'codes'"):
        make(tmp_path)


def test_a_folder_without_the_table_and_a_rate_without_files_are_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*ptbxl_database.csv"):
        make(tmp_path)
    with pytest.raises(UserError, match="no files at rate=250"):
        PTBXL(rate=250)


@needs_records
def test_the_published_records_are_read_with_their_folds_and_plausible_millivolts(tmp_path: Path) -> None:
    store = prepare(PTBXL(), name="ptb-xl", source=SOURCE, root=tmp_path / "store")
    assert len(store) == 50
    assert store.manifest.has_official_folds
    assert store.patient_ids[0] == "15709"
    assert store.folds[0] == 3
    for position in (0, 20, 49):
        largest = np.abs(store.signal(position).millivolts).max()
        assert 0.2 < largest < 20
        one, two, three = store.signal(position).millivolts[:3]
        assert np.abs(two - one - three).max() < 0.01  # Einthoven, to the rounding of the published files


@pytest.mark.parametrize(
    ("count", "logs", "release"),
    [(3, (), ""), (3, ("102",), "1.0.2"), (3, ("102", "103"), "1.0.3"), (21_837, (), "1.0.1"), (21_801, (), "1.0.2")],
)
def test_the_release_is_what_the_files_say(count: int, logs: tuple[str, ...], release: str, tmp_path: Path) -> None:
    """Every copy was said to be of release 1.0.3."""
    table = source(tmp_path, {}) / "ptbxl_database.csv"
    header, row = table.read_text().splitlines()
    table.write_text("\n".join([header, *(f"{n},{row.partition(',')[2]}" for n in range(count))]))
    for log in logs:
        (tmp_path / f"ptbxl_v{log}_changelog.txt").touch()
    dataset = PTBXL()
    infos, told = list_records(dataset, tmp_path)
    assert (len(infos), dataset.release) == (count, release)
    assert any(f"these files are PTB-XL {release};" in line for line in told) == (release not in ("", "1.0.3"))


def test_the_release_is_kept_and_shown_and_a_part_says_how_much_of_the_whole_it_is(tmp_path: Path) -> None:
    told: list[str] = []
    (source(tmp_path, {}) / "ptbxl_v102_changelog.txt").touch()
    store = prepare(PTBXL(), name="ptb-xl", source=tmp_path, root=tmp_path / "store", tell=told.append)
    assert store.manifest.release == "1.0.2"
    assert "1 of 21,799 records that this release has" in told
    console = Console(record=True, width=100)
    print_census(console, store)
    assert "ptb-xl 1.0.2 · measured" in console.export_text()
