"""Which column of a table is which: a name that is nearly right is asked about, for a patient must not become a class."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence

import melp_bench as mb
from melp_bench.lead_names import known_lead
from melp_bench.leads import canonical_lead

ROLES: Mapping[str, str] = {
    "record": "records recordname recordid recordno file filename filepath filenamehr filenamelr path header ecgid ecgpath "
    "waveform waveformpath",
    "patient": "patients patientid patientno patientnr patientnumber patientkey patid pid subject subjectid subjectno person "
    "personid participant participantid mrn medicalrecordnumber caseid patientenid patientennummer idpatient",
    "age": "ages ageyears ageyear ageyr ageyrs ageatecg ageatrecording patientage anchorage alter alterjahre edad idade",
    "sex": "gender ismale isfemale male female patientsex patientgender sexatbirth geschlecht sexo sexe",
    "report": "reports reporttext text ecgreport clinicalreport interpretation diagnosis diagnosistext findings "
    "diagnosisreport conclusion conclusions statement statements impression comment comments befund",
    "fold": "folds foldid foldno cvfold kfold stratfold",
}
"""What a column may be, and names that are nearly its own, without case, blanks and signs."""
MALE, FEMALE = ("male", "ismale"), ("female", "isfemale")
"""Names of columns whose 1 says which sex it is."""


def plain(name: str) -> str:
    """Return a column's name without case, blanks and signs."""
    return re.sub(r"[\W_]+", "", name.casefold())


def named_columns(given: Sequence[str]) -> dict[str, str]:
    """Return role -> column as `columns` says it ("patient=patient_id"); a role that is empty behind the sign has no column.

    Raises:
        UserError: one is not of that form, or names no role.
    """
    named: dict[str, str] = {}
    for text in given:
        role, sign, column = (part.strip() for part in text.partition("="))
        if not sign or role not in ROLES or role in named:
            raise mb.UserError(f"column {text!r}; wanted one of {', '.join(ROLES)}, each once, as in patient=patient_id")
        named[role] = column
    return named


def taken_columns(header: Sequence[str], named: Mapping[str, str], classes: Sequence[str], table: str) -> dict[str, str]:
    """Return role -> column for the columns of `header`; `classes` are none of them.

    Raises:
        UserError: a column that was named is not there, or one that was not has nearly a role's name.
    """
    for role, column in named.items():
        if column and column not in header:
            raise mb.UserError(f"{table} has no column {column!r} for {role}; it has {list(header)[:40]}")
    taken = {role: named.get(role, role) for role in ROLES}
    taken = {role: column for role, column in taken.items() if column in header and column not in classes}
    free = [column for column in header if column and column not in (*classes, *taken.values(), *ROLES)]
    near = {column: role for column in free if (role := _near_role(column))}
    hint = _classes([column for column in free if column not in near])
    asked: dict[str, str] = {}
    for column, role in near.items():
        if role not in named and not (classes and role in taken):  # else read by nobody: the role has its column
            asked.setdefault(role, column)
    if asked:
        found = ", ".join(f"{column!r}: is it the {role}?" for role, column in asked.items())
        flags = " ".join(f"--column {shlex.quote(f'{role}={column}')}" for role, column in asked.items())
        raise mb.UserError(
            f"{table} has a column {found} Then {flags}; if one is not, --column {next(iter(asked))}= and {hint}"
        )
    spare = {column: role for column, role in near.items() if role in taken}
    if spare and not classes:
        column, role = next(iter(spare.items()))
        raise mb.UserError(f"{table} has a column {column!r}, and {taken[role]!r} is the {role}; {hint}")
    return taken


def _near_role(column: str) -> str:
    """Return the role whose name is nearly a column's, "" for none."""
    return next((role for role, near in ROLES.items() if plain(column) in (role, *near.split())), "")


def _classes(names: Sequence[str]) -> str:
    """Return how columns are said to be the classes, to be pasted."""
    names = names or ("A", "B")
    plainly = not any("," in name or name.startswith("[") for name in names)
    text = ",".join(names) if plainly else json.dumps(list(names), ensure_ascii=False)
    return f"name the classes: --option {shlex.quote(f'classes={text}')}"


def told_columns(taken: Mapping[str, str], classes: Sequence[str], table: str, nobody: str) -> str:
    """Return which columns were taken for what, as a sentence; `nobody` says who records are of if no column does."""
    roles = ", ".join(role if role == column else f"{role} from {column!r}" for role, column in taken.items())
    lacking = ", ".join(role for role in ROLES if role not in taken)
    alone = f"; {nobody}" if "patient" not in taken else ""
    shown = ", ".join(map(repr, classes[:12])) + (f" and {len(classes) - 12} more" if len(classes) > 12 else "")
    number = {0: "no class", 1: f"class {shown}"}.get(len(classes), f"{len(classes)} classes {shown}")
    return f"{table}: {roles}{f'; no {lacking}' if lacking else ''}{alone}; {number}"


def named_leads(given: Sequence[str]) -> dict[str, str]:
    """Return name -> lead as `leads` says it ("X=V1"), with a minus where its samples are upside down ("R=-aVR").

    Raises:
        UserError: one is not of that form, or comes twice.
    """
    named: dict[str, str] = {}
    for text in given:
        name, sign, lead = (part.strip() for part in text.rpartition("="))
        if not (name and sign) or name in named:
            raise mb.UserError(f"lead {text!r}; wanted the name in the files and the lead that it is, each once, as in X=V1")
        known = known_lead(lead) or (canonical_lead(lead), 1)
        named[name] = known[0] if known[1] > 0 else f"-{known[0]}"
    return named
