"""Distillation methods, one file each: a pure function of tensors, then a thin `Method` around it."""

from cmkd.methods.base import Method as Method
from cmkd.methods.base import create as create
from cmkd.methods.base import get as get
from cmkd.methods.base import hyperparameters as hyperparameters
from cmkd.methods.base import registry as registry
