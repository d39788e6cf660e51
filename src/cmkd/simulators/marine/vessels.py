"""Eight families of marine targets: the dimensions and fittings of each individual are drawn from its family.

Hulls end 1.5 m below the calm waterline. Dimensions follow the usual ratios of each type; no mesh copies a real vessel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cmkd.errors import unknown_name
from cmkd.simulators.marine.craft import fishing_boat, offshore_platform, sailing_yacht, tugboat
from cmkd.simulators.marine.fittings import VesselBuilder
from cmkd.simulators.marine.mesh import Mesh
from cmkd.simulators.marine.ships import container_ship, ferry, frigate, tanker

Family = Callable[[VesselBuilder, np.random.Generator], None]

FAMILIES: dict[str, Family] = {
    "container ship": container_ship,
    "tanker": tanker,
    "fishing boat": fishing_boat,
    "sailing yacht": sailing_yacht,
    "ferry": ferry,
    "frigate": frigate,
    "tugboat": tugboat,
    "offshore platform": offshore_platform,
}
"""Class name -> family, in the order of the class numbers 0 to 7."""

CLASSES = tuple(FAMILIES)
"""Class names in the order of their numbers."""


def vessel(name: str, rng: np.random.Generator) -> Mesh:
    """Make one individual of a class.

    Args:
        name: one of `CLASSES`.
        rng: random generator of dimensions and fittings.

    Returns:
        Mesh of the vessel: bow along x, calm waterline at z = 0.

    Raises:
        CmkdError: the class is unknown.

    Example:
        >>> mesh = vessel("tugboat", np.random.default_rng(0))
        >>> low, high = mesh.bounds
        >>> bool(18 < high[0] - low[0] < 45)
        True
    """
    if name not in FAMILIES:
        raise unknown_name("marine class", name, FAMILIES)
    builder = VesselBuilder()
    FAMILIES[name](builder, rng)
    return builder.mesh()
