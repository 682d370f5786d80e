"""A recipe: a method as data. Encoder, text encoder, heads, and the stages that train them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from melp_bench.errors import UserError
from melp_bench.schema import Frozen, read_toml, shipped, validated

RANDOM, PREVIOUS = "random", "previous"
"""Where a part may start from, besides an earlier stage by name, a checkpoint folder, or ENCODER@FILE."""
TRAINED_PARTS = ("encoder", "text", "heads")
OF_ONE_STAGE = ("objectives", "optimiser", "start", "freeze", "parts", "reports")
"""What a recipe of one stage may write at its top, without [[stages]]."""


class Part(Frozen):
    """A component by name, with options."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class WeightedObjective(Part):
    """One term of the loss: an objective under a name of its own.

    `views` says how each view that the objective reads is made, as a chain of views by name, where not by its own default.
    """

    term: str = ""  # by default the objective's name
    weight: float = Field(default=1.0, ge=0)
    views: dict[str, list[Part]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("term") and isinstance(data.get("name"), str):
            return data | {"term": data["name"]}
        return data


class Optimiser(Frozen):
    """How a stage is optimised: warm-up, then cosine decay; biases, norms and other vectors are not decayed.

    Attributes:
        name: "adamw", "sgd" (with momentum) or "lars".
        betas: AdamW's.
        clip_norm: what a longer gradient is cut to; 0 cuts none.
        warmup_fraction: of all steps.
        final_fraction: of the learning rate, reached at the last step.
        momentum: SGD's and LARS's.
        layer_decay: what the rate is multiplied by at each layer of the encoders, from the last one down.
        ema: how much of itself an average of the weights keeps at each step, which is validated and kept in the place of the
            model; 0 is none.
    """

    learning_rate: float = Field(default=1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float = Field(default=1.0, ge=0)
    warmup_fraction: float = Field(default=0.1, ge=0, le=1)
    final_fraction: float = Field(default=0.01, ge=0, le=1)
    name: Literal["adamw", "sgd", "lars"] = "adamw"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    ema: float = Field(default=0.0, ge=0, lt=1)


OPTIONAL = ("name", "momentum", "layer_decay", "ema")
"""What came to `Optimiser` later: a recipe that leaves it at its default is the recipe that it was."""


class Stage(Frozen):
    """A share of the budget, spent on some objectives.

    Attributes:
        share: of the protocol's steps.
        start: of a part, where its weights come from: "random", "previous", the name of an earlier stage, a checkpoint folder,
            or, for the encoder, ENCODER@FILE. By default "random" in the first stage and "previous" after it.
        freeze: parts that are not trained, or prefixes of their parameters' names, such as "encoder.layers.0".
        parts: the parts that it trains; all where there are none.
        reports: a folder or file of reports (.txt, .jsonl, .parquet) that are read instead of the corpus's; for objectives that
            read nothing but reports.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    objectives: list[WeightedObjective] = Field(min_length=1)
    optimiser: Optimiser = Optimiser()
    share: float = Field(default=1.0, gt=0, le=1)
    start: dict[str, str] = Field(default_factory=dict)
    freeze: list[str] = Field(default_factory=list)
    parts: list[str] = Field(default_factory=list)
    reports: str | None = None

    @model_validator(mode="after")
    def _says_what_it_can(self) -> Stage:
        terms = [part.term for part in self.objectives]
        if twice := sorted({term for term in terms if terms.count(term) > 1}):
            raise ValueError(f"stage {self.name!r} has two terms named {twice[0]!r}; name them apart with term = ...")
        for part in (*self.start, *self.parts):
            if part not in TRAINED_PARTS:
                raise ValueError(f"stage {self.name!r} names the part {part!r}; wanted one of {', '.join(TRAINED_PARTS)}")
        return self

    def untrained(self, present: Sequence[str] = TRAINED_PARTS) -> list[str]:
        """Return what is frozen: what `freeze` names, and every part `present` in the model that is not among `parts`."""
        left_out = [part for part in present if self.parts and part not in self.parts]
        return [*self.freeze, *(part for part in left_out if part not in self.freeze)]


class Recipe(Frozen):
    """A method. Without stages nothing is trained: a randomly initialised encoder."""

    shorthands: ClassVar[tuple[str, ...]] = (*OF_ONE_STAGE, "base", "without")
    name: str
    summary: str
    source: str = ""
    encoder: Part
    text: Part | None = None
    heads: Part | None = None
    stages: list[Stage] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _one_stage(cls, data: Any) -> Any:
        """Return a recipe that is written without [[stages]] as one of a single stage, named as the recipe's training is."""
        if not isinstance(data, dict) or not data.keys() & set(OF_ONE_STAGE):
            return data
        stage = {key: data[key] for key in OF_ONE_STAGE if key in data}
        rest = {key: value for key, value in data.items() if key not in stage}
        if rest.get("stages"):
            raise ValueError(f"a recipe with [[stages]] says {', '.join(stage)} in them; move it there")
        return rest | ({"stages": [{"name": "pretrain", **stage}]} if stage.get("objectives") else {})

    @model_validator(mode="after")
    def _stages_fit(self) -> Recipe:
        names = [stage.name for stage in self.stages]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two stages are named {twice[0]!r}; name them apart")
        total = sum(stage.share for stage in self.stages)
        if self.stages and abs(total - 1) > 1e-6:
            shares = " + ".join(f"{stage.share:g}" for stage in self.stages)
            raise ValueError(f"the stages' shares are {shares} = {total:g} of the budget; wanted 1")
        return self

    def present(self) -> list[str]:
        """Return which parts the model has."""
        return [part for part in TRAINED_PARTS if getattr(self, part) is not None]

    def terms(self) -> list[WeightedObjective]:
        """Return the objectives of all stages, in their order."""
        return [part for stage in self.stages for part in stage.objectives]


def stage_steps(recipe: Recipe, steps: int) -> list[int]:
    """Return how many of the budget's `steps` each stage gets: one at least as long as there are any, together all of them."""
    ends, total = [0], 0.0
    for place, stage in enumerate(recipe.stages, start=1):
        total += stage.share
        later = len(recipe.stages) - place
        ends.append(min(max(round(total * steps), ends[-1] + 1, 0), max(steps - later, place), steps))
    return [end - begin for begin, end in pairwise(ends)]


def load_recipe(name: str) -> Recipe:
    """Return a shipped recipe by name, or the one in a .toml file.

    A recipe may be written as a variant of another: `base` names it, what the variant says itself stands in the place of what
    the base says, key by key, and `without` lists terms that are left out. Its own `objectives` are those of the base's last
    stage.

    Raises:
        UnknownName: there is no such recipe, or no such base.
        UserError: the TOML does not parse or does not fit.
    """
    data, where = _with_base(name, ())
    return validated(Recipe, data, where)


def _with_base(name: str, above: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """Return what a recipe says, completed by what its base says; `above` are the variants that lead here."""
    data, where = read_toml(name, "melp_bench.recipes", "recipe")
    base, left_out = data.pop("base", None), data.pop("without", [])
    if base is None and not left_out:
        return data, where
    if not isinstance(base, str) or not isinstance(left_out, list) or base in (*above, name):
        raise UserError(
            f"{where}: base is {base!r} and without is {left_out!r}; wanted another recipe's name, and a list of terms"
        )
    of_base = _with_base(base, (*above, name))[0]
    if "objectives" in data and "stages" not in data and isinstance(stages := of_base.get("stages"), list):
        data["stages"] = [*stages[:-1], stages[-1] | {"objectives": data.pop("objectives")}]
    data = of_base | data
    holders = [data, *(stage for stage in data.get("stages", ()) if isinstance(stage, dict))]
    lists = [holder["objectives"] for holder in holders if isinstance(holder.get("objectives"), list)]
    terms = [_term(objective) for objectives in lists for objective in objectives]
    if unknown := sorted({str(term) for term in left_out} - set(terms)):
        raise UserError(f"{where}: without names {unknown}; {base!r} has the terms {', '.join(terms) or 'none'}")
    for objectives in lists:
        objectives[:] = [objective for objective in objectives if _term(objective) not in left_out]
    if left_out and not all(lists):
        raise UserError(f"{where}: without {left_out} a stage has no objectives; keep one, or write its stages anew")
    return data, where


def _term(objective: Any) -> str:
    return str(objective.get("term") or objective.get("name")) if isinstance(objective, dict) else ""


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    return shipped("melp_bench.recipes")
