"""Views of leads: exactly as many at rest as they say, one kept by its name, and a turned heart that obeys Einthoven."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_plugins.views.leads import KeepLead, LeadDropout, LeadMix, dower, dower_inverse, rotation

EDENBRANDT = {
    "V1": (-0.172, 0.057, -0.229),
    "V2": (-0.074, -0.019, -0.310),
    "V3": (0.122, -0.106, -0.246),
    "V4": (0.231, -0.022, -0.063),
    "V5": (0.239, 0.041, 0.055),
    "V6": (0.194, 0.048, 0.108),
    "I": (0.156, -0.227, 0.022),
    "II": (-0.010, 0.887, 0.102),
}
"""The inverse of Dower's matrix as Edenbrandt and Pahlm (1988) print it: each lead's part in X, Y and Z."""
MIMIC = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def recorded(leads: tuple[str, ...] = mb.LEADS, batch: int = 5) -> Tensor:
    """Return records whose limb leads obey Einthoven and Goldberger, and whose chest leads are anything."""
    one, two = torch.randn(2, batch, 200, generator=seeded(3), dtype=torch.float64).cumsum(dim=-1)
    limb = {"I": one, "II": two, "III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
    chest = torch.randn(6, batch, 200, generator=seeded(4), dtype=torch.float64).cumsum(dim=-1)
    all_ = limb | {f"V{place}": lead for place, lead in enumerate(chest, start=1)}
    return torch.stack([all_[lead] for lead in leads], dim=1)


def level(signal: Tensor) -> Tensor:
    return signal[..., ::4].median(dim=-1, keepdim=True).values


@pytest.mark.parametrize("count", [0, 1, 6, 11, 12, 40])
def test_exactly_so_many_leads_rest_and_one_is_always_kept(count: int) -> None:
    signal = recorded(batch=50)
    seen = LeadDropout(leads=count)(signal, seeded(1))
    rest = (seen == level(signal)).all(dim=-1)
    assert (rest.sum(dim=1) == min(count, 11)).all()
    assert torch.equal(seen[~rest], signal[~rest])
    if 0 < count < 11:
        assert rest.any(dim=0).all()  # any lead may be the one
        assert torch.equal(LeadDropout(leads=count)(signal[:, :1], seeded(1)), signal[:, :1])


@pytest.mark.parametrize("leads", [mb.LEADS, MIMIC])
@pytest.mark.parametrize("lead", ["II", "aVL", "V2"])
def test_the_lead_that_is_kept_is_found_by_name_in_the_encoders_order(leads: tuple[str, ...], lead: str) -> None:
    signal = recorded(leads)
    seen = KeepLead(lead=lead).at(mb.SignalSpec(leads=leads))(signal, seeded(0))
    for place, name in enumerate(leads):
        wanted = signal[:, place] if name == lead else level(signal)[:, place].expand(-1, 200)
        assert torch.equal(seen[:, place], wanted)


def test_a_lead_that_an_encoder_does_not_read_is_told_before_any_work() -> None:
    with pytest.raises(mb.UserError, match="'keep-lead' is to keep 'V2'; the encoder reads I, II"):
        KeepLead(lead="V2").at(mb.SignalSpec(leads=("I", "II")))


def test_the_inverse_of_dowers_matrix_is_the_published_one() -> None:
    inverse = dower_inverse(mb.LEADS)
    for lead, parts in EDENBRANDT.items():
        place = mb.LEADS.index(lead)
        assert [row[place] for row in inverse] == pytest.approx(parts, abs=6e-4)
    dependent = [mb.LEADS.index(lead) for lead in ("III", "aVR", "aVL", "aVF")]
    assert all(row[place] == 0 for row in inverse for place in dependent)


def test_limb_leads_of_a_dipole_obey_einthoven_and_goldberger() -> None:
    one, two, three, right, left, foot = torch.tensor(dower(mb.LEADS), dtype=torch.float64)[:6]
    torch.testing.assert_close(three, two - one)
    torch.testing.assert_close(right, -(one + two) / 2)
    torch.testing.assert_close(left, one - two / 2)
    torch.testing.assert_close(foot, two - one / 2)


@pytest.mark.parametrize("leads", [mb.LEADS, MIMIC])
def test_a_turned_heart_keeps_einthovens_identities(leads: tuple[str, ...]) -> None:
    seen = LeadMix(degrees=90.0).at(mb.SignalSpec(leads=leads))(recorded(leads), seeded(2))
    one, two, three, right, left, foot = (seen[:, leads.index(name)] for name in ("I", "II", "III", "aVR", "aVL", "aVF"))
    torch.testing.assert_close(two, one + three)
    torch.testing.assert_close(right, -(one + two) / 2)
    torch.testing.assert_close(left, one - two / 2)
    torch.testing.assert_close(foot, two - one / 2)
    assert (seen - recorded(leads)).abs().amax() > 0.1


def test_a_record_of_one_dipole_is_seen_as_of_that_dipole_turned() -> None:
    heart = torch.randn(4, 3, 200, generator=seeded(5), dtype=torch.float64).cumsum(dim=-1)
    heart[..., :110] = 0.0  # so that every lead is at rest more often than not
    seen_by = torch.tensor(dower(mb.LEADS), dtype=torch.float64)
    signal = seen_by @ heart
    seen = LeadMix(degrees=60.0)(signal, seeded(6))
    vector = torch.tensor(dower_inverse(mb.LEADS), dtype=torch.float64)
    before, after = heart, vector @ seen
    torch.testing.assert_close(before.norm(dim=1), after.norm(dim=1))  # turned, and no longer or shorter
    torch.testing.assert_close(seen, seen_by @ after, atol=1e-9, rtol=1e-9)  # still nothing but a dipole
    cosines = torch.nn.functional.cosine_similarity(before, after, dim=1)[:, 110:]
    assert cosines.min() >= math.cos(math.radians(60.0)) - 1e-9
    assert cosines.min() < 0.99


def test_what_no_dipole_explains_stays_as_it_is_and_no_turn_is_the_record() -> None:
    signal = recorded()
    torch.testing.assert_close(LeadMix(degrees=0.0)(signal, seeded(1)), signal)
    vector = torch.tensor(dower_inverse(mb.LEADS), dtype=torch.float64)
    seen_by = torch.tensor(dower(mb.LEADS), dtype=torch.float64)
    seen = LeadMix()(signal, seeded(1))

    def rest(record: Tensor) -> Tensor:
        return record - seen_by @ (vector @ record)

    torch.testing.assert_close(rest(seen), rest(signal), atol=1e-9, rtol=1e-9)


def test_rotations_turn_by_their_angle_about_their_axis() -> None:
    axis = torch.randn(6, 3, generator=seeded(7), dtype=torch.float64)
    angle = torch.linspace(-3, 3, 6, dtype=torch.float64)
    turned = rotation(axis, angle)
    torch.testing.assert_close(turned @ turned.mT, torch.eye(3, dtype=torch.float64).expand(6, -1, -1))
    torch.testing.assert_close((turned @ axis[..., None]).squeeze(-1), axis)
    torch.testing.assert_close(turned.diagonal(dim1=1, dim2=2).sum(dim=1), 1 + 2 * angle.cos())
    quarter = rotation(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([math.pi / 2]))
    torch.testing.assert_close(quarter @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([[0.0, 1.0, 0.0]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (mb.SignalSpec(leads=("I", "II", "III", "aVF")), "cannot tell a vectorcardiogram from I, II, III, aVF"),
        (mb.SignalSpec(scaling=mb.Scaling.ZSCORE_LEAD), "adds up leads, which the encoder scales one by one"),
    ],
)
def test_a_heart_that_cannot_be_turned_is_told(spec: mb.SignalSpec, told: str) -> None:
    with pytest.raises(mb.UserError, match=told):
        LeadMix().at(spec)
