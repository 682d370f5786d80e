"""MedalCare-XL 1.3: some 16,900 simulated records of 10 s at 500 Hz, healthy and in seven diseases; the authors' split.

Paper: Gillette et al., MedalCare-XL: 16,900 healthy and pathological synthetic 12 lead ECGs from electrophysiological
simulations, Scientific Data 10:531 (2023). No heart made them: the store says `generated`, and its rows are never ranked with
those of measured records. Reads `WP2_largeDataset_Noise/CONDITION[/ARTERY]/SPLIT/run_S65/NUMBER_KIND.csv`, twelve rows of 5,000
samples in millivolts, of which `kind` chooses one: filtered, noise or raw. A statement is the folder's name, "lbbb", "mi", and
the artery, "mi: lad_0.3" and "mi: lad".

The authors' train is folds 1 to 8 by the ventricular model (S62 to S74), validation fold 9, test fold 10. Two models train in
the atrial conditions (fam, iab, lae) and are tested or validate in the others, as others found; a "patient" is therefore a
model in the atrial or the ventricular arm, and only within an arm are anatomies apart. Written from descriptions; no file of
the release was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import melp_bench as mb
from melp_bench.splits import TEST_FOLD, VALIDATION_FOLD, hash_fold
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.lead_tables import read_rows
from melp_plugins.datasets.task_tables import read_tasks

_KINDS = ("filtered", "noise", "raw")
_PATH = re.compile(
    r"(?:.*/)?(?P<condition>sinus|avblock|lbbb|rbbb|lae|fam|iab|mi)(?:/(?P<artery>(?:LAD|LCX|RCA)_[\w.]+))?"
    r"/(?P<split>train|val|validation|test)/run_(?P<model>S\d+)/(?P<number>(?:run_)?\d+)_\w+\.csv"
)
_ATRIAL = ("fam", "iab", "lae")
_RATE_HZ = 500.0


class MedalCareXL(mb.Dataset):
    """MedalCare-XL; `kind` is filtered, noise (as filtered, before the filter) or raw (without noise)."""

    version = "1.3"
    licence = "CC BY 4.0"
    citation = (
        "Gillette et al., Scientific Data 10:531 (2023), doi:10.1038/s41597-023-02416-4; Zenodo doi:10.5281/zenodo.8068944"
    )
    homepage = "https://zenodo.org/records/8068944"
    download = mb.Download("https://zenodo.org/api/records/8068944", listing="zenodo", unpack=True)
    generated = True
    has_official_folds = True

    def __init__(self, *, kind: str = "filtered") -> None:
        if kind not in _KINDS:
            raise mb.UserError(f"medalcare-xl has no kind {kind!r}; wanted one of {', '.join(_KINDS)}")
        self.kind = kind

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """What was simulated, and of an infarction the artery."""
        return read_tasks("medalcare_xl_tasks.toml")

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the chosen kind."""
        count = 0
        for path in files_below(source, f"*_{self.kind}.csv"):
            place = path.relative_to(source).as_posix()
            if not (found := _PATH.fullmatch(place)):
                continue  # figures' examples, and what a Mac leaves in archives
            count += 1
            condition, artery = found["condition"], (found["artery"] or "").casefold()
            model = f"{found['model']}-{'atrial' if condition in _ATRIAL else 'ventricular'}"
            number = found["number"].removeprefix("run_")
            yield mb.RecordInfo(
                record_id="-".join(
                    part for part in (condition, found["artery"], found["split"], found["model"], number) if part
                ),
                patient_id=model,
                statements=frozenset([condition, *([f"mi: {artery}", f"mi: {artery.partition('_')[0]}"] if artery else [])]),
                fold=_fold(found["split"], model),
                path=place,
            )
        if not count:
            raise mb.UserError(
                f"no record of MedalCare-XL in {str(source)!r}; wanted sinus/train/run_S65/000001_{self.kind}.csv and its like"
            )

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        return mb.Signal(read_rows(source / (info.path or "")), _RATE_HZ)


def _fold(split: str, model: str) -> int:
    """Return the fold of the authors' part; models that train are spread over the folds that train by their names."""
    if split == "train":
        return 1 + (hash_fold(model) - 1) % (VALIDATION_FOLD - 1)
    return TEST_FOLD if split == "test" else VALIDATION_FOLD


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer MedalCare-XL."""
    return [
        mb.Entry(
            name="medalcare-xl",
            build=MedalCareXL,
            summary="16,842 simulated records, healthy and in seven diseases: never ranked with measured ones",
            source=MedalCareXL.homepage,
            license=MedalCareXL.licence,
        )
    ]
