"""The families of places, and the door to them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.world.layout import Layout
from karp_perception.world.layouts import intersection, motorway, parking, roundabout, rural, streets, yard
from karp_perception.world.layouts.parameters import Parameter, checked

_Generator = Callable[[np.random.Generator, str, int, Mapping[str, Any]], Layout]
_GENERATORS: dict[str, tuple[_Generator, dict[str, Parameter]]] = {
    "straight": (streets.straight, streets.STRAIGHT),
    "curve": (streets.curve, streets.CURVE),
    "intersection": (intersection.intersection, intersection.PARAMETERS),
    "roundabout": (roundabout.roundabout, roundabout.PARAMETERS),
    "parking": (parking.parking, parking.PARAMETERS),
    "rural": (rural.rural, rural.PARAMETERS),
    "motorway": (motorway.motorway, motorway.PARAMETERS),
    "yard": (yard.yard, yard.PARAMETERS),
}

FAMILIES: tuple[str, ...] = tuple(_GENERATORS)
"""Names that `make_layout` knows."""


def parameters_of(family: str) -> dict[str, Parameter]:
    """What a scenario may fix of a family, by name. Raises ConfigurationError for an unknown family."""
    if family not in _GENERATORS:
        close = difflib.get_close_matches(str(family), FAMILIES, 1)
        advice = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(f"layout: expected a family out of {', '.join(FAMILIES)}, got {family!r}{advice}")
    return _GENERATORS[family][1]


def make_layout(family: str, seed: int, **parameters: Any) -> Layout:
    """A place to drive in, the same for the same arguments in any process.

    Args:
        family: one of `FAMILIES`.
        seed: not negative; draws everything that `parameters` leave open.
        parameters: see `parameters_of`.

    Raises:
        ConfigurationError: unknown family or parameter, a value out of its range, a negative seed.
    """
    known = parameters_of(family)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ConfigurationError(f"layout {family!r}, seed: expected a whole number from 0 on, got {seed!r}")
    given = checked(family, known, parameters)
    rng = np.random.default_rng([int(seed), FAMILIES.index(family)])
    return _GENERATORS[family][0](rng, family, int(seed), given)
