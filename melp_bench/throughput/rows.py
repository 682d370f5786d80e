"""A measured speed: one JSON file per component (or way of reading), work and machine. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from melp_bench.canonical import digest
from melp_bench.errors import UserError
from melp_bench.home import atomic_write, make_folder

SCHEMA = 1
ECG_ENCODER, TEXT_ENCODER, OBJECTIVE, DATA_PATH = "ECG encoder", "text encoder", "objective", "data path"
KINDS = (ECG_ENCODER, TEXT_ENCODER, OBJECTIVE, DATA_PATH)
"""What is measured, in the order it is shown in; rows of two kinds are in no table together."""


class Work(BaseModel):
    """What is timed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["forward", "train"] = "forward"  # train: forward and backward, no optimiser
    batch: int = 16
    repeats: int = 20
    device: str = "cpu"
    dtype: str = "float32"  # bfloat16: by autocast, as pretraining does
    threads: int | None = None  # None: as torch decides


class SubjectName(BaseModel):
    """What a speed is measured of, with its options filled in; `recipe` is whose model gives an objective its inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = ECG_ENCODER
    name: str
    options: dict[str, Any] = {}
    recipe: str = ""


class SpeedRow(BaseModel):
    """The speed of one component, or of one way of reading records, on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA
    kind: str = ECG_ENCODER
    name: str
    options: dict[str, Any]
    recipe: str = ""  # whose model gives an objective its inputs
    work: Work
    environment: dict[str, str]
    records_per_second: float  # median
    records_per_second_low: float  # first quartile
    records_per_second_high: float  # third quartile
    seconds: list[float]  # of each repeat
    peak_bytes: int
    peak_method: str
    parameters: int
    gflops_per_record: float  # of the forward pass
    created: str  # ISO 8601, UTC

    @property
    def key(self) -> str:
        """The digest of what was measured and where; measuring it again replaces the row."""
        name = SubjectName(kind=self.kind, name=self.name, options=self.options, recipe=self.recipe)
        return speed_key(name, self.work, self.environment)


def speed_key(name: SubjectName, work: Work, environment: Mapping[str, str]) -> str:
    """Return the digest of what is measured and where; rows of ECG encoders, which came first, do not say their kind."""
    kind = {} if name.kind == ECG_ENCODER else {"kind": name.kind, "recipe": name.recipe}
    what = {"name": name.name, "options": name.model_dump(mode="json")["options"], **kind}
    return digest({**what, "work": work.model_dump(mode="json"), "environment": dict(environment)})


def read_speeds(folder: Path) -> Iterator[SpeedRow]:
    """Yield every row in `folder`, by name of its file; none if there is no such folder.

    Raises:
        UserError: a file is not such a row.
    """
    for path in sorted(folder.glob("*.json")):
        try:
            row = SpeedRow.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}: " for part in first["loc"])
            raise UserError(
                f"{str(path)!r} is not a measured speed: {where}{first['msg']}; delete it and measure again"
            ) from error
        if row.key != path.stem:
            raise UserError(f"{str(path)!r} does not hold what it is named by; it was edited. Delete it and measure again")
        yield row


def write_speed(row: SpeedRow, folder: Path) -> Path:
    """Write the row to `folder`/<key>.json, whole or not at all, and return its path."""
    path = make_folder(folder) / f"{row.key}.json"
    atomic_write(path, row.model_dump_json(indent=1) + "\n")
    return path
