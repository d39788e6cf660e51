"""A method of your own, in a plain training loop: no trainer of ours, no registration."""

import torch
import torch.nn.functional as F

from cmkd.methods import Method
from cmkd.types import Batch, Output, Spec


class CosineHint(Method):
    """Turn the student's embedding to the teacher's direction."""

    def __init__(self, student: Spec, teacher: Spec, *, weight: float = 1.0) -> None:
        super().__init__(student, teacher)
        self.weight, self.projection = weight, torch.nn.Linear(student.dim, teacher.dim)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the term ``cosine_hint``."""
        similarity = F.cosine_similarity(self.projection(student.embedding), teacher.embedding)
        return {"cosine_hint": self.weight * (1.0 - similarity).mean()}


torch.manual_seed(0)
target = torch.arange(64) % 2
rich = torch.randn(64, 8) + 3.0 * target[:, None]  # stands for the embedding of a trained teacher
poor = rich[:, :2] + torch.randn(64, 2)
body, head = torch.nn.Linear(2, 4), torch.nn.Linear(4, 2)
method = CosineHint(Spec(classes=2, dim=4), Spec(classes=2, dim=8))
optimizer = torch.optim.Adam(torch.nn.ModuleList([body, head, method]).parameters(), lr=0.02)
for step in range(101):
    embedding = body(poor).relu()
    student, teacher = Output(head(embedding), embedding), Output(torch.zeros(64, 2), rich)  # its logits are not read
    terms = method(student, teacher, Batch({}, target, torch.arange(64)))
    loss = F.cross_entropy(student.logits, target) + sum(terms.values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.3f}, cosine_hint {terms['cosine_hint'].item():.3f}")
