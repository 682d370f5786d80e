"""What looks wrong in a record and is left as it is, as reason codes.

Shapes: L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from melp_bench.lead_identity import identity_error, lead_identity, lead_slopes, odd_lead
from melp_bench.leads import LIMB
from melp_bench.store.electrode_flags import electrode_flags

SMALL_MILLIVOLT, SMALL_MIDDLE_MILLIVOLT = 0.35, 0.4
"""Spans of a beat below which a record is small: the first where the largest lead's is, the second where the middle one's of
six leads or more is. Low voltage is rare in hearts (2 in 1,000), a gain of 1000 written as 4880 makes 97 % of records small."""
LARGE_MILLIVOLT, LARGE_MIDDLE_MILLIVOLT = 12.0, 3.4
"""The same for large: of 406 records of eight sources 2 are, of 3,436 of PTB-XL 1; with a gain wrong by 5, 94 % are, by 10,
all."""
EXCURSION_MILLIVOLT = 20.0
"""A lead that spans so much in the whole record was touched or lost its electrode: 4 of the 406, whose beats span 1 to 6 mV,
and 1 of the 3,436."""
FEWEST_LEADS = 6
"""With fewer the middle one may be any."""
PARTLY_FLAT_SHARE, STILL_SECONDS = 0.2, 0.5
"""A lead without a change in so many of its seconds, and all leads together for so long: 1 and none of the 3,842 records.

