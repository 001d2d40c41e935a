"""The predictor behind the tracker: frames, ids, routes, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from karp_perception.core import Boxes, ConfigurationError, EgoState, ObjectClass, Objects, Route, Vehicle
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.detection.model.weights import save_weights
from karp_perception.planning.corridor import Approach, Corridor
from karp_perception.planning.hazards import HazardSettings, find_hazards
from karp_perception.planning.reference_line import ReferenceLine
from karp_perception.planning.surroundings import Surroundings
from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.prediction.kinematic import kinematic_paths
from karp_perception.prediction.predictor import Predictor
from karp_perception.prediction.settings import PredictionSettings
from karp_perception.prediction.state import MotionState
from karp_perception.prediction.training.net import PredictorNet

WITHOUT = PredictionSettings(network="none")
STEP_NS = 100_000_000


def seen(center: list, yaw: list, velocity: list, label: list, settings: PredictionSettings = WITHOUT) -> Objects:
    n = len(center)
    boxes = Boxes(
        np.column_stack([np.array(center, float).reshape(n, 2), np.full(n, 0.8)]), np.tile([4.0, 1.8, 1.6], (n, 1)),
        yaw, np.array(velocity, float).reshape(n, 2), label, np.ones(n),
    )  # fmt: skip
    paths, probability = constant_velocity_paths(boxes.center[:, :2], boxes.yaw, boxes.velocity, settings)
    zeros = np.zeros(n)
    covariance = np.tile(0.01 * np.eye(6), (n, 1, 1))
    return Objects(boxes, 1 + np.arange(n), covariance, zeros, zeros, paths, probability, settings.step)


def ego_at(x: float, y: float, yaw: float, speed: float = 5.0) -> EgoState:
    return EgoState(0, pose_from_xy_yaw(x, y, yaw), np.array([speed, 0.0]))


CAR, WALKER, CONE = int(ObjectClass.CAR), int(ObjectClass.PEDESTRIAN), int(ObjectClass.TRAFFIC_CONE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    net = PredictorNet()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    file = tmp_path_factory.mktemp("weights") / "some.safetensors"
    save_weights(net, file)
    return str(file)


def test_what_stands_keeps_the_trackers_paths() -> None:
    objects = seen([[10, 2], [5, -3]], [0.0, 1.0], [[0, 0], [0, 0.1]], [CAR, WALKER])
    assert Predictor(WITHOUT).step(0, objects, ego_at(0, 0, 0)) is objects


def test_without_a_network_what_moves_gets_manoeuvres() -> None:
    objects = seen([[10, 2], [5, -3]], [0.0, np.pi / 2], [[6, 0], [0, 1.2]], [CAR, WALKER])
    found = Predictor(WITHOUT).step(0, objects, ego_at(30, 5, 0.7))
    expected, probability = kinematic_paths(MotionState.of(objects.boxes), WITHOUT)
    np.testing.assert_allclose(found.predicted, expected, atol=1e-9)
    np.testing.assert_array_equal(found.predicted_probability, probability)


def test_nobody_is_no_problem(weights: str) -> None:
    predictor = Predictor(PredictionSettings(network=weights))
    for k in range(3):
        assert len(predictor.step(k * STEP_NS, Objects.empty(), ego_at(0, 0, 0))) == 0


def test_a_car_on_the_route_follows_it() -> None:
    s = np.linspace(0.0, 100.0, 201)
    radius = 40.0
    route = Route(np.stack([100 + radius * np.sin(s / radius), 50 + radius * (1 - np.cos(s / radius))], axis=1))
    # The vehicle is at the beginning of the route, the car 20 m ahead of it on the arc.
    a = 20.0 / radius
    center = [radius * np.sin(a), radius * (1 - np.cos(a))]
    objects = seen([center, [3, 12]], [a, 0.0], [[7 * np.cos(a), 7 * np.sin(a)], [0, 0]], [CAR, CAR])
    found = Predictor(WITHOUT).step(0, objects, ego_at(100, 50, 0), route)
    best = found.predicted[0, found.predicted_probability[0].argmax(), :, :2]
    np.testing.assert_allclose(np.hypot(best[:, 0], best[:, 1] - radius), radius, atol=0.4)
    # The other one stands: its only path that is likely is the tracker's.
    np.testing.assert_array_equal(found.predicted[1, 0], objects.predicted[1, 0])
    np.testing.assert_array_equal(found.predicted_probability[1], [1.0] + [0.0] * 5)


def test_paths_are_in_the_frame_of_the_boxes(weights: str) -> None:
    """The same drive seen from an `odom` that is turned and moved gives the same paths in base_link."""
    found = []
    for x, y, yaw in ((0.0, 0.0, 0.0), (300.0, -70.0, 2.5)):
        predictor = Predictor(PredictionSettings(network=weights))
        pose = pose_from_xy_yaw(x, y, yaw)
        points = np.column_stack([np.linspace(-20, 120, 50), np.zeros(50)]) @ pose[:2, :2].T + (x, y)
        route = Route(points)
        for k in range(8):
            step = pose @ pose_from_xy_yaw(0.5 * k, 0, 0)
            ego = EgoState(k * STEP_NS, step, np.array([5.0, 0.0]))
            objects = seen(
                [[20 - 0.2 * k, 0], [12 - 0.5 * k, 4 - 0.1 * k]], [0.0, -1.5], [[3, 0], [0, -1]], [CAR, WALKER]
            )
            result = predictor.step(k * STEP_NS, objects, ego, route)
        found.append(result)
    np.testing.assert_allclose(found[1].predicted[..., :2], found[0].predicted[..., :2], atol=1e-3)
    np.testing.assert_allclose(found[1].predicted_probability, found[0].predicted_probability, atol=1e-4)
    assert found[0].predicted.shape == (2, 6, 50, 3)
    np.testing.assert_allclose(found[0].predicted_probability.sum(axis=1), 1.0)
    start = found[0].predicted[:, :, 0, :2] - found[0].boxes.center[:, None, :2]
    assert np.hypot(start[..., 0], start[..., 1]).max() < 0.6  # the first point is a step of 0.1 s away


def test_only_what_moves_and_has_a_class_is_the_networks(weights: str) -> None:
    objects = seen(
        [[10, 0], [12, 5], [14, -5], [16, 3]], [0.0] * 4, [[4, 0], [0, 0], [1, 0], [4, 0]],
        [CAR, CAR, CONE, int(ObjectClass.UNKNOWN)],
    )  # fmt: skip
    found = Predictor(PredictionSettings(network=weights)).step(0, objects, ego_at(0, 0, 0))
    assert found.predicted_probability[0].max() < 1.0
    np.testing.assert_array_equal(found.predicted[1:, 0], objects.predicted[1:, 0])
    np.testing.assert_array_equal(found.predicted_probability[1:, 0], 1.0)


def test_the_nearest_come_first(weights: str) -> None:
    settings = PredictionSettings(network=weights, most=1)
    objects = seen([[30, 0], [10, 5]], [0.0, 0.0], [[4, 0], [4, 0]], [CAR, CAR])
    found = Predictor(settings).step(0, objects, ego_at(0, 0, 0))
    _, manoeuvres = kinematic_paths(MotionState.of(objects.boxes), WITHOUT)
    np.testing.assert_array_equal(found.predicted_probability[0], manoeuvres[0])
    assert not np.allclose(found.predicted_probability[1], manoeuvres[1], atol=1e-3)


def test_a_route_of_no_length_and_time_that_stands_are_no_problem(weights: str) -> None:
    predictor = Predictor(PredictionSettings(network=weights))
    objects = seen([[10, 0]], [0.0], [[4, 0]], [CAR])
    route = Route(np.array([[0.0, 0.0], [0.5, 0.0]]))
    first = predictor.step(5 * STEP_NS, objects, ego_at(0, 0, 0), route)
    again = predictor.step(5 * STEP_NS, objects, ego_at(0, 0, 0), route)
    np.testing.assert_array_equal(first.predicted, again.predicted)
    predictor.reset()
    np.testing.assert_array_equal(predictor.step(0, objects, ego_at(0, 0, 0)).predicted, first.predicted)


def test_the_latest_route_counts() -> None:
    ahead = np.array([[-20.0, 0.0], [80.0, 0.0]])
    beside = ahead + np.array([0.0, 1.5])
    objects = seen([[10, 0.75]], [0.0], [[6, 0]], [CAR])

    def end(predictor: Predictor, k: int, points: np.ndarray | None) -> float:
        route = None if points is None else Route(points)
        found = predictor.step(k * STEP_NS, objects, ego_at(0, 0, 0), route)
        return float(found.predicted[0, found.predicted_probability[0].argmax(), -1, 1])

    predictor = Predictor(WITHOUT)
    assert end(predictor, 0, ahead) == pytest.approx(0.0, abs=0.15)
    assert end(predictor, 1, ahead.copy()) == pytest.approx(0.0, abs=0.15)
    assert end(predictor, 2, beside) == pytest.approx(1.5, abs=0.15)
    assert end(predictor, 3, None) == pytest.approx(0.75, abs=1e-6)


def test_paths_of_other_settings_are_refused() -> None:
    s = np.array([[-20.0, 0.0], [80.0, 0.0]])
    objects = replace(seen([[10, 0]], [0.0], [[4, 0]], [CAR]), prediction_step=0.2)
    with pytest.raises(ConfigurationError, match="same settings"):
        Predictor(WITHOUT).step(0, objects, ego_at(0, 0, 0), Route(s))


def test_the_shipped_weights_are_there() -> None:
    predictor = Predictor()
    assert predictor.network is not None
    assert Path(__file__).parents[1].joinpath("models/predictor.md").is_file()


def crossing(probability: list[float]) -> object:
    """A walker 12 m ahead, 4 m to the left: the first paths cross the corridor, the last one waits."""
    k = len(probability)
    objects = seen([[12, 4]], [-1.57], [[0, -1.5]], [WALKER])
    paths = np.repeat(objects.predicted, k, axis=1)
    for j in range(k - 1):
        paths[:, j, :, 1] = 4 - (1.0 + j) * 0.1 * np.arange(1, 51)
    paths[:, -1, :, 1] = 4.0
    objects = replace(objects, predicted=paths, predicted_probability=np.array([probability]))
    line = ReferenceLine.arc(0.0, 10.0, 60.0, 1.0)
    corridor = Corridor(line, Vehicle(), 0.3, 50.0, Approach())
    settings = HazardSettings(least_probability=0.2)
    around = Surroundings.of(objects, Boxes.empty(), line, settings.around)
    return next(iter(find_hazards(around, corridor, settings)), None)


def test_the_planner_counts_paths_together() -> None:
    assert crossing([0.1, 0.1, 0.8]) is not None  # two that agree
    assert crossing([0.05, 0.05, 0.9]) is None
    sure, shared = crossing([1.0, 0.0]), crossing([0.5, 0.5])
    assert sure is not None
    assert shared is not None
    assert shared.occupied == sure.occupied
