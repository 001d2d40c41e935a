"""The tracker on simulated scenes with known truth: identity, velocity, consistency, coasting, ego motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from karp_perception.core import Boxes, EgoState, InvalidInput, MotionSource, ObjectClass, Objects
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw
from karp_perception.tracking.tracker import Tracker, TrackerSettings

CAR, PEDESTRIAN, CONE = int(ObjectClass.CAR), int(ObjectClass.PEDESTRIAN), int(ObjectClass.TRAFFIC_CONE)
BICYCLE = int(ObjectClass.BICYCLE)
STEP_NS = 100_000_000


def obstacles(rows: list[tuple[float, float, float, float, float]]) -> Boxes:
    """Geometric boxes from x, y, length, width, yaw."""
    a = np.array(rows, float).reshape(-1, 5)
    n = len(a)
    center, size = np.column_stack([a[:, :2], np.full(n, 0.8)]), np.column_stack([a[:, 2:4], np.full(n, 1.6)])
    return Boxes(center, size, a[:, 4], np.full((n, 2), np.nan), np.full(n, -1), np.full(n, 0.5))


def detections(rows: list[tuple[float, ...]], label: int = CAR, score: float = 0.8) -> Boxes:
    """Whole boxes from x, y, yaw; 4.5 x 1.8 m for cars, 0.6 x 0.6 m for others."""
    a = np.array(rows, float).reshape(-1, 3)
    n = len(a)
    size = np.tile((4.5, 1.8, 1.5) if label == CAR else (0.6, 0.6, 1.7), (n, 1))
    center = np.column_stack([a[:, :2], np.full(n, 0.8)])
    return Boxes(center, size, a[:, 2], np.full((n, 2), np.nan), np.full(n, label), np.full(n, score))


def ego_at(k: int, T: np.ndarray | None = None, velocity: tuple[float, float] = (0.0, 0.0)) -> EgoState:
    return EgoState(k * STEP_NS, np.eye(4) if T is None else T, np.array(velocity))


def step(tracker: Tracker, k: int, seen: Boxes, parts: Boxes | None = None, ego: EgoState | None = None) -> Objects:
    return tracker.step(k * STEP_NS, seen, parts or Boxes.empty(), ego or ego_at(k))


def test_a_car_keeps_its_id_and_gets_its_velocity() -> None:
    tracker, rng = Tracker(), np.random.default_rng(0)
    for k in range(40):
        noise = rng.normal(0, 0.2, 2)
        objects = step(tracker, k, detections([(10 + 0.8 * k + noise[0], 3 + noise[1], 0.0)]))
        assert objects.track_id.tolist() == [1]
    assert objects.boxes.label[0] == CAR
    deviation = np.sqrt(np.diag(objects.covariance[0])[4:])
    assert (np.abs(objects.boxes.velocity[0] - (8, 0)) < 3 * deviation).all()
    assert deviation.max() < 1.0
    assert objects.age[0] == pytest.approx(3.9)
    assert objects.unseen[0] == 0


def test_estimation_errors_are_as_large_as_stated() -> None:
    """NEES (chi-square bounds of its mean) of cars that accelerate at random, as the filter expects of them."""
    cars, settings = 60, TrackerSettings()
    rng, tracker = np.random.default_rng(1), Tracker(settings)
    place = 150.0 * np.column_stack(np.divmod(np.arange(cars), 8))
    velocity = rng.normal(0, 6, (cars, 2))
    velocity *= np.maximum(1.0, 4.0 / np.linalg.norm(velocity, axis=1))[:, None]
    for k in range(40):
        measured = place + rng.normal(0, settings.detection_deviation, (cars, 2))
        # They point where they go, as exactly as the filter takes them to.
        slip = settings.motion.sideways / np.linalg.norm(velocity, axis=1)
        heading = np.arctan2(velocity[:, 1], velocity[:, 0])
        heading += rng.normal(0, np.hypot(slip, settings.detection_yaw_deviation), cars)
        objects = step(tracker, k, detections(list(zip(*measured.T, heading, strict=True))))
        truth = np.column_stack([place, velocity])
        acceleration = rng.normal(0, settings.motion.vehicle_acceleration, (cars, 2))
        place = place + 0.1 * velocity + 0.005 * acceleration
        velocity = velocity + 0.1 * acceleration
    at, squared = np.array([0, 1, 4, 5]), []
    for i in range(len(objects)):
        error = np.r_[objects.boxes.center[i, :2], objects.boxes.velocity[i]]
        error = error - truth[np.argmin(np.linalg.norm(truth[:, :2] - error[:2], axis=1))]
        squared.append(error @ np.linalg.solve(objects.covariance[i][at[:, None], at], error))
    assert len(squared) == cars
    low, high = chi2.ppf((0.0005, 0.9995), 4 * cars) / cars
    assert low < np.mean(squared) < high


@pytest.mark.parametrize(("speed", "turn"), [(0.0, 0.0), (10.0, 0.0), (8.0, 0.3)])
def test_standing_things_stand_while_the_vehicle_drives(speed: float, turn: float) -> None:
    """Poles, parked cars seen in parts and walls cut into pieces differently in every frame."""
    tracker, rng = Tracker(), np.random.default_rng(2)
    T, poles = np.eye(4), [(x, y) for x in range(-20, 80, 11) for y in (-9, 8)]
    worst = 0.0
    for k in range(50):
        back = invert_pose(T)
        rows = []
        for x, y in poles:
            p = back @ np.array([x, y, 0, 1])
            rows.append((*(p[:2] + rng.normal(0, 0.05, 2)), *rng.uniform(0.2, 0.4, 2), rng.uniform(-3, 3)))
        for y in (-14.0, 13.0):
            for x in np.arange(-25 + rng.uniform(-2, 2), 85, 4.0):
                p = back @ np.array([x, y, 0, 1])
                yaw = np.arctan2(back[1, 0], back[0, 0]) + rng.normal(0, 0.03)
                rows.append((p[0], p[1] + rng.normal(0, 0.04), 4.0, 0.3, yaw))
        visible = rng.uniform(0.4, 3.0)
        p = back @ np.array([70 + visible / 2, 0, 0, 1])
        rows.append((p[0], p[1], visible, 1.8 + rng.normal(0, 0.05), np.arctan2(back[1, 0], back[0, 0])))
        objects = step(tracker, k, Boxes.empty(), obstacles(rows), ego_at(k, T, (speed, 0)))
        if k > 5:
            moving = np.linalg.norm(objects.boxes.velocity, axis=1)
            deviation = np.sqrt(objects.covariance[:, 4, 4] + objects.covariance[:, 5, 5])
            worst = max(worst, (moving / np.maximum(deviation, 0.1)).max())
            assert (moving <= 2.5 * np.maximum(deviation, 0.1)).all()
        T = T @ pose_from_xy_yaw(speed * 0.1, 0, turn * 0.1)
    assert len(objects) > 20
    assert np.median(np.linalg.norm(objects.boxes.velocity, axis=1)) < 0.1


def test_a_lead_seen_from_behind_has_its_speed_however_its_visible_length_changes() -> None:
    tracker, rng = Tracker(), np.random.default_rng(3)
    for k in range(30):
        T = pose_from_xy_yaw(8 * 0.1 * k, 0, 0)
        length = rng.uniform(0.3, 3.0)
        rear = 15 + 10 * 0.1 * k - T[0, 3] + rng.normal(0, 0.05)
        objects = step(
            tracker, k, Boxes.empty(), obstacles([(rear + length / 2, 0, length, 1.8, 0)]), ego_at(k, T, (8, 0))
        )
    assert objects.boxes.velocity[0, 0] == pytest.approx(10, abs=1.0)
    assert objects.boxes.center[0, 0] - objects.boxes.size[0, 0] / 2 == pytest.approx(rear, abs=0.25)
    assert len(objects) == 1


def test_an_obstacle_ahead_is_an_object_from_the_third_frame() -> None:
    tracker = Tracker()
    counts = [len(step(tracker, k, Boxes.empty(), obstacles([(8, 0, 1.0, 1.8, 0)]))) for k in range(4)]
    assert counts[2:] == [1, 1]


def test_an_obstacle_on_a_detected_car_is_that_car() -> None:
    tracker = Tracker()
    for k in range(20):
        part = obstacles([(20, 5, 0.3, 0.3, 0), (10.5, 0, 1.0, 1.8, 0), (13.5, 0.5, 1.0, 0.8, 0)])
        seen = detections([(12, 0, 0)]) if k % 3 == 0 else Boxes.empty()
        objects = step(tracker, k, seen, part)
    assert len(objects) == 2
    car = int(np.flatnonzero(objects.boxes.label == CAR)[0])
    assert objects.obstacle_index[car] == 1
    assert objects.obstacle_index[1 - car] == 0
    np.testing.assert_allclose(objects.boxes.size[car], (4.5, 1.8, 1.5), atol=0.1)
    np.testing.assert_allclose(objects.boxes.velocity[car], 0, atol=0.3)


def test_a_detection_takes_over_the_track_of_its_visible_part() -> None:
    tracker = Tracker()
    for k in range(10):
        objects = step(tracker, k, Boxes.empty(), obstacles([(10.2, 0, 0.4, 1.8, 0)]))
    (before,) = objects.track_id
    for k in range(10, 13):
        objects = step(tracker, k, detections([(12.25, 0, 0)]), obstacles([(10.2, 0, 0.4, 1.8, 0)]))
    assert objects.track_id.tolist() == [before]
    assert objects.boxes.label.tolist() == [CAR]
    assert objects.boxes.center[0, 0] == pytest.approx(12.25, abs=0.2)
    assert np.linalg.norm(objects.boxes.velocity[0]) < 0.5


def test_a_hidden_car_coasts_with_growing_uncertainty_and_comes_back_as_itself() -> None:
    """A car drives behind a wall for 1.5 s."""
    tracker = Tracker()
    wall = obstacles([(8, 6, 0.5, 9, 0)])
    sigmas = []
    for k in range(60):
        y = -12 + 0.5 * k
        hidden = 35 <= k < 50
        seen = Boxes.empty() if hidden else detections([(20, y, np.pi / 2)])
        objects = step(tracker, k, seen, wall)
        car = np.flatnonzero(objects.boxes.label == CAR)
        assert objects.track_id[car].tolist() == [1]
        if hidden:
            assert objects.unseen[car[0]] > 0
            sigmas.append(objects.covariance[car[0], 1, 1])
            assert objects.boxes.center[car[0], 1] == pytest.approx(y, abs=1.5)
    assert (np.diff(sigmas) > 0).all()


def test_what_vanishes_in_plain_view_is_gone_within_a_second() -> None:
    tracker = Tracker()
    for k in range(10):
        step(tracker, k, detections([(10, 0, 0)]))
    for k in range(10, 21):
        objects = step(tracker, k, Boxes.empty())
    assert len(objects) == 0


def test_a_heading_does_not_flip_for_one_wrong_detection_and_does_for_many() -> None:
    tracker = Tracker()
    for k in range(20):
        objects = step(tracker, k, detections([(10, 0, np.pi if k == 10 else 0.0)]))
        assert abs(objects.boxes.yaw[0]) < 0.3
    for k in range(20, 30):
        objects = step(tracker, k, detections([(10, 0, np.pi)]))
    assert abs(objects.boxes.yaw[0]) > 2.8


def test_cones_never_move_and_measured_velocities_are_used() -> None:
    tracker, rng = Tracker(), np.random.default_rng(4)
    for k in range(20):
        cone = detections([(*(np.array([10, 0]) + rng.normal(0, 0.3, 2)), 0)], label=CONE)
        objects = step(tracker, k, cone)
        assert np.linalg.norm(objects.boxes.velocity) < 0.3
    tracker = Tracker()
    known = Boxes(np.array([[10, 0, 0.8]]), np.array([[0.6, 0.6, 1.7]]), np.zeros(1), np.array([[0.0, 1.4]]),
                  np.array([PEDESTRIAN]), np.array([0.9]), np.full((1, 9), 0.01))  # fmt: skip
    objects = step(tracker, 0, known)
    np.testing.assert_allclose(objects.boxes.velocity[0], (0, 1.4), atol=0.4)


@pytest.mark.parametrize("speed", [1.5, 10.0])
def test_speeds_that_a_network_guesses_again_and_again_do_not_outweigh_what_positions_show(speed: float) -> None:
    """From one sweep it cannot see speed: it says zero, and that it may be wrong by 3 m/s."""
    tracker, rng = Tracker(), np.random.default_rng(2)
    variance = np.array([[0.04] * 3 + [0.1] * 3 + [0.01] + [9.0] * 2])
    for k in range(31):
        seen = detections([(8 + 0.1 * speed * k + rng.normal(0, 0.1), rng.normal(0, 0.1), 0.0)])
        seen = replace(seen, velocity=np.zeros((1, 2)), variance=variance)
        objects = step(tracker, k, seen)
    assert objects.boxes.velocity[0, 0] == pytest.approx(speed, abs=0.25)


def test_predicted_paths_go_on_at_the_present_velocity() -> None:
    tracker = Tracker()
    for k in range(30):
        objects = step(tracker, k, detections([(0.5 * k, 2, 0)]))
    assert objects.predicted.shape == (1, 1, 50, 3)
    np.testing.assert_allclose(objects.predicted_probability, 1)
    expected = objects.boxes.center[0, :2] + np.arange(1, 51)[:, None] * 0.1 * objects.boxes.velocity[0]
    np.testing.assert_allclose(objects.predicted[0, 0, :, :2], expected)


def test_another_odometry_source_does_not_move_what_is_around() -> None:
    tracker, speed = Tracker(), 5.0
    for k in range(20):  # nothing measures motion: the vehicle is taken to stand, a wall post comes closer
        objects = step(
            tracker, k, Boxes.empty(), obstacles([(40 - 0.5 * k, 3, 0.4, 0.4, 0)]), EgoState.standing(k * STEP_NS)
        )
    (before,) = objects.track_id
    assert objects.boxes.velocity[0, 0] == pytest.approx(-speed, abs=0.7)
    for k in range(20, 25):
        ego = EgoState(
            k * STEP_NS, pose_from_xy_yaw(100 + 0.5 * k, -7, 0), np.array([speed, 0]), 0.0, MotionSource.LIDAR
        )
        objects = step(tracker, k, Boxes.empty(), obstacles([(40 - 0.5 * k, 3, 0.4, 0.4, 0)]), ego)
        assert objects.track_id.tolist() == [before]
    assert np.linalg.norm(objects.boxes.velocity[0]) < 0.7


def test_a_weak_detection_goes_on_with_a_track_and_starts_none() -> None:
    tracker = Tracker()
    for k in range(30):
        strong = detections([(10 + 0.5 * k, 3, 0.0)], score=0.8 if k < 8 else 0.15)
        stray = detections([(30, -8, 0.0)], score=0.15)
        objects = step(tracker, k, Boxes.concatenate([stray, strong]))
        assert objects.track_id.tolist() == [1]
        assert objects.unseen[0] == 0
        assert objects.detection_index.tolist() == [1]
    assert objects.boxes.center[0, 0] == pytest.approx(10 + 0.5 * 29, abs=0.2)


def test_the_surer_of_two_detections_takes_the_track_and_the_other_one_nothing() -> None:
    tracker = Tracker()
    for k in range(10):
        step(tracker, k, detections([(10, 0, 0.0)]))
    both = Boxes.concatenate([detections([(10.1, 0, 0.0)], score=0.1), detections([(10.6, 0, 0.0)], score=0.9)])
    objects = step(tracker, 10, both)
    assert objects.track_id.tolist() == [1]
    assert objects.detection_index.tolist() == [1]


def test_a_car_across_the_lane_is_not_the_one_along_it() -> None:
    """At the same place as far as the noise goes, 90 degrees turned: the other, a little further, fits."""
    tracker = Tracker()
    for k in range(10):
        step(tracker, k, detections([(10, 0, 0.0)]))
    objects = step(tracker, 10, detections([(10.1, 0.4, np.pi / 2), (10.5, 0, 0.05)]))
    assert objects.detection_index[objects.track_id == 1].tolist() == [1]


def test_where_tracks_are_expected_is_where_they_come_to_be() -> None:
    tracker, speed = Tracker(), 6.0
    for k in range(20):
        step(tracker, k, detections([(10 + 0.1 * speed * k, 0, 0.0), (5, 9, 0.0)]))
    expected, deviation, fresh = tracker.expected(20 * STEP_NS + 2 * STEP_NS)
    np.testing.assert_allclose(expected.center[:, :2], [(5, 9), (10 + 0.1 * speed * 22, 0)], atol=0.4)
    assert (deviation > 0).all()
    assert not fresh.any()
    assert tracker.expected(19 * STEP_NS)[1].max() < deviation.max()  # further ahead, less sure


@pytest.mark.parametrize("radius", [12.0, 25.0])
def test_a_car_in_a_roundabout_keeps_its_id_and_its_speed_and_never_turns_round(radius: float) -> None:
    tracker, rng, speed = Tracker(), np.random.default_rng(0), 7.0
    errors = []
    for k in range(60):
        a = speed / radius * 0.1 * k
        place = np.array([30 + radius * np.cos(a), radius * np.sin(a)]) + rng.normal(0, 0.2, 2)
        flip = np.pi if k in (15, 31, 46) else 0.0  # a detector takes its back for its front now and then
        objects = step(tracker, k, detections([(*place, a + np.pi / 2 + rng.normal(0, 0.05) + flip)]))
        assert objects.track_id.tolist() == [1]
        if k > 15:
            truth = speed * np.array([-np.sin(a), np.cos(a)])
            errors.append(np.linalg.norm(objects.boxes.velocity[0] - truth))
            turned = (objects.boxes.yaw[0] - (a + np.pi / 2) + np.pi) % (2 * np.pi) - np.pi
            assert abs(turned) < 0.35
    assert np.median(errors) < 0.8


def test_boxes_in_another_frame_are_refused() -> None:
    with pytest.raises(InvalidInput, match="base_link"):
        Tracker().step(0, Boxes.empty("map"), Boxes.empty(), ego_at(0))


def test_one_person_who_is_detected_twice_is_one_object_and_two_who_walk_abreast_are_two() -> None:
    rng = np.random.default_rng(5)
    for apart, count in ((0.1, 1), (0.8, 2)):
        tracker, ids = Tracker(), set()
        for k in range(20):
            noise = rng.normal(0, 0.05, (2, 2))
            rows = [(12 + noise[0, 0], 0.12 * k + noise[0, 1], 0.0), (12 + noise[1, 0], 0.12 * k + apart, 0.0)]
            seen = Boxes.concatenate([
                detections(rows[:1], PEDESTRIAN), detections(rows[1:], PEDESTRIAN if count > 1 else BICYCLE, 0.6)
            ])  # fmt: skip
            objects = step(tracker, k, seen)
            if k >= 2:
                assert len(objects.boxes) == count
                ids |= set(objects.track_id.tolist())
        assert len(ids) == count


def test_two_tracks_that_come_to_lie_on_each_other_are_merged_into_the_older_one() -> None:
    tracker = Tracker()
    for k in range(10):
        step(tracker, k, detections([(20, 0, 0), (20, 3.0, 0)]))
    for k in range(10, 40):  # the second was the first seen askew: its box slides onto it and then is seen no more
        objects = step(tracker, k, detections([(20, 0, 0), (20, max(3.0 - 0.15 * (k - 10), 0.6), 0)]))
    assert objects.track_id.tolist() == [1]


@pytest.mark.parametrize("label", [PEDESTRIAN, BICYCLE])
def test_somebody_on_foot_who_walks_across_has_that_velocity_whatever_the_detector_says(label: int) -> None:
    """A detector of single sweeps takes walkers for cyclists along the road that stand."""
    tracker, rng, speed = Tracker(), np.random.default_rng(6), 1.4
    for k in range(15):
        y = -4 + 0.1 * speed * k
        seen = detections([(25 + rng.normal(0, 0.1), y + rng.normal(0, 0.1), 0.0)], label, 0.5)
        told = np.array([[1.0] * 2 + [0.04] * 5 + [4.0, 0.04]])
        told[:, :2] = 0.02
        seen = replace(seen, size=np.array([[1.3, 0.6, 1.7]]), velocity=np.zeros((1, 2)), variance=told)
        part = obstacles([(25, y, 0.5, 0.5, 0.0)])
        objects = step(tracker, k, seen if k % 3 else Boxes.empty(), part)
    person = int(np.argmax(objects.boxes.label >= 0))
    assert objects.age[person] > 1.0
    assert objects.boxes.velocity[person] == pytest.approx((0, speed), abs=0.35)