With the other flags and quarantine they tell the records of the CinC Challenge 2011's set a apart as its experts do in 0.91
(0.84 of 166 unacceptable, 0.92 of 773 acceptable ones; the Challenge's best entries: 0.90 to 0.93)."""
LARGE_OFFSET_MILLIVOLT = 30.0
"""Amplifiers take the electrodes' own potentials off, hundredths of this; a header with a wrong zero does not."""
ODD_SCALE = 100.0
"""A lead whose beats span so many times more, or less, than the middle lead's has a gain or unit of its own; in 1,000
records of ten sources none has more than 10 times."""
CONTRARY_GAINS = 0.1
"""Miss of the limb leads' identities from which on leads in their right places must have gains that do not fit together; of 256
real records of eight sources none misses by more than 0.07, with the gains of their headers 199 of LUDB's 200 do."""
QUIET = 15.0
"""A lead that is so many times smaller than the middle one is nearly flat: an electrode is off, or on the right leg, which
makes II (right arm) or III (left arm) the difference of two legs. In 500 real records none is more than 7 times smaller."""
CLIPPED_SECONDS, CLIPPED_SAMPLES, CLIPPED_RUNS = 0.008, 2, 3
"""A lead that so often and for so long repeats its largest (or smallest) value is cut off there."""
HELD_SECONDS, HELD_SHARE = 0.1, 0.3
"""So long at a value so far from the middle, as a share of the lead's span, no wave stays."""


def quality_flags(
    x: NDArray[np.float64],
    values: NDArray[np.int16],
    leads: tuple[str, ...],
    rate_hz: float,
    spans: NDArray[np.float64],
    flat: NDArray[np.bool_],
) -> tuple[str, ...]:
    """Return the quality_flags about a record.

    `x` (L, T) are its millivolts, `values` the same as the store keeps them, `spans` (L,) what a beat spans in each lead,
    and `flat` (L,) which leads are constant.
    """
    found = _amplitude(spans[~flat])
    if (still := _longest_still(values) / rate_hz) >= STILL_SECONDS:
        found.append(f"constant-stretch: {still:.1f} s in all leads")
    if flat.any():
        found.append("flat-leads")
    slopes = lead_slopes(x, leads, rate_hz)
    limbs = all(lead in slopes for lead in LIMB)
    identity = lead_identity(slopes)
    if identity.code not in ("ok", "unchecked-leads"):
        found.append(f"{identity.code}: {identity.detail}".removesuffix(": "))
    else:
        found += electrode_flags(slopes, rate_hz)
    if identity.code != "wrong-leads" and (odd := odd_lead(slopes)):
        found.append(f"odd-lead: {odd}")
    elif limbs and identity.code == "ok" and not flat.any() and _limb_miss(slopes) > CONTRARY_GAINS:
        found.append("contrary-gains")
    middle = float(np.median(spans[~flat]))
    named = {
        "odd-scale": ~flat & ((spans > ODD_SCALE * middle) | (ODD_SCALE * spans < middle)),
        "quiet-leads": ~flat & (QUIET * spans < middle) & (ODD_SCALE * spans >= middle),
        "partly-flat-leads": ~flat & (_flat_share(values, rate_hz) >= PARTLY_FLAT_SHARE),
        "large-excursion": np.ptp(x, axis=1) > EXCURSION_MILLIVOLT,
        "large-offset": np.abs(x.mean(axis=1)) > LARGE_OFFSET_MILLIVOLT,
        "saturated-leads": ~flat & saturated(values, rate_hz),
    }
    found += [f"{code}: {_listed(leads, rows)}" for code, rows in named.items() if rows.any()]
    return tuple(found)


def _amplitude(spans: NDArray[np.float64]) -> list[str]:
    """Return whether the spans of a beat in leads that are not flat are those of a heart."""
    largest, middle = float(spans.max()), float(np.median(spans))
    many = len(spans) >= FEWEST_LEADS
    if largest < SMALL_MILLIVOLT or (many and middle < SMALL_MIDDLE_MILLIVOLT):
        return ["small-amplitude"]
    if largest > LARGE_MILLIVOLT or (many and middle > LARGE_MIDDLE_MILLIVOLT):
        return ["large-amplitude"]
    return []


def _longest_still(values: NDArray[np.int16]) -> int:
    """Return for how many samples on end no lead (L, T) changes."""
    changes = np.flatnonzero((values[:, 1:] != values[:, :-1]).any(axis=0))
    edges = np.concatenate([[-1], changes, [values.shape[1] - 1]])
    return int(np.diff(edges).max()) - 1


def _flat_share(values: NDArray[np.int16], rate_hz: float) -> NDArray[np.float64]:
    """Return in which share of its whole seconds each lead (L, T) does not change, (L,)."""
    width = max(1, round(rate_hz))
    seconds = max(1, values.shape[1] // width)
    blocks = values[:, : seconds * width].reshape(len(values), seconds, -1)
    return np.asarray((blocks.max(axis=2) == blocks.min(axis=2)).mean(axis=1))


def _limb_miss(slopes: Mapping[str, NDArray[np.float64]]) -> float:
    return identity_error(np.stack([slopes[lead] for lead in LIMB]), tuple(LIMB))


def saturated(values: NDArray[np.int16], rate_hz: float) -> NDArray[np.bool_]:
    """Return which leads (L, T) are cut off at their largest or smallest value, or held there, (L,)."""
    highest, lowest = values.max(axis=1, keepdims=True), values.min(axis=1, keepdims=True)
    clipped = np.zeros(len(values), dtype=np.bool_)
    shortest = max(CLIPPED_SAMPLES, round(CLIPPED_SECONDS * rate_hz))
    for extreme in (highest, lowest):
        at_it = values == extreme
        for row in np.flatnonzero(at_it.sum(axis=1) >= shortest):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], at_it[row].view(np.int8), [0]])))
            runs = edges[1::2] - edges[::2]
            often = int((runs >= shortest).sum()) >= CLIPPED_RUNS
            away = abs(float(extreme[row, 0]) - float(np.median(values[row])))
            far = away >= HELD_SHARE * (float(highest[row, 0]) - float(lowest[row, 0]))
            clipped[row] |= far and (often or bool(runs.max() >= HELD_SECONDS * rate_hz))
    return clipped


def _listed(leads: Sequence[str], rows: NDArray[np.bool_]) -> str:
    return ", ".join(lead for lead, row in zip(leads, rows.tolist(), strict=True) if row)
