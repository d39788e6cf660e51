"""A run: its resolved configuration, its folder, and the runner that fills it."""

from cmkd.experiment.runner import Experiment as Experiment
