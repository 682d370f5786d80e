"""The defects of published benchmarks as switches: `defects.toml` as values, and a protocol's content with some switched on.

A switch changes nothing that a protocol could not say by itself: it is a name for options of evaluations and metrics and for
the way in which a dataset is used. So a protocol whose defects are all off is one that names none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import Field

from melp_bench.errors import UserError
from melp_bench.registry import nearest
from melp_bench.schema import Frozen

Switched = bool | list[str]
"""Where a defect is switched on: in all that is evaluated (true), or in the datasets with these aliases."""

_SETTLED = {"published": ("labels", "moved_columns"), "cross-validate": ("moved_columns",)}
"""What no defect changes of a dataset by its split: label files have columns and labels of their own, and a record that both
trains and is tested has one label."""


class Defect(Frozen):
    """One switch, and what it changes; see `defects.toml`."""

    name: str
    summary: str
    source: str
    dataset: dict[str, dict[str, Any]] = Field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = Field(default_factory=dict)
    metrics: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def of_dataset(self, name: str) -> dict[str, Any]:
        """Return what it changes of the use of a dataset; nothing where it knows no change."""
        return self.dataset.get(name, self.dataset.get("*", {}))

    @property
    def of_labels(self) -> bool:
        """Whether it changes labels alone, which label files of a publication hold themselves."""
        keys = {key for table in self.dataset.values() for key in table}
        return bool(keys) and keys <= set(_SETTLED["published"])

    @property
    def changes(self) -> str:
        """What it changes, in words: "linear_probe: scoring = softmax"."""
        tables = {**{f"dataset {name}": t for name, t in self.dataset.items()}, **self.evaluations, **self.metrics}
        told = {where.replace("dataset *", "any dataset"): table for where, table in tables.items()}
        return "; ".join(f"{where}: {key} = {value}" for where, table in told.items() for key, value in table.items())


@cache
def defects() -> dict[str, Defect]:
    """Return every known defect by name."""
    text = files("melp_bench").joinpath("defects.toml").read_text(encoding="utf-8")
    return {name: Defect.model_validate({"name": name, **content}) for name, content in tomllib.loads(text).items()}


def defect(name: str) -> Defect:
    """Return a defect by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in defects():
        raise UserError(f"no defect named {name!r}{nearest(name, list(defects()))} Known: {', '.join(defects())}")
    return defects()[name]


def settled(split: str) -> tuple[str, ...]:
    """Return what no defect changes of a dataset that is split so."""
    return _SETTLED.get(split, ())


def switched_on(content: Mapping[str, Any], chosen: Mapping[str, Switched]) -> dict[str, Any]:
    """Return a protocol's content, as its TOML has it, with the defects of `chosen` switched on.

    Raises:
        UserError: there is no such defect, or an alias is not a dataset's.
    """
    changed = deepcopy(dict(content))
    datasets = changed.get("datasets", {})
    for name, where in chosen.items():
        one = defect(name)
        if isinstance(where, list) and (unknown := sorted(set(where) - set(datasets))):
            raise UserError(f"defect {name!r} is switched on in {unknown}, and [datasets] has {sorted(datasets)}")
        for alias in _evaluated(changed) if where is True else where or ():
            use = datasets[alias]
            fixed = settled(use.get("split", ""))
            use.update({key: value for key, value in one.of_dataset(use["dataset"]).items() if key not in fixed})
        for use in changed.get("evaluations", ()) if where else ():
            _change_evaluation(use, one)
    return changed


def _evaluated(content: Mapping[str, Any]) -> list[str]:
    """Return the aliases of the datasets that evaluations read, each once; one that is only pretrained on is not among them."""
    tasks = (task for use in content.get("evaluations", ()) for given in use["tasks"] for task in given.split("->"))
    return [alias for alias in dict.fromkeys(task.partition("/")[0] for task in tasks) if alias in content["datasets"]]


def _change_evaluation(use: dict[str, Any], one: Defect) -> None:
    """Change the options of an evaluation and of its metrics as the protocol names them."""
    if use["name"] in one.evaluations:
        use["options"] = {**use.get("options", {}), **one.evaluations[use["name"]]}
    if "metrics" in use:
        given = use["metrics"]
        metrics: list[dict[str, Any]] = [{"name": metric} if isinstance(metric, str) else metric for metric in given]
        use["metrics"] = [
            {**metric, "options": {**metric.get("options", {}), **one.metrics.get(metric["name"], {})}} for metric in metrics
        ]
