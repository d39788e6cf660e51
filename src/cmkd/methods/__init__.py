"""Distillation methods, one file each: a pure function of tensors, then a thin `Method` around it."""

from cmkd.methods.base import METHODS as METHODS
from cmkd.methods.base import Method as Method
from cmkd.methods.base import create as create
