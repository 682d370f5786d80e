"""How well embeddings tell women from men: along the line between the means of both among the training records."""

from collections.abc import Iterable, Sequence

import numpy as np

import melp_bench as mb


class SexAlongOneLine(mb.Evaluation):
    """One row per task, of whose records only the sexes are read."""

    version, label, metrics = 1, "sex (external)", ("auroc", "auprc")

    def __init__(self, *, women_only_above: float = 0.0) -> None:
        self.youngest = women_only_above  # years

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        return [mb.Measurement(task, (task,), options={"women_only_above": self.youngest}) for task in tasks]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        task = context.task(measurement.task)
        known = (task.sexes == "F") & (task.ages > self.youngest) | (task.sexes == "M")
        female, parts = task.sexes == "F", task.parts
        if len(parts) != 1 or not all(known[parts[0].train][female[parts[0].train] == sex].any() for sex in (True, False)):
            raise mb.NotApplicable("needs a holdout with women and men among its training records")
        train, test = (where[known[where]] for where in (parts[0].train, parts[0].test))
        embedding = context.features(task).embedding.numpy()
        line = embedding[train[female[train]]].mean(axis=0) - embedding[train[~female[train]]].mean(axis=0)
        return mb.Predictions(
            scores=(embedding[test] @ line)[None, :, None],
            labels=female[test][:, None],
            record_ids=task.record_ids[test],
            patients=task.patients[test],
            classes=("female",),
            details={"training_records": int(np.sum(known[parts[0].train]))},
        )


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    return [mb.Entry("external-sex", SexAlongOneLine, "how well embeddings tell women from men", license="MIT")]
