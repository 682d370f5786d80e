"""Leads by the names that files give them: words of the device around a standard name, and a sign in front."""

from __future__ import annotations

import re
from functools import lru_cache

from melp_bench.errors import UserError
from melp_bench.leads import canonical_lead

_BRACKETS = re.compile(r"\s*[(\[]([^()\[\]]*)[)\]]\s*")
_LEAD = re.compile(r"aVR|aVL|aVF|V\d\w?|I{1,3}", re.IGNORECASE)
_AROUND = re.compile(r"^(?:mdc|ecg|ekg|elec|lead|channel|ableitung|[-\u2212])+|(?:lead|channel)$")
_MINUS = re.compile(r"(^|\s)[-\u2212]\w")  # "-aVR", "ECG -aVR"; in "ECG-I" and "ECG - I" it parts two words


@lru_cache(maxsize=4096)
def known_lead(name: str) -> tuple[str, int] | None:
    """Return the standard lead that a name means, and -1 where its samples are upside down ("-aVR", "aVRneg"), else 1.

    Read are the names that `canonical_lead` knows, with words before or behind ("MDC_ECG_LEAD_I", "EKG I", "aVR lead"), and
    with what stands in brackets, a unit or an explanation ("I (mV)", "Lead I (Einthoven)"). None where that is no standard
    lead, or the brackets name another one ("V4 (V4R)").
    """
    inner = _BRACKETS.findall(name)
    outer = _BRACKETS.sub("", name).strip().casefold()
    sign = -1 if _MINUS.search(outer) or outer.endswith("neg") else 1
    plain = re.sub(r"[\s_.:]+", "", outer).removesuffix("neg")
    before = None
    while before != plain:
        before, plain = plain, _AROUND.sub("", plain)
    lead = _canonical(plain)
    if lead is None or any(
        re.fullmatch(r"[aA]?V[\dRLF]\w?|I{1,3}", part.strip()) and _canonical(part) != lead for part in inner
    ):
        return None
    return lead, sign


def _canonical(name: str) -> str | None:
    try:
        return canonical_lead(name)
    except UserError:
        return None
