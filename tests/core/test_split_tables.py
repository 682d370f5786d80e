"""Splits that others publish as CSV, read by record id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from melp_bench.errors import UserError
from melp_bench.protocol import Protocol, load_protocol
from melp_bench.runs.tasks import task_split
from melp_bench.split_tables import read_split
from melp_bench.splits import ListedSplit

IDS = np.array([f"{i}" for i in range(1, 11)])
PATIENTS = np.array([f"p{i}" for i in range(1, 11)])


def parts(split: ListedSplit) -> list[list[str]]:
    (one,) = split.parts(IDS, PATIENTS, np.ones(10, dtype=np.int64))
    return [IDS[positions].tolist() for positions in (one.train, one.validation, one.test)]


def written(path: Path, *lines: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_parts_stand_before_folds_and_records_that_are_not_valid_are_in_none(tmp_path: Path) -> None:
    rows = ["1,a,1,train,True", "2,b,2,val,True", "3,c,3,test,True", "4,d,3,test,False", "99,z,1,train,"]
    split = read_split(written(tmp_path / "folds.csv", "record_id,patient_id,fold,default_split,is_valid", *rows))
    assert parts(split) == [["1"], ["2"], ["3"]]


def test_folds_in_a_folder_of_files_as_ecgbench_has_them_of_ptb_xl(tmp_path: Path) -> None:
    for fold in range(1, 11):
        part = "test" if fold == 10 else "val" if fold == 9 else "train"
        header = "filename_100,ecg_id,patient_id,report,strat_fold"
        written(tmp_path / part / f"fold_{fold}.csv", header, f'records100/{fold},{fold},18792.0,"a, ""b""",{fold}')
    assert parts(read_split(str(tmp_path))) == [[str(i) for i in range(1, 9)], ["9"], ["10"]]


def test_its_identity_is_what_it_lists_and_not_where_or_in_which_order(tmp_path: Path) -> None:
    head, rows = "record_id,split", ["1,train", "2,validation", "3,test"]
    one = read_split(written(tmp_path / "a.csv", head, *rows)).identity
    assert read_split(written(tmp_path / "b" / "c.csv", "\ufeff" + head, *reversed(rows))).identity == one
    assert read_split(written(tmp_path / "d.csv", head, "1,train", "2,validation", "4,test")).identity != one


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["record_id,age", "1,2"], "has the columns record_id, age; wanted one of record_id"),
        (["id,split", "1,test"], "has the columns id, split; wanted"),
        (["record_id,split", "1,train", "1,test", "2,val"], "record '1' is in train and in test"),
        (["record_id,split", "1,trian"], "line 2: no record id, or neither a part nor a fold"),
        (["record_id,split", ",train"], "line 2: no record id"),
        (["record_id,fold", "1,x"], "line 2"),
        (["record_id,split", "1,train", "2,val"], "has no record in test"),
    ],
)
def test_what_is_no_split_is_refused_in_a_line(lines: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told) as caught:
        read_split(written(tmp_path / "x.csv", *lines))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_split(str(tmp_path / "none.csv"))
    with pytest.raises(UserError, match="no CSV file below"):
        read_split(str(tmp_path))


PROTOCOL = """
name = "listed"
revision = 1
summary = ""
[datasets.d]
dataset = "synthetic"
split = "listed"
split_file = "folds.csv"
[[evaluations]]
name = "linear_probe"
tasks = ["d/super"]
"""


def test_a_protocol_reads_it_from_beside_its_own_file_and_a_path_is_in_no_hash(tmp_path: Path) -> None:
    hashes = []
    for folder in ("one", "two"):
        file = written(tmp_path / folder / "p.toml", PROTOCOL)
        written(tmp_path / folder / "folds.csv", "record_id,split", "1,train", "2,val", "3,test")
        protocol = load_protocol(file)
        hashes.append(protocol.hash)
        assert parts(task_split("d/super", protocol, {})) == [["1"], ["2"], ["3"]]  # type: ignore[arg-type]
    assert hashes[0] == hashes[1]
    bare = protocol.model_copy(update={"datasets": {"d": protocol.datasets["d"].model_copy(update={"split_file": ""})}})
    with pytest.raises(UserError, match="no split_file"):
        task_split("d/super", bare, {})


def test_nobody_pretrains_on_records_that_a_list_may_test(tmp_path: Path) -> None:
    data = load_protocol(written(tmp_path / "p.toml", PROTOCOL)).model_dump()
    with pytest.raises(ValidationError, match="listed test records are not its own folds'"):
        Protocol.model_validate(data | {"pretrain": {"dataset": "d", "steps": 1}})
    data["datasets"]["d"] |= {"split": "holdout", "split_file": "x.csv"}
    with pytest.raises(ValidationError, match="which split = 'listed' reads"):
        Protocol.model_validate(data)
