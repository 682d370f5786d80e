"""Which label file is what: `layout.toml` as values."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import Field, model_validator

from melp_bench.errors import UnknownName
from melp_bench.registry import nearest
from melp_bench.schema import Frozen

PARTS = ("train", "val", "test")


class Layout(Frozen):
    """The three label files of one task, and what their columns are."""

    name: str  # "csn/published": dataset and task
    prefix: str  # "chapman/chapman", below the folder that the user gives
    record: str  # the column that names the record
    statements: str | None = None  # the column that lists what is true of the record
    form: Literal["list", "commas"] | None = None  # how it lists it
    first_class: int = Field(ge=1)  # every column from this one on is a label
    sha256: tuple[str, str, str] | None = None  # of train, val and test as published, where known

    @model_validator(mode="after")
    def _form_of_statements(self) -> Layout:
        if (self.statements is None) != (self.form is None):
            raise ValueError(
                f"task {self.name!r} has statements {self.statements!r} of form {self.form!r}; give both or neither"
            )
        return self

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.name.partition("/")[0]

    def file(self, part: str) -> str:
        """Return the path of the file of a part, relative to the folder that the user gives."""
        return f"{self.prefix}_{part}.csv"

    def known(self, part: str) -> str | None:
        """Return the SHA-256 of the published file of a part, None where nobody knows it."""
        return None if self.sha256 is None else self.sha256[PARTS.index(part)]


@cache
def layouts() -> dict[str, Layout]:
    """Return the layouts by task, "dataset/task"."""
    text = files("melp_bench.label_files").joinpath("layout.toml").read_text(encoding="utf-8")
    return {layout.name: layout for layout in (Layout.model_validate(entry) for entry in tomllib.loads(text)["task"])}


def layouts_of(name: str) -> list[Layout]:
    """Return the layouts of a dataset, or of the one task that "dataset/task" names.

    Raises:
        UnknownName: the literature has no label file of it.
    """
    found = [layout for layout in layouts().values() if name in (layout.name, layout.dataset)]
    if not found:
        known = list(dict.fromkeys([layout.dataset for layout in layouts().values()] + list(layouts())))
        raise UnknownName(f"the literature has no label files of {name!r}{nearest(name, known)} Known: {', '.join(known)}")
    return found
