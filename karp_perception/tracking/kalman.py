"""Linear Kalman filters, one a row, all at once.

Textbook equations (Bar-Shalom, Li, Kirubarajan: Estimation with Applications to Tracking and Navigation, 2001, ch. 5);
the covariance update is Joseph's form, which stays symmetric and positive.
"""

from __future__ import annotations

import numpy as np


def predict(
    mean: np.ndarray, covariance: np.ndarray, transition: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One step forward in time.

    Args:
        mean: (N, D).
        covariance: (N, D, D).
        transition: (D, D).
        noise: (N, D, D) or (D, D) covariance added by the step.

    Returns:
        mean (N, D) and covariance (N, D, D).
    """
    return mean @ transition.T, transition @ covariance @ transition.T + noise


def update(
    mean: np.ndarray, covariance: np.ndarray, measured: np.ndarray, noise: np.ndarray, observation: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joins one measurement a row.

    Args:
        mean: (N, D).
        covariance: (N, D, D).
        measured: (N, M).
        noise: (N, M, M) covariance of the measurements, positive definite.
        observation: (M, D) matrix that maps a state to its measurement.

    Returns:
        mean (N, D), covariance (N, D, D) and the log-likelihood (N,) of the measurements before they were joined.
    """
    cross = covariance @ observation.T
    innovation = measured - mean @ observation.T
    innovation_covariance = observation @ cross + noise
    gain = cross @ inverse(innovation_covariance)
    keep = np.eye(mean.shape[1]) - gain @ observation
    joined = keep @ covariance @ np.swapaxes(keep, 1, 2) + gain @ noise @ np.swapaxes(gain, 1, 2)
    new_mean = mean + (gain @ innovation[:, :, None])[:, :, 0]
    return new_mean, joined, log_density(innovation, innovation_covariance)


def inverse(covariance: np.ndarray) -> np.ndarray:
    """(N, M, M) inverses of positive definite matrices; in closed form for M = 2, which is most of them."""
    if covariance.shape[1] != 2:
        return np.linalg.inv(covariance)
    a, b, d = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    inverted = np.empty_like(covariance)
    determinant = a * d - b * b
    inverted[:, 0, 0], inverted[:, 1, 1] = d / determinant, a / determinant
    inverted[:, 0, 1] = inverted[:, 1, 0] = -b / determinant
    return inverted


def log_density(deviation: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(N,) log of the normal density at `deviation` (N, M) from the mean, for covariances (N, M, M)."""
    size = deviation.shape[1]
    if size == 2:  # closed form: association asks for thousands of these
        a, b, d = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
        determinant = a * d - b * b
        x, y = deviation[:, 0], deviation[:, 1]
        squared = (d * x * x - 2 * b * x * y + a * y * y) / determinant
        return -0.5 * squared - 0.5 * np.log(determinant) - np.log(2 * np.pi)
    squared = np.einsum("ni,ni->n", deviation, np.linalg.solve(covariance, deviation[:, :, None])[:, :, 0])
    return -0.5 * (squared + np.linalg.slogdet(covariance)[1] + size * np.log(2 * np.pi))
