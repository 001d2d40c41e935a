"""The geometric obstacle channel on scenes whose truth is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from lidar_scenes import Ground, as_sweep, boxes, car, flat, scan

from karp_perception.core.boxes import Boxes
from karp_perception.core.classes import ObjectClass
from karp_perception.core.frames import LidarSweep
from karp_perception.core.vehicle import Vehicle
from karp_perception.detection.obstacles import ObstacleDetector, ObstacleSettings

DETECTOR = ObstacleDetector()


def rectangle(box: Boxes, i: int) -> tuple[tuple[float, float], tuple[float, float], float]:
    (x, y, _), (length, width, _) = box.center[i], box.size[i]
    return (float(x), float(y)), (float(length), float(width)), float(np.degrees(box.yaw[i]))


def overlap(a: Boxes, i: int, b: Boxes, j: int) -> float:
    """Common area of two footprints, m2, by OpenCV."""
    kind, polygon = cv2.rotatedRectangleIntersection(rectangle(a, i), rectangle(b, j))
    return float(cv2.contourArea(cv2.convexHull(polygon))) if kind else 0.0


def over(found: Boxes, x: tuple[float, float], y: tuple[float, float]) -> list[int]:
    """Which boxes reach into a rectangle of the ground along the axes."""
    region = boxes((sum(x) / 2, sum(y) / 2, 0, x[1] - x[0], y[1] - y[0], 1, 0))
    return [i for i in range(len(found)) if overlap(found, i, region, 0) > 0]


def the_one_over(found: Boxes, truth: Boxes) -> int:
    """The box that overlaps `truth` most. Others may hold a few points of a bonnet, but lie within the object."""
    common = [overlap(found, i, truth, 0) for i in range(len(found))]
    assert max(common, default=0) > 0, f"no box over the object at {truth.center[0]}"
    best = int(np.argmax(common))
    for i in range(len(found)):
        if common[i] > 0 and i != best:
            assert found.size[i, 0] * found.size[i, 1] < 0.25 * found.size[best, 0] * found.size[best, 1]
            assert truth[:1].contains(found.footprint()[i] @ np.eye(2, 3) + (0, 0, truth.center[0, 2]), 0.25).all()
    return best


def nearest_corner(box: Boxes, i: int) -> np.ndarray:
    corners = box.footprint()[i]
    return corners[np.argmin(np.hypot(*corners.T))]


@pytest.mark.parametrize("beams", [32, 64, 128])
@pytest.mark.parametrize("yaw_deg", [-35, 20, 60, 90])
@pytest.mark.parametrize("place", [(9.0, -2.5), (15.0, -4.0), (25.0, -6.0)])
def test_a_car_is_a_box_where_it_is(place: tuple[float, float], yaw_deg: int, beams: int) -> None:
    truth = car(*place, yaw_deg)
    found = DETECTOR.detect(scan([truth], beams=beams, step_deg=0.2 if beams == 32 else 0.4))
    i = the_one_over(found, truth)
    assert np.linalg.norm(nearest_corner(found, i) - nearest_corner(truth, 0)) < 0.3
    common, area = overlap(found, i, truth, 0), found.size[i, 0] * found.size[i, 1]
    assert common > 0.95 * area - 0.2, "covers only what is the car"
    assert abs((np.degrees(found.yaw[i]) - yaw_deg + 45) % 90 - 45) < 5
    if place[0] < 20:
        assert found.size[i, 0] == pytest.approx(4.5, abs=0.7), "the whole of its long side is in view"


@pytest.mark.parametrize("beams", [16, 32, 64, 128])
@pytest.mark.parametrize("distance", [5.0, 10.0, 20.0, 35.0])
def test_the_rear_of_a_car_ahead_is_where_it_is(distance: float, beams: int) -> None:
    truth = car(distance + 2.25, 0.3)
    found = DETECTOR.detect(scan([truth], beams=beams, step_deg=0.2))
    hits = [i for i in range(len(found)) if overlap(found, i, truth, 0) > 0]
    first = min(hits, key=lambda i: found.footprint()[i, :, 0].min())
    # With few beams far away, only the cabin may be met by one, 0.75 m behind the bumper.
    dense = beams >= 64 or distance <= 10
    assert found.footprint()[first, :, 0].min() == pytest.approx(distance, abs=0.2 if dense else 0.85)
    sides = found.footprint()[first, :, 1]
    assert (sides.min(), sides.max()) == pytest.approx((-0.6, 1.2), abs=0.25 if dense else 0.4)
    assert len(over(found, (3, distance - 0.2), (-1.2, 1.2))) == 0


def test_boxes_stand_on_the_ground_and_say_what_they_are() -> None:
    found = DETECTOR.detect(scan([car(12, 0), boxes((8, -4, 0, 0.5, 0.6, 1.75, 0))]))
    assert len(found) == 2
    assert found.frame == "base_link"
    assert (found.label == ObjectClass.UNKNOWN).all()
    assert np.isnan(found.velocity).all()
    bottom, top = found.center[:, 2] - found.size[:, 2] / 2, found.center[:, 2] + found.size[:, 2] / 2
    assert bottom == pytest.approx([0, 0], abs=0.06)
    assert top == pytest.approx([1.75, 1.5], abs=0.12)
    assert (found.score > 0.8).all()


@pytest.mark.parametrize("beams", [16, 32, 64, 128])
@pytest.mark.parametrize("slope", [-0.15, 0.15])
def test_slopes_are_no_obstacles_and_hide_none(slope: float, beams: int) -> None:
    def ground(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        d = np.clip(x - 8.0, 0.0, None)
        return slope * np.where(d < 4, d**2 / 8, d - 2) + 0 * y

    # 16 beams meet the ramp far to the side with single rings, tens of metres apart: no height is known there.
    side = 25 if beams == 16 else 80
    assert over(DETECTOR.detect(scan((), ground, beams=beams)), (-80, 80), (-side, side)) == []
    van = boxes((18, 0.5, float(ground(np.array(15.75), np.array(0.0))) - 0.3, 4.5, 1.8, 2.5, 0))
    found = DETECTOR.detect(scan([van], ground, beams=beams))
    front = min(over(found, (14, 22), (-1, 2)), key=lambda i: found.center[i, 0])
    assert found.footprint()[front, :, 0].min() == pytest.approx(15.75, abs=0.3)
    # Behind a crest the ground itself is hardly seen, so its height is less certain than on the way up.
    bottom = ground(found.center[front, 0], found.center[front, 1])
    assert found.center[front, 2] - found.size[front, 2] / 2 == pytest.approx(
        float(bottom), abs=0.3 if slope > 0 else 0.6
    )


@pytest.mark.parametrize("beams", [16, 32, 64, 128])
@pytest.mark.parametrize(
    "ground",
    [
        lambda x, y: 0.026 * x + 0.017 * y + 0.1,
        lambda x, y: -0.026 * x - 0.1 + 0 * y,
        lambda x, y: 0.2 * np.sin(x / 6) * np.cos(y / 9),
        lambda x, y: -0.02 * np.abs(y) + 0.14 * (np.abs(y) > 5),
        lambda x, y: 0.14 * (x > 12) + 0 * y,
    ],
    ids=["tilted up", "tilted down", "undulating", "kerbs along", "kerb across"],
)
def test_ground_of_every_kind_is_no_obstacle(ground: Ground, beams: int) -> None:
    sweep = scan((), ground, beams=beams)
    found, is_ground = DETECTOR.detect_with_ground(sweep)
    assert len(found) == 0
    assert is_ground[np.hypot(*sweep.points[:, :2].T) < 79].mean() > 0.97


@pytest.mark.parametrize(("beams", "distance"), [(32, 8), (64, 8), (64, 14), (128, 14)])
@pytest.mark.parametrize("height", [0.32, 0.45])
def test_a_low_thing_on_the_road_is_an_obstacle(height: float, beams: int, distance: float) -> None:
    truth = boxes((distance, 0.3, 0, 0.5, 0.5, height, 10))
    found = DETECTOR.detect(scan([truth], beams=beams, step_deg=0.2))
    i = the_one_over(found, truth)
    assert found.footprint()[i, :, 0].min() == pytest.approx(distance - 0.25, abs=0.2)
    assert len(found) == 1


@pytest.mark.parametrize("slope", [-0.05, 0.0, 0.08])
def test_what_is_overhead_is_no_obstacle(slope: float) -> None:
    def ground(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return slope * np.clip(x - 6, 0, None) + 0 * y

    deck = slope * 24 + 4.0
    bridge = boxes((30, 0, deck, 8, 40, 1.2, 0), (30, 7, slope * 24, 8, 1, 4, 0), (30, -7, slope * 24, 8, 1, 4, 0))
    gantry = boxes((15, 0, slope * 9 + 2.5, 0.3, 12, 0.4, 0))
    found = DETECTOR.detect(scan([bridge, gantry], ground))
    assert over(found, (3, 60), (-6, 6)) == []
    assert over(found, (26, 34), (6, 8)), "the pillar is one"
    assert over(found, (26, 34), (-8, -6)), "and so is the other"


def test_a_beam_at_the_height_of_the_vehicle_is_an_obstacle() -> None:
    barrier = boxes((10, 0, 0.95, 0.1, 5, 0.15, 0))
    found = DETECTOR.detect(scan([barrier], beams=128))
    i = the_one_over(found, barrier)
    assert found.center[i, 2] + found.size[i, 2] / 2 == pytest.approx(1.1, abs=0.1)


def test_walls_that_meet_leave_the_lane_between_them_free() -> None:
    rails = boxes((25, 4, 0, 50, 0.2, 0.9, 0), (25, -4, 0, 50, 0.2, 0.9, 0), (50, 0, 0, 0.2, 8.2, 2.2, 0))
    found = DETECTOR.detect(scan([rails], beams=64))
    assert over(found, (3, 48), (-3.3, 3.3)) == []
    for x in range(5, 45, 5):
        assert over(found, (x - 1, x + 1), (3.8, 4.2)), f"left rail at {x} m"
        assert over(found, (x - 1, x + 1), (-4.2, -3.8)), f"right rail at {x} m"
    assert over(found, (49, 51), (-1, 1))


def test_a_bend_between_guard_rails_stays_free() -> None:
    angle = np.radians(np.arange(0, 90, 3.0))
    rails = [
        (r * np.sin(a), 40 - r * np.cos(a), 0, 40 * np.radians(3.4), 0.15, 0.9, np.degrees(a))
        for r in (36, 44)
        for a in angle
    ]
    found = DETECTOR.detect(scan([boxes(*rails)]))
    for a in np.radians(np.arange(6, 60, 2.0)):
        x, y = 40 * np.sin(a), 40 - 40 * np.cos(a)
        assert over(found, (x - 1.2, x + 1.2), (y - 1.2, y + 1.2)) == [], f"at {np.degrees(a):.0f} degrees of the bend"


def test_neighbours_are_told_apart_and_long_things_are_not_cut() -> None:
    cars = [car(12, 3), car(18, 3), car(10, -3)]
    truck = boxes((22, -5, 0.4, 10, 2.5, 3.2, 0))
    people = boxes((7, 4.2, 0, 0.5, 0.5, 1.7, 0), (7, 5.4, 0, 0.5, 0.5, 1.7, 0))
    found = DETECTOR.detect(scan([*cars, truck, people], step_deg=0.2))
    hits = [the_one_over(found, thing) for thing in (*cars, truck, people[:1], people[1:])]
    assert len(set(hits)) == 6
    assert found.size[hits[3], 0] > 8.5


def test_the_own_body_is_no_obstacle_and_hides_none_in_front() -> None:
    vehicle = Vehicle()
    rng = np.random.default_rng(0)
    roof = rng.uniform((-1.8, -0.9, 0.6), (2.8, 0.9, 1.5), (400, 3))
    truth = boxes((vehicle.front + 0.5, 0.0, 0, 0.4, 0.5, 1.1, 0))
    clear = scan([truth])
    sweep = as_sweep(np.concatenate([clear.points[:, :3], roof]))
    found = DETECTOR.detect(sweep)
    assert len(found) == 1
    assert found.footprint()[0, :, 0].min() == pytest.approx(vehicle.front + 0.3, abs=0.1)


def test_echoes_from_below_the_ground_are_ignored() -> None:
    sweep = scan([car(15, 0)])
    rng = np.random.default_rng(1)
    patches = [rng.normal((x, y, -1.5), (0.4, 0.4, 0.3), (60, 3)) for x, y in ((8, 2), (12, -5), (20, 4), (-9, 1))]
    found, is_ground = DETECTOR.detect_with_ground(as_sweep(np.concatenate([sweep.points[:, :3], *patches])))
    assert len(found) == 1
    assert not is_ground[len(sweep.points) :].any()


def test_rain_is_no_obstacle() -> None:
    rng = np.random.default_rng(2)
    sweep = scan([car(20, 0)], beams=64)
    distance, angle = rng.exponential(6.0, 400) + 1.5, rng.uniform(0, 2 * np.pi, 400)
    drops = np.column_stack([distance * np.cos(angle), distance * np.sin(angle), rng.uniform(0.3, 2.2, 400)])
    found = DETECTOR.detect(as_sweep(np.concatenate([sweep.points[:, :3], drops])))
    assert over(found, (3, 17), (-1.5, 1.5)) == []
    assert over(found, (17, 23), (-1, 1))


def test_score_grows_with_what_was_measured() -> None:
    near, far = (DETECTOR.detect(scan([boxes((x, 0, 0, 0.6, 0.6, 1.7, 0))], beams=32)) for x in (8, 30))
    assert len(near) == len(far) == 1
    assert near.score[0] > far.score[0]


def test_headroom_follows_the_vehicle() -> None:
    sweep = scan([boxes((12, 0, 2.6, 0.5, 8, 0.5, 0))], beams=128)
    assert len(DETECTOR.detect(sweep)) == 0
    assert len(ObstacleDetector(vehicle=Vehicle(height=3.8)).detect(sweep)) == 1


class TestSameSweepSameBoxes:
    """Properties that hold for any sweep; here for a street."""

    street = scan(
        [car(12, 3), car(9, -3.5, 8), boxes((20, 0, 0, 0.6, 0.6, 1.7, 0), (25, 9, 0, 40, 0.3, 2, 3))], beams=32
    )

    def test_earlier_sweeps_leave_no_trace(self) -> None:
        detector = ObstacleDetector()
        first = detector.detect(self.street)
        detector.detect(scan([car(6, 0)], lambda x, y: 0.1 * x + 0 * y, beams=16))
        assert_same(first, detector.detect(self.street))
        assert_same(first, ObstacleDetector().detect(self.street))

    @pytest.mark.parametrize("seed", range(5))
    def test_order_of_points_makes_no_difference(self, seed: int) -> None:
        points = np.random.default_rng(seed).permutation(self.street.points)
        assert_same(DETECTOR.detect(self.street), DETECTOR.detect(LidarSweep(points, 0)))

    def test_far_points_change_nothing_nearby(self) -> None:
        far = np.random.default_rng(0).uniform((55, -20, 0), (75, 20, 6), (4000, 3))
        near = self.street.points[np.hypot(*self.street.points[:, :2].T) < 45, :3]
        plain, more = DETECTOR.detect(as_sweep(near)), DETECTOR.detect(as_sweep(np.concatenate([near, far])))
        assert_same(plain, more[np.hypot(*more.center[:, :2].T) < 48])

    @pytest.mark.parametrize("angle_deg", [1.0, 7.0, 30.0, 90.0])
    def test_boxes_turn_with_the_scene(self, angle_deg: float) -> None:
        bare = ObstacleDetector(vehicle=Vehicle(front=1.0, rear=1.0, width=2.0))
        c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
        turned = self.street.points[:, :3] @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        before, after = bare.detect(self.street), bare.detect(as_sweep(turned))
        things = [car(12, 3), car(9, -3.5, 8), boxes((20, 0, 0, 0.6, 0.6, 1.7, 0))]
        for thing in things:
            T = np.eye(4)
            T[:2, :2] = [[c, -s], [s, c]]
            moved = thing.transformed(T, "base_link")
            a, b = the_one_over(before, thing), the_one_over(after, moved)
            np.testing.assert_allclose(after.center[b], (T @ [*before.center[a], 1])[:3], atol=0.15)
            assert after.size[b] == pytest.approx(before.size[a], abs=0.25)


def assert_same(a: Boxes, b: Boxes) -> None:
    assert len(a) == len(b)
    for name in ("center", "size", "yaw", "score"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


class TestSweepsThatAreHardlyOnes:
    """Whatever a broken sensor sends ends in boxes, or in none."""

    def test_no_points(self) -> None:
        found, is_ground = DETECTOR.detect_with_ground(as_sweep(np.zeros((0, 3))))
        assert len(found) == 0
        assert is_ground.shape == (0,)

    @pytest.mark.parametrize("place", [(0, 0, 0), (10, 0, 0), (10, 0, 1), (-79.99, 0, 1), (10, 0, -20), (10, 0, 29)])
    @pytest.mark.parametrize("count", [1, 2, 1000])
    def test_one_place_only(self, place: tuple[float, float, float], count: int) -> None:
        found = DETECTOR.detect(as_sweep(np.tile(place, (count, 1))))
        assert len(found) <= 1

    def test_only_ground(self) -> None:
        found, is_ground = DETECTOR.detect_with_ground(scan())
        assert len(found) == 0
        assert is_ground[np.hypot(*scan().points[:, :2].T) < 79].all()

    @pytest.mark.parametrize("scale", [1e3, 1e6, 1e30, 3e38])
    def test_absurd_places_are_left_out(self, scale: float) -> None:
        junk = (np.random.default_rng(0).uniform(-1, 1, (2000, 3)) * scale).astype(np.float32)
        street = scan([car(12, 3)], beams=16)
        clear, mixed = DETECTOR.detect(street), DETECTOR.detect(as_sweep(np.concatenate([street.points[:, :3], junk])))
        assert_same(clear, mixed[np.hypot(*mixed.center[:, :2].T) < 60])

    def test_noise_everywhere(self) -> None:
        noise = np.random.default_rng(0).uniform((-80, -80, -3), (80, 80, 6), (300_000, 3))
        found = DETECTOR.detect(as_sweep(noise))
        assert np.isfinite(found.center).all()

    def test_points_on_one_line_of_sight(self) -> None:
        x = np.linspace(4, 70, 5000)
        found = DETECTOR.detect(as_sweep(np.column_stack([x, 0.1 * x, np.full_like(x, 1.7)])))
        assert found.size[:, 1].max(initial=0.0) < 2.0


def test_settings_are_named_and_checked() -> None:
    names = {parameter.name for parameter in ObstacleSettings().parameters()}
    assert {"clearance", "ground.max_range", "clusters.cell", "split.free_area", "fit.closeness"} <= names
    short = ObstacleDetector(ObstacleSettings().with_parameters({"ground.max_range": 20.0}))
    assert len(short.detect(scan([car(30, 0)]))) == 0
    assert len(short.detect(scan([car(10, 0)]))) == 1


def test_the_ground_mask_tells_road_from_cars() -> None:
    sweep = scan([car(12, 3)], flat)
    _, is_ground = DETECTOR.detect_with_ground(sweep)
    z = sweep.points[:, 2]
    near = np.hypot(*sweep.points[:, :2].T) < 50
    assert is_ground[near & (z < 0.1)].mean() > 0.999
    assert not is_ground[z > 0.5].any()
