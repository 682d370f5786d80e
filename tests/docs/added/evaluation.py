"""An evaluation: how near a record's embedding is to the mean of a class's training records."""

import numpy as np
from torch.nn import functional as F

import melp_bench as mb


class Centroids(mb.Evaluation):
    version, label, metrics = 1, "nearest centroid", ("auroc", "auprc")

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        task = context.task(measurement.task)
        unit = F.normalize(context.features(task).embedding, dim=-1).numpy()
        if len(task.parts) != 1:
            raise mb.NotApplicable("needs a holdout")
        (part,) = task.parts
        of_class = [unit[part.train[task.labels[part.train, c]]].mean(axis=0) for c in range(len(task.classes))]
        scores = 5 * unit @ np.stack(of_class, axis=1)  # (N, C)
        return mb.Predictions(
            scores=scores[None, part.test],
            labels=task.labels[part.test],
            record_ids=task.record_ids[part.test],
            patients=task.patients[part.test],
            classes=task.classes,
            kind="logit",
        )


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    return [mb.Entry("added-centroids", Centroids, "nearness to the mean of a class's training records")]
