"""The catalogue of models: every family draws, always the same, in its box, in the sizes that are published."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from karp_perception.core import ObjectClass
from karp_perception.core.errors import ConfigurationError
from karp_perception.world.geometry.shape import OWN
from karp_perception.world.models import catalogue
from karp_perception.world.models.catalogue import FAMILIES, MIXES, draw, draw_mix, draw_trailer
from karp_perception.world.models.model import Model

SEEDS = range(8)
FOOT_AT_ORIGIN = {"lamp_post", "sign", "billboard", "traffic_light"}
"""What stands on its origin and reaches over to one side: its box is around both."""
MIRROR = 0.25  # m that mirrors may stick out of the box on either side


def extent(model: Model) -> tuple[np.ndarray, np.ndarray]:
    shapes = [model.shape] if model.gait is None else [model.gait(2 * math.pi * k / 8) for k in range(8)]
    return np.min([s.lower for s in shapes], axis=0), np.max([s.upper for s in shapes], axis=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_fill_their_boxes(family: str) -> None:
    for seed in SEEDS:
        model = draw(family, seed)
        lower, upper = extent(model)
        box = 0.5 * np.asarray(model.size)
        aside = MIRROR if model.label in (ObjectClass.CAR, ObjectClass.TRUCK, ObjectClass.BUS) else 0.0
        assert model.family == family
        assert lower[2] == pytest.approx(0, abs=0.01)
        assert upper[2] == pytest.approx(model.size[2], abs=0.01)
        assert (lower[:2] >= -box[:2] - 0.01 - np.array([0, aside])).all()
        assert (upper[:2] <= box[:2] + 0.01 + np.array([0, aside])).all()
        if family not in FOOT_AT_ORIGIN:
            assert (lower[:2] <= -box[:2] + 0.01).all()
            assert (upper[:2] >= box[:2] - 0.01).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_given_sizes_are_kept(family: str) -> None:
    size = tuple(1.1 * s for s in FAMILIES[family].sizes.mean)
    model = draw(family, 3, size)
    if family in FOOT_AT_ORIGIN:
        assert model.size[2] <= size[2] + 0.01
    else:
        assert model.size == pytest.approx(size)


def test_a_wider_spread_draws_the_same_models_farther_from_the_mean() -> None:
    for family in ("hatchback", "light_truck", "standing_person"):
        mean = np.array(FAMILIES[family].sizes.mean)
        usual, wide, none = (
            np.array([draw(family, seed, spread=spread).size for seed in range(40)]) - mean
            for spread in (1.0, 2.0, 0.0)
        )
        np.testing.assert_allclose(wide, 2.0 * usual, atol=1e-9)
        np.testing.assert_allclose(none, 0.0, atol=1e-9)
        assert np.array_equal(draw(family, 3).size, draw(family, 3, spread=1.0).size)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_draws_the_same_again(family: str) -> None:
    first = draw(family, 5)
    catalogue._drawn.cache_clear()
    again = draw(family, 5)
    assert again is not first
    assert (again.size, again.first, again.second) == (first.size, first.first, first.second)
    for name in ("kind", "affine", "taper", "material", "color", "tint", "density"):
        np.testing.assert_array_equal(getattr(again.shape, name), getattr(first.shape, name))
    assert any(draw(family, seed).size != first.size for seed in range(3)), "one example is like the other"


def test_another_process_draws_the_same() -> None:
    code = (
        "import hashlib; from karp_perception.world.models.catalogue import draw\n"
        "h = hashlib.sha256()\n"
        "for f in ('sedan', 'tree', 'pedestrian', 'building'):\n"
        "    m = draw(f, 11); h.update(m.shape.affine.tobytes()); h.update(repr((m.size, m.first)).encode())\n"
        "print(h.hexdigest())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_are_sound_and_of_moderate_size(family: str) -> None:
    for seed in SEEDS:
        shape = draw(family, seed).shape
        assert np.isfinite(shape.affine).all()
        assert len(shape) <= 60
        assert ((shape.color >= 0) & (shape.color <= 255)).all()
        assert (shape.density >= 0).all()
        assert set(shape.tint) <= {OWN, 1, 2}
        # The affine maps keep right-handedness: an inside-out primitive would show its back.
        assert (np.linalg.det(shape.affine[:, :, :3]) > 0).all()


def test_labels_are_those_of_the_ten_classes() -> None:
    expected = {
        "sedan": ObjectClass.CAR,
        "panel_van": ObjectClass.CAR,
        "pickup": ObjectClass.CAR,
        "semi_tractor": ObjectClass.TRUCK,
        "curtain_trailer": ObjectClass.TRAILER,
        "caravan": ObjectClass.TRAILER,
        "articulated_bus_rear": ObjectClass.BUS,
        "excavator": ObjectClass.CONSTRUCTION_VEHICLE,
        "wheelchair_user": ObjectClass.PEDESTRIAN,
        "scooter_rider": ObjectClass.MOTORCYCLE,
        "cargo_bike": ObjectClass.BICYCLE,
        "road_drum": ObjectClass.TRAFFIC_CONE,
        "crowd_barrier": ObjectClass.BARRIER,
        "building": None,
        "steam": None,
    }
    for name, family in FAMILIES.items():
        assert draw(name, 0).label is family.label
    assert {name: FAMILIES[name].label for name in expected} == expected
    for label in ObjectClass:
        if label >= 0:
            assert sum(family.label == label for family in FAMILIES.values()) >= 2, f"one shape for all of {label.name}"


# Means of the annotated boxes (length, width, height, m): KITTI (Geiger et al. 2012) and nuScenes (Caesar et al. 2020).
KITTI_CAR, NUSCENES_CAR = (3.88, 1.63, 1.53), (4.63, 1.96, 1.74)
NUSCENES = {
    "truck": (6.93, 2.51, 2.84),
    "bus": (11.1, 2.93, 3.46),
    "trailer": (12.28, 2.92, 3.87),
    "construction": (6.56, 2.82, 3.20),
    "people": (0.73, 0.67, 1.77),
    "cone": (0.41, 0.42, 1.07),
    "barrier": (0.50, 2.53, 0.98),
}


def mean_size(*mixes: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.mean([draw_mix(mix, rng).size for mix in mixes for _ in range(250)], axis=0)


def test_cars_lie_between_those_of_kitti_and_nuscenes() -> None:
    mean = mean_size("car")
    assert (mean > np.array(KITTI_CAR)).all()
    assert (mean < np.array(NUSCENES_CAR)).all()


@pytest.mark.parametrize("mix", NUSCENES)
def test_mean_sizes_are_those_of_nuscenes(mix: str) -> None:
    np.testing.assert_allclose(mean_size(mix), NUSCENES[mix], rtol=0.16)


def test_mean_sizes_of_two_wheelers_are_those_of_nuscenes() -> None:
    """Half of them ridden, half parked."""
    rng = np.random.default_rng(1)

    def mean(ridden: str, parked: list[str]) -> np.ndarray:
        sizes = [draw_mix(ridden, rng).size for _ in range(150)]
        return np.mean(sizes + [draw(parked[k % len(parked)], k).size for k in range(150)], axis=0)

    np.testing.assert_allclose(mean("bicycle", ["parked_bicycle"]), (1.70, 0.61, 1.29), rtol=0.13)
    motorcycles = mean("motorcycle", ["parked_motorcycle", "parked_scooter"])
    np.testing.assert_allclose(motorcycles, (2.10, 0.77, 1.46), rtol=0.1)


def test_mixes_name_families_and_follow_their_shares() -> None:
    for mix, shares in MIXES.items():
        assert set(shares) <= set(FAMILIES), mix
        assert sum(shares.values()) == pytest.approx(1, abs=0.005), mix
    rng = np.random.default_rng(4)
    drawn = [draw_mix("bus", rng).family for _ in range(800)]
    for family, share in MIXES["bus"].items():
        assert drawn.count(family) / 800 == pytest.approx(share, abs=0.06)
    assert draw("barrier", 7) is draw("barrier", 7)
    assert {draw("barrier", seed).family for seed in range(40)} == set(MIXES["barrier"])


def test_paint_follows_its_published_shares() -> None:
    brightness = np.array([np.mean(draw("sedan", seed).first) for seed in range(400)])
    assert np.mean(brightness > 205) == pytest.approx(0.35, abs=0.07)  # white (Axalta 2021)
    assert np.mean(brightness < 45) == pytest.approx(0.19, abs=0.07)  # black


def test_bad_requests_are_told_what_there_is() -> None:
    with pytest.raises(ConfigurationError, match=r"'seden'.*sedan"):
        draw("seden", 0)
    with pytest.raises(ConfigurationError, match="at least 0"):
        draw("sedan", -1)
    with pytest.raises(ConfigurationError, match="length, width, height"):
        draw("sedan", 0, (4.0, 0.0, 1.5))
    with pytest.raises(ConfigurationError, match=r"'lorry'.*truck"):
        draw_mix("lorry", np.random.default_rng(0))


@pytest.mark.parametrize("mix", ["vehicle", "truck", "bus", "car"])
def test_axles_lie_within_their_vehicles(mix: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(40):
        model = draw_mix(mix, rng)
        half = 0.5 * model.size[0]
        assert 0.4 * model.size[0] < model.wheelbase < 0.8 * model.size[0]
        assert -half < model.rear_axle < 0
        assert model.rear_axle + model.wheelbase < half


@pytest.mark.parametrize("puller", ["semi_tractor", "articulated_bus", "sedan"])
def test_what_is_pulled_clears_what_pulls(puller: str) -> None:
    """Coupled in line, a trailer's nose stays behind the cab, or behind the whole car or bus."""
    rng = np.random.default_rng(3)
    for seed in range(20):
        front = draw(puller, seed)
        rear = draw_trailer(front, rng)
        assert rear.king_pin is not None
        assert rear.wheelbase == pytest.approx(rear.king_pin - rear.rear_axle)
        nose = front.hitch + 0.5 * rear.size[0] - rear.king_pin
        behind = 0.5 * front.size[0] - 2.6 if puller == "semi_tractor" else -0.5 * front.size[0] + 0.01
        assert nose < behind
        if puller == "articulated_bus":
            assert rear.label == ObjectClass.BUS
            assert (rear.first, rear.size[1:]) == (front.first, front.size[1:])
        else:
            assert rear.label == ObjectClass.TRAILER
    assert draw_trailer(draw("box_truck", 0), rng) is None
