"""The echo of fog against numerical integration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from karp_perception.world.sensors.laser_weather import soft_target


def test_the_echo_of_fog_is_the_integral_over_the_pulse() -> None:
    visibility = 50.0
    extinction, length = np.log(20.0) / visibility, 299792458.0 * 20e-9
    power, place = soft_target(visibility)

    def echo(z: float) -> float:
        if z <= 0.9:
            return 0.0
        return 0.046 / visibility * min((z - 0.9) / 0.1, 1.0) / z**2 * np.exp(-2 * extinction * z)

    def received(r: float) -> float:
        return quad(lambda s: np.sin(np.pi * s / length) ** 2 * echo(r - s), 0.0, length, points=[r - 1.0, r - 0.9])[0]

    ranges = np.arange(2.0, 7.0, 0.05)
    values = np.array([received(r) for r in ranges])
    assert place == pytest.approx(ranges[values.argmax()], abs=0.1)
    assert power / soft_target(100.0)[0] == pytest.approx(values.max() / soft_value(100.0), rel=0.02)
    assert soft_target(20.0)[0] > power > soft_target(200.0)[0]


def soft_value(visibility: float) -> float:
    """Peak of the same integral by a plain sum over a grid of ranges."""
    extinction, length, step = np.log(20.0) / visibility, 299792458.0 * 20e-9, 0.01
    best = 0.0
    for r in np.arange(2.0, 7.0, 0.05):
        s = np.arange(0.5 * step, length, step)
        z = r - s
        use = z > 0.9
        z, s = z[use], s[use]
        cross = np.minimum((z - 0.9) / 0.1, 1.0)
        values = np.sin(np.pi * s / length) ** 2 * cross / z**2 * np.exp(-2 * extinction * z) * 0.046 / visibility
        best = max(best, float(values.sum() * step))
    return best
