"""Keeping distance: the Intelligent Driver Model.

Treiber, Hennecke, Helbing: Congested traffic states in empirical observations and microscopic simulations,
Physical Review E 62 (2000). The default numbers are those of PDM-Closed (Dauner et al., CoRL 2023).
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import NamedTuple

from karp_perception.core.compiled import njit
from karp_perception.core.settings import Settings, setting


class Idm(NamedTuple):
    """The numbers of IdmSettings, as compiled code takes them."""

    min_gap: float
    headway: float
    acceleration: float
    deceleration: float
    exponent: float


@dataclass(frozen=True)
class IdmSettings(Settings):
    """How a calm driver keeps distance."""

    min_gap: float = setting(1.0, "gap kept when standing", unit="m", low=0.1, high=10.0)
    headway: float = setting(1.5, "time gap kept when driving", unit="s", low=0.1, high=5.0)
    acceleration: float = setting(1.5, "most used", unit="m/s2", low=0.1, high=5.0)
    deceleration: float = setting(3.0, "comfortable", unit="m/s2", low=0.1, high=8.0)
    exponent: float = setting(10.0, "how late acceleration fades towards the wanted speed", low=1.0, high=20.0)

    @cached_property
    def model(self) -> Idm:
        """What the functions of this module take."""
        return Idm(*astuple(self))


@njit(cache=True, nogil=True, error_model="numpy")
def wanted_gap(speed: float, lead_speed: float, idm: Idm) -> float:
    """The gap (m) wanted behind a lead, for speeds along the path in m/s."""
    closing = speed - lead_speed
    reserve = speed * closing / (2.0 * math.sqrt(idm.acceleration * idm.deceleration))
    return idm.min_gap + max(0.0, speed * idm.headway + reserve)


@njit(cache=True, nogil=True, error_model="numpy")
def free_acceleration(speed: float, wanted_speed: float, idm: Idm) -> float:
    """Acceleration on a free road, m/s²; above the wanted speed no harder than the comfortable deceleration."""
    if wanted_speed <= 0.01:
        return -idm.deceleration if speed > 0.0 else 0.0
    ratio = min(speed / wanted_speed, 10.0)
    return max(idm.acceleration * (1.0 - ratio**idm.exponent), -idm.deceleration)


@njit(cache=True, nogil=True, error_model="numpy")
def interaction(speed: float, gap: float, lead_speed: float, idm: Idm) -> float:
    """What a lead takes from the free acceleration, m/s², at least 0."""
    ratio = wanted_gap(speed, lead_speed, idm) / max(gap, 0.05)
    return idm.acceleration * min(ratio * ratio, 1e4)
