"""A result: one JSON file per row, named by the SHA-256 of its canonical inputs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from melp_bench.canonical import digest
from melp_bench.errors import UserError
from melp_bench.home import TEMPORARY, atomic_write, make_folder

SCHEMA = 2
ROW_NAME = re.compile(r"[0-9a-f]{64}\.json")

logger = logging.getLogger(__name__)
Tell = Callable[[str], object]


class Interval(BaseModel):
    """A bootstrap over patients, see `metrics.intervals`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: float = Field(default=0.95, gt=0, lt=1)
    resamples: int = Field(default=1000, ge=1)
    seed: int = Field(default=0, ge=0)


class Score(BaseModel):
    """A number and its interval."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    low: float
    high: float


class MetricLabel(BaseModel):
    """How a metric is read, so that a board needs to know none; a bound is None where there is no end."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    label: str
    higher_is_better: bool = True
    bounds: tuple[float | None, float | None] = (0.0, 1.0)


class ClassScore(BaseModel):
    """One class of a task: its support, and its scores by metric; a metric that cannot be measured of it is left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    positives: int
    records: int
    scores: dict[str, Score] = Field(default_factory=dict)


class Resamples(BaseModel):
    """The primary metric on every resample, for paired differences with rows of the same origin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: str  # digest of the records, labels, classes and draws that were resampled, and of the metric
    values: str  # base64 of little-endian float32; NaN where a resample does not define the metric


class Outcome(BaseModel):
    """The scores of a row: macro means and classes by metric, and what a reader may want to know beside them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scores: dict[str, Score]  # by metric: macro means over the classes of which it can be measured
    metrics: dict[str, MetricLabel]  # of every metric that was asked for, in order
    primary: str  # the metric that ranks; always among the scores
    classes: list[ClassScore] = Field(default_factory=list)
    excluded: list[str] = Field(default_factory=list)  # classes without a positive (or a negative): in no macro mean
    rare: list[str] = Field(default_factory=list)  # classes with fewer than 10 positives: marked
    not_measured: dict[str, str] = Field(default_factory=dict)  # metric -> why it has no score here
    resamples: Resamples | None = None
    details: dict[str, Any] = Field(default_factory=dict)  # plain JSON: subset sizes, seed spread, chosen epoch

    @model_validator(mode="after")
    def _is_labelled(self) -> Outcome:
        unknown = sorted({*self.scores, *self.not_measured, *(m for c in self.classes for m in c.scores)} - set(self.metrics))
        if unknown or self.primary not in self.scores:
            raise ValueError(
                f"primary is {self.primary!r}, scores are {sorted(self.scores)}, and {unknown or 'none'} have no label; "
                "wanted a score of the primary metric, and a label for every metric"
            )
        return self


class Inputs(BaseModel):
    """Everything a row's number depends on, and nothing of its neighbours; its digest is the row's key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: dict[str, Any]  # recipe, pretraining data and seed, or the digest of a checkpoint
    evaluation: dict[str, Any]  # name, options of this row, metrics with their options
    task: str  # "synthetic/super"
    tasks: dict[str, Any]  # "alias/task" -> digests of its labels and its split, and of its prompts where they are read
    datasets: dict[str, str]  # alias -> fingerprint
    interval: dict[str, Any]
    code: dict[str, str] = Field(default_factory=dict)  # component -> digest of its source
    versions: dict[str, int] = Field(default_factory=dict)  # of the evaluation, and of the host's parts that move numbers

    @property
    def key(self) -> str:
        """The SHA-256 of the canonical inputs."""
        return digest(self.model_dump(mode="json"))

    @property
    def pretraining_seed(self) -> int | None:
        """The seed that the model was pretrained by; None where the row does not know it."""
        seed = self.model.get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def method(self) -> dict[str, Any]:
        """What the model is, whatever seed it was pretrained by: equal for rows that differ by that alone."""
        kept = {name: value for name, value in self.model.items() if name != "seed"}
        budget = kept.get("budget")
        if isinstance(budget, dict):
            kept["budget"] = {name: value for name, value in budget.items() if name != "seed"}
        return kept

    @property
    def but_for_code(self) -> str:
        """The SHA-256 of what was measured, whatever code measured it: equal for a row and what supersedes it."""
        return digest(self.model_dump(mode="json", exclude={"code", "versions"}))


