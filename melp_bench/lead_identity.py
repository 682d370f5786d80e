"""Are the limb leads what their names say? Einthoven's and Goldberger's identities, asked of every record.

With electrodes right arm, left arm and left leg, II = I + III, aVR = -(I + II)/2, aVL = I - II/2 and aVF = II - I/2: the six
limb leads lie in a plane, in six known directions of it. The plane is the record's own and each lead may have a gain of its
own, so what is compared is directions up to a linear map of the plane: six directions less the three numbers of a projective
map leave three that must agree, and the signs. A lead under a wrong name or upside down is found by them; a wrong gain is
not, and is no wrong name.

What algebra cannot see: electrodes exchanged at the patient relabel the leads consistently (right and left arm: I is
inverted, II and III change places, aVR and aVL, too), and every identity holds again. `exchanged_electrodes` looks at the
shape of the beats for these. Shapes: L leads, T samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from melp_bench.leads import FLAT_MILLIVOLT, LIMB, canonical_lead

FEWEST_LEADS = 5
"""With fewer limb leads that are not flat no name can be checked without trusting gains."""
LARGEST_REST = 0.1
"""Largest share of the leads' size that may lie outside the plane, under any names; no record seen has more than 0.03."""
LARGEST_MISS = 0.05
"""Sine of the angle by which directions may miss (root mean square); clean records miss by less than 0.01."""
NOISE_MISS = 4.0
"""The same in multiples of what the record's noise out of the plane explains."""
ODD_MISS, OTHERS_MISS = 0.1, 0.025
"""A lead that misses what the others say by more than the first, as a share of it, while these agree to better than the second,
is of another gain, or of another place."""
BETTER = 0.5
"""Another naming is believed where it misses by less than this share of what the given names miss by."""

EXCHANGE_MARGIN = 0.13
"""By how much another wiring must agree better with the chest leads, as a sum of three cosines; 0.05 alarms on 2 % of LUDB."""

Array = NDArray[np.float64]
_CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")
_POTENTIALS: Array = np.array([[-1.0, -1.0], [2.0, -1.0], [-1.0, 2.0]]) / 3
"""Potentials of right arm, left arm and left leg against their mean, from I and II."""
_FROM_CHEST: Array = np.array(
    [
        [0.83, -0.20, 0.02, -0.15, -0.19, -0.31],
        [-1.00, 0.55, -0.01, -0.25, 0.15, 0.12],
        [0.17, -0.35, -0.01, 0.40, 0.05, 0.19],
    ]
)
"""The same from V1 to V6, up to size: ridge regression over 139 records of Georgia, CSN and CODE-15, none of LUDB or PTB-XL."""


@dataclass(frozen=True)
class LeadIdentity:
    """What the identities say of a record.

    Attributes:
        code: "ok"; "wrong-leads", and `names` says what fits; "inconsistent-leads", no naming fits; "unchecked-leads", too few
            leads that are not flat.
        names: given name -> what the lead is, "-" in front of one upside down; only leads whose name or sign is wrong.
        miss: root mean square sine of the angle between each lead and where its name puts it; NaN where unchecked, or where
            the leads lie in no plane.
    """

    code: str
    names: tuple[tuple[str, str], ...] = ()
    miss: float = float("nan")

    @property
    def detail(self) -> str:
        """The finding in words: "aVL is aVF, aVF is aVL"."""
        return ", ".join(f"{given} is {real}" for given, real in self.names)


def identity_error(millivolts: Array, leads: Sequence[str]) -> float:
    """Return by how much III, aVR, aVL and aVF miss what I and II say, as a share of their size; gains are trusted.

    `millivolts` is (L, T). Offsets do not count. NaN where I, II or all four others are missing; 0 is perfect, leads in another
    order miss by about 1.
    """
    at = {canonical_lead(lead): row - row.mean() for lead, row in zip(leads, millivolts, strict=True)}
    others = [lead for lead in ("III", "aVR", "aVL", "aVF") if lead in at]
    if not others or not {"I", "II"} <= at.keys():
        return float("nan")
    size = sum(float(at[lead] @ at[lead]) for lead in others)
    missed = sum(float(np.square(at[lead] - LIMB[lead][0] * at["I"] - LIMB[lead][1] * at["II"]).sum()) for lead in others)
    return float(np.sqrt(missed / size)) if size > 0 else float("nan")


