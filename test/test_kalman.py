"""The batched Kalman filter against the textbook, one dense filter at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from karp_perception.tracking import kalman


def _random_covariances(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    a = rng.normal(size=(count, size, size))
    return a @ np.swapaxes(a, 1, 2) + 0.1 * np.eye(size)


@pytest.mark.parametrize("measured", [2, 3, 4])
def test_predict_and_update_equal_the_textbook_equations(measured: int) -> None:
    rng = np.random.default_rng(measured)
    n, size = 7, 4
    mean, covariance = rng.normal(size=(n, size)), _random_covariances(rng, n, size)
    transition, noise = rng.normal(size=(size, size)), _random_covariances(rng, n, size)
    observation = rng.normal(size=(measured, size))
    z, measurement_noise = rng.normal(size=(n, measured)), _random_covariances(rng, n, measured)

    mean1, covariance1 = kalman.predict(mean, covariance, transition, noise)
    mean2, covariance2, density = kalman.update(mean1, covariance1, z, measurement_noise, observation)

    for i in range(n):
        x, p = transition @ mean[i], transition @ covariance[i] @ transition.T + noise[i]
        np.testing.assert_allclose(mean1[i], x)
        np.testing.assert_allclose(covariance1[i], p)
        s = observation @ p @ observation.T + measurement_noise[i]
        k = p @ observation.T @ np.linalg.inv(s)
        np.testing.assert_allclose(mean2[i], x + k @ (z[i] - observation @ x), atol=1e-9)
        np.testing.assert_allclose(covariance2[i], (np.eye(size) - k @ observation) @ p, atol=1e-9)
        assert density[i] == pytest.approx(multivariate_normal(observation @ x, s).logpdf(z[i]))


def test_covariances_stay_symmetric_and_positive_with_almost_perfect_measurements() -> None:
    mean, covariance = np.zeros((1, 4)), 1e6 * np.eye(4)[None]
    for _ in range(1000):
        mean, covariance = kalman.predict(mean, covariance, np.eye(4) + 0.1 * np.eye(4, k=2), 1e-6 * np.eye(4))
        mean, covariance, _ = kalman.update(mean, covariance, np.ones((1, 2)), 1e-8 * np.eye(2)[None], np.eye(2, 4))
        np.testing.assert_allclose(covariance, np.swapaxes(covariance, 1, 2), rtol=1e-6, atol=1e-12)
        assert np.linalg.eigvalsh(covariance[0]).min() > 0


@pytest.mark.parametrize("size", [1, 2, 3])
def test_log_density_is_scipys(size: int) -> None:
    rng = np.random.default_rng(0)
    deviation, covariance = rng.normal(size=(5, size)), _random_covariances(rng, 5, size)
    expected = [multivariate_normal(np.zeros(size), c).logpdf(d) for d, c in zip(deviation, covariance, strict=True)]
    np.testing.assert_allclose(kalman.log_density(deviation, covariance), expected)
