"""Options of the machine: recomputed, compiled, averaged, optimised otherwise; and what of them a key knows."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from every_objective import step_of
from short_training import Killed, assert_same, train
from tiny_method import OPTIMISER, make_source, make_step
from torch import Tensor, nn

from melp_bench.errors import UserError
from melp_bench.pretrain.engine import PLAIN, Engine, read_engine
from melp_bench.pretrain.layers import compiled, depths, layers_of, recomputing
from melp_bench.pretrain.loop import Trained
from melp_bench.pretrain.optimisation import make_optimizer, schedule
from melp_bench.pretrain.step import Step
from melp_bench.recipe import Optimiser, Recipe, load_recipe
from melp_bench.runs.ranks import num_ranks, num_ranks_here
from melp_bench.runs.resolution import recipe_content
from melp_bench.store import Store


def test_an_engine_is_read_as_it_is_typed_and_a_key_knows_only_what_was_chosen() -> None:
    assert PLAIN.content() == {}
    assert read_engine({"micro_batch": "16", "recompute": "true"}).content() == {"micro_batch": 16}
    assert read_engine({"compile": "inductor"}).content() == {"compile": "inductor"}
    assert read_engine({"sharded": "true"}).content() == {"sharded": True}
    for wrong, told in (
        ({"micro": "1"}, "micro_batch"),
        ({"micro_batch": "-1"}, "micro_batch"),
        ({"compile": "gcc"}, "inductor"),
    ):
        with pytest.raises(UserError, match=f"--engine: .*{told}") as error:
            read_engine(wrong)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="compile goes with neither"):
        read_engine({"compile": "eager", "recompute": "true"})


def test_recomputed_layers_move_no_bit(store: Store, undisturbed: tuple[Step, Trained], tmp_path: Path) -> None:
    assert_same(train(store, tmp_path, engine=Engine(recompute=True)), undisturbed)


class Deep(nn.Module):
    """Three layers with a batch norm and dropout each, between a first and a last one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.GELU(), nn.Linear(8, 8)) for _ in range(3)
        )
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.last(x)
        return out


def model_of(encoder: nn.Module) -> nn.Module:
    """Return what is asked of a model here: its two encoders."""
    model = nn.Module()
    model.encoder, model.text_encoder = encoder, None
    return model


def test_the_layers_of_an_encoder_are_its_longest_list_that_holds_most_of_it() -> None:
    assert list(layers_of(Deep())) == ["layers.0", "layers.1", "layers.2"]
    assert layers_of(nn.Linear(2, 2)) == {}
    found = depths(model_of(Deep()))  # type: ignore[arg-type]
    assert found["encoder.first.weight"] == -4
    assert [found[f"encoder.layers.{place}.4.weight"] for place in range(3)] == [-3, -2, -1]
    assert found["encoder.last.weight"] == 0
    with pytest.raises(UserError, match="'Linear' has no list of layers"):
        depths(model_of(nn.Linear(2, 2)))  # type: ignore[arg-type]


def test_recomputed_dropout_is_the_same_and_batch_statistics_are_counted_once() -> None:
    torch.manual_seed(0)
    plain, signal = Deep(), torch.randn(6, 4)
    again, found = copy.deepcopy(plain), []
    for encoder in (plain, again):
        torch.manual_seed(1)
        if encoder is again:
            with recomputing(model_of(encoder)):  # type: ignore[arg-type]
                encoder(signal).square().sum().backward()
        else:
            encoder(signal).square().sum().backward()
        found.append([p.grad for p in encoder.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True) if one is not None and two is not None)
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in plain.state_dict().items())
    assert not any("forward" in vars(module) for module in again.modules()), "nothing is left of it"


def test_a_compiled_encoder_is_the_encoder_and_nothing_is_left_of_it() -> None:
    encoder, signal = Deep().eval(), torch.randn(6, 4)
    wanted, names = encoder(signal), list(encoder.state_dict())
    with compiled(model_of(encoder), "eager"):  # type: ignore[arg-type]
        torch.testing.assert_close(encoder(signal), wanted)
        assert list(encoder.state_dict()) == names
    assert encoder._compiled_call_impl is None


@pytest.mark.parametrize(("name", "rate"), [("sgd", 0.05), ("lars", 0.5)])
def test_other_optimisers_learn_and_resume_in_the_same_bits(store: Store, tmp_path: Path, name: str, rate: float) -> None:
    optimiser = Optimiser(name=name, learning_rate=rate, warmup_fraction=0.2)  # type: ignore[arg-type]
    once = train(store, tmp_path / "once", optimiser=optimiser)
    assert once[1].best_loss < sum(w * once[1].before[n] for n, w in {"rhythm": 1.0, "beat": 0.2, "token": 2.0}.items())
    with pytest.raises(Killed):
        train(store, tmp_path / "twice", optimiser=optimiser, die_after=7)
    assert_same(train(store, tmp_path / "twice", optimiser=optimiser), once)


