from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import ModelTraits
from melp_bench.results import Outcome
from melp_bench.splits import cross_validation
from melp_plugins.evaluations.zero_shot import ZeroShot, class_directions, drawn, prompts_for

Make = Callable[..., Any]
Score = Callable[..., Outcome]
Reader = Callable[[Sequence[str]], Tensor]


def reader(vectors: dict[str, list[float]]) -> Reader:
    return lambda prompts: torch.tensor([vectors[prompt] for prompt in prompts])


def one_hot_task(make_task: Make) -> tuple[Any, Reader]:
    """Return records on the sum of the directions of their classes and one direction of no class, and prompts on the former."""
    made = make_task()
    axes = torch.eye(4).tolist()
    vectors = {text: axes[c] for c, name in enumerate(made.task.classes) for text in made.task.prompts[name]}
    features = torch.tensor(np.c_[made.task.labels, np.ones(len(made.task.labels))], dtype=torch.float32)
    return made.change(features), reader(vectors)


def test_aligned_vectors_score_one(make_task: Make, score: Score) -> None:
    made, encode = one_hot_task(make_task)
    result = score(ZeroShot(), made, encode=encode)
    assert result.scores["auroc"].value == result.scores["auroc"].high == 1.0
    assert result.scores["auprc"].value == pytest.approx(1.0)


def test_prompts_of_the_opposite_sense_score_zero(make_task: Make, score: Score) -> None:
    made, _ = one_hot_task(make_task)
    axes = (-torch.eye(4)).tolist()
    encode = reader({text: axes[c] for c, name in enumerate(made.task.classes) for text in made.task.prompts[name]})
    assert score(ZeroShot(), made, encode=encode).scores["auroc"].value == 0.0


def test_a_class_points_along_the_mean_of_its_normalised_paraphrases(make_task: Make, context_of: Callable[..., Any]) -> None:
    encode = reader({"long": [10.0, 0.0], "short": [0.0, 0.1], "other": [3.0, 4.0]})
    context = context_of(make_task(), encode=encode)
    directions = class_directions(context, ("a", "b"), {"a": ("long", "short"), "b": ("other",)})
    np.testing.assert_allclose(directions, [[0.5**0.5, 0.5**0.5], [0.6, 0.8]], atol=1e-6)


