"""JEPA and CPC: slow rewrites from the papers, closed forms, and what neither may see."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.testing.small import SIZES, SmallEncoder
from melp_plugins.ecg.conv_transformer import conv_transformer
from melp_plugins.ecg.patch_transformer import PatchTransformer, patch_transformer
from melp_plugins.ecg.resnet1d import resnet1d_18
from melp_plugins.objectives.cpc import CPC, cpc, future_loss
from melp_plugins.objectives.jepa import JEPA, jepa
from melp_plugins.objectives.row_decoder import RowDecoder, smallest_stay, stretches

PLACES = 20


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small_transformer(*, per_lead: bool = False) -> PatchTransformer:
    torch.manual_seed(0)
    return patch_transformer(width=16, heads=2, layers=1, patch=50, per_lead=per_lead)


def attached(encoder: mb.ECGEncoder, **options: object) -> JEPA:
    torch.manual_seed(1)
    objective = jepa(SIZES, predictor_width=16, predictor_depth=1, predictor_heads=1, **options)  # type: ignore[arg-type]
    objective.attach(SimpleNamespace(encoder=encoder))  # type: ignore[arg-type]
    return objective.eval()


# --------------------------------------------------------------------------------------------------------- places and rows


@pytest.mark.parametrize(("samples", "count"), [(1000, 40), (1000, 32), (5000, 312), (9, 4), (7, 7)])
def test_stretches_are_equally_long_evenly_spread_and_leave_no_sample_out(samples: int, count: int) -> None:
    made = stretches(torch.arange(samples).expand(1, 2, -1), count)[0, 0]  # (P, S)
    assert made.shape == (count, math.ceil(samples / count))
    assert (made.diff(dim=1) == 1).all()
    assert set(made.flatten().tolist()) == set(range(samples))
    assert made[:, 0].diff().max() - made[:, 0].diff().min() <= 1
    if samples % count == 0:
        assert torch.equal(made.flatten(), torch.arange(samples))


def test_a_row_decoder_sees_neither_what_is_masked_nor_another_row() -> None:
    encoder = small_transformer(per_lead=True)
    decoder = RowDecoder(encoder, PLACES, 3, width=16, depth=1, heads=1).eval()
    states = noise(1, 12, PLACES, 16)
    masked = smallest_stay(torch.rand(1, 12, PLACES, generator=torch.Generator().manual_seed(2)), 5)
    out = decoder(states, masked)
    torch.testing.assert_close(decoder(torch.where(masked[..., None], states + 1, states), masked), out)
    other = states.clone()
    other[:, 7] += 1
    assert (decoder(other, masked) - out).abs().amax(dim=(0, 2, 3)).nonzero().flatten().tolist() == [7]


def test_a_patch_of_a_lead_by_itself_is_that_leads_samples_and_of_all_leads_theirs() -> None:
    signal = noise(2, 12, 1000)
    alone, together = small_transformer(per_lead=True).local(signal), small_transformer().local(signal)
    assert torch.equal(alone[1, 3 * PLACES + 4], signal[1, 3, 200:250])
    assert torch.equal(together[1, 4], signal[1, :, 200:250].flatten())


# ----------------------------------------------------------------------------------------------------------------- JEPA


@pytest.mark.parametrize("per_lead", [False, True])
def test_jepas_loss_equals_the_papers_written_token_by_token(per_lead: bool) -> None:
    encoder = small_transformer(per_lead=per_lead).eval()
    objective = attached(encoder)
    with torch.no_grad():  # a target that is not the encoder any more
        for parameter in objective.target_encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    signal, mask = noise(2, 12, 1000), torch.zeros(2, PLACES, dtype=torch.bool)
    mask[0, 3:9] = mask[1, 10:16] = True
    rows = encoder.token_rows
    whole = mask[:, None].expand(-1, rows, -1)
    got = objective.loss(signal, encoder, whole)
    wanted = objective.target_encoder(signal).tokens.view(2, rows, PLACES, -1)
    hidden = whole.flatten(1)
    states = encoder.contextual(encoder.local(signal), hidden, None).view(2, rows, PLACES, -1)
    predicted, terms = objective.predictor(states, whole), []
    for b in range(2):
        for r in range(rows):
            for p in range(PLACES):
                if mask[b, p]:
                    x = wanted[b, r, p]
                    x = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
                    for d in (predicted[b, r, p] - x).tolist():
                        terms.append(d * d / 2 if abs(d) < 1 else abs(d) - 0.5)
    assert got.item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_what_is_masked_reaches_the_prediction_only_as_a_target() -> None:
    encoder = small_transformer().eval()
    objective = attached(encoder)
    mask = torch.zeros(2, 1, PLACES, dtype=torch.bool)
    mask[..., 4:8] = True
    signal = noise(2, 12, 1000)
    changed = signal.clone()
    changed[..., 200:400] += 1  # places 4 to 7
    signals = [s.requires_grad_() for s in (signal, changed)]
    gradients = [torch.autograd.grad(objective.loss(s, encoder, mask), s)[0] for s in signals]
    assert not gradients[0][..., 200:400].any()
    assert gradients[0][..., :200].any()


def test_random_masks_hide_the_published_share_and_as_many_tokens_of_every_record() -> None:
    objective = attached(small_transformer())
    shares = set()
    for seed in range(8):
        torch.manual_seed(seed)
        mask = objective.draw(6, torch.device("cpu"))
        assert mask.sum(dim=1).unique().numel() == 1
        assert len({tuple(row.tolist()) for row in mask}) > 1
        shares.add(mask.float().mean().item())
    assert {round(s * PLACES) for s in shares} <= {12, 13, 14}
    assert len(shares) > 1


def test_multi_block_masks_are_unions_of_runs_the_same_for_all_records() -> None:
    objective = attached(small_transformer(), share=(0.175, 0.225), blocks=4)
    for seed in range(8):
        torch.manual_seed(seed)
        mask = objective.draw(3, torch.device("cpu"))
        assert (mask == mask[:1]).all()
        edges = int(torch.nn.functional.pad(mask[0].int(), (1, 1)).diff().clamp_min(0).sum())
        assert 1 <= edges <= 4
        assert 4 <= int(mask[0].sum()) <= 16  # one block of 0.2 x 20 at least, four that do not meet at most


def test_jepas_target_begins_as_the_encoder_and_moves_less_and_less() -> None:
    encoder = small_transformer()
    objective = attached(encoder, momentum=0.9)
    began = {n: p.detach().clone() for n, p in encoder.named_parameters()}
    for name, parameter in objective.target_encoder.named_parameters():
        assert torch.equal(parameter, began[name])
        assert not parameter.requires_grad
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    objective.after_step(0.0)
    objective.after_step(0.5)
    objective.after_step(1.0)  # nothing moves at the end
    for name, parameter in objective.target_encoder.named_parameters():
        torch.testing.assert_close(parameter.detach(), began[name] + 1 - 0.9 * 0.95)
    assert objective.keep == "last"
    assert objective.exported() is None


def test_jepa_says_when_it_may_leave_no_place() -> None:
    assert jepa(SIZES).fits(small_transformer()) is None
    assert "leave none" in str(jepa(SIZES, share=(0.2, 0.25), blocks=4).fits(small_transformer()))
    assert "masked encoding" in str(jepa(SIZES).fits(resnet1d_18(width=2)))


# ------------------------------------------------------------------------------------------------------------------ CPC


def built(encoder: mb.ECGEncoder, **options: int) -> CPC:
    torch.manual_seed(1)
    objective = cpc(SIZES, **({"width": 8, "negatives": 16, "steps": 3} | options))
    objective.attach(SimpleNamespace(encoder=encoder))  # type: ignore[arg-type]
    return objective.eval()


def test_cpcs_loss_equals_a_loop_over_sequences_and_moments() -> None:
    predicted, latents = noise(3, 2, 4).double(), noise(3, 5, 4, seed=1).double()
    ahead, drawn = torch.tensor([2, 4]), torch.tensor([0, 7, 14, 4])  # 7 and 4, 14 are true latents of some
    terms = []
    for x in range(3):
        for s in range(2):
            place = 5 * x + int(ahead[s])
            others = [k for k in drawn.tolist() if k != place]
            scores = [math.exp(float(predicted[x, s] @ latents[k // 5, k % 5])) for k in (place, *others)]
            terms.append(-math.log(scores[0] / sum(scores)))
    assert future_loss(predicted, latents, ahead, drawn).item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)


def test_cpc_that_knows_nothing_costs_the_logarithm_of_its_candidates() -> None:
    zero, latents = torch.zeros(2, 1, 4), noise(2, 9, 4)
    assert future_loss(zero, latents, torch.tensor([3]), torch.tensor([0, 1, 2, 10, 11])).item() == pytest.approx(math.log(6))


@pytest.mark.parametrize("per_lead", [False, True])
def test_an_encoder_that_summarises_the_past_sees_nothing_of_the_future(per_lead: bool) -> None:
    encoder = small_transformer(per_lead=per_lead).eval()
    objective = built(encoder)

    def state_of(signal: Tensor) -> tuple[Tensor, int]:
        torch.manual_seed(5)
        _, state, moments = objective.at_a_moment(signal, encoder)
        return state, int(moments[0])

    signal = noise(2, 12, 1000)
    state, now = state_of(signal)
    changed = signal.clone()
    changed[..., 50 * (now + 1) :] += 1
    assert torch.equal(state_of(changed)[0], state)
    changed[..., 50 * now : 50 * now + 50] += 1
    assert not torch.allclose(state_of(changed)[0], state)


def test_a_gru_summarises_the_tokens_of_a_convolutional_encoder_up_to_each_moment() -> None:
    encoder = resnet1d_18(width=2).eval()
    objective = built(encoder)
    signal = noise(2, 12, 1000)
    latents, known, moments = objective.at_every_moment(signal, encoder)
    tokens = encoder(signal).tokens
    assert tokens is not None
    assert known.shape == (2, tokens.shape[1] - 3, 8)
    assert moments.tolist() == list(range(tokens.shape[1] - 3))
    torch.testing.assert_close(latents, objective.latent(tokens))
    assert isinstance(objective.summarise, nn.GRU)
    alone, _ = objective.summarise(tokens[:, :5])
    torch.testing.assert_close(known[:, 4], alone[:, -1])


@pytest.mark.parametrize("make", [conv_transformer, lambda: resnet1d_18(width=2), SmallEncoder])
def test_cpc_trains_the_encoder_and_all_its_own_layers(make: object) -> None:
    torch.manual_seed(0)
    encoder = make()  # type: ignore[operator]
    objective = built(encoder)
    samples = encoder.spec.samples
    objective(noise(2, 12, samples), encoder).backward()
    assert all(p.grad is not None and p.grad.any() for p in objective.parameters() if p.dim() > 1)
    assert any(p.grad is not None and p.grad.any() for p in encoder.parameters())


def test_cpc_learns_a_wave_that_goes_on() -> None:
    encoder = small_transformer()
    objective = built(encoder, negatives=32).train()
    time = torch.arange(1000) / 1000
    parameters = [*encoder.parameters(), *objective.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=6e-3)
    losses = []
    for step in range(40):
        torch.manual_seed(step)
        phase, cycles = torch.rand(8, 1, 1), 3 + torch.arange(8)[:, None, None]
        signal = torch.sin(2 * math.pi * (cycles * time + phase)).expand(-1, 12, -1)
        loss = objective(signal, encoder)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


@pytest.mark.parametrize("options", [{"steps": 0}, {"negatives": 0}, {"width": 0}])
def test_an_option_of_cpc_out_of_its_range_is_told(options: dict[str, int]) -> None:
    with pytest.raises(mb.UserError, match="'cpc' with steps"):
        cpc(SIZES, **options)


@pytest.mark.parametrize(
    "options", [{"share": (0.7, 0.6)}, {"share": (0.5,)}, {"momentum": 1.1}, {"blocks": -1}, {"predictor_width": 15}]
)
def test_an_option_of_jepa_out_of_its_range_is_told(options: dict[str, object]) -> None:
    with pytest.raises(mb.UserError, match="'jepa' with"):
        jepa(SIZES, **options)  # type: ignore[arg-type]


def test_too_few_tokens_for_the_future_are_told_before_training() -> None:
    assert "set steps lower" in str(cpc(SIZES, steps=20).fits(small_transformer()))
    encoder = resnet1d_18(width=2, seconds=1.0)
    with pytest.raises(mb.UserError, match="set steps lower"):
        built(encoder, steps=12)(noise(1, 12, 100), encoder)
