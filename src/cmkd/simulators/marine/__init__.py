"""The marine simulator: paired optical and radar images of 8 kinds of target from one 3-D scene.

The images stand in for a paired data set that cannot be had. They are simulated and say nothing about real radar
performance; `cmkd.simulators.marine.describe.UNREAL` lists what is known to be unreal. Heavy imports (Embree) happen on use.
"""

from cmkd.simulators.marine.simulate import Pair, Recipe, make_pair

__all__ = ["Pair", "Recipe", "make_pair"]
