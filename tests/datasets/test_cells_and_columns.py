"""Tables as people have them: words for nothing, near names of columns, ages and sexes in the spellings that are met."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import wfdb

from melp_bench.errors import UserError
from melp_bench.records import NOT_STATED
from melp_bench.store import prepare
from melp_bench.store.record_list import list_records
from melp_plugins.datasets.cells import sex, years
from melp_plugins.datasets.columns import ROLES
from melp_plugins.datasets.wfdb_folder import WFDBFolder, melp_datasets

WORDS = ("nan", "NaN", "None", "NULL", "N/A", "NA", "-", "unknown")


def table(root: Path, text: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "labels.csv").write_text(text, encoding="utf-8")
    return root


def listed(root: Path, text: str, **options: tuple[str, ...]) -> tuple[list, list[str]]:
    return list_records(WFDBFolder(**options), table(root, text))  # type: ignore[arg-type]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_for_nothing_is_no_patient_and_no_report(word: str, tmp_path: Path) -> None:
    """All records with such a word were one person, in one fold, and the word was pretrained on."""
    infos, _ = listed(
        tmp_path, f"record,patient,report,age,sex,AF\n1,{word},{word},{word},{word},{word}\n2,p,Sinus rhythm.,,,1\n"
    )
    first, second = infos
    assert (first.patient_id, first.report, first.age, first.sex, first.statements) == (None, "", None, None, frozenset())
    assert (second.patient_id, second.report) == ("p", "Sinus rhythm.")
    assert word.casefold() in NOT_STATED


def test_ids_that_a_spreadsheet_shortened_are_refused(tmp_path: Path) -> None:
    """Sixty patients of one shortened number were one."""
    for shortened in ("1.23457E+11", '"1,23457E+11"', "1E+11"):
        with pytest.raises(UserError, match="a number that a spreadsheet shortened"):
            listed(tmp_path, f"record,patient,AF\n1,{shortened},1\n2,7,0\n")


def test_a_decimal_behind_an_id_is_dropped_and_said(tmp_path: Path) -> None:
    """`12.0` and `12` were two patients, on both sides of a split."""
    infos, told = listed(tmp_path, "record,patient,AF\n1,12.0,1\n2,12,0\n3,12.5,0\n")
    assert [info.patient_id for info in infos] == ["12", "12", "12.5"]
    assert "patient ids with a decimal: 1, '12.0' for one; read without it" in told


def test_a_patient_of_most_records_is_told(tmp_path: Path) -> None:
    rows = "".join(f"{n},{'ward 3' if n < 40 else n},1\n" for n in range(60))
    _, told = listed(tmp_path, f"record,patient,AF\n{rows}")
    assert "patient 'ward 3' has 40 of 60 records; is it one person?" in told


NEAR = ["patient_id", "subject_id", "Patient ID", "Sex", "is_male", "Gender", "age_years", "Age", "report_text", "Fold"]


@pytest.mark.parametrize("column", NEAR)
@pytest.mark.parametrize("classes", [(), ("AF",)])
def test_a_near_name_is_asked_about_and_the_hint_answers(column: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    """Such a column was a class that was scored, or left out: each patient's records fell on both sides of a split."""
    text = f"record,{column},AF\n1,1,1\n2,1,0\n"
    with pytest.raises(UserError, match=f"has a column '{column}': is it the") as refused:
        listed(tmp_path, text, classes=classes)
    hint = shlex.split(str(refused.value).partition("Then ")[2].partition("; ")[0])
    assert hint[0] == "--column"
    infos, told = listed(tmp_path, text, classes=classes, columns=(hint[1],))
    role = hint[1].partition("=")[0]
    assert {"patient": infos[0].patient_id, "age": infos[0].age, "fold": infos[0].fold, "report": infos[0].report}.get(role, 1)
    assert f"{role} from {column!r}" in told[0]
    assert told[0].endswith("class 'AF'")


def test_all_near_names_are_asked_about_at_once_and_what_is_printed_can_be_pasted(tmp_path: Path) -> None:
    """They were asked about one by one, and `classes=A,B` stood for the classes."""
    text = 'record,Patient ID,Sex,AF,"long QT, corrected"\n1,7,W,1,0\n2,8,M,0,1\n'
    with pytest.raises(UserError) as refused:
        listed(tmp_path, text)
    said = str(refused.value)
    hint = shlex.split(said.partition("Then ")[2].partition("; ")[0])
    infos, _ = listed(tmp_path, text, columns=tuple(hint[1::2]))
    assert [(info.patient_id, info.sex) for info in infos] == [("7", "F"), ("8", "M")]
    option = shlex.split(said)[-1]
    entry = melp_datasets()[0]
    options = entry.resolve({"classes": option.removeprefix("classes="), "columns": ("patient=", "sex=")})
    assert options["classes"] == ("AF", "long QT, corrected")
    assert [info.patient_id for info in listed(tmp_path, text, **options)[0]] == [None, None]


