"""Keeping one's distance: the Intelligent Driver Model, and stopping at a line.

Treiber, Hennecke, Helbing: Congested traffic states in empirical observations and microscopic simulations, Physical
Review E 62 (2000).
"""

from __future__ import annotations

import math

from karp_perception.core.compiled import njit

EXPONENT = 4.0
"""How late acceleration fades towards the wanted speed."""
HARDEST = 8.0
"""m/s², what brakes give."""


@njit(cache=True, nogil=True)
def free_acceleration(v, wanted, strength, comfort):
    """m/s² on a free road; above the wanted speed it falls to the comfortable deceleration at most."""
    if v <= wanted:
        return strength * (1.0 - (v / max(wanted, 0.1)) ** EXPONENT)
    return -comfort * (1.0 - (max(wanted, 0.1) / v) ** (strength * EXPONENT / comfort))


@njit(cache=True, nogil=True)
def following_acceleration(v, wanted, gap, lead_v, headway, min_gap, strength, comfort):
    """m/s² behind something `gap` m ahead that drives at `lead_v`: the model's own formula below the wanted speed."""
    free = free_acceleration(v, wanted, strength, comfort)
    if gap == math.inf:
        return free
    wish = min_gap + max(0.0, v * headway + v * (v - lead_v) / (2.0 * math.sqrt(strength * comfort)))
    return max(free - strength * (wish / max(gap, 0.1)) ** 2, -HARDEST)


@njit(cache=True, nogil=True)
def stopping_acceleration(v, distance, comfort):
    """The most, m/s², with which one still comes to rest comfortably within `distance` m; infinite far away."""
    if distance <= 0.05:
        return -HARDEST if v > 0.0 else 0.0
    fastest = math.sqrt(2.0 * comfort * distance)
    if v >= fastest:
        return max(-0.5 * v * v / distance, -HARDEST)
    return (fastest - v) / 0.7


def equilibrium_gap(v: float, wanted: float, headway: float, min_gap: float) -> float:
    """The gap (m) at which a platoon drives at v m/s: Treiber et al. (2000), equation for s_e."""
    return (min_gap + headway * v) / math.sqrt(1.0 - (v / wanted) ** EXPONENT)