def test_sgd_and_lars_are_the_papers_in_one_step() -> None:
    weight, gradient, rate, decay = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.6, 0.8]]), 0.5, 0.1
    for name in ("sgd", "lars"):
        module = nn.Linear(2, 1)
        module.weight.data.copy_(weight)
        module.bias.data.fill_(1.0)
        optimizer = make_optimizer(module, Optimiser(name=name, learning_rate=rate, weight_decay=decay))  # type: ignore[arg-type]
        module.weight.grad, module.bias.grad = gradient.clone(), torch.tensor([2.0])
        optimizer.step()
        trust = 1.0 if name == "sgd" else 0.001 * 5.0 / (1.0 + decay * 5.0)  # of norms 5 and 1
        torch.testing.assert_close(module.weight.data, weight - rate * trust * (gradient + decay * weight))
        torch.testing.assert_close(module.bias.data, torch.tensor([0.0]))  # neither decayed nor adapted


def test_layers_are_decayed_from_the_last_one_down() -> None:
    step = step_of("rhythm")  # its encoder has a list with two linear layers, the first and the last of three members
    settings = Optimiser(learning_rate=1.0, layer_decay=0.5, final_fraction=1.0, warmup_fraction=0.0)
    optimizer = make_optimizer(step, settings)
    schedule(optimizer, settings, 10).step_update(0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in step.named_parameters()}
    assert found["model.encoder.layers.0.weight"] == found["model.encoder.layers.0.bias"] == 0.25
    assert found["model.encoder.layers.2.weight"] == 0.5
    assert found["model.encoder.widen.weight"] == found["objectives.rhythm.log_scale"] == 1.0
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(step.model.encoder.layers[0].bias)] == 0.0  # type: ignore[index,union-attr]


def test_an_average_follows_is_what_is_validated_and_resumes_in_the_same_bits(store: Store, tmp_path: Path) -> None:
    step = make_step(dropout=0.0, ema=0.75)
    assert step.average is not None
    weight, average = step.model.encoder.patch.weight, step.average.module.encoder.patch.weight  # type: ignore[union-attr]
    first, second = torch.ones_like(weight), torch.zeros_like(weight)  # type: ignore[arg-type]
    with torch.no_grad():
        for value in (first, second, second):
            weight.copy_(value)  # type: ignore[operator,union-attr]
            step.follow()
    torch.testing.assert_close(average, torch.full_like(first, 0.75**2))
    batch = make_source(store, step).batch(make_source(store, step).train[:4], torch.device("cpu"))
    step.eval()
    wanted = make_step(dropout=0.0)
    wanted.model.load_state_dict(step.average.module.state_dict())
    found, other = step(batch, torch.Generator())["rhythm"][0], wanted.eval()(batch, torch.Generator())["rhythm"][0]
    torch.testing.assert_close(found, other)
    averaged = OPTIMISER.model_copy(update={"ema": 0.75})
    once = train(store, tmp_path / "once", optimiser=averaged)
    with pytest.raises(Killed):
        train(store, tmp_path / "twice", optimiser=averaged, die_after=5)
    assert_same(train(store, tmp_path / "twice", optimiser=averaged), once)


def test_a_recipe_that_leaves_the_later_options_at_their_defaults_is_what_it_was() -> None:
    first = {"learning_rate", "betas", "weight_decay", "clip_norm", "warmup_fraction", "final_fraction"}
    recipe = load_recipe("merl")
    assert set(recipe_content(recipe)["stages"][0]["optimiser"]) == first
    data = recipe.model_dump()
    data["stages"][0]["optimiser"] |= {"name": "lars", "ema": 0.9}
    said = recipe_content(Recipe.model_validate(data))["stages"][0]["optimiser"]
    assert set(said) == {*first, "name", "ema"}


@pytest.mark.parametrize(
    ("environment", "ranks", "here"),
    [
        ({}, 1, 1),
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, 8, 4),
        ({"SLURM_NTASKS": "16", "SLURM_NTASKS_PER_NODE": "8", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "train"}, 16, 8),
        ({"SLURM_NTASKS": "16", "SLURM_NTASKS_PER_NODE": "8", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash"}, 1, 1),
        ({"SLURM_NTASKS": "16"}, 1, 1),
    ],
)
def test_ranks_are_those_of_torchrun_or_of_srun(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], ranks: int, here: int
) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_PROCID", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (num_ranks(), num_ranks_here()) == (ranks, here)
