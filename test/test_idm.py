"""The Intelligent Driver Model against its own closed-form facts."""

from __future__ import annotations

import math

import pytest

from karp_perception.planning.idm import IdmSettings, free_acceleration, interaction, wanted_gap

IDM = IdmSettings().model


def test_wanted_gap_is_the_published_formula() -> None:
    v, lead = 15.0, 10.0
    reserve = v * (v - lead) / (2 * math.sqrt(IDM.acceleration * IDM.deceleration))
    assert wanted_gap(v, lead, IDM) == pytest.approx(IDM.min_gap + v * IDM.headway + reserve)
    assert wanted_gap(5.0, 50.0, IDM) == IDM.min_gap  # a lead that runs away asks for no more than the standing gap


@pytest.mark.parametrize("speed", [2.0, 8.0, 12.0])
def test_at_the_equilibrium_gap_nothing_changes(speed: float) -> None:
    """Equal speeds: s_e = (s0 + v T) / sqrt(1 - (v / v0)^delta)."""
    wanted = 14.0
    gap = (IDM.min_gap + speed * IDM.headway) / math.sqrt(1 - (speed / wanted) ** IDM.exponent)
    assert free_acceleration(speed, wanted, IDM) - interaction(speed, gap, speed, IDM) == pytest.approx(0, abs=1e-9)


def test_free_road() -> None:
    assert free_acceleration(0.0, 14.0, IDM) == IDM.acceleration
    assert free_acceleration(14.0, 14.0, IDM) == pytest.approx(0)
    assert free_acceleration(60.0, 14.0, IDM) == -IDM.deceleration
    assert free_acceleration(3.0, 0.0, IDM) == -IDM.deceleration
    assert free_acceleration(0.0, 0.0, IDM) == 0


def test_interaction_grows_with_closing_speed_and_with_nearness() -> None:
    assert interaction(10, 20, 5, IDM) > interaction(10, 20, 8, IDM) > interaction(10, 30, 8, IDM) > 0
    assert math.isfinite(interaction(50, -5, -50, IDM))
