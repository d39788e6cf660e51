"""Methods in your own training loop: one of your own and two built-in ones, without registration or cmkd's trainer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.methods import Method, create
from cmkd.methods.combine import Sum
from cmkd.types import Batch, Output, Spec


class CosineHint(Method):
    """Align the direction of the student's projected embedding with the teacher's."""

    def __init__(self, student: Spec, teacher: Spec, *, weight: float = 1.0) -> None:
        super().__init__(student, teacher)
        self.weight, self.projection = weight, nn.Linear(student.dim, teacher.dim)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``cosine_hint``."""
        similarity = F.cosine_similarity(self.projection(student.embedding), teacher.embedding)
        return {"cosine_hint": self.weight * (1.0 - similarity).mean()}


class Network(nn.Module):
    """An encoder and a classifier; both networks return an `Output`."""

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__()
        self.encoder, self.classifier = nn.Linear(inputs, dim), nn.Linear(dim, 2)

    def forward(self, x: Tensor) -> Output:
        """Return the logits and the embedding."""
        embedding = self.encoder(x).relu()
        return Output(self.classifier(embedding), embedding)


if __name__ == "__main__":
    torch.manual_seed(0)
    target, index = torch.arange(64) % 2, torch.arange(64)
    rich = torch.randn(64, 8) + 2.0 * target[:, None]
    poor = rich[:, :2] + torch.randn(64, 2)
    teacher, student = Network(8, 16), Network(2, 4)  # in practice, a trained teacher
    specs = Spec(classes=2, dim=4), Spec(classes=2, dim=16)
    parts = [CosineHint(*specs), create("srrl", *specs), create("dkd", *specs, warmup_epochs=5)]
    method = Sum(*specs, parts, weights=[1.0, 0.5, 1.0])
    optimizer = torch.optim.Adam([*student.parameters(), *method.parameters()], lr=0.02)
    method.setup(student, teacher)  # srrl copies the teacher's classifier
    method.on_train_start(dataset_size=len(target))
    for epoch in range(21):
        method.on_train_epoch_start(epoch)  # the weight of dkd warms up
        for rows in torch.randperm(64).split(16):
            with torch.no_grad():
                teacher_output = teacher(rich[rows])
            output = student(poor[rows])
            terms = method(output, teacher_output, Batch({}, target[rows], index[rows]))
            loss = F.cross_entropy(output.logits, target[rows]) + torch.stack(list(terms.values())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 10 == 0:
            print(f"epoch {epoch}: loss {loss.item():.3f}, cosine_hint {terms['cosine_hint'].item():.3f}")
    method.on_train_end(student)
