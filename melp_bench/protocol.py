"""A protocol: the measuring rule as data. Frozen, named, revisioned and hashed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from melp_bench.canonical import digest
from melp_bench.schema import Frozen, load_toml, shipped

FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
SubsetRule = Literal["nested", "melp", "merl"]
"""How a fraction of the labels is drawn: nested is ours, a set per seed; the others are the published ones, one set for all."""


class DatasetUse(Frozen):
    """A dataset as the protocol uses it.

    `holdout`: folds 1-8 train, 9 validation, 10 test (official folds, or by SHA-256 of the patient id).
    `cross-validate`: every fold is test once, the next one validation, the rest train.

    `view`: whose labels and split. "corrected" is the dataset's own, by name. "published" is that of the literature's label
    files, which the user gives with --published-splits: columns by position, defects included.
    """

    dataset: str
    options: dict[str, Any] = Field(default_factory=dict)
    split: Literal["holdout", "cross-validate"] = "holdout"
    view: Literal["corrected", "published"] = Field(default="corrected", exclude_if=lambda view: view == "corrected")
    sha256: dict[str, str] = Field(default_factory=dict, exclude=True)  # of label files, by path: what they must have


class Pretrain(Frozen):
    """The budget that every method gets: the same records, steps, batch and seed."""

    dataset: str  # alias
    steps: int = Field(ge=1)
    batch_size: int = Field(default=64, ge=1)
    seed: int = Field(default=0, ge=0)
    labels: str = "all"  # task whose classes supervised objectives see
    validate_every: int = Field(default=80, ge=1)  # steps; the checkpoint with the lowest validation loss is kept
    precision: Literal["auto", "32", "bf16"] = "auto"
    recipe: str | None = None  # by which an encoder that is named alone is trained; its rows tell it, so that no hash need


class Interval(Frozen):
    """Percentile bootstrap over patients."""

    level: float = Field(default=0.95, gt=0, lt=1)
    resamples: int = Field(default=1000, ge=1)
    seed: int = Field(default=0, ge=0)


class ZeroShot(Frozen):
    """Prompts against records, by cosine."""

    name: Literal["zero_shot"]
    tasks: list[str]
    prompts: str = "ours"  # "ours" or a path to a JSON of class -> prompt(s)


class LinearProbe(Frozen):
    """One linear layer on frozen features, by PROTOCOLS of the literature, chosen on validation, scored on logits."""

    name: Literal["linear_probe"]
    tasks: list[str]
    fractions: list[float] = Field(default=[0.01, 0.1, 1.0])
    seeds: list[int] = Field(default=[0, 1, 2])
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    batch_size: int = 128
    epochs: int = 100
    patience: int = 5  # epochs without a better validation AUROC
    subset: SubsetRule = Field(default="nested", exclude_if=lambda rule: rule == "nested")  # which labels a fraction is


class Transfer(Frozen):
    """A probe fitted on one task, scored on another over the classes that `class_map` declares shared."""

    name: Literal["transfer"]
    pairs: list[tuple[str, str]]  # (probe on, score on), as "alias/task"
    class_map: dict[str, dict[str, str | list[str]]] = Field(default_factory=dict)
    """"a/x->b/y" -> {class of x: class or classes of y}; classes are shared by name where a pair has no map."""
    seeds: list[int] = Field(default=[0, 1, 2])
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    batch_size: int = 128
    epochs: int = 100
    patience: int = 5


Evaluation = Annotated[ZeroShot | LinearProbe | Transfer, Field(discriminator="name")]


class Protocol(Frozen):
    """A measuring rule."""

    name: str = Field(pattern=FILE_NAME)  # also of the folder its rows lie in
    revision: int
    summary: str
    models: list[str] = Field(default_factory=list)  # recipes run when no --model is given
    datasets: dict[str, DatasetUse]
    pretrain: Pretrain | None = None
    interval: Interval = Interval()
    evaluations: list[Evaluation]

    @model_validator(mode="after")
    def _aliases_exist(self) -> Protocol:
        used = {task.partition("/")[0] for e in self.evaluations for task in tasks_of(e)}
        used |= {self.pretrain.dataset} if self.pretrain else set()
        unknown = sorted(used - set(self.datasets))
        if unknown:
            raise ValueError(f"uses {unknown} but [datasets] has {sorted(self.datasets)}")
        return self

    @model_validator(mode="after")
    def _views_fit(self) -> Protocol:
        published = {alias for alias, use in self.datasets.items() if use.view == "published"}
        for alias, use in self.datasets.items():
            if alias in published and use.split != "holdout":
                raise ValueError(f"dataset {alias!r} has view 'published', whose files are a holdout; leave out split")
            if use.sha256 and alias not in published:
                raise ValueError(f"dataset {alias!r} states sha256 of label files, which view = 'published' reads")
        if self.pretrain and self.pretrain.dataset in published:
            raise ValueError(f"pretrains on {self.pretrain.dataset!r}, whose published test records are not its own folds'")
        for e in self.evaluations:
            drawn = e.subset if isinstance(e, LinearProbe) else "nested"
            if drawn != "nested" and (wrong := [task for task in tasks_of(e) if task.partition("/")[0] not in published]):
                raise ValueError(f"subset {drawn!r} is of the published label files, and {wrong} have not view = 'published'")
        return self

    @property
    def hash(self) -> str:
        """The digest of all that can move a score; the default models and the summary cannot."""
        return digest(self.model_dump(mode="json", exclude={"models": True, "summary": True, "pretrain": {"recipe"}}))


def tasks_of(evaluation: ZeroShot | LinearProbe | Transfer) -> list[str]:
    """Return every "alias/task" an evaluation reads."""
    if isinstance(evaluation, Transfer):
        return [task for pair in evaluation.pairs for task in pair]
    return list(evaluation.tasks)


def load_protocol(name: str) -> Protocol:
    """Return a shipped protocol by name, or the one in a .toml file."""
    return load_toml(Protocol, name, "melp_bench.protocols", "protocol")


def protocol_names() -> list[str]:
    """Return the names of the shipped protocols."""
    return shipped("melp_bench.protocols")
