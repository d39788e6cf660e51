"""The marine simulator: paired optical and radar images of 8 kinds of target from one 3-D scene.

The images are simulated and say nothing about real radar performance; `cmkd.simulators.marine.describe.UNREAL` lists
known differences from reality. Embree is imported on use.
"""

from cmkd.simulators.marine.recipe import Recipe
from cmkd.simulators.marine.simulate import Pair, make_pair

__all__ = ["Pair", "Recipe", "make_pair"]
