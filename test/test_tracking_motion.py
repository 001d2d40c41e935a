"""Motion models against closed forms: circles, finite differences, chi-square of innovations and errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import chi2

from karp_perception.core import ObjectClass
from karp_perception.tracking import kalman
from karp_perception.tracking.motion import Motion, MotionSettings

CAR, BICYCLE, PEDESTRIAN, CONE = (
    int(c) for c in (ObjectClass.CAR, ObjectClass.BICYCLE, ObjectClass.PEDESTRIAN, ObjectClass.TRAFFIC_CONE)
)
# Nothing stops or starts, so that what moves goes on by its model alone.
STEADY = MotionSettings(starts=0.0, stops=0.0, steering=0.0)
PRIOR = STEADY.by_class()


def moving(state: tuple[float, ...], deviation: float = 0.1, label: int = CAR) -> Motion:
    """One track that moves, with a state x, y, vx, vy, turn."""
    motion = Motion.born(
        np.array([state[:2]]), np.eye(2)[None] * 0.01, np.array([1.0]), np.ones(1), turn=PRIOR[[label], 4]
    )
    motion.mean = np.array([state], float)
    motion.covariance = deviation**2 * np.eye(5)[None]
    return motion


@pytest.mark.parametrize(("label", "turn"), [(CAR, 0.4), (CAR, -0.9), (CAR, 0.0), (BICYCLE, 0.1), (BICYCLE, -0.2)])
def test_a_turn_is_a_circle(label: int, turn: float) -> None:
    """Against the differential equation of constant turn rate, or of constant curvature, by scipy."""
    motion, vx, vy = moving((1.0, 2.0, 4.0, 3.0, turn), label=label), 4.0, 3.0
    rate = turn * (5.0 if label == BICYCLE else 1.0)
    turned = sum(motion.predict(0.1, PRIOR[[label]], STEADY)[0] for _ in range(20))

    def slope(_: float, s: np.ndarray) -> tuple[float, ...]:
        return s[2], s[3], -rate * s[3], rate * s[2]

    exact = solve_ivp(slope, (0, 2), (1.0, 2.0, vx, vy), rtol=1e-10, atol=1e-10).y[:, -1]
    np.testing.assert_allclose(motion.mean[0, :4], exact, atol=1e-6)
    assert turned == pytest.approx(2 * rate)


@pytest.mark.parametrize("label", [CAR, BICYCLE])
@pytest.mark.parametrize("state", [(0, 0, 8.0, -2.0, 0.2), (3, 1, 0.5, 0.1, -0.15), (0, 0, 5, 5, 0.0)])
def test_covariance_follows_the_finite_differences_of_the_step(label: int, state: tuple[float, ...]) -> None:
    dt, h = 0.1, 1e-6
    settings = MotionSettings(starts=0.0, stops=0.0, steering=0.0, vehicle_acceleration=0.01)
    prior = settings.by_class()[[label]]

    def step(s: np.ndarray) -> np.ndarray:
        motion = moving(tuple(s), label=label)
        motion.predict(dt, prior, settings)
        return motion.mean[0]

    base = np.array(state, float)
    F = np.stack([(step(base + h * e) - step(base - h * e)) / (2 * h) for e in np.eye(5)], axis=1)
    motion = moving(state, deviation=1.0, label=label)
    motion.predict(dt, prior, settings)
    np.testing.assert_allclose(motion.covariance[0], F @ F.T, atol=1e-4)  # the step's own noise is 0.01 m/s2


def test_pedestrians_go_straight_as_the_textbook_has_it() -> None:
    motion, settings = moving((1, 2, 1.2, -0.4, 0), label=PEDESTRIAN), STEADY
    motion.covariance[:, 4, :] = motion.covariance[:, :, 4] = 0.0
    mean, covariance = motion.mean[:, :4].copy(), motion.covariance[:, :4, :4].copy()
    transition = np.eye(4) + 0.1 * np.eye(4, k=2)
    block = np.array([[0.1**4 / 4, 0.1**3 / 2], [0.1**3 / 2, 0.1**2]])
    for _ in range(10):
        motion.predict(0.1, PRIOR[[PEDESTRIAN]], settings)
        noise = settings.pedestrian_acceleration**2 * np.kron(block, np.eye(2))
        mean, covariance = kalman.predict(mean, covariance, transition, noise)
    np.testing.assert_allclose(motion.mean[:, :4], mean)
    np.testing.assert_allclose(motion.covariance[:, :4, :4], covariance)
    assert motion.mean[0, 4] == 0


def test_a_standing_bicycle_cannot_turn_and_a_cone_never_moves() -> None:
    bicycle = moving((0, 0, 0, 0, 0.3), label=BICYCLE)
    assert bicycle.predict(0.1, PRIOR[[BICYCLE]], STEADY)[0] == pytest.approx(0, abs=1e-3)
    cone = Motion.born(np.zeros((1, 2)), np.eye(2)[None], np.array([0.1]), np.zeros(1))
    for _ in range(50):
        cone.predict(0.1, MotionSettings().by_class()[[CONE]], MotionSettings())
        cone.update(np.zeros(1, int), np.array([[5.0, 0.0]]), 0.1 * np.eye(2)[None], 2.0)
    np.testing.assert_allclose(cone.mixed()[0][0, 2:], 0, atol=1e-2)


def test_a_turn_that_is_measured_is_found() -> None:
    """Positions on a circle of 20 m radius at 8 m/s: 0.4 rad/s, or a curvature of 0.05 1/m."""
    for label, expected in ((CAR, 0.4), (BICYCLE, 0.05)):
        rng, settings = np.random.default_rng(label), MotionSettings()
        prior = settings.by_class()[[label]]
        motion = Motion.born(np.array([[20.0, 0.0]]), np.eye(2)[None] * 0.01, prior[:, 0], np.array([0.9]),
                             turn=prior[:, 4])  # fmt: skip
        found = []
        for k in range(1, 80):
            angle = 0.4 * 0.1 * k
            motion.predict(0.1, prior, settings)
            place = 20 * np.array([np.cos(angle), np.sin(angle)]) + rng.normal(0, 0.1, 2)
            motion.update(np.zeros(1, int), place[None], 0.01 * np.eye(2)[None], 2.0)
            yaw = np.array([angle + np.pi / 2 + rng.normal(0, 0.05)])
            motion.update_heading(np.zeros(1, int), yaw, np.array([0.05**2]), settings.sideways)
            found.append(motion.mean[0, 4])
        # Less than it is: turns are taken to fade.
        assert 0.65 * expected < np.mean(found[30:]) < 1.05 * expected
        np.testing.assert_allclose(np.hypot(*motion.mean[0, 2:4]), 8, atol=0.8)


def test_the_heading_takes_speed_across_it_and_none_along_it_and_does_not_care_which_way_it_points() -> None:
    for yaw in (0.3, 0.3 - np.pi):
        motion = moving((0, 0, 6.0, 0.0, 0.0), deviation=1.0)
        along = np.array([np.cos(0.3), np.sin(0.3)])
        before = motion.mean[0, 2:4] @ along
        motion.update_heading(np.zeros(1, int), np.array([yaw]), np.zeros(1), 0.05)
        assert motion.mean[0, 2:4] @ along == pytest.approx(before)
        assert motion.mean[0, 2:4] @ np.array([-along[1], along[0]]) == pytest.approx(0, abs=0.02)
        assert np.linalg.eigvalsh(motion.covariance[0]).min() > -1e-12


def test_innovations_and_errors_are_as_large_as_stated() -> None:
    """NIS of 200 cars over 3 s, and NEES at the end, within the 99.9 % bounds of chi-square.

    Turn and acceleration are drawn as the model has them, and so is where the cars begin.
    """
    n, rng = 200, np.random.default_rng(0)
    settings = MotionSettings(starts=0.0, stops=0.0)
    prior = np.repeat(settings.by_class()[[CAR]], n, axis=0)
    truth = np.column_stack([np.zeros((n, 2)), rng.normal(0, prior[0, 0], (n, 2)), rng.normal(0, prior[0, 4], n)])
    R = 0.2**2 * np.eye(2)[None].repeat(n, axis=0)
    motion = Motion.born(truth[:, :2] + rng.normal(0, 0.2, (n, 2)), R, prior[:, 0], np.ones(n), turn=prior[:, 4])
    squared = []
    dt, keep = 0.1, np.exp(-0.5 * settings.steering**2 * 0.1)
    for _ in range(30):
        model = Motion.born(truth[:, :2], R, prior[:, 0], np.ones(n))
        model.mean = truth.copy()
        model._turned(dt, prior[:, 5])
        pushed = rng.normal(0, prior[:, [1]], (n, 2))
        truth = model.mean.copy()
        truth[:, :2] += 0.5 * dt**2 * pushed
        truth[:, 2:4] += dt * pushed
        truth[:, 4] = keep * (truth[:, 4] + rng.normal(0, prior[0, 4] * settings.steering * np.sqrt(dt), n))
        motion.predict(dt, prior, settings)
        z = truth[:, :2] + rng.normal(0, 0.2, (n, 2))
        S = motion.covariance[:, :2, :2] + R
        y = z - motion.mean[:, :2]
        squared.append(np.einsum("ni,nij,nj->n", y, np.linalg.inv(S), y))
        motion.update(np.arange(n), z, R, 2.0)
    for values, degrees in ((np.array(squared), 2), (_nees(motion, truth), 5)):
        low, high = chi2.ppf((0.0005, 0.9995), degrees * values.size) / values.size
        assert low < values.mean() < high


def _nees(motion: Motion, truth: np.ndarray) -> np.ndarray:
    error = motion.mean - truth
    return np.einsum("ni,nij,nj->n", error, np.linalg.inv(motion.covariance), error)
