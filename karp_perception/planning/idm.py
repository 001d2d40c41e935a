"""Keeping distance: the Intelligent Driver Model.

Treiber, Hennecke, Helbing: Congested traffic states in empirical observations and microscopic simulations,
Physical Review E 62 (2000). The default numbers are those of PDM-Closed (Dauner et al., CoRL 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from karp_perception.core.settings import Settings, setting


@dataclass(frozen=True)
class IdmSettings(Settings):
    """How a calm driver keeps distance."""

    min_gap: float = setting(1.0, "gap kept when standing", unit="m", low=0.1, high=10.0)
    headway: float = setting(1.5, "time gap kept when driving", unit="s", low=0.1, high=5.0)
    acceleration: float = setting(1.5, "most used", unit="m/s2", low=0.1, high=5.0)
    deceleration: float = setting(3.0, "comfortable", unit="m/s2", low=0.1, high=8.0)
    exponent: float = setting(10.0, "how late acceleration fades towards the wanted speed", low=1.0, high=20.0)


def wanted_gap(speed: float, lead_speed: float, settings: IdmSettings) -> float:
    """The gap (m) wanted behind a lead, for speeds along the path in m/s."""
    closing = speed - lead_speed
    reserve = speed * closing / (2 * math.sqrt(settings.acceleration * settings.deceleration))
    return settings.min_gap + max(0.0, speed * settings.headway + reserve)


def free_acceleration(speed: float, wanted_speed: float, settings: IdmSettings) -> float:
    """Acceleration on a free road, m/s²; above the wanted speed no harder than the comfortable deceleration."""
    if wanted_speed <= 0.01:
        return -settings.deceleration if speed > 0 else 0.0
    ratio = min(speed / wanted_speed, 10.0)
    return max(settings.acceleration * (1 - ratio**settings.exponent), -settings.deceleration)


def interaction(speed: float, gap: float, lead_speed: float, settings: IdmSettings) -> float:
    """What a lead takes from the free acceleration, m/s², at least 0."""
    ratio = wanted_gap(speed, lead_speed, settings) / max(gap, 0.05)
    return settings.acceleration * min(ratio * ratio, 1e4)
