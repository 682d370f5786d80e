"""Policies: the chains of views that objectives make of a record where a recipe says nothing else.

A recipe writes its own as `views = { view1 = [{ name = "gain", options = { most = 0.1 } }, ...] }` of an objective.
"""

from __future__ import annotations

import melp_bench as mb
from melp_plugins.views.noises import Gain, Jitter, MuscleNoise, Noise, Wander
from melp_plugins.views.spectrum import BandPass
from melp_plugins.views.timing import Permutation, TimeOut

AUGMENTATION: tuple[mb.View, ...] = (Noise(), Wander(strength=0.1), TimeOut(longest=0.5))
"""What SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709) and its kin do to a record, in this order.

It takes away nothing that a diagnosis reads: amplitudes (a gain would), durations (a stretched crop would), which lead shows
what (masked leads would).
"""

WEAK: tuple[mb.View, ...] = (Jitter(strength=0.05), Gain(most=0.1))
"""TS-TCC's weak view, jitter and scale (Eldele et al. 2021, https://arxiv.org/abs/2106.14112)."""

STRONG: tuple[mb.View, ...] = (Permutation(segments=10), Jitter(strength=0.2))
"""TS-TCC's strong view, permutation and jitter."""

ENHANCED: tuple[mb.View, ...] = (Wander(strength=0.3), MuscleNoise(most=0.3), Noise(most=0.2))
"""ASTCL's record with more noise (Wang et al. 2024, https://doi.org/10.1109/TNNLS.2023.3272153)."""

DENOISED: tuple[mb.View, ...] = (BandPass(),)
"""ASTCL's record with less noise."""
