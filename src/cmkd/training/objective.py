"""The loss of a model: cross-entropy on labels, and the terms of a distillation method on pairs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.distributed import world_size
from cmkd.errors import CmkdError
from cmkd.methods import Method
from cmkd.models import Model
from cmkd.models.base import run_on
from cmkd.training.augment import drop_modalities
from cmkd.training.compiling import Classify, compiled
from cmkd.types import UNLABELED, Batch, Output

RESERVED = frozenset({"cross_entropy", "teacher_cross_entropy", "loss", "accuracy", "right", "labeled", "steps"})
"""Names of values that a training computes itself; no term of a method may use them."""


class Objective(nn.Module):
    """The loss of a model: cross-entropy and, for a student, a method's terms from a teacher or its recorded outputs.

    The given teacher is copied and never changed, so students that share a teacher do not depend on each other. A copy
    that trains too is a submodule; any other copy is neither saved, nor put in train mode, nor wrapped by DDP. Pairs
    without a label contribute only to the method's terms; pairs without the teacher's modality contribute only to the
    cross-entropy. Each term is a mean over all pairs, where pairs that do not contribute count as zero.

    Args:
        model: model to train; put in train mode, except for its frozen parts.
        teacher: model whose outputs are distilled if a batch does not hold them; None for a model that trains alone.
        teacher_modality: modality of the teacher's outputs in the batches, if there is no teacher.
        method: the distillation terms; None for a model that trains alone.
        label_smoothing: label smoothing of the cross-entropy.
        always_paired: whether all pairs of every batch have both modalities, which saves a check of the masks.
        modality_dropout: probability of hiding a modality of a pair from a model that reads several.
        seed: random seed of the modality dropout.
        places: ``(pack,)`` int64, the index that the method receives for each row of the pack, so that it can store
            something for exactly the training pairs that it is given; by default the row itself.
    """

    def __init__(
        self,
        model: Model,
        *,
        teacher: Model | None = None,
        teacher_modality: str | None = None,
        method: Method | None = None,
        label_smoothing: float = 0.0,
        always_paired: bool = True,
        modality_dropout: float = 0.0,
        seed: int = 0,
        places: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model, self.method = train_mode(model), method
        self.label_smoothing, self.always_paired = label_smoothing, always_paired
        self.modality_dropout, self.seed = modality_dropout, seed
        self.trains_teacher = method is not None and method.trains_teacher
        teacher = copy.deepcopy(teacher)
        if teacher is not None and self.trains_teacher:
            self.trained_teacher = train_mode(teacher)
        elif teacher is not None:
            teacher.requires_grad_(False).eval()
        self.teacher_modality = teacher_modality if teacher is None else teacher.modality.name
        self._teacher = [teacher]  # a list, so that torch does not register it
        self._places = [places]  # likewise: DDP would send it to all processes in each step
        self._compiled: dict[nn.Module, Classify] = {}

    @property
    def teacher(self) -> Model | None:
        """This objective's copy of the teacher, if there is one."""
        return self._teacher[0]

    def move(self, device: torch.device) -> None:
        """Move the teacher and the tensors that are not registered to `device`."""
        if self.teacher is not None:
            self.teacher.to(device)
        self._places = [None if places is None else places.to(device) for places in self._places]

    def compile_models(self) -> None:
        """Run model and teacher compiled from now on, only in this process: compiled code cannot be copied."""
        torch.compiler.reset()  # forget earlier trainings: torch gives up on code compiled for eight models
        self._compiled = {model: compiled(model) for model in (self.model, self.teacher) if model is not None}

    def _classify(
        self,
        model: Model,
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        recorded: Mapping[str, Tensor] | None = None,
    ) -> Output:
        return self._compiled.get(model, model.classify)(inputs, present, recorded)

    def forward(self, batch: Batch, strong: Batch | None = None) -> tuple[Output, dict[str, Tensor]]:
        """Return the model's output and the terms by name; their sum is the loss.

        Args:
            batch: pairs of the step.
            strong: a strongly augmented view of the same pairs, for a method with `Method.strong_view`.
        """
        present = batch.present
        if self.modality_dropout:
            names = [modality.name for modality in self.model.modalities]
            present = drop_modalities(batch, names, self.modality_dropout, seed=self.seed)
        if (places := self._places[0]) is not None:  # after the draw, which is the same for every method
            batch = replace(batch, index=places[batch.index])
        output = self._classify(self.model, batch.inputs, present, batch.present)
        terms = {"cross_entropy": self._cross_entropy(output.logits, batch.target)}
        if self.method is None or not self.method.uses_teacher:
            return output, terms | self._without_teacher(output, batch, strong, present)
        if batch.teacher is not None:
            recorded = batch.teacher if self.method.teacher_maps else replace(batch.teacher, feature_maps=())
            return output, terms | self._distill(output, recorded, batch)
        if self.teacher is None:
            raise CmkdError(f"{self.method.name} needs a teacher: give one, or its outputs in each batch")
        assert self.teacher_modality is not None
        # as in its cached outputs: a student that teaches another is run with its first modality alone
        inputs = {name: batch.inputs[name] for name in self.teacher.subsets[0]}
        if self.trains_teacher:
            teacher_output = self._along(self.teacher, inputs, batch)
            known = batch.target.masked_fill(~batch.present[self.teacher_modality], UNLABELED)
            terms["teacher_cross_entropy"] = self._cross_entropy(teacher_output.logits, known)
        else:
            with torch.no_grad():
                teacher_output = self._classify(self.teacher, inputs, batch.present).detach()
        return output, terms | self._distill(output, teacher_output, batch)

    def _along(self, teacher: Model, inputs: Mapping[str, Tensor], batch: Batch) -> Output:
        """Return the output of a teacher that trains too, run only on the pairs that have its modality."""

        def run(rows: Tensor | slice) -> Output:
            present = {name: batch.present[name][rows] for name in inputs}
            return self._classify(teacher, {name: value[rows] for name, value in inputs.items()}, present)

        return run(slice(None)) if self.always_paired else run_on(batch.present[teacher.modality.name], run, teacher)

    def _without_teacher(
        self, output: Output, batch: Batch, strong: Batch | None, present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        if self.method is None:
            return {}
        student = output if strong is None else self._classify(self.model, strong.inputs, present, batch.present)
        return self._terms(student, output.detach(), batch)

    def _distill(self, output: Output, teacher_output: Output, batch: Batch) -> dict[str, Tensor]:
        assert self.method is not None and self.teacher_modality is not None
        if self.always_paired:
            return self._terms(output, teacher_output, batch)
        taught = batch.present[self.teacher_modality] if batch.taught is None else batch.taught
        paired = batch.present[self.model.modality.name] & taught
        fewest = paired.sum()
        if world_size() > 1:  # all or none: a process that skips a collective operation would block the others
            dist.all_reduce(fewest, dist.ReduceOp.MIN)
        if int(fewest) == 0:
            unused = [output.embedding.sum(), *(p.sum() for p in self.method.parameters() if p.requires_grad)]
            return {"no_pairs": 0.0 * torch.stack(unused).sum()}
        terms = self._terms(output.select(paired), teacher_output.select(paired), batch.select(paired))
        share = paired.sum() / len(paired)  # so that a pair weighs as in the cross-entropy, in each process too
        return {name: share * term for name, term in terms.items()}

    def _terms(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        assert self.method is not None
        terms = self.method.forward(student, teacher, batch)
        if taken := sorted(RESERVED & terms.keys()):
            raise CmkdError(
                f"{self.method.name}: a training has a '{taken[0]}' of its own, which this term would replace; rename "
                "the term, and leave out the student's cross-entropy, which is always part of the loss"
            )
        return terms

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over all pairs; unlabeled pairs count as zero, so a pair weighs as in other terms."""
        total = F.cross_entropy(
            logits.float(), target, ignore_index=UNLABELED, reduction="sum", label_smoothing=self.label_smoothing
        )
        return total / len(target)


def train_mode(model: Model) -> Model:
    """Put a model in train mode and return it; its frozen parts stay in eval mode and keep their statistics.

    Lightning does not change modes, and a loaded model is in eval mode. A layer without parameters follows the modules
    that hold it. Whether these are frozen is decided without the classifier, which a wrapped module holds too.
    """
    model.train()
    classifiers = [part.classifier for part in model.modules() if isinstance(part, Model)]
    apart = {parameter for classifier in classifiers for parameter in classifier.parameters()}
    for module in model.modules():
        parameters = [parameter for parameter in module.parameters() if parameter not in apart]
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()
    for classifier in classifiers:
        classifier.train(any(p.requires_grad for p in classifier.parameters()))
    return model
