# %% [markdown]
# # Your own models in your own Lightning module
#
# A cmkd method is an `nn.Module` and does not need cmkd's trainer. Here, `ds` works inside a plain `LightningModule`,
# with two networks from another code base. cmkd sees only their outputs.

# %%
from cmkd import Batch, Output, Spec, methods  # first: some CPU builds of torch cannot import lightning without it

import logging

import lightning.pytorch as pl
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from cmkd.types import UNLABELED

pl.seed_everything(0, verbose=False)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

# %% [markdown]
# ## Pairs
#
# Each item holds the rich image, the poor image, the label, and the position in the data set, by which some methods
# remember pairs. 100 of the 1,297 training pairs have a label; the others have -1, which the cross-entropy ignores.

# %%
images, labels = load_digits(return_X_y=True)
rich = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
poor = rich + 0.4 * torch.randn(rich.shape)
known = torch.tensor(labels)
train, test = torch.randperm(len(known)).split([1297, 500])
known[train[100:]] = UNLABELED
pairs = TensorDataset(rich, poor, known, torch.arange(len(known)))
loader = DataLoader(Subset(pairs, train), batch_size=64, shuffle=True, drop_last=True)


# %% [markdown]
# ## Networks
#
# You can use any network that returns its logits, its embedding (the input of the last layer) and, for methods that
# need them, feature maps.


# %%
class Net(nn.Module):
    """Two convolutions and a classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8 * width, 10)

    def forward(self, x: Tensor) -> Output:
        shallow = self.first(x)
        deep = self.second(shallow)
        embedding = F.adaptive_avg_pool2d(deep, 2).flatten(1)
        return Output(self.head(embedding), embedding, (shallow, deep))


# %% [markdown]
# ## The module
#
# cmkd takes only six lines: the two specs (output shapes), the method, its three calls, and its terms in the loss.
# Without a teacher, the same module trains the teacher, or the student alone.


# %%
class Distillation(pl.LightningModule):
    """Train `net` on one of the two images, with a teacher on the rich one if there is one."""

    def __init__(self, net: Net, image: int, teacher: Net | None = None) -> None:
        super().__init__()
        self.net, self.image, self.teacher = net, image, teacher
        self.method = None
        if teacher is not None:
            teacher.requires_grad_(False)
            specs = (
                Spec(classes=10, dim=64, map_shapes=((8, 8, 8), (16, 8, 8))),
                Spec(classes=10, dim=256, map_shapes=((32, 8, 8), (64, 8, 8))),
            )
            self.method = methods.create("ds", *specs)
            self.method.setup(net, teacher)

    def on_train_start(self) -> None:
        if self.method is not None:
            self.method.on_train_start(dataset_size=len(pairs))

    def on_train_epoch_start(self) -> None:
        if self.method is not None:
            self.teacher.eval()
            self.method.on_train_epoch_start(self.current_epoch)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        target, index = batch[2:]
        output = self.net(batch[self.image])
        loss = F.cross_entropy(output.logits, target, ignore_index=UNLABELED, reduction="sum") / len(target)
        if self.method is not None:
            with torch.no_grad():
                answer = self.teacher(batch[0])
            loss = loss + sum(self.method(output, answer, Batch({}, target, index)).values())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=0.01)


# %% [markdown]
# ## Three trainings
#
# We train the teacher on the rich image, the student alone, and the student with the teacher.


# %%
def accuracy(net: Net, image: int) -> float:
    """Return the fraction of test pairs that a network gets right."""
    batch = pairs[test]
    with torch.no_grad():
        return float((net.eval()(batch[image]).logits.argmax(1) == batch[2]).float().mean())


def trained(net: Net, image: int, epochs: int, teacher: Net | None = None) -> Net:
    """Train a network, and return it."""
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Distillation(net, image, teacher), loader)
    return net


teacher = trained(Net(32), 0, 10)
alone = trained(Net(8), 1, 15)
taught = trained(Net(8), 1, 15, teacher)
found = {
    "teacher, rich": accuracy(teacher, 0),
    "student alone": accuracy(alone, 1),
    "student with ds": accuracy(taught, 1),
}
figure, axis = plt.subplots(figsize=(5, 1.8))
axis.barh(list(found), list(found.values()), color=["#999999", "#4477aa", "#228833"])
axis.set(xlim=(0, 1), xlabel="accuracy on 500 test pairs")
axis.invert_yaxis()
for name, value in found.items():
    print(f"{name}: {value:.1%}")

# %% [markdown]
# The student with the teacher also learned from the 1,197 pairs without a label. You can copy this wiring into your
# code. `cmkd run` with `--student.model my_code:Net` does the rest: seeds and intervals, early stopping, a cache of
# the teacher's outputs, calibration and export.
