"""Training under Lightning: objective, loader, checkpoints, and `fit`. Import what you need from its modules."""

from cmkd._torchvision import mend

mend()  # before any module here imports lightning
