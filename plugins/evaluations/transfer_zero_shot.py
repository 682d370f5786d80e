"""Zero-shot on the classes of a transfer: the row to put beside a probe that moved, over the same records and classes.

Nothing is fitted, and the source says only which classes of the target count (see `shared_classes`). A record's score for a
class is its cosine to the class's prompts of the target (see `zero_shot`), the largest of them where several target classes
are taken together.

Shapes: N scored records, C shared classes, D channels of the space shared with reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.evaluations.shared_classes import ClassMap, PairedClasses, any_of, largest
from melp_plugins.evaluations.zero_shot import NO_TEXT, class_directions, prompts_for


class TransferZeroShot(mb.Evaluation):
    """One row per pair of tasks, given as "a/x->b/y"; `class_map` is that of `transfer`."""

    version = 1
    label = "zero-shot transfer"
    metrics = ("auroc", "auprc")
    reads_prompts = True

    def __init__(self, *, class_map: str | Mapping[str, ClassMap] | None = None) -> None:
        """Check the option.

        Raises:
            UserError: there is no map of that name.
        """
        self.classes = PairedClasses(class_map, "transfer_zero_shot")

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per pair.

        Raises:
            UserError: a task is no pair, or a class map is of a pair that is not asked for.
        """
        for pair, source, target in self.classes.pairs(tasks):
            yield mb.Measurement(pair, (source, target), self.classes.setting, {"class_map": self.classes.key(pair)})

    def fits(self, model: mb.ModelTraits) -> str | None:
        """Return why a model without a text encoder cannot be scored."""
        return None if model.reads_text else NO_TEXT

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the cosines of the target's records and the shared classes.

        Raises:
            NotApplicable: no class is shared, the model reads no text, or the target has no prompts.
            UserError: the class map names an unknown class.
        """
        source, target = (context.task(name) for name in measurement.tasks)
        shared = self.classes.shared(measurement.task, source, target)
        columns = [one.targets for one in shared]
        directions = class_directions(context, target.classes, prompts_for(target, "ours")[0])  # (C of the target, D)
        cosine = (F.normalize(context.features(target).record[target.scored], dim=-1) @ directions.T).numpy()
        return mb.Predictions(
            scores=largest(cosine[None], columns),
            labels=any_of(target.labels[target.scored], columns),
            record_ids=target.record_ids[target.scored],
            patients=target.patients[target.scored],
            classes=tuple(one.name for one in shared),
            details={"target_classes": {one.name: [target.classes[c] for c in one.targets] for one in shared}},
        )


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return zero-shot transfer."""
    return [
        mb.Entry(
            "transfer_zero_shot",
            TransferZeroShot,
            "zero-shot on another task, over the classes that a probe of this one would share with it",
            "https://arxiv.org/abs/2103.00020",
            "MIT",
        )
    ]