def test_a_second_near_name_of_a_role_is_no_class(tmp_path: Path) -> None:
    """With `sex=Sex`, `is_male` became a class that is scored."""
    text = "record,Sex,is_male,AF\n1,W,0,1\n2,M,1,0\n"
    with pytest.raises(UserError, match=r"a column 'is_male', and 'Sex' is the sex; .*: --option classes=AF$"):
        listed(tmp_path, text, columns=("sex=Sex",))
    infos, told = listed(tmp_path, text, columns=("sex=Sex",), classes=("AF",))
    assert ([info.sex for info in infos], told[0].rpartition("; ")[2]) == (["F", "M"], "class 'AF'")


def test_a_near_name_may_be_a_class_or_nothing(tmp_path: Path) -> None:
    text = "record,male,AF\n1,1,1\n2,0,0\n"
    infos, _ = listed(tmp_path, text, classes=("male", "AF"))
    assert infos[0].statements == {"male", "AF"}
    infos, _ = listed(tmp_path, text, classes=("AF",), columns=("sex=",))
    assert (infos[0].statements, infos[0].sex) == ({"AF"}, None)


def test_columns_that_are_named_wrongly_are_told(tmp_path: Path) -> None:
    wrong = {"patient": "wanted one of record, patient", "patinet=x": "wanted one of", "patient=x": "no column 'x'"}
    for given, said in wrong.items():
        with pytest.raises(UserError, match=said):
            listed(tmp_path, "record,AF\n1,1\n", columns=(given,))


def test_a_column_says_which_sex_its_one_is(tmp_path: Path) -> None:
    for column, sexes in (("is_male", ["M", "F", None]), ("female", ["F", "M", None])):
        infos, _ = listed(tmp_path, f"record,{column},AF\n1,1,1\n2,0,0\n3,,0\n", columns=(f"sex={column}",))
        assert [info.sex for info in infos] == sexes


@pytest.mark.parametrize(
    ("cell", "age"),
    [("054Y", 54), ("54 y", 54), ("54y", 54), ("7.5 yr", 7.5), ("16 mo", 16 / 12), ("016M", 16 / 12), ("50,5", 50.5),
     ("63 Jahre", 63), ("10 days", 10 / 365.25), ("003W", 21 / 365.25), (">89", 90), ("90+", 90), ("16M", None),
     ("54 of 60", None), ("300", None)],
)  # fmt: skip
def test_an_age_is_read_where_it_has_one_meaning(cell: str, age: float | None) -> None:
    """Only a bare number was read, and all else dropped without a word."""
    assert years(cell) == (age if age is None else pytest.approx(age))


@pytest.mark.parametrize(
    ("cell", "said"), [("W", "F"), ("weiblich", "F"), ("Männlich", "M"), ("0", None), ("1", None), ("H", None)]
)
def test_a_sex_is_read_where_it_has_one_meaning(cell: str, said: str | None) -> None:
    assert sex(cell) == said


def test_cells_that_are_not_understood_are_counted_and_shown(tmp_path: Path) -> None:
    _, told = listed(tmp_path, "record,age,sex,AF\n1,old,1,1\n2,old,0,0\n3,16M,1,unknown\n")
    assert set(told[1:]) == {
        "AF: 1 cells ('unknown' 1) not understood and left out",
        "age: 3 cells ('old' 2, '16M' 1) not understood and left out",
        "sex: 3 cells ('1' 2, '0' 1) not understood and left out",
    }


def test_roles_do_not_share_a_near_name() -> None:
    words = [word for near in ROLES.values() for word in near.split()]
    assert len(words) == len(set(words))


def test_what_columns_were_taken_for_is_told_before_a_record_is_read(tmp_path: Path) -> None:
    wfdb.wrsamp(
        "1", 500, ["mV"], ["X"], np.random.default_rng(0).normal(0, 0.3, (2000, 1)), fmt=["16"], write_dir=str(tmp_path)
    )
    told: list[str] = []
    source = table(tmp_path, "record,Patient ID,AF\n1,7,1\n")
    dataset = WFDBFolder(columns=("patient=Patient ID",), leads=("X=V1",))
    store = prepare(dataset, name="wfdb-folder", source=source, root=tmp_path / "s", tell=told.append)
    assert told == ["labels.csv: record, patient from 'Patient ID'; no age, sex, report, fold; class 'AF'"]
    assert store.leads == [("V1",)]


@pytest.mark.parametrize("given", [("X",), ("=V1",), ("X=V1", "X=V2")])
def test_a_lead_that_is_named_wrongly_is_told(given: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="wanted the name in the files and the lead that it is, each once"):
        WFDBFolder(leads=given)


def test_a_table_without_a_row_is_told(tmp_path: Path) -> None:
    source = table(tmp_path / "in", "record,AF\n")
    with pytest.raises(UserError, match="'wfdb-folder' lists no record in this source"):
        prepare(WFDBFolder(), name="wfdb-folder", source=source, root=tmp_path / "s")