def lead_slopes(millivolts: Array, leads: Sequence[str], rate_hz: float) -> dict[str, Array]:
    """Return the slopes of each lead by its standard name: beats without wander, drift, offset and mains, identities unharmed.

    `millivolts` is (L, T) without NaN. A slope is the difference of two means over 20 ms, one after the other.
    """
    return dict(zip((canonical_lead(lead) for lead in leads), _slopes(millivolts, rate_hz), strict=True))


def lead_identity(slopes: Mapping[str, Array]) -> LeadIdentity:
    """Return whether the limb leads are what they are called, from `lead_slopes`; each may have a gain of its own."""
    names, x = _alive(slopes)
    if len(names) < FEWEST_LEADS:
        return LeadIdentity("unchecked-leads")
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    power, basis = np.linalg.eigh(x @ x.T)
    if power[:-2].clip(0).sum() > LARGEST_REST**2 * power.sum():
        return LeadIdentity("inconsistent-leads")
    noise = float(np.sqrt(power[:-2].clip(0).mean() / power[-2].clip(1e-12)))
    rays = basis[:, -2:] / np.linalg.norm(basis[:, -2:], axis=1, keepdims=True)  # (K, 2)
    namings = _namings(tuple(names))
    tolerance = max(LARGEST_MISS, NOISE_MISS * noise)
    miss, signs = _fit(rays, namings.rays[:1])
    given = float(miss[0])
    if given < tolerance and (signs > 0).all():
        return LeadIdentity("ok", miss=given)
    miss, signs = _fit(rays, namings.rays)
    wrong = (miss > tolerance) | (miss > BETTER * given) & (given >= tolerance)
    moves = namings.moved + (signs < 0).sum(axis=1)
    best = int(np.lexsort((miss, moves + 100 * wrong))[0])
    if wrong[best]:
        return LeadIdentity("inconsistent-leads", miss=given)
    found = tuple(
        (lead, ("-" if sign < 0 else "") + real)
        for lead, real, sign in zip(names, namings.names[best], signs[best], strict=True)
        if lead != real or sign < 0
    )
    return LeadIdentity("wrong-leads", found, given)


def odd_lead(slopes: Mapping[str, Array]) -> str:
    """Return the one limb lead that contradicts the others while these agree, "" if there is none; gains are trusted.

    A source whose leads are scaled one by one has no such lead, for no others agree.
    """
    names, x = _alive(slopes)
    if len(names) < FEWEST_LEADS:
        return ""
    gram = x @ x.T  # (K, K)
    size = np.diag(gram)
    found = ""
    for odd, (rest, told) in enumerate(_leaving_one_out(tuple(names))):
        missed = float(np.einsum("ij,jk,ik->", rest, gram, rest))
        said = float(told @ gram @ told)
        miss = float(size[odd] - 2 * told @ gram[odd] + said)
        agree = missed < OTHERS_MISS**2 * float(size.sum() - size[odd])
        if agree and miss > ODD_MISS**2 * max(said, float(size[odd])):
            found = names[odd]
    return found


def exchanged_electrodes(slopes: Mapping[str, Array]) -> bool:
    """Return True if the beats look as if the right arm's electrode sat on another limb, from `lead_slopes`.

    The chest leads do not change when limb electrodes are exchanged among themselves, and what they say of the limbs'
    potentials is enough for the right arm, which lies opposite to the heart's axis. Found of computed exchanges, in LUDB's 200
    records and in 50 of PTB-XL: right and left arm 98.5 % and 96 %, right arm and left leg 99 % and 98 %, any turn of all three
    as much. Alarms on untouched records: 1 % (two, one with a ventricular pacemaker) and none. An arm's electrode
    on the right leg leaves a nearly flat lead, a flag of its own, which with this one finds 96 % or more.

    Not found: left arm and left leg (2 % and none, as in untouched records). One record hardly tells them: of the means of a
    median beat in 23 windows of I, II and the chest leads, and their products, the best of 45 fitted classifiers (logistic and
    kernel, on the 197 and 347 records of other sources) put 92 % of LUDB's and 96 % of PTB-XL's pairs of right and exchanged
    wiring in order, and with the threshold that alarms on 1 % of the right ones found 65 % and 88 % of the exchanged: no rule
    for 95 % at 1 % comes of that. Nor are neighbouring chest leads found: V1 and V2 22.5 % and 26 %, any other two as in
    untouched records.

    False where a lead is lacking, or dead.
    """
    score = exchange_score(slopes)
    return score is not None and score.margin > EXCHANGE_MARGIN


@dataclass(frozen=True)
class ExchangeScore:
    """How well the limb leads agree with the chest leads, as sums of three cosines.

    Attributes:
        margin: by how much the best wiring with the right arm's electrode elsewhere agrees better than the best with it there.
        best: agreement of the better of the two.
    """

    margin: float
    best: float


