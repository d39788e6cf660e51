"""Sliced Wasserstein distance to the teacher's distribution of features (Bonneel et al. 2015)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.distributed import gather
from cmkd.errors import CmkdError
from cmkd.methods.stepped import SteppedMethod
from cmkd.ops import at_least_float32, check_pair, in_float32, standardize, upload
from cmkd.types import Batch, Output, Spec


@in_float32
def sliced_wasserstein(
    student_embedding: Tensor, teacher_embedding: Tensor, *, directions: int = 64, seed: int = 0
) -> Tensor:
    """Mean squared difference of order statistics along random directions.

    ``mean_k mean_i (sort(S d_k)_i - sort(T d_k)_i)²``: the squared one-dimensional 2-Wasserstein distance of the two
    batches as point clouds, averaged over unit directions d_k. The pairing of student and teacher samples does not
    matter.

    Args:
        student_embedding: ``(batch, dim)``, after any projection.
        teacher_embedding: same shape as `student_embedding`.
        directions: number of directions.
        seed: random seed of the directions, the same in every process.

    Returns:
        Scalar; 0 where the batches are permutations of each other.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Bonneel et al. 2015, Journal of Mathematical Imaging and Vision 51; its use as a distance between distributions
        of features is ours.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
        >>> float(sliced_wasserstein(x, x.flip(0)))
        0.0
    """
    student, teacher = check_pair(student_embedding, teacher_embedding, same_shape=True)
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same directions on every device
    drawn = torch.randn(student.shape[1], directions, generator=generator, dtype=torch.float64)
    chosen = upload((drawn / drawn.norm(dim=0)).to(student.dtype), student.device)
    ours, theirs = (torch.sort(x @ chosen, dim=0).values for x in (student, teacher))
    return F.mse_loss(ours, theirs)


class SlicedWasserstein(SteppedMethod):
    """Give the student's features the same distribution as the teacher's, regardless of which samples are paired.

    Both sides are standardized per channel over the global batch, so scale does not matter (our choice). Each step
    draws new directions, determined by the step number and the student's seed, so runs can be repeated and resumed.

    Args:
        directions: number of directions drawn each step.
        weight: factor of the term.
    """

    name = "sliced_wasserstein"
    kind = "structure"
    paper = "Bonneel et al. 2015, JMIV 51"
    bibtex = """@article{bonneel2015sliced, title={Sliced and Radon Wasserstein Barycenters of Measures},
  author={Bonneel, Nicolas and Rabin, Julien and Peyr{\\'e}, Gabriel and Pfister, Hanspeter},
  journal={Journal of Mathematical Imaging and Vision}, volume={51}, year={2015}}"""
    needs = ("embedding",)

    def __init__(self, student: Spec, teacher: Spec, *, directions: int = 64, weight: float = 1.0) -> None:
        super().__init__(student, teacher)
        if directions < 1:
            raise CmkdError(f"sliced_wasserstein: directions must be at least 1, got {directions}")
        self.directions, self.weight = directions, weight
        self.projection = nn.Linear(student.dim, teacher.dim) if student.dim != teacher.dim else nn.Identity()

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``sliced_wasserstein`` of the global batch."""
        both = at_least_float32(gather(self.projection(student.embedding)), gather(teacher.embedding))
        ours, theirs = (standardize(x, dim=0) for x in both)
        loss = sliced_wasserstein(ours, theirs, directions=self.directions, seed=self.step_seed)
        if self.training:
            self.count_step()
        return {"sliced_wasserstein": self.weight * loss}
