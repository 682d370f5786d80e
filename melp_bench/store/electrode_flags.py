"""Electrodes that seem to sit on each other's places, by the shape of the beats, and what else would explain it.

Shapes: L leads, T samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from melp_bench.lead_identity import EXCHANGE_MARGIN, exchange_score

CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")
AGREEMENT = 0.5
"""Least agreement of limbs and chest leads under the better wiring, a sum of three cosines; 96 % of records have it."""
WIDE_QRS_SECONDS = 0.11
"""Of 1,646 normal records of PTB-XL 95 % are at most 0.08 s by this measure, of those with left bundle branch block or a
pacemaker half are 0.14 s and more."""
CONTRARY, CHAIN, HALVES = 0.3, 0.3, 0.8
"""Cosines: by how much V1 must look more like -aVR than V6 does; by how much neighbours must fit better with V1 and V6
exchanged; by how much V1 to V3 together must look more like -aVR than V4 to V6."""

Array = NDArray[np.float64]


def electrode_flags(slopes: Mapping[str, Array], rate_hz: float) -> list[str]:
    """Return what the slopes of a record's leads say of its electrodes.

    "exchanged-electrodes": the right arm's on another limb. It is said only where the chest leads agree well with that wiring
    and QRS is narrow; a wide one (bundle branch block, pacemaker, pre-excitation) moves the limb leads away from the chest
    leads without any fault, and so does a large infarct: there it is "limbs-contradict-chest", with the width of QRS. Of 4,143
    records of nine sources 13 and 20 are flagged so; most of the latter have a conduction disorder, a pacemaker or an infarct
    by their labels.

    "reversed-chest-leads" and "V1-V6-exchanged": of 4,136 records 2 and none are flagged; of computed ones 97 % and 96 %.
    """
    found = []
    score = exchange_score(slopes)
    if score is not None and score.margin > EXCHANGE_MARGIN:
        width = qrs_seconds(slopes, rate_hz)
        clear = score.best >= AGREEMENT and width < WIDE_QRS_SECONDS
        found.append("exchanged-electrodes" if clear else f"limbs-contradict-chest: QRS about {1000 * width:.0f} ms")
    if order := chest_order(slopes):
        found.append(order)
    return found


def chest_order(slopes: Mapping[str, Array]) -> str:
    """Return "reversed-chest-leads" or "V1-V6-exchanged", "" where neither seems so or a lead is lacking or dead.

    From V1 to V6 the leads turn towards -aVR, which looks along the heart's main axis, and neighbours are alike.
    """
    if not {"I", "II", *CHEST} <= slopes.keys():
        return ""
    x = np.stack([slopes["I"] + slopes["II"], *(slopes[lead] for lead in CHEST)])  # I + II = -2 aVR
    size = np.linalg.norm(x, axis=1)
    if not (size > 0).all():
        return ""
    cosines = (x @ x.T) / np.outer(size, size)
    axis, chest = cosines[0, 1:], cosines[1:, 1:]
    if axis[0] - axis[5] <= CONTRARY:
        return ""
    if _chain(chest, (5, 1, 2, 3, 4, 0)) - _chain(chest, (0, 1, 2, 3, 4, 5)) > CHAIN:
        return "V1-V6-exchanged"
    reversed_too = axis[:3].sum() - axis[3:].sum() > HALVES and axis[1] > axis[4]
    return "reversed-chest-leads" if reversed_too else ""


def qrs_seconds(slopes: Mapping[str, Array], rate_hz: float) -> float:
    """Return about how long QRS lasts, the median over beats: where all leads together are steeper than 15 % of their steepest.

    A measure for comparison, not for a report: slopes are differences of means over 20 ms, and gaps of 30 ms are bridged.
    """
    power = np.sqrt(sum(np.square(row) for row in slopes.values()))  # (T,)
    reach, gap, window = round(0.3 * rate_hz), max(1.0, 0.03 * rate_hz), round(0.12 * rate_hz)
    least = 0.3 * float(np.quantile(power, 0.99))
    taken = np.zeros(len(power), dtype=np.bool_)
    widths = []
    for top in np.argsort(power)[::-1].tolist():
        if power[top] < least or power[top] == 0:
            break
        if taken[top]:
            continue
        taken[max(0, top - reach) : top + reach] = True
        first = max(0, top - window)
        steep = first + np.flatnonzero(power[first : top + window + 1] > 0.15 * power[top])
        parts = np.split(steep, np.flatnonzero(np.diff(steep) > gap) + 1)
        widths += [(part[-1] - part[0]) / rate_hz for part in parts if part[0] <= top <= part[-1]]
    return float(np.median(widths)) if widths else 0.0


def _chain(cosines: Array, order: tuple[int, ...]) -> float:
    """Return how alike neighbours are in an order of the chest leads."""
    return float(sum(cosines[a, b] for a, b in itertools.pairwise(order)))