class Submission(BaseModel):
    """Where a row that was not made here comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str  # SHA-256 of the file that it came in
    accepted: str  # ISO 8601, UTC


class ResultRecord(BaseModel):
    """One row."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA
    key: str
    inputs: Inputs
    protocol: str  # name
    protocol_revision: int
    protocol_hash: str  # decides the table; not in the key
    model: str  # the name a reader sees
    evaluation: str
    evaluation_label: str = ""  # what boards call it
    evaluation_version: int
    order: int = 0  # its place among the protocol's rows
    task: str
    setting: str = ""  # what tells rows of one evaluation apart, "1 %" for a probe
    generated: bool  # True for synthetic records: never ranked with real ones
    status: Literal["scored", "not-applicable"]
    reason: str = ""
    outcome: Outcome | None = None
    facts: dict[str, Any] = Field(default_factory=dict)  # of the model: parameters, corpora, pretraining records ...
    environment: dict[str, str] = Field(default_factory=dict)
    created: str = ""  # ISO 8601, UTC
    current_since: str = ""  # ISO 8601, UTC: of rows that differ by code alone, the latest is current
    seconds: float = 0.0
    predictions: str = ""  # SHA-256 that names the file of its predictions; empty where none were kept
    submitted: Submission | None = None  # None of a row that was made here

    @property
    def tier(self) -> Literal["re-run", "verified"]:
        """How far the row is to be trusted: made here, or sent, and its scores recomputed here from its predictions."""
        return "re-run" if self.submitted is None else "verified"

    @property
    def cell(self) -> str:
        """What the row is, as a reader says it: "melp · ptb-xl/super · linear_probe 1 %"."""
        return " · ".join(text for text in (self.model, self.task, f"{self.evaluation} {self.setting}".strip()) if text)


def current(records: Iterable[ResultRecord]) -> tuple[list[ResultRecord], list[ResultRecord]]:
    """Return the rows made by the code that was planned last, and those that it superseded, both in the order given.

    Rows that measure the same and differ by code alone stand for one number: the one that was made, or planned again, last.
    """
    given = list(records)
    latest: dict[str, tuple[str, str]] = {}
    for record in given:
        measured = record.inputs.but_for_code
        latest[measured] = max(latest.get(measured, ("", "")), (record.current_since or record.created, record.key))
    kept = [latest[record.inputs.but_for_code][1] == record.key for record in given]
    return (
        [record for record, is_current in zip(given, kept, strict=True) if is_current],
        [record for record, is_current in zip(given, kept, strict=True) if not is_current],
    )


def write_result(record: ResultRecord, folder: Path) -> Path:
    """Write the row to `folder`/<protocol>/<key>.json, whole or not at all, and return its path."""
    path = make_folder(folder / record.protocol) / f"{record.key}.json"
    atomic_write(path, record.model_dump_json(indent=1) + "\n")
    return path


def read_results(folder: Path, tell: Tell = logger.warning) -> Iterator[ResultRecord]:
    """Yield every row below `folder`, by path.

    What is no row is left out, and told in a line: a file with a row's name that is damaged or was edited, and, passed over,
    one that no row has the name of, such as what a file manager or a synchronised folder leaves there.
    """
    for path in sorted(folder.rglob("*.json")):
        if not is_row_name(path, folder):
            if not path.name.startswith(TEMPORARY):
                tell(f"passed over {str(path)!r}: no row is named so")
            continue
        try:
            record = read_result(path)
        except UserError as error:
            tell(f"left out: {error}")
            continue
        yield record


def is_row_name(path: Path, folder: Path) -> bool:
    """Return whether the file `path` below `folder` is named as rows are, and is in no hidden folder."""
    inside = path.relative_to(folder).parts
    return ROW_NAME.fullmatch(path.name) is not None and not any(part.startswith(".") for part in inside)


def read_result(path: Path) -> ResultRecord:
    """Return the row at `path`, checked against its key.

    Raises:
        UserError: the file is not a row, or its key is not the digest of its inputs (somebody edited it).
    """
    try:
        record = ResultRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise UserError(f"{str(path)!r} is not a result row: {where}{first['msg']}; delete it and run again") from error
    if record.inputs.key != record.key or path.stem != record.key:
        raise UserError(f"{str(path)!r}: its inputs do not have the key it is named by; it was edited. Delete it and run again")
    return record
