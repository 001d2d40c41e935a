"""What lasers meet of models: glass they pass, gaps they see through, feet that walk; and the sculptor's gestures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from karp_perception.world.geometry.cast import Carrier, Hits, cast
from karp_perception.world.geometry.ground import Ground
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.scene import Bodies, Body, Scene
from karp_perception.world.geometry.shape import Shape
from karp_perception.world.models.catalogue import draw
from karp_perception.world.models.figure import PHASES, bend, standing
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Sculptor, fit

CARS = ("sedan", "hatchback", "suv", "city_car", "minivan")


def hits(shape: Shape, origins: np.ndarray, direction: tuple[float, float, float], seed: int = 0) -> Hits:
    """Parallel rays, each cast from its own origin (N, 3), at a shape alone in the world."""
    scene = Scene(Ground.flat(), Bodies.of([Body(shape, (0.0, 0.0, 0.0), owner=1)]), Bodies.of([]))
    bodies, ground = scene.rays(0.0, 0.0, 100.0)
    d = np.asarray(direction, float)[None] / np.linalg.norm(direction)
    found = [
        cast(bodies, ground, Carrier(np.eye(4)), origin, d, np.zeros(1), 60.0, seed + k, threads=1)
        for k, origin in enumerate(origins)
    ]
    names = ("distance", "primitive", "owner", "surface", "incidence")
    return Hits(*(np.concatenate([getattr(f, name) for f in found]) for name in names))


def grid(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.stack([a.ravel() for a in np.meshgrid(x, y, z, indexing="ij")], axis=1)


def from_the_side(model: Model, low: float, high: float, part: float = 0.5, count: int = 14) -> Hits:
    """Rays along -y at heights (shares of the model's), over the middle `part` of its length."""
    L, W, H = model.size
    origins = grid(np.linspace(-0.5 * part, 0.5 * part, count) * L, np.array([W + 2]), np.linspace(low, high, 5) * H)
    return hits(model.shape, origins, (0.0, -1.0, 0.0))


@pytest.mark.parametrize("family", CARS)
def test_beams_pass_the_cabin_but_not_the_doors(family: str) -> None:
    model = draw(family, 2)
    doors = from_the_side(model, 0.35, 0.5)
    assert (doors.owner == 1).all()
    cabin = from_the_side(model, 0.76, 0.9, part=0.4)
    assert 0.2 < np.mean(cabin.owner == 0) < 0.95
    assert np.mean((cabin.owner == 0) | (cabin.surface == Material.GLASS)) > 0.5
    L, W, H = model.size
    ahead = grid(np.array([L + 2]), np.linspace(-0.36, 0.36, 16) * W, np.linspace(0.7, 0.85, 4) * H)
    seats = hits(model.shape, ahead, (-1.0, 0.0, -0.01))
    assert (seats.surface[seats.owner == 1] == Material.SEAT).any(), "no seat is ever met"


@pytest.mark.parametrize("family", CARS)
def test_beams_pass_below_a_car_between_its_wheels(family: str) -> None:
    model = draw(family, 4)
    origins = grid(np.linspace(-0.12, 0.12, 8) * model.size[0], np.array([4.0]), np.array([0.05, 0.1]))
    below = hits(model.shape, origins, (0.0, -1.0, 0.0))
    assert (below.owner == 0).all()
    rear_wheel = hits(model.shape, np.array([[model.rear_axle, 4.0, 0.1]]), (0.0, -1.0, 0.0))
    assert rear_wheel.surface[0] == Material.RUBBER


def test_a_panel_van_has_no_windows_behind() -> None:
    model = draw("panel_van", 1)
    L, W, H = model.size
    origins = grid(np.linspace(-0.4, -0.05, 10) * L, np.array([W + 2]), np.linspace(0.65, 0.85, 4) * H)
    assert (hits(model.shape, origins, (0.0, -1.0, 0.0)).owner == 1).all()


def test_most_beams_pass_the_wheels_of_a_bicycle_and_none_a_lorry() -> None:
    bicycle = draw("parked_bicycle", 1)
    box = from_the_side(draw("box_truck", 1), 0.55, 0.8)
    assert (box.owner == 1).all()
    ridden = from_the_side(bicycle, 0.05, 0.6, part=1.0)
    assert np.mean(ridden.owner == 0) > 0.4


def test_beams_that_pass_a_window_end_behind_the_facade() -> None:
    model = draw("building", 3, (14.0, 10.0, 9.0))
    L, W, H = model.size
    rng = np.random.default_rng(0)
    origins = np.stack([rng.uniform(-0.45, 0.45, 400) * L, np.full(400, -W), rng.uniform(0.1, 0.5, 400) * H], axis=1)
    found = hits(model.shape, origins, (0.0, 1.0, 0.0))
    depth = found.distance - 0.5 * W
    assert (found.owner == 1).all()
    assert 0.4 < np.mean(depth < 1.2) < 0.97
    assert np.mean(depth > 1.5) > 0.03, "no beam enters a room"


def test_people_walk_in_eight_phases_with_a_foot_on_the_ground() -> None:
    model = draw("pedestrian", 6)
    shapes = [model.shape_at(2 * math.pi * k / PHASES) for k in range(PHASES)]
    assert model.shape_at(2 * math.pi * 5 + 0.1) is shapes[0]
    assert model.shape_at(-math.pi / 2) is shapes[6]
    for shape in shapes:
        assert shape.lower[2] == pytest.approx(0, abs=0.02)
        assert len(shape) == len(shapes[0])
    stride = [shape.size[0] for shape in shapes]
    assert stride[2] > 1.5 * stride[0]
    assert stride[2] == pytest.approx(model.size[0], abs=0.03)
    # Half a turn later the feet have changed sides: the shape is mirrored, and as long as before.
    assert shapes[1].size[0] == pytest.approx(shapes[5].size[0], abs=0.01)


def test_walking_keeps_the_bones_of_the_legs() -> None:
    height = 1.75
    for phase in np.linspace(0, 2 * math.pi, 9):
        posture = standing(height, 0.75, float(phase))
        for foot in posture.feet:
            reach = math.dist(posture.pelvis, foot)
            assert reach < (0.245 + 0.246) * height + 0.05


def test_a_joint_keeps_both_bones_and_bends_to_its_side() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        a, c = rng.normal(size=3), rng.normal(size=3)
        length = float(np.linalg.norm(c - a))
        first, second = length * rng.uniform(0.5, 0.9), length * rng.uniform(0.55, 0.9)
        pole = rng.normal(size=3)
        joint = np.array(bend(tuple(a), tuple(c), first, second, tuple(pole)))
        assert np.linalg.norm(joint - a) == pytest.approx(first)
        assert np.linalg.norm(joint - c) == pytest.approx(second)
        along = (c - a) / length
        middle = a + along * ((joint - a) @ along)
        assert (joint - middle) @ pole > 0


def test_a_fit_moves_every_surface_with_the_box() -> None:
    """Points on the surface of a ball become points on that of an ellipsoid whose box is the given one."""
    shape = Sculptor().ellipsoid((3.0, -2.0, 5.0), (2.0, 2.0, 2.0), Material.PAINT).build()
    fitted = fit(shape, shape.lower, shape.upper, (4.0, 1.0, 6.0))
    np.testing.assert_allclose(fitted.lower, (-2, -0.5, 0), atol=1e-12)
    np.testing.assert_allclose(fitted.upper, (2, 0.5, 6), atol=1e-12)
    directions = np.random.default_rng(0).normal(size=(50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = directions * (2, 0.5, 3) + (0, 0, 3)
    A = fitted.affine[0]
    np.testing.assert_allclose(np.linalg.norm(points @ A[:, :3].T + A[:, 3], axis=1), 1, atol=1e-12)


def test_gestures_put_pieces_where_they_say() -> None:
    def box(s: Sculptor) -> np.ndarray:
        shape = s.build()
        return np.stack([shape.lower, shape.upper])

    paint = Material.PAINT
    np.testing.assert_allclose(box(Sculptor().slab((1, 2), (-1, 3), (0, 0.5), paint)), [[1, -1, 0], [2, 3, 0.5]])
    np.testing.assert_allclose(box(Sculptor().pair((0, 1), (0.5, 1), (0, 1), paint)), [[0, -1, 0], [1, 1, 1]])
    np.testing.assert_allclose(
        box(Sculptor().post((0, 0, 0), (1, 0.5, 2), (0.2, 0.2), paint)), [[-0.1, -0.1, 0], [1.1, 0.6, 2]]
    )
    np.testing.assert_allclose(
        box(Sculptor().strut((0, 0, 0), (0, 3, 0), 0.1, paint)), [[-0.1, 0, -0.1], [0.1, 3, 0.1]], atol=1e-12
    )
    np.testing.assert_allclose(
        box(Sculptor().beam((0, 1, 1), (2, 1, 1), (0.4, 0.2), paint)), [[0, 0.9, 0.8], [2, 1.1, 1.2]], atol=1e-12
    )


@pytest.mark.parametrize("end", [2.0, -2.0])
def test_a_prow_is_drawn_in_at_its_end(end: float) -> None:
    shape = Sculptor().prow((0.0, end), (-1, 1), (0, 1), Material.PAINT, top=0.5, bottom=0.2, side=0.3).build()
    ahead = math.copysign(1.0, end)
    near, far = 0.02 * ahead, end - 0.02 * ahead
    z = np.array([-0.1, 0.02, 0.18, 0.22, 0.48, 0.53, 0.98, 1.02]) + 1e-3
    met = {x: hits(shape, grid(np.array([x]), np.array([5.0]), z), (0.0, -1.0, 0.0)).owner == 1 for x in (near, far)}
    np.testing.assert_array_equal(met[near], [False, True, True, True, True, True, True, False])
    np.testing.assert_array_equal(met[far], [False, False, False, True, True, False, False, False])
    across = grid(np.array([near, far]), np.array([5.0]), np.array([0.4]))
    sides = 5.0 - hits(shape, across, (0.0, -1.0, 0.0)).distance
    np.testing.assert_allclose(sides, [1.0, 0.7], atol=0.02)
