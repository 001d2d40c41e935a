"""How much of an actor is seen, where geometry tells."""

from __future__ import annotations

import numpy as np
import pytest

from karp_perception.world.geometry.cast import Carrier
from karp_perception.world.geometry.ground import Ground
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.scene import Bodies, Body, Scene
from karp_perception.world.geometry.shape import ShapeBuilder
from karp_perception.world.sensors.visibility import visibility

STILL = Carrier(np.eye(4))


def shares(bodies: list[Body], origins: list[tuple[float, float, float]], **options: object) -> np.ndarray:
    scene = Scene(Ground.flat(), Bodies.of(bodies), Bodies.of([])).rays(0.0, 0.0, 200.0)
    return visibility(*scene, STILL, np.array(origins), np.array([1, 2]), **options)


def box(x: float, y: float, size: tuple[float, float, float], owner: int) -> Body:
    return Body(ShapeBuilder().block((0, 0, 0.5 * size[2]), size, Material.PAINT).build(), (x, y, 0.0), owner=owner)


def test_half_of_what_stands_half_behind_something_is_seen() -> None:
    target = box(20.0, 0.0, (0.2, 2.0, 2.0), 1)
    eye = [(0.0, 0.0, 1.0)]
    assert shares([target], eye).tolist() == [1.0, 0.0]
    half = box(10.0, 2.5, (0.2, 5.0, 4.0), 2)  # hides y > 0
    assert shares([target, half], eye)[0] == pytest.approx(0.5, abs=0.08)
    assert shares([target, half], eye, samples=400)[0] == pytest.approx(0.5, abs=0.02)
    whole = box(10.0, 0.0, (0.2, 5.0, 4.0), 2)
    assert shares([target, whole], eye).tolist() == [0.0, 1.0]
    # The best placed sensor counts, if it looks there at all.
    both = [(0.0, 0.0, 1.0), (0.0, 12.0, 1.0)]
    assert shares([target, whole], both)[0] == 1.0
    assert shares([target, whole], both, looks=np.array([[True, True], [False, True]]))[0] == 0.0


def test_scenery_and_ground_hide_and_glass_does_only_in_part() -> None:
    target = box(20.0, 0.0, (0.2, 2.0, 2.0), 1)
    eye = [(0.0, 0.0, 1.0)]
    low = Body(ShapeBuilder().block((0, 0, 0.5), (0.2, 9.0, 1.0), Material.CONCRETE).build(), (10.0, 0.0, 0.0))
    assert shares([target, low], eye, samples=400)[0] == pytest.approx(0.5, abs=0.02)
    pane = Body(ShapeBuilder().block((0, 0, 2.0), (0.02, 9.0, 4.0), Material.GLASS).build(), (10.0, 0.0, 0.0))
    assert shares([target, pane], eye, samples=400)[0] > 0.4
    hill = np.zeros((2, 61))
    hill[:, 28:33] = 6.0
    scene = Scene(Ground(hill, (-20.0, -50.0), 1.0), Bodies.of([target]), Bodies.of([])).rays(0.0, 0.0, 200.0)
    assert visibility(*scene, STILL, np.array(eye), np.array([1])).tolist() == [0.0]