def test_only_the_test_part_is_scored_in_a_holdout_and_everything_in_a_cross_validation(make_task: Make, score: Score) -> None:
    made, encode = one_hot_task(make_task)
    assert score(ZeroShot(), made, encode=encode).details["records"] == 40
    everything = made.change(parts=cross_validation(np.arange(400) // 2 % 10 + 1))
    assert score(ZeroShot(), everything, encode=encode).details["records"] == 400


def test_neither_the_order_of_records_nor_their_length_counts(make_task: Make, score: Score) -> None:
    made, _ = one_hot_task(make_task)
    generator = np.random.default_rng(0)
    vectors = {text: generator.standard_normal(4).tolist() for texts in made.task.prompts.values() for text in texts}
    first = score(ZeroShot(), made, encode=reader(vectors))
    order = generator.permutation(400)
    shuffled = made.change(made.features[order] * 8, positions=np.argsort(order))
    assert score(ZeroShot(), shuffled, encode=reader(vectors)) == first


def test_a_class_without_a_positive_is_excluded_and_listed_and_a_rare_one_marked(make_task: Make, score: Score) -> None:
    made, encode = one_hot_task(make_task)
    made = made.relabelled(slice(None), slice(0, 2), False).relabelled(made.task.scored, 1, np.arange(40) < 3)
    result = score(ZeroShot(), made, encode=encode)
    assert result.excluded == ["a"]
    assert result.rare == ["b"]
    assert [(row.positives, not row.scores) for row in result.classes][:2] == [(0, True), (3, False)]
    scored = [row.scores["auroc"].value for row in result.classes if row.scores]
    assert result.scores["auroc"].value == pytest.approx(np.mean(scored))


def test_what_cannot_be_scored_says_why(make_task: Make, score: Score) -> None:
    made, encode = one_hot_task(make_task)
    assert ZeroShot().fits(ModelTraits("mute", reads_text=False)) == "needs a text encoder"
    assert ZeroShot().fits(ModelTraits("reader", reads_text=True)) is None
    with pytest.raises(NotApplicable, match="needs a text encoder"):
        score(ZeroShot(), made)
    with pytest.raises(NotApplicable, match="has no prompts"):
        score(ZeroShot(), made.change(prompts={}), encode=encode)
    with pytest.raises(NotApplicable, match="no class has both"):
        score(ZeroShot(), made.relabelled(slice(None), slice(None), False), encode=encode)
    with pytest.raises(UserError, match=r"no prompt for \['c'\]"):
        score(ZeroShot(), made.change(prompts={"a": ("a",), "b": ("b",)}), encode=encode)
    broken = made.features.clone()
    broken[399] = torch.nan
    with pytest.raises(UserError, match="model 'mute' gave record features that are not finite for 1 of 400"):
        score(ZeroShot(), made.change(broken), encode=encode)


def test_a_row_is_keyed_by_the_content_of_a_prompt_file_and_not_by_its_place(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text('{"a": "x"}')
    two.write_text('{"a": "x"}')

    def options(prompts: str) -> Any:
        (row,) = ZeroShot(prompts=prompts).expand(["s/x"])
        return row.options

    assert options(str(one)) == options(str(two)) != options("ours")
    two.write_text('{"a": "y"}')
    assert options(str(two)) != options(str(one))
    assert ZeroShot().reads_prompts
    assert not ZeroShot(prompts=str(one)).reads_prompts
    with pytest.raises(UserError, match="cannot read prompts"):
        ZeroShot(prompts=str(tmp_path / "none.json"))


def test_a_file_of_prompts_takes_the_place_of_ours(make_task: Make, score: Score, tmp_path: Path) -> None:
    made, _ = one_hot_task(make_task)
    encode = reader(dict(zip("xyz", torch.eye(4).tolist()[:3], strict=True)))
    flat = {"a": "x", "b": ["y", "y"], "c": "z", "of another task": "w"}
    for content in (flat, {"s/x": {name: flat[name] for name in "abc"}, "s/other": {"q": "w"}}):
        path = tmp_path / "prompts.json"
        path.write_text(json.dumps(content))
        result = score(ZeroShot(prompts=str(path)), made, encode=encode)
        assert result.scores["auroc"].value == 1.0
        assert result.details["prompts_of_other_classes"] == (["of another task"] if content is flat else [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"a": "x", "b": "y"}', r"lacks \['c'\]"),
        ('{"a": "x", "b": "y", "C": "z"}', r"lacks \['c'\].* and names \['C'\]"),
        ('{"s/x": {"a": "x", "b": "y", "c": "z", "d": "w"}}', r"names \['d'\]"),
        ('{"a": "x", "b": [], "c": "z"}', "the prompt of 'b'"),
        ('{"a": "x", "b": " ", "c": "z"}', "the prompt of 'b'"),
        ("[1]", "holds a list"),
        ("{", "is not JSON"),
        (None, "cannot read prompts"),
    ],
)
def test_a_file_of_prompts_that_does_not_fit_is_one_clear_line(
    make_task: Make, tmp_path: Path, content: str | None, reason: str
) -> None:
    path = tmp_path / "prompts.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=reason) as caught:
        prompts_for(make_task().task, str(path))
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------------------------- paraphrases


def test_one_prompt_is_the_first_and_rewording_moves_nothing_where_all_say_the_same(make_task: Make, score: Score) -> None:
    made, encode = one_hot_task(make_task)
    ensemble = score(ZeroShot(), made, encode=encode)
    for evaluation in (ZeroShot(paraphrases="single"), ZeroShot(paraphrases="each", draws=4)):
        assert score(evaluation, made, encode=encode).scores == ensemble.scores
    each = score(ZeroShot(paraphrases="each", draws=4), made, encode=encode)
    assert each.details["auroc_sd_over_seeds"] == 0.0


def test_the_spread_is_that_of_single_prompts(make_task: Make, score: Score) -> None:
    """Of two paraphrases one says its class and the other the opposite: single prompts are right or wrong, class by class."""
    made, _ = one_hot_task(make_task)
    axes = torch.eye(4)
    vectors = {text: (axes[c] * (1 - 2 * k)).tolist() for c, n in enumerate("abc") for k, text in enumerate((n, f"{n} again"))}
    said = dict(zip("abc", [("a", "a again"), ("b", "b again"), ("c", "c again")], strict=True))
    result = score(ZeroShot(paraphrases="each", draws=6), made, encode=reader(vectors))
    expected = [np.mean([drawn(name, said[name], draw) == name for name in "abc"]) for draw in range(6)]
    assert result.details["auroc_by_seed"] == pytest.approx(expected)
    assert result.scores["auroc"].value == pytest.approx(0.5)  # each paraphrase is drawn as often as the other
    assert result.details["auroc_sd_over_seeds"] == pytest.approx(np.std(expected, ddof=1))


def test_every_paraphrase_has_its_turn_before_one_comes_again() -> None:
    texts = ("v", "w", "x", "y", "z")
    for start in (0, 5, 10):
        assert {drawn("a", texts, start + i) for i in range(5)} == set(texts)
    assert [drawn("a", texts, i) for i in range(5)] != [drawn("b", texts, i) for i in range(5)]


def test_how_paraphrases_are_taken_is_in_the_key_where_it_is_not_as_usual() -> None:
    (usual,), (single,), (each,) = (ZeroShot(paraphrases=p).expand(["s/x"]) for p in ("ensemble", "single", "each"))
    assert (usual.setting, usual.options) == ("", {"prompts": "ours"})
    assert (single.setting, single.options) == ("one prompt", {"prompts": "ours", "paraphrases": "single"})
    assert (each.setting, each.options["draws"]) == ("any prompt", 10)
    with pytest.raises(UserError, match="paraphrases = 'all' and 10 draws; wanted ensemble, single, each"):
        ZeroShot(paraphrases="all")  # type: ignore[arg-type]
