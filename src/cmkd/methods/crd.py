"""Contrastive representation distillation with a memory (Tian et al. 2020).

This file is longer than other methods because its state must survive a checkpoint and agree between processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.distributed import gather
from cmkd.errors import CmkdError
from cmkd.methods.stepped import SteppedMethod
from cmkd.ops import at_least_float32, check_pair, in_float32, upload
from cmkd.types import Batch, Output, Spec

NORMALIZER_MOMENTUM = 0.9


@in_float32
def crd(
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    *,
    temperature: float = 0.07,
    log_normalizer: float | Tensor = 0.0,
    excluded: Tensor | None = None,
) -> Tensor:
    """Noise-contrastive loss of one side: ``mean -(log q(positive) + sum over negatives of log (1 - q))``.

    ``q = sigmoid(a'x / T - log Z - log K)``: the probability that x belongs to the anchor a and is not one of K
    negatives.

    Args:
        anchor: ``(batch, dim)``, unit length.
        positive: ``(batch, dim)``, unit length.
        negatives: ``(negatives, dim)``, unit length, shared by all anchors.
        temperature: T, above 0.
        log_normalizer: log Z, the log of the mean of ``exp(a'x / T)`` over negatives, a constant.
        excluded: ``(batch, negatives)`` bool, true where a negative is the anchor's own sample and is left out.

    Returns:
        Scalar, the mean over anchors.

    Raises:
        CmkdError: if the shapes of anchor and positive differ.

    Source:
        Tian, Krishnan, Isola 2020, arXiv 1910.10699, equations 8, 9, 18 and 19. Everything stays in the log domain:
        ``exp(1 / 0.07)`` overflows float16.

    Example:
        >>> x = torch.eye(2)
        >>> round(float(crd(x, x, torch.zeros(1, 2), temperature=1.0)), 4)  # log(1 + 1/e) + log(2)
        1.0064
    """
    anchor, positive = check_pair(anchor, positive, same_shape=True)
    (negatives,) = at_least_float32(negatives)
    offset = log_normalizer + math.log(max(negatives.shape[0], 1))
    on_positive = F.logsigmoid((anchor * positive).sum(1) / temperature - offset)
    on_negatives = F.logsigmoid(offset - anchor @ negatives.T / temperature)
    if excluded is not None:
        on_negatives = on_negatives.masked_fill(excluded, 0.0)
    return -(on_positive + on_negatives.sum(1)).mean()


class CRD(SteppedMethod):
    """Distinguish the teacher's embedding of the same sample from its embeddings of other samples, and vice versa.

    Both sides are projected and normalized. Two memories keep a running embedding of every training pair, and negatives
    are drawn from them. Differences from the authors' code, all our choice: the positive is the current embedding, not
    the one in the memory, which starts as noise; one draw of negatives serves the whole batch, and an anchor's own
    sample is excluded; the normalizer is a running mean, not that of the first batch; processes share draws and
    memories. The memories are tied to the sample index, so they belong to one training set in one order.

    Args:
        dim: width of the common space.
        negatives: number of negatives drawn in each step (16384 in the paper).
        temperature: divides the similarities.
        momentum: fraction of the old embedding that stays in the memory.
        weight: factor of both terms, which are sums over negatives (0.8 in the common benchmark of 240 epochs on
            CIFAR-100; in a short training this dominates the cross-entropy).
    """

    name = "crd"
    kind = "relations"
    paper = "Tian, Krishnan, Isola 2020, ICLR, arXiv 1910.10699"
    bibtex = """@inproceedings{tian2020contrastive, title={Contrastive Representation Distillation}, author={Tian,
  Yonglong and Krishnan, Dilip and Isola, Phillip}, booktitle={ICLR}, year={2020}}"""
    needs = ("embedding", "index")
    alike = ("student_memory", "teacher_memory")
    required_hooks: Mapping[str, str] = {"on_train_start": "it keeps a memory of every training pair"}

    student_memory: Tensor
    teacher_memory: Tensor
    log_normalizers: Tensor

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        dim: int = 128,
        negatives: int = 4096,
        temperature: float = 0.07,
        momentum: float = 0.5,
        weight: float = 0.1,
    ) -> None:
        super().__init__(student, teacher)
        self.require_positive(dim=dim, negatives=negatives, temperature=temperature)
        if not 0 <= momentum < 1:
            raise CmkdError(f"crd: momentum must be at least 0 and below 1, got {momentum}")
        self.negatives, self.temperature, self.momentum, self.weight = negatives, temperature, momentum, weight
        self.student_projection = nn.Linear(student.dim, dim)
        self.teacher_projection = nn.Linear(teacher.dim, dim)
        self.register_buffer("student_memory", torch.zeros(0, dim))
        self.register_buffer("teacher_memory", torch.zeros(0, dim))
        self.register_buffer("log_normalizers", torch.zeros(2))

    def on_train_start(self, dataset_size: int) -> None:
        """Allocate the memories, unless a checkpoint has restored them."""
        if not self._holds(dataset_size, len(self.student_memory)):
            generator = torch.Generator().manual_seed(int(self.seed))
            for name in ("student_memory", "teacher_memory"):
                noise = torch.randn(dataset_size, self.student_memory.shape[1], generator=generator)
                setattr(self, name, F.normalize(noise).to(self.student_memory))

    def _holds(self, dataset_size: int, found: int) -> bool:
        """Return whether a memory of `found` pairs fits the training set; False if either size is not yet known."""
        if found and dataset_size and found != dataset_size:
            raise CmkdError(
                f"crd: the checkpoint's memory holds {found} pairs, but the training set has {dataset_size}; "
                "resume on the same training set"
            )
        return bool(found and dataset_size)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        for name in ("student_memory", "teacher_memory"):
            if prefix + name in state_dict:
                self._holds(len(getattr(self, name)), len(state_dict[prefix + name]))
                setattr(self, name, getattr(self, name).new_zeros(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def draw(self, device: torch.device) -> Tensor:
        """Return the indices of this step's negatives ``(negatives,)``, the same in all processes."""
        drawn = torch.randint(self.student_memory.shape[0], (self.negatives,), generator=self.generator())
        return upload(drawn, device)

    @torch.no_grad()
    def normalizer(self, side: int, anchor: Tensor, negatives: Tensor) -> Tensor:
        """Update and return the log of the running mean of ``exp(similarity / T)``."""
        with torch.autocast(anchor.device.type, enabled=False):
            similarities = anchor @ negatives.to(anchor).T / self.temperature
        seen = torch.logsumexp(similarities.flatten(), 0) - math.log(max(similarities.numel(), 1))
        old, rate = self.log_normalizers[side], math.log(NORMALIZER_MOMENTUM)
        mixed = torch.logaddexp(old + rate, seen + math.log(1.0 - NORMALIZER_MOMENTUM))
        if self.training:
            self.log_normalizers[side] = mixed if self.step else seen
        return self.log_normalizers[side].clone()

    @torch.no_grad()
    def remember(self, index: Tensor, ours: Tensor, theirs: Tensor) -> None:
        """Blend the embeddings of the batch into the memories.

        Raises:
            CmkdError: if an index is not the position of a training pair. (On a GPU, the check would wait for the
                device and is left out; torch raises its own error.)
        """
        pairs = len(self.student_memory)
        if index.device.type == "cpu" and len(index) and not 0 <= int(index.min()) <= int(index.max()) < pairs:
            raise CmkdError(
                f"crd: batch.index must be the position of each pair among the {pairs} training pairs given to "
                f"on_train_start, from 0 to {pairs - 1}, got {int(index.min())} to {int(index.max())}"
            )
        for memory, new in ((self.student_memory, ours), (self.teacher_memory, theirs)):
            blended = self.momentum * memory[index] + (1.0 - self.momentum) * new.to(memory)
            memory[index] = F.normalize(blended)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``crd_student`` and ``crd_teacher``, named after the side that is the anchor."""
        index = gather(batch.index)
        ours, theirs = (
            F.normalize(x)
            for x in at_least_float32(
                gather(self.student_projection(student.embedding)), gather(self.teacher_projection(teacher.embedding))
            )
        )
        drawn = self.draw(index.device)
        excluded = index[:, None] == drawn[None]
        terms = {}
        sides = (("crd_student", ours, theirs, self.teacher_memory), ("crd_teacher", theirs, ours, self.student_memory))
        for side, (term, anchor, positive, memory) in enumerate(sides):
            negatives = memory[drawn]
            value = crd(
                anchor,
                positive,
                negatives,
                temperature=self.temperature,
                log_normalizer=self.normalizer(side, anchor, negatives),
                excluded=excluded,
            )
            terms[term] = self.weight * value
        if self.training:
            self.remember(index, ours, theirs)
            self.count_step()
        return terms
