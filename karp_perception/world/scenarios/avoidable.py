"""Can a contact be avoided at all? Closed forms for a vehicle that brakes as hard as it can after a short delay."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_NO_BRAKING = 1e-6  # m/s²: the squares of how long less of it would take overflow


@dataclass(frozen=True)
class BestBraking:
    """The best that can be asked for: m/s² on a dry road, and s from sensor to brakes at full force."""

    deceleration: float = 8.0
    delay: float = 0.3


def stopping_distance(speed: float, braking: BestBraking = BestBraking()) -> float:
    """Way to standstill, m, from `speed` m/s: v t + v² / 2a."""
    return speed * braking.delay + 0.5 * speed * speed / braking.deceleration


def avoids_standing(speed: float, distance: float, braking: BestBraking = BestBraking()) -> bool:
    """Whether a vehicle at `speed` m/s can stop within `distance` m."""
    return stopping_distance(speed, braking) < distance


def avoids_lead(
    speed: float, gap: float, lead_speed: float, lead_deceleration: float = 0.0, braking: BestBraking = BestBraking()
) -> bool:
    """Whether a vehicle can stay behind a lead that brakes from now on, without ever touching it.

    The gap over time is made of parabolas that join where the delay ends and where either stands; its least value lies
    at one of these times or at the vertex of a parabola, where both are as fast.

    Args:
        speed, lead_speed: m/s. gap: m free between them now.
        lead_deceleration: m/s², 0 for a lead that keeps its speed.
    """
    a, b, delay = braking.deceleration, lead_deceleration, braking.delay
    if b < _NO_BRAKING:
        b = 0.0
    lead_stop = lead_speed / b if b > 0 else math.inf
    own_stop = delay + speed / a
    times = {delay, own_stop}
    if math.isfinite(lead_stop):
        times.add(lead_stop)
    if b > 0 and speed > lead_speed - b * delay and a != b:
        times.add((speed + a * delay - lead_speed) / (a - b))  # both brake: speed - a (t - delay) = lead_speed - b t
    times.add(delay + (speed - lead_speed) / a)  # the lead keeps its speed
    times = {t for t in times if t >= 0}

    def lead_way(t: float) -> float:
        t = min(t, lead_stop)
        return lead_speed * t - 0.5 * b * t * t

    def own_way(t: float) -> float:
        braked = min(max(t - delay, 0.0), speed / a)
        return speed * min(t, delay) + speed * braked - 0.5 * a * braked * braked

    return all(gap + lead_way(t) - own_way(t) > 0 for t in times)


def avoids_crossing(speed: float, time: float, braking: BestBraking = BestBraking()) -> bool:
    """Whether a vehicle at `speed` m/s can stop before something that it would meet in `time` s, seen from now on."""
    return avoids_standing(speed, speed * time, braking)


FUNCTIONS: dict[str, Callable[..., float | bool]] = {
    "stops_within": lambda kmh, m: avoids_standing(kmh / 3.6, m),
    "stays_behind": lambda kmh, m, lead_kmh, mps2=0.0: avoids_lead(kmh / 3.6, m, lead_kmh / 3.6, mps2),
    "stops_in_time": lambda kmh, s: avoids_crossing(kmh / 3.6, s),
}
"""For formulas of scenario files, in their units."""
