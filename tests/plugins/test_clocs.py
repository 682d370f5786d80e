"""CLOCS: the paper's contrast in loops over records and patients, and which leads and halves belong together."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.testing.small import SIZES
from melp_plugins.objectives.clocs import LEADS, cmlc, cmsmlc, mean_contrast, patient_contrast
from melp_plugins.objectives.cmsc import cmsc
from melp_plugins.views.leads import KeepLead

PATIENTS = torch.tensor([4, 2, 4, 0, 2, 4])


def sides(number: int = 2) -> list[Tensor]:
    g = torch.Generator().manual_seed(3)
    return [torch.randn(len(PATIENTS), 5, generator=g, dtype=torch.float64) for _ in range(number)]


def features(record: Tensor) -> mb.Features:
    return mb.Features(record, record)


def slow_contrast(one: Tensor, two: Tensor, temperature: float) -> float:
    """Return equations 1 to 3 of the paper, one pair of records at a time."""
    count = len(PATIENTS)
    a, b = ([x / x.norm() for x in side] for side in (one, two))
    total = 0.0
    for mine, other in ((a, b), (b, a)):
        cost = [[0.0] * count for _ in range(count)]
        for i in range(count):
            to = [math.exp(float(mine[i] @ other[j]) / temperature) for j in range(count)]
            cost[i] = [-math.log(entry / sum(to)) for entry in to]
        itself = [cost[i][i] for i in range(count)]
        others = [cost[i][k] for i in range(count) for k in range(count) if i != k and PATIENTS[i] == PATIENTS[k]]
        total += sum(itself) / len(itself) + sum(others) / len(others)
    return total


def test_the_contrast_equals_the_papers_equations_in_loops() -> None:
    one, two = sides()
    got = patient_contrast(one, two, PATIENTS, temperature=0.1)
    assert float(got) == pytest.approx(slow_contrast(one, two, 0.1), rel=1e-9)


def test_where_every_record_is_another_patients_it_is_symmetric_info_nce() -> None:
    one, two = sides()
    logits = torch.nn.functional.normalize(one) @ torch.nn.functional.normalize(two).T / 0.5
    target = torch.arange(len(one))
    want = torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(logits.T, target)
    torch.testing.assert_close(patient_contrast(one, two, target, temperature=0.5), want)


def test_records_that_are_all_alike_cost_the_logarithm_of_their_number_a_term() -> None:
    same = torch.ones(6, 3)
    assert patient_contrast(same, same, torch.arange(6), temperature=0.1).item() == pytest.approx(2 * math.log(6), rel=1e-5)
    assert patient_contrast(same, same, PATIENTS, temperature=0.1).item() == pytest.approx(4 * math.log(6), rel=1e-5)


def test_leads_are_contrasted_in_all_pairs() -> None:
    views = sides(4)
    want = sum(slow_contrast(a, b, 0.1) for a, b in combinations(views, 2)) / 6
    for build in (cmlc, cmsmlc):
        assert float(build(SIZES)(*map(features, views), PATIENTS)) == pytest.approx(want, rel=1e-9)
    assert float(mean_contrast([features(view) for view in views], PATIENTS, temperature=0.1)) == pytest.approx(want, rel=1e-9)


def test_cmsc_as_in_the_paper_is_that_of_two_halves() -> None:
    one, two = sides()
    got = cmsc(SIZES, form="clocs")(features(one), features(two), PATIENTS)
    assert float(got) == pytest.approx(slow_contrast(one, two, 0.1), rel=1e-9)
    with pytest.raises(mb.UserError, match="'form' of 'cmsc' is 'paper'; wanted one of melp, fairseq, clocs"):
        cmsc(SIZES, form="paper")


def test_leads_and_halves_are_those_of_the_paper() -> None:
    assert list(cmlc(SIZES).views().values()) == [[KeepLead(lead=lead)] for lead in LEADS]
    made = cmsmlc(SIZES).views()
    assert [(name, views[0].part, views[1]) for name, views in made.items()] == [
        ("half1_lead1", (0.0, 0.5), KeepLead(lead="II")),
        ("half1_lead2", (0.0, 0.5), KeepLead(lead="V2")),
        ("half2_lead1", (0.5, 1.0), KeepLead(lead="II")),
        ("half2_lead2", (0.5, 1.0), KeepLead(lead="V2")),
    ]


@pytest.mark.parametrize("build", [cmlc, cmsmlc])
def test_a_temperature_out_of_its_range_is_told(build: object) -> None:
    with pytest.raises(mb.UserError, match=r"'temperature' of 'cm(sm)?lc' is 0\.0"):
        build(SIZES, temperature=0.0)  # type: ignore[operator]
