"""A run: its resolved configuration, its folder, and the runner that trains its models."""

from cmkd.experiment.runner import Experiment as Experiment
