"""DINO: a student says what a slowly following teacher says of another view, over prototypes that no one defined.

Paper: Emerging Properties in Self-Supervised Vision Transformers, Caron et al. 2021, https://arxiv.org/abs/2104.14294. Written
from the paper: the teacher is centred and sharpened, and is what is kept. Differs in its augmentations; in smaller layers by
default (published: 2048 inside, 256, 65,536 prototypes); in that crops, where asked for, are the record's four quarters, each
read as a record of its own; in a teacher's temperature that does not rise; and in prototypes that learn from the first step on.
Shapes: B records, P embedding channels, K prototypes, V views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.self_distillation import MomentumObjective, check_widths
from melp_plugins.views.augmentation import AUGMENTATION
from melp_plugins.views.parts import Excerpt

QUARTERS = [Excerpt((begin / 4, (begin + 1) / 4)) for begin in range(4)]


class Prototypes(nn.Module):
    """Three layers, a narrow unit vector, and its cosines with unit prototypes."""

    def __init__(self, width: int, *, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, embedding: Tensor) -> Tensor:
        """Return the cosines (B, K) of `embedding` (B, P)."""
        narrow = F.normalize(self.layers(embedding), dim=-1)
        return F.linear(narrow, F.normalize(self.prototypes, dim=-1))


def distillation_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], centre: Tensor, *, temperature: float, teacher_temperature: float
) -> Tensor:
    """Return the cross entropy of student and teacher on different views, its mean over pairs of views and records.

    `student` has V tensors (B, K), and `teacher` the first of them as the teacher sees them; `centre` (K,) is taken from it.
    """
    said = [((view - centre) / teacher_temperature).softmax(dim=-1) for view in teacher]
    guessed = [(view / temperature).log_softmax(dim=-1) for view in student]
    terms = [-(q * p).sum(dim=-1).mean() for i, q in enumerate(said) for j, p in enumerate(guessed) if i != j]
    return torch.stack(terms).mean()


class DINO(MomentumObjective):
    """Cross entropy between the teacher's prototypes of one view and the student's of the other."""

    centre: Tensor

    def __init__(
        self,
        sizes: mb.Sizes,
        *,
        hidden: int,
        bottleneck: int,
        prototypes: int,
        momentum: float,
        centre_momentum: float,
        temperatures: tuple[float, float],
    ) -> None:
        head = Prototypes(sizes.embedding, hidden=hidden, bottleneck=bottleneck, prototypes=prototypes)
        super().__init__(head, momentum=momentum)
        self.centre_momentum, self.temperatures = centre_momentum, temperatures
        self.register_buffer("centre", torch.zeros(prototypes))

    def exported(self) -> nn.Module:
        """Return the teacher, which is the better encoder."""
        return self.target_encoder

    def forward(self, online1: Tensor, online2: Tensor, target1: Tensor, target2: Tensor) -> Tensor:
        """Return the loss of the embeddings of two views of the same records."""
        return self.distilled([online1, online2], [target1, target2])

    def distilled(self, online: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
        """Return the loss of embeddings (B, P) of views, and let the centre follow the teacher while training."""
        student = [at_least_float32(self.project(view)) for view in online]
        teacher = [at_least_float32(view) for view in self.projected_targets(*target)]
        sharp, soft = self.temperatures
        with torch.autocast(online[0].device.type, enabled=False):
            centre = self.centre.clone()
            loss = distillation_loss(student, teacher, centre, temperature=soft, teacher_temperature=sharp)
            if self.training:
                with torch.no_grad():
                    self.centre.lerp_(torch.cat(teacher).mean(dim=0).to(self.centre.dtype), 1 - self.centre_momentum)
        return loss


class MultiCropDINO(DINO):
    """DINO whose student says of every quarter of the record, too, what the teacher says of the whole."""

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        """Return two augmentations of a record, and one of each of its quarters."""
        quarters = {f"quarter{place}": (part, *AUGMENTATION) for place, part in enumerate(QUARTERS, start=1)}
        return {**super().views(), **quarters}

    def local(  # type: ignore[override]  # each objective names what it needs
        self,
        view1: mb.Features,
        view2: mb.Features,
        view1_signal: Tensor,
        view2_signal: Tensor,
        quarter1: mb.Features,
        quarter2: mb.Features,
        quarter3: mb.Features,
        quarter4: mb.Features,
    ) -> Mapping[str, Tensor]:
        """Return embeddings (B, P) of all views, the model's, and of the first two the target's."""
        quarters = (quarter1, quarter2, quarter3, quarter4)
        whole = super().local(view1, view2, view1_signal, view2_signal)
        return {**whole, **{f"online{place}": view.embedding for place, view in enumerate(quarters, start=3)}}

    def forward(  # type: ignore[override]  # each objective names what it needs
        self,
        online1: Tensor,
        online2: Tensor,
        online3: Tensor,
        online4: Tensor,
        online5: Tensor,
        online6: Tensor,
        target1: Tensor,
        target2: Tensor,
    ) -> Tensor:
        """Return the loss of the embeddings of two views and four quarters of the same records."""
        return self.distilled([online1, online2, online3, online4, online5, online6], [target1, target2])


def dino(
    sizes: mb.Sizes,
    *,
    hidden: int = 512,
    bottleneck: int = 128,
    prototypes: int = 1024,
    momentum: float = 0.996,
    centre_momentum: float = 0.9,
    temperature: float = 0.1,
    teacher_temperature: float = 0.04,
    multi_crop: bool = False,
) -> DINO:
    """Return DINO; with `multi_crop` the student reads four quarters of each record, too.

    Raises:
        UserError: a width is not positive, a momentum not in [0, 1], or a temperature not positive.
    """
    check_widths("dino", momentum, hidden=hidden, bottleneck=bottleneck, prototypes=prototypes)
    if not 0 <= centre_momentum <= 1 or min(temperature, teacher_temperature) <= 0:
        raise mb.UserError(
            f"'dino' with centre_momentum {centre_momentum}, temperatures {temperature} and {teacher_temperature}; "
            "wanted 0 to 1, and positive numbers"
        )
    return (MultiCropDINO if multi_crop else DINO)(
        sizes,
        hidden=hidden,
        bottleneck=bottleneck,
        prototypes=prototypes,
        momentum=momentum,
        centre_momentum=centre_momentum,
        temperatures=(teacher_temperature, temperature),
    )


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer DINO."""
    return [
        mb.Entry(
            name="dino",
            build=dino,
            summary="say over prototypes what a slowly following teacher says of another view; the teacher is kept",
            source="https://arxiv.org/abs/2104.14294",
            license="MIT",
        )
    ]
