"""Reuse of the teacher's classifier (SimKD, Chen et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.errors import CmkdError
from cmkd.methods.base import ClassifierMethod
from cmkd.ops import check_pair
from cmkd.types import Batch, Output, Spec


def simkd(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Mean squared difference of embeddings: ``mean (s - t)²``.

    Args:
        student_embedding: ``(batch, dim)``, after the projector.
        teacher_embedding: same shape as `student_embedding`.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Chen et al. 2022, arXiv 2203.14001, equation 3 (there on the last map before pooling).

    Example:
        >>> float(simkd(torch.ones(2, 3), torch.zeros(2, 3)))
        1.0
    """
    student, teacher = check_pair(student_embedding, teacher_embedding, same_shape=True)
    return F.mse_loss(student, teacher)


class _Follow:
    """Forward pre-hook that calls `SimKD.fold` on a classifier; a copied student keeps the hook of the same method.

    A moving average of the student therefore has an averaged backbone and the projector of the last step.
    """

    def __init__(self, method: SimKD) -> None:
        self.method = method

    def __call__(self, classifier: nn.Module, _: object) -> None:
        self.method.fold(classifier)

    def __deepcopy__(self, memo: dict[int, object]) -> _Follow:
        return self


class SimKD(ClassifierMethod):
    """Learn only the teacher's embedding, and classify with the teacher's classifier.

    The projector P is one linear layer on the embedding (our choice; the paper has three convolutions on the last map).
    The student's classifier is therefore one linear layer too, ``W_t P``: it is set from P and the teacher's weights
    before every forward pass and is not trained itself, so a checkpoint of the student is an ordinary one. The paper
    has no cross-entropy; ours reaches the backbone through this classifier, but never P.

    Args:
        weight: factor of the term.
    """

    name = "simkd"
    kind = "features"
    paper = "Chen et al. 2022, CVPR, arXiv 2203.14001"
    bibtex = """@inproceedings{chen2022knowledge, title={Knowledge Distillation with the Reused Teacher Classifier},
  author={Chen, Defang and Mei, Jian-Ping and Zhang, Hailin and Wang, Can and Feng, Yan and Chen, Chun},
  booktitle={CVPR}, year={2022}}"""
    needs = ("embedding",)
    required_hooks: Mapping[str, str] = {
        "setup": "the student classifies with the teacher's classifier",
        "on_train_end": "it leaves the student with an ordinary classifier",
    }

    def __init__(self, student: Spec, teacher: Spec, *, weight: float = 1.0) -> None:
        super().__init__(student, teacher)
        self.require_same_classes()
        self.weight = weight
        self.projector = nn.Linear(student.dim, teacher.dim)
        self._hook: torch.utils.hooks.RemovableHandle | None = None
        self._classifier: tuple[nn.Module, ...] = ()  # the student's; the tuple hides it from torch
        self._folded: Tensor | None = None

    def setup(self, student: nn.Module, teacher: nn.Module) -> None:
        """Copy the teacher's classifier, and make the student's classifier follow it."""
        super().setup(student, teacher)
        classifier = getattr(student, "classifier", None)
        for side, module in (("student", classifier), ("teacher", self.teacher_classifier)):
            if not isinstance(module, nn.Linear) or module.bias is None:
                raise CmkdError(f"simkd: the {side}'s classifier must be one linear layer with a bias, got {module}")
        assert isinstance(classifier, nn.Linear)
        classifier.requires_grad_(False)
        self._classifier = (classifier,)
        self._hook = classifier.register_forward_pre_hook(_Follow(self))

    @torch.no_grad()
    def fold(self, classifier: nn.Module) -> None:
        """Set a linear layer to the product of the projector and the teacher's classifier."""
        assert isinstance(classifier, nn.Linear) and isinstance(self.teacher_classifier, nn.Linear)
        outer = self.teacher_classifier
        with torch.autocast(outer.weight.device.type, enabled=False):
            weight, bias = outer.weight @ self.projector.weight, outer.weight @ self.projector.bias + outer.bias
        # through .data: the backward pass of an earlier forward pass of this step may still need these tensors
        classifier.weight.data.copy_(weight)
        classifier.bias.data.copy_(bias)
        if classifier in self._classifier:  # not the classifier of a moving average
            self._folded = classifier.weight.detach().clone()

    def on_train_end(self, student: nn.Module) -> None:
        """Leave the student with an ordinary linear classifier.

        Weights that were loaded from a checkpoint since the last forward pass are kept, because they were saved folded.
        """
        classifier = student.get_submodule("classifier")
        assert isinstance(classifier, nn.Linear)
        if self._folded is not None and torch.equal(self._folded, classifier.weight):
            self.fold(classifier)
        if self._hook is not None:
            self._hook.remove()
        classifier.requires_grad_(True)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``simkd``."""
        return {"simkd": self.weight * simkd(self.projector(student.embedding), teacher.embedding)}