def exchange_score(slopes: Mapping[str, Array]) -> ExchangeScore | None:
    """Return how the wirings compare, from `lead_slopes`; None where a lead is lacking, or dead."""
    if not {"I", "II", *_CHEST} <= slopes.keys():
        return None
    x = np.stack([slopes[lead] for lead in ("I", "II", *_CHEST)])
    limbs = _POTENTIALS @ x[:2]  # (3, T): right arm, left arm, left leg, against their mean
    expected = _FROM_CHEST @ x[2:]
    size = float(np.linalg.norm(limbs) * np.linalg.norm(expected))
    if size == 0:
        return None
    agreement = expected @ limbs.T / size  # (3, 3): [limb, electrode that might be on it]
    scores = {
        wiring: sum(agreement[limb, wire] for limb, wire in enumerate(wiring)) for wiring in itertools.permutations(range(3))
    }
    at_home = max(score for wiring, score in scores.items() if wiring[0] == 0)
    away = max(score for wiring, score in scores.items() if wiring[0] != 0)
    return ExchangeScore(float(away - at_home), float(max(away, at_home)))


@dataclass(frozen=True)
class _Namings:
    """All ways to name K leads, the given one first."""

    names: list[tuple[str, ...]]
    rays: Array  # (H, K, 2)
    moved: NDArray[np.int64]  # (H,) leads that get another name


@cache
def _namings(given: tuple[str, ...]) -> _Namings:
    names = list(itertools.permutations(given))
    rays = np.array([[LIMB[lead] for lead in naming] for naming in names])
    moved = np.array([sum(a != b for a, b in zip(given, naming, strict=True)) for naming in names])
    return _Namings(names, rays / np.linalg.norm(rays, axis=2, keepdims=True), moved)


def _fit(rays: Array, wanted: Array) -> tuple[Array, NDArray[np.int64]]:
    """Return for each naming how far `rays` (K, 2) miss `wanted` (H, K, 2) at best, (H,), and the sign of each lead, (H, K).

    The map of the plane is the one whose images of the wanted directions are nearest to the lines of the rays.
    """
    normal = np.stack([-rays[:, 1], rays[:, 0]], axis=1)  # (K, 2)
    equations = (normal[None, :, :, None] * wanted[:, :, None, :]).reshape(len(wanted), len(rays), 4)
    _, vectors = np.linalg.eigh(equations.transpose(0, 2, 1) @ equations)
    image = wanted @ vectors[:, :, 0].reshape(-1, 2, 2).transpose(0, 2, 1)  # (H, K, 2)
    along, across = (image * rays).sum(axis=2), (image * normal).sum(axis=2)
    length = np.hypot(along, across).clip(1e-12)
    signs = np.where(along < 0, -1, 1)
    signs *= np.where(signs.sum(axis=1, keepdims=True) < 0, -1, 1)
    return np.sqrt(np.square(across / length).mean(axis=1)), signs


def _alive(slopes: Mapping[str, Array]) -> tuple[list[str], Array]:
    """Return the limb leads that are not flat, and their slopes (K, T')."""
    least = FLAT_MILLIVOLT**2 * max(max((len(row) for row in slopes.values()), default=0), 1)
    names = [lead for lead in LIMB if lead in slopes and float(slopes[lead] @ slopes[lead]) > least]
    return names, np.stack([slopes[lead] for lead in names]) if names else np.empty((0, 0))


@cache
def _leaving_one_out(names: tuple[str, ...]) -> list[tuple[Array, Array]]:
    """Return for each of K leads what the others miss of a plane, (K - 1, K), and what they say it is, (K,)."""
    weights = np.array([LIMB[lead] for lead in names])
    parts = []
    for odd in range(len(names)):
        others = [row for row in range(len(names)) if row != odd]
        sources = np.zeros((2, len(names)))
        sources[:, others] = np.linalg.pinv(weights[others])
        rest = (np.eye(len(names)) - weights @ sources)[others]
        parts.append((rest, weights[odd] @ sources))
    return parts


def _slopes(x: Array, rate_hz: float) -> Array:
    """Return (L, T') the differences of 20 ms means."""
    width = max(1, round(0.02 * rate_hz))
    if x.shape[1] <= 2 * width:
        return np.asarray(x - x.mean(axis=1, keepdims=True))
    sums = np.cumsum(x - x[:, :1], axis=1)
    means = (sums[:, width:] - sums[:, :-width]) / width
    return np.asarray(means[:, width:] - means[:, :-width])
