"""Forms of dimensional structure that were tried beside the library's own; `suites/ds_forms.yaml` compares them.

    cd benchmarks && cmkd bench suites/ds_forms.yaml --out ../runs/ds_forms

Each form changes one thing about `ds` without uniformity, that is, `kd` and the independence of class probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmkd import Batch, Output, Spec
from cmkd.methods.base import on_labeled
from cmkd.methods.ds import DimensionalStructure, channel_independence
from cmkd.pairwise import log_mean_gaussian, unit_rows


class _Form(DimensionalStructure):
    """`ds` without uniformity; subclasses replace its independence, or add to it."""

    def __init__(self, student: Spec, teacher: Spec, *, independence_weight: float = 3.0) -> None:
        super().__init__(student, teacher, independence_weight=independence_weight, uniformity_weight=0.0)

    def _independence(self, ours: Tensor, theirs: Tensor) -> Tensor:
        return self.independence_weight * channel_independence(ours, theirs)


class OverQueue(_Form):
    """Correlations over the batch and the 480 outputs before it; the student's earlier outputs get no gradient."""

    name = "ds_over_queue"
    length = 480
    past: Tensor
    filled: Tensor

    def __init__(self, student: Spec, teacher: Spec, *, independence_weight: float = 3.0) -> None:
        super().__init__(student, teacher, independence_weight=independence_weight)
        self.register_buffer("past", torch.zeros(2, self.length, student.classes))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``kd`` and ``independence``."""
        terms = super().forward(student, teacher, batch)
        now = torch.stack(self._outputs(student, teacher))
        both = torch.cat([now, self.past[:, : int(self.filled)].to(now)], 1)
        # only the batch, a fraction of the samples, gets a gradient; the factor compensates for that
        scale = both.shape[1] / now.shape[1]
        terms["independence"] = scale * self._independence(both[0], both[1])
        self.past = torch.cat([now.detach().to(self.past), self.past], 1)[:, : self.length]
        self.filled = (self.filled + now.shape[1]).clamp(max=self.length)
        return terms


class OnUnlabeled(_Form):
    """Correlations over only the pairs without a label."""

    name = "ds_on_unlabeled"

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``kd`` and ``independence``."""
        terms = super().forward(student, teacher, batch)
        ours, theirs = (output[~batch.labeled] for output in self._outputs(student, teacher))
        terms["independence"] = self._independence(ours, theirs) if len(ours) > 1 else 0.0 * student.logits.sum()
        return terms


class ClassMeans(_Form):
    """Uniformity of the embeddings' class means, by the teacher's probabilities; it spreads classes, not noise."""

    name = "ds_class_means"

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``kd``, ``independence`` and ``class_means``."""
        terms = super().forward(student, teacher, batch)
        of_class = teacher.logits.float().softmax(1).T
        means = of_class @ student.embedding.float() / of_class.sum(1, keepdim=True).clamp(min=1e-3)
        return terms | {"class_means": 0.1 * log_mean_gaussian(unit_rows(means - means.mean(0), eps=1e-6))}


class FisherChannels(_Form):
    """Independence of the channels that separate the classes best in the teacher's embedding, whitened within classes.

    Scatter within and between classes is accumulated over the first 100 steps, with the teacher's own probabilities;
    the channels are then fixed, and a linear map of the student's embedding is trained to match them.
    """

    name = "ds_fisher_channels"
    warmup_steps = 100
    steps: Tensor
    second: Tensor
    sums: Tensor
    counts: Tensor
    channels: Tensor

    def __init__(self, student: Spec, teacher: Spec, *, independence_weight: float = 3.0) -> None:
        super().__init__(student, teacher, independence_weight=independence_weight)
        self.needs = ("logits", "embedding")
        count = min(teacher.classes - 1, teacher.dim)
        self.to_channels = nn.Linear(student.dim, count, bias=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("second", torch.zeros(teacher.dim, teacher.dim, dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(teacher.classes, teacher.dim, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(teacher.classes, dtype=torch.float64))
        self.register_buffer("channels", torch.zeros(teacher.dim, count))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``kd``, ``independence`` and, after the first steps, ``channels``."""
        terms = super().forward(student, teacher, batch)
        self.steps += 1
        if self.steps <= self.warmup_steps:
            self._add(teacher)
            return terms
        ours, theirs = self.to_channels(student.embedding), teacher.embedding.float() @ self.channels
        return terms | {"channels": self._independence(ours, theirs)}

    def _add(self, teacher: Output) -> None:
        of_class, embedding = teacher.logits.double().softmax(1), teacher.embedding.double()
        self.second += embedding.T @ embedding
        self.sums += of_class.T @ embedding
        self.counts += of_class.sum(0)
        if self.steps == self.warmup_steps:
            total, means = self.counts.sum(), self.sums / self.counts.clamp(min=1e-6)[:, None]
            explained = (means.T * self.counts) @ means
            mean = self.sums.sum(0, keepdim=True) / total
            within, between = (self.second - explained) / total, explained / total - mean.T @ mean
            ridge = 1e-3 * within.diagonal().mean().clamp(min=1e-12)
            values, vectors = torch.linalg.eigh(within + ridge * torch.eye(len(within)).to(within))
            whiten = vectors / values.clamp(min=1e-12).sqrt()
            directions = torch.linalg.eigh(whiten.T @ between @ whiten)[1][:, -self.channels.shape[1] :]
            self.channels = (whiten @ directions).to(self.channels)


class Balanced(_Form):
    """Independence with the weight that gives its gradient on the logits the norm of the cross-entropy's gradient."""

    name = "ds_balanced"
    most = 30.0
    factor: Tensor

    def __init__(self, student: Spec, teacher: Spec, *, independence_weight: float = 1.0) -> None:
        super().__init__(student, teacher, independence_weight=independence_weight)
        self.register_buffer("factor", torch.ones(()))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``kd`` and ``independence``."""
        terms = super().forward(student, teacher, batch)
        if batch.labeled.any():
            entropy = on_labeled(
                lambda a, _, target: nn.functional.cross_entropy(a, target), student.logits, teacher.logits, batch
            )
            lengths = [
                torch.autograd.grad(loss, student.logits, retain_graph=True)[0].norm()
                for loss in (entropy, terms["independence"])
            ]
            factor = (lengths[0] / lengths[1].clamp(min=1e-8)).clamp(max=self.most)
            self.factor = torch.lerp(self.factor, factor, 0.02)
        terms["independence"] = self.factor.detach() * terms["independence"]
        return terms
