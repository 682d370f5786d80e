"""What a row says of its pretraining: how many of its test records the model has seen, and how that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from melp_bench.checkpoint import Manifest
from melp_bench.errors import UserError
from melp_bench.evaluations import TaskRecords
from melp_bench.home import home
from melp_bench.leakage import Seen, Watch, refuse_shared_patients, seen_in_pretraining
from melp_bench.progress import Listener, stage_if_needed
from melp_bench.protocol import Protocol
from melp_bench.runs.plan import Row
from melp_bench.store import Store, open_store
from melp_bench.store.layout import read_manifest

FindTask = Callable[[str], TaskRecords]


def refuse_tested_corpus(rows: Sequence[Row], protocol: Protocol, stores: Mapping[str, Store], tasks: FindTask) -> None:
    """Check, before any model is pretrained, that no row would score a patient of the pretraining records.

    Raises:
        UserError: one would, as where a dataset is pretrained on and cross-validated.
    """
    if protocol.pretrain is None:
        return
    trained = [row for row in rows if row.candidate.recipe.stages and "budget" in row.candidate.identity]
    for name in sorted({row.planned.scored_task for row in trained}):
        task = tasks(name)
        for alias in protocol.pretrain.aliases:
            refuse_shared_patients(stores[alias], stores[task.alias], np.sort(task.positions[task.scored]))


@dataclass
class OverlapCheck:
    """Checks rows of one run; every pair of corpus and test store is searched once."""

    stores: Mapping[str, Store]
    listener: Listener
    _seen: dict[tuple[str, str], Seen] = field(default_factory=dict)

    def facts(self, manifest: Manifest, test: Store, task: TaskRecords) -> dict[str, Any]:
        """Return the facts of a row whose model is `manifest`'s and whose records are `task`'s, of the store `test`.

        `corpus` and `checked` are always there; with `checked`, how many test `records` there are, how many were `found` in
        pretraining, and `by` what; else the `reason` why nobody knows.

        Raises:
            UserError: a patient is in pretraining and among the test records.
        """
        data = manifest.pretraining.get("data")
        if data is None:
            reason = "declared corpora only" if manifest.corpora else "no pretraining data"
            return {"corpus": None, "checked": False, "reason": reason}
        found = [self._corpus(fingerprint) for fingerprint in ([data] if isinstance(data, str) else data)]
        corpora = [corpus for corpus in found if corpus is not None]
        if len(corpora) < len(found):
            return {"corpus": None, "checked": False, "reason": "the pretraining corpus is not prepared here"}
        tested, name = np.sort(task.positions[task.scored]), " + ".join(corpus.name for corpus in corpora)
        for corpus in corpora:
            refuse_shared_patients(corpus, test, tested)
        seen = [self._found(corpus, test) for corpus in corpora]
        positions = [one.positions for one in seen if one.positions is not None]
        if len(positions) < len(seen):
            return {"corpus": name, "checked": False, "reason": next(one.how for one in seen if one.positions is None)}
        number, how = int(np.isin(tested, np.concatenate(positions)).sum()), " and ".join(dict.fromkeys(s.how for s in seen))
        return {"corpus": name, "checked": True, "records": len(tested), "found": number, "by": how}

    def _corpus(self, fingerprint: str) -> Store | None:
        """Return the store with this fingerprint: of this run, or any that is prepared here."""
        for store in self.stores.values():
            if store.fingerprint == fingerprint:
                return store
        for path in sorted((home() / "stores").glob("*/store.json")):
            with suppress(UserError):  # a store that cannot be read is of no use here, and no harm
                if read_manifest(path.parent).fingerprint == fingerprint:
                    return open_store(path.parent)
        return None

    def _found(self, corpus: Store, test: Store) -> Seen:
        pair = corpus.fingerprint, test.fingerprint
        if pair not in self._seen:
            with stage_if_needed(self.listener, f"overlap {test.name}", "rec") as advance:
                watch = Watch(fingerprint=lambda done, total: advance(done, total, "fingerprints"))
                self._seen[pair] = seen_in_pretraining(corpus, test, watch=watch)
        return self._seen[pair]
