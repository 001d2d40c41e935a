"""The estimated ground against the ground the sweep was made from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from lidar_scenes import Ground, as_sweep, boxes, car, flat, scan

from karp_perception.core.frames import LidarSweep
from karp_perception.detection.ground import GroundEstimator, GroundSettings, GroundSurface, PolarGrid

ESTIMATOR = GroundEstimator()


def estimate(sweep: LidarSweep) -> GroundSurface:
    x, y, z = (np.ascontiguousarray(column) for column in sweep.points[:, :3].T)
    near = np.hypot(x, y) < ESTIMATOR.settings.max_range
    return ESTIMATOR.estimate(z[near], *ESTIMATOR.grid.locate(x[near], y[near]))


def errors(surface: GroundSurface, sweep: LidarSweep, ground: Ground) -> np.ndarray:
    """Estimated less true height at the sweep's ground points within 60 m, m."""
    x, y, z, _ = sweep.points.T
    truth = ground(x, y)
    seen = (np.abs(z - truth) < 0.1) & (np.hypot(x, y) < 60)
    x, y = np.ascontiguousarray(x[seen]), np.ascontiguousarray(y[seen])
    return surface.height_at(x, y) - truth[seen]


def ramp(slope: float, start: float = 10.0, over: float = 5.0) -> Ground:
    """Level, then a slope ahead; the grade changes over `over` m."""

    def height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        d = np.clip(x - start, 0.0, None)
        return slope * np.where(d < over, d**2 / (2 * over), d - over / 2) + 0 * y

    return height


GROUNDS: dict[str, Ground] = {
    "flat": flat,
    "up 15 %": ramp(0.15),
    "down 15 %": ramp(-0.15),
    "cross slope 8 %": lambda x, y: 0.08 * y,
    "tilted and 0.1 m low": lambda x, y: 0.02 * x - 0.01 * y - 0.1,
    "undulating": lambda x, y: 0.25 * np.sin(x / 6) * np.cos(y / 9),
    "crowned, kerbs of 0.12 m": lambda x, y: -0.02 * np.abs(y) + 0.12 * (np.abs(y) > 5),
}


@pytest.mark.parametrize("beams", [16, 32, 64, 128])
@pytest.mark.parametrize("name", GROUNDS)
def test_follows_the_ground(name: str, beams: int) -> None:
    ground = GROUNDS[name]
    sweep = scan([car(12, 3), car(20, -3, 10)], ground, beams=beams, step_deg=1.0)
    error = np.abs(errors(estimate(sweep), sweep, ground))
    assert len(error) > 1000
    # Where a slope begins far to the side, 16 beams leave single rings tens of metres apart.
    assert np.percentile(error, 95 if beams == 16 else 99) < 0.2


def test_ground_in_the_shadow_of_a_truck_is_that_of_its_surroundings() -> None:
    slope: Callable[..., np.ndarray] = lambda x, y: 0.05 * x  # noqa: E731
    sweep = scan([boxes((12, 0, 0.5, 8, 2.5, 3.5, 0))], slope)
    surface = estimate(sweep)
    x = np.linspace(17, 40, 20, dtype=np.float32)
    assert np.abs(surface.height_at(x, np.zeros_like(x)) - 0.05 * x).max() < 0.3


def test_what_is_not_seen_is_less_certain() -> None:
    surface = estimate(scan([boxes((10, 0, 0.0, 1, 30, 4, 0))]))
    grid = surface.grid
    ring = np.searchsorted(grid.edges, 30.0)
    ahead, behind = surface.sigma[ring, 0], surface.sigma[ring, grid.sectors // 2]
    assert ahead > 2 * behind


def test_far_points_do_not_change_the_ground_nearby() -> None:
    near = scan([car(12, 3)], max_range=30.0)
    far = np.random.default_rng(0).uniform((40, -30, -3), (70, 30, 9), (5000, 3))
    with_far = as_sweep(np.concatenate([near.points[:, :3], far]))
    rings = slice(0, np.searchsorted(ESTIMATOR.grid.edges, 30.0) - 1)
    np.testing.assert_array_equal(estimate(near).height[rings], estimate(with_far).height[rings])


def test_order_of_points_makes_no_difference() -> None:
    sweep = scan([car(12, 3)], beams=32)
    shuffled = as_sweep(np.random.default_rng(2).permutation(sweep.points[:, :3]))
    np.testing.assert_array_equal(estimate(sweep).height, estimate(shuffled).height)


def test_without_points_the_ground_is_where_base_link_says() -> None:
    surface = estimate(as_sweep(np.zeros((0, 3))))
    np.testing.assert_array_equal(surface.height, 0)
    np.testing.assert_array_equal(surface.plane, 0)


def test_bins_cover_the_reach_and_match_the_angles() -> None:
    grid = PolarGrid(GroundSettings(max_range=50.0))
    rng = np.random.default_rng(4)
    angle, distance = rng.uniform(0, 2 * np.pi, 5000), rng.uniform(0, 49.9, 5000)
    x, y = (distance * np.cos(angle)).astype(np.float32), (distance * np.sin(angle)).astype(np.float32)
    bins, measured = grid.locate(x, y)
    np.testing.assert_allclose(measured, distance, atol=1e-3)
    ring, sector = np.divmod(bins, grid.sectors)
    assert (grid.edges[ring] <= distance + 0.06).all()
    assert (grid.edges[ring + 1] >= distance - 0.06).all()
    off = (angle / (2 * np.pi) * grid.sectors - sector - 0.5 + grid.sectors / 2) % grid.sectors - grid.sectors / 2
    assert np.abs(off).max() < 0.65  # OpenCV's angles are good to 0.3 degrees
