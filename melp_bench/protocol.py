"""A protocol: the measuring rule as data. Frozen, named, revisioned and hashed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from melp_bench.canonical import digest
from melp_bench.defects import Switched, switched_on
from melp_bench.errors import UserError
from melp_bench.results import Interval
from melp_bench.schema import Frozen, load_toml, shipped

PUBLISHED, LISTED = "published", "listed"
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"


class DatasetUse(Frozen):
    """A dataset as the protocol uses it.

    Its tasks' records are split one of these ways:

    - `holdout`: folds 1-8 train, 9 validation, 10 test (official folds, or by SHA-256 of the patient id).
    - `cross-validate`: every fold is test once, the next one validation, the rest train.
    - `published`: as the literature's label files list them, which the user gives with --published-splits; the labels are the
      files', too: columns by position, defects included. `sha256` says which files they must be.
    - `listed`: as `split_file` lists records, a CSV or a folder of them (see `split_tables`), such as ECGBench's folds. Its
      content is in the key of every row; its path, from the protocol's file on, is not.

    What follows reproduces defects of publications (`defects.toml`); where it is not said, it is no part of the hash.

    - `labels = "substring"`: a record has a class whose name is anywhere in the text of its statements.
    - `moved_columns`: of a task, classes in a circle: in training the column of each holds the labels of the next.
    - `seconds`: a record is cut to its first so many seconds.
    - `padding = "before-scaling"`: the zeros behind a shorter record are scaled with it.
    """

    dataset: str
    options: dict[str, Any] = Field(default_factory=dict)
    split: Literal["holdout", "cross-validate", "published", "listed"] = "holdout"
    split_file: str = Field(default="", exclude=True)
    sha256: dict[str, str] = Field(default_factory=dict, exclude=True)  # of label files, by path: what they must have
    labels: Literal["by-name", "substring"] = Field(default="by-name", exclude_if=lambda value: value == "by-name")
    moved_columns: dict[str, list[str]] = Field(default_factory=dict, exclude_if=lambda value: not value)
    seconds: float | None = Field(default=None, gt=0, exclude_if=lambda value: value is None)
    padding: Literal["after-scaling", "before-scaling"] = Field(
        default="after-scaling", exclude_if=lambda value: value == "after-scaling"
    )


class Pretrain(Frozen):
    """The budget that every method gets: the same records, steps, batch and seed."""

    dataset: str | list[str]  # alias; of several, the records are one corpus
    steps: int = Field(ge=1)
    batch_size: int = Field(default=64, ge=1)
    seed: int = Field(default=0, ge=0)
    labels: str = "all"  # task whose classes supervised objectives see
    validate_every: int = Field(default=80, ge=1)  # steps; the checkpoint with the lowest validation loss is kept
    precision: Literal["auto", "32", "bf16"] = "auto"
    seeds: dict[str, int] = Field(default_factory=dict)  # of a model, as it is named: how many seeds, from `seed` on; else one
    recipe: str | None = None  # by which an encoder that is named alone is trained; its rows tell it, so that no hash need

    @field_validator("dataset")
    @classmethod
    def _each_once(cls, given: str | list[str]) -> str | list[str]:
        """Take a list of one for the one."""
        if isinstance(given, str):
            return given
        if not given or len(set(given)) != len(given):
            raise ValueError(f"dataset is {given}; wanted an alias, or several, each once")
        return given[0] if len(given) == 1 else given

    @property
    def aliases(self) -> list[str]:
        """The datasets that are read."""
        return [self.dataset] if isinstance(self.dataset, str) else self.dataset


class MetricUse(Frozen):
    """A metric as the protocol uses it."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class EvaluationUse(Frozen):
    """An evaluation as the protocol uses it: on which tasks, with which of its options, measured how.

    `tasks` are "alias/task", or "alias/task->alias/task" for an evaluation of pairs. Without `metrics`, the evaluation's own
    are measured; the first is primary.
    """

    name: str
    tasks: list[str] = Field(min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)
    metrics: list[MetricUse] = Field(default_factory=list)

    @field_validator("metrics", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        """Take a name for a metric without options."""
        return [{"name": one} if isinstance(one, str) else one for one in given] if isinstance(given, list) else given

    @property
    def aliases(self) -> list[str]:
        """The datasets it reads, each once."""
        return list(dict.fromkeys(task.partition("/")[0] for task in self.single_tasks))

    @property
    def single_tasks(self) -> list[str]:
        """Every "alias/task" it reads, each once."""
        return list(dict.fromkeys(task for given in self.tasks for task in given.split("->")))


class Protocol(Frozen):
    """A measuring rule."""

    name: str = Field(pattern=FILE_NAME)  # also of the folder its rows lie in
    revision: int
    summary: str
    models: list[str] = Field(default_factory=list)  # recipes run when no --model is given
    datasets: dict[str, DatasetUse]
    defects: dict[str, Switched] = Field(default_factory=dict, exclude=True)  # by name; what they change is in what follows
    pretrain: Pretrain | None = None
    interval: Interval = Interval()
    evaluations: list[EvaluationUse]

    @model_validator(mode="before")
    @classmethod
    def _switch_defects_on(cls, given: Any) -> Any:
        """Change what the defects that are switched on change."""
        if not isinstance(given, Mapping) or not isinstance(given.get("defects"), Mapping):
            return given
        try:
            return switched_on(given, given["defects"])
        except UserError as error:
            raise ValueError(str(error)) from error
        except (KeyError, TypeError, AttributeError):  # the rest is no protocol, which is told in its place
            return given

    @model_validator(mode="after")
    def _aliases_exist(self) -> Protocol:
        used = {alias for use in self.evaluations for alias in use.aliases}
        used |= set(self.pretrain.aliases) if self.pretrain else set()
        unknown = sorted(used - set(self.datasets))
        if unknown:
            raise ValueError(f"uses {unknown} but [datasets] has {sorted(self.datasets)}")
        return self

    @model_validator(mode="after")
    def _columns_move_in_training_alone(self) -> Protocol:
        for alias, use in self.datasets.items():
            if use.moved_columns and use.split != "holdout":
                raise ValueError(f"dataset {alias!r} has moved_columns, which need split = 'holdout', and is {use.split!r}")
        return self

    @model_validator(mode="after")
    def _splits_fit(self) -> Protocol:
        published = {alias for alias, use in self.datasets.items() if use.split == PUBLISHED}
        for alias, use in self.datasets.items():
            if use.sha256 and alias not in published:
                raise ValueError(f"dataset {alias!r} states sha256 of label files, which split = 'published' reads")
            if use.split_file and use.split != LISTED:
                raise ValueError(f"dataset {alias!r} has a split_file, which split = 'listed' reads")
        for alias in self.pretrain.aliases if self.pretrain else ():
            if self.datasets[alias].split in (PUBLISHED, LISTED):
                raise ValueError(
                    f"pretrains on {alias!r}, whose {self.datasets[alias].split} test records are not its own folds'"
                )
        return self

    @field_validator("pretrain")
    @classmethod
    def _seeds_are_counts(cls, pretrain: Pretrain | None) -> Pretrain | None:
        few = {name: count for name, count in pretrain.seeds.items() if count < 1} if pretrain is not None else {}
        if few:
            raise ValueError(f"seeds of models are {few}; wanted at least 1 each")
        return pretrain

    @model_validator(mode="after")
    def _seeds_are_of_models(self) -> Protocol:
        unknown = sorted(set(self.pretrain.seeds) - set(self.models)) if self.pretrain and self.models else []
        if unknown:
            raise ValueError(f"[pretrain] seeds names {unknown}; models are {', '.join(self.models)}")
        return self

    @property
    def hash(self) -> str:
        """The digest of all that can move a score; the default models and the summary cannot."""
        return digest(self.model_dump(mode="json", exclude={"models": True, "summary": True, "pretrain": {"recipe", "seeds"}}))


def load_protocol(name: str) -> Protocol:
    """Return a shipped protocol by name, or the one in a .toml file, from whose folder its `split_file`s are named."""
    protocol = load_toml(Protocol, name, "melp_bench.protocols", "protocol")
    folder = Path(name).parent
    datasets = {
        alias: use.model_copy(update={"split_file": str(folder / use.split_file)}) if use.split_file else use
        for alias, use in protocol.datasets.items()
    }
    return protocol.model_copy(update={"datasets": datasets})


def protocol_names() -> list[str]:
    """Return the names of the shipped protocols."""
    return shipped("melp_bench.protocols")
