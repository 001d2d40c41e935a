"""Preprocessing and decoding as torch operations against the numpy ones; on a GPU as well where there is one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from small_model import SMALL, camera, sweep  # noqa: E402

from karp_perception.core import Boxes, CameraFrame, LidarSweep  # noqa: E402
from karp_perception.detection.decoding import decode  # noqa: E402
from karp_perception.detection.model.config import NANO, ModelConfig  # noqa: E402
from karp_perception.detection.preprocessing import (  # noqa: E402
    PIXEL_MEAN,
    PIXEL_SPREAD,
    canvas_of,
    ground_height,
    place_cameras,
    rig_of,
    supersampling,
)
from karp_perception.detection.runtime.device_canvas import FAR_M, DeviceCanvas  # noqa: E402
from karp_perception.detection.runtime.device_decoding import COLUMNS, best_queries, boxes_of  # noqa: E402
from karp_perception.detection.runtime.device_images import BandScaling, BandShape  # noqa: E402
from karp_perception.detection.runtime.reference_frames import reference_frames  # noqa: E402

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def grey(normalised: np.ndarray) -> np.ndarray:
    """(..., 3, H, W) back to grey levels."""
    return (normalised * PIXEL_SPREAD[:, None, None] + PIXEL_MEAN[:, None, None]) * 255.0


def images_on(device: str, cameras: dict[str, CameraFrame | None], config: ModelConfig) -> np.ndarray:
    rig, cuts = rig_of(cameras, config)
    images = torch.zeros((1, config.cameras, 3, config.image_height, config.image_width), device=device)
    for slot, (name, cut) in enumerate(zip(rig.names, cuts, strict=True)):
        source = cameras[name]
        assert source is not None
        band = source.image[cut.top : cut.bottom].copy()
        shape = BandShape(band.shape[0], band.shape[1], cut.rows)
        scaling = BandScaling(shape, (slot,), config.image_width, torch.device(device))
        scaling(torch.from_numpy(band)[None].to(device), images)
    return images.cpu().numpy()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(90, 200), (48, 96), (30, 96), (200, 500), (375, 1242), (900, 1600), (40, 77)])
def test_images_are_those_of_the_cpu(device: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    cameras: dict[str, CameraFrame | None] = {"a": camera(rng, 0.0, shape), "b": None, "c": camera(rng, 1.0, shape)}
    expected = grey(place_cameras(cameras, SMALL)[1])
    found = grey(images_on(device, cameras, SMALL))
    # Images of 8 bits are rounded after each step, halves upwards: an eighth of a grey level each time.
    assert np.abs(found - expected).max() < 1.5
    assert np.abs(found - expected).mean() < 0.35
    assert abs((found - expected).mean()) < 0.3
    rig, cuts = rig_of(cameras, SMALL)
    for slot, (name, cut) in enumerate(zip(rig.names, cuts, strict=True)):
        source = cameras[name]
        assert source is not None
        exact = sampled(source.image[cut.top : cut.bottom].astype(np.float64), cut.rows, SMALL.image_width)
        np.testing.assert_allclose(found[0, slot, :, : cut.rows], exact.transpose(2, 0, 1), atol=2e-3)


def sampled(band: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Bilinear at the centres of smaller pixels, averaged, in float64, by scipy."""
    multiple = supersampling(band.shape[1], columns)
    high, wide = multiple * rows, multiple * columns
    y = np.clip((np.arange(high) + 0.5) * band.shape[0] / high - 0.5, 0, band.shape[0] - 1)
    x = np.clip((np.arange(wide) + 0.5) * band.shape[1] / wide - 0.5, 0, band.shape[1] - 1)
    grid = np.meshgrid(y, x, indexing="ij")
    fine = np.stack([ndimage.map_coordinates(band[..., c], grid, order=1) for c in range(3)], axis=-1)
    return fine.reshape(rows, multiple, columns, multiple, 3).mean(axis=(1, 3))


@pytest.mark.parametrize("device", DEVICES)
def test_bands_of_one_shape_are_scaled_together(device: str) -> None:
    rng = np.random.default_rng(1)
    bands = rng.integers(0, 256, (2, 90, 200, 3), dtype=np.uint8)
    together = torch.full((1, 3, 3, 48, 96), 7.0, device=device)
    apart = together.clone()
    shape = BandShape(90, 200, 43)
    target = torch.device(device)
    BandScaling(shape, (0, 2), 96, target)(torch.from_numpy(bands).to(device), together)
    for slot, band in zip((0, 2), bands, strict=True):
        BandScaling(shape, (slot,), 96, target)(torch.from_numpy(band)[None].to(device), apart)
    assert torch.equal(together, apart)
    assert (together[0, 1] == 7).all()
    assert (together[0, :, :, 43:] == 7).all()


def canvas_on(device: str, cloud: LidarSweep, config: ModelConfig, capacity: int = 0) -> np.ndarray:
    points = torch.full((max(capacity, len(cloud.points)), 4), FAR_M)
    time = torch.zeros(len(points))
    points[: len(cloud.points)] = torch.from_numpy(cloud.points.copy())
    if cloud.time is not None:
        time[: len(cloud.points)] = torch.from_numpy(cloud.time.copy())
    return DeviceCanvas(config, torch.device(device))(points.to(device), time.to(device)).cpu().numpy()


def assert_same_canvas(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal, but for cells where a point lies on the edge of a bin to the last bit."""
    assert found.shape == expected.shape
    wrong = (np.abs(found - expected) > 1e-5 + 1e-5 * np.abs(expected)).any(axis=0)
    assert wrong.sum() <= max(1, 1e-3 * (expected != 0).any(axis=0).sum()), wrong.sum()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(3))
def test_canvas_is_that_of_the_cpu(device: str, seed: int) -> None:
    cloud = sweep(np.random.default_rng(seed))
    assert_same_canvas(canvas_on(device, cloud, SMALL), canvas_of(cloud, SMALL))
    without_time = LidarSweep(cloud.points, 0)
    assert_same_canvas(canvas_on(device, without_time, SMALL), canvas_of(without_time, SMALL))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(2))
def test_canvas_of_a_street_is_that_of_the_cpu(device: str, seed: int) -> None:
    cloud = reference_frames()[seed].lidar
    assert cloud is not None
    # Coordinates are whole centimetres, and so are edges of cells and bins: which side they are on is a matter of the
    # last bit.
    level = cloud.points + np.float32(1e-3) * np.random.default_rng(seed).random(cloud.points.shape, np.float32)
    tilted = level.copy()
    tilted[:, 2] += 0.05 * tilted[:, 0]  # uphill
    for each in (LidarSweep(level, 0, cloud.time), LidarSweep(tilted, 0, cloud.time)):
        assert_same_canvas(canvas_on(device, each, NANO, capacity=1 << 17), canvas_of(each, NANO))


@pytest.mark.parametrize("device", DEVICES)
def test_ground_is_that_of_the_cpu(device: str) -> None:
    cloud = reference_frames()[3].lidar
    assert cloud is not None
    nx, ny = NANO.canvas_cells
    i = np.floor((cloud.points[:, 0] - np.float32(NANO.x_range_m[0])) * np.float32(1 / NANO.cell_m)).astype(int)
    j = np.floor((cloud.points[:, 1] - np.float32(NANO.y_range_m[0])) * np.float32(1 / NANO.cell_m)).astype(int)
    inside = (i >= 0) & (i < nx) & (j >= 0) & (j < ny)
    cell, z = (i * ny + j)[inside], cloud.points[inside, 2]
    maker = DeviceCanvas(NANO, torch.device(device))
    found = maker.ground(torch.from_numpy(cell).to(device), torch.from_numpy(z).to(device)).cpu().numpy()
    np.testing.assert_allclose(found, ground_height(cell, z, NANO), atol=2e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_filling_points_and_nothing_at_all_leave_an_empty_canvas(device: str) -> None:
    nothing = LidarSweep(np.zeros((0, 4), np.float32), 0)
    assert not canvas_on(device, nothing, SMALL, capacity=64).any()
    away = LidarSweep(np.array([[500.0, 0, 0, 1], [0, 500, 0, 1], [3, 3, 90, 1]], np.float32), 0)
    assert not canvas_on(device, away, SMALL, capacity=64).any()


@given(
    st.lists(st.tuples(*[st.floats(-60, 60, width=32)] * 3, st.floats(-1, 2, width=32)), min_size=1, max_size=60),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None)
def test_canvas_does_not_depend_on_order_or_filling(rows: list[tuple[float, ...]], seed: int) -> None:
    cloud = LidarSweep(np.array(rows, np.float32), 0)
    shuffled = LidarSweep(cloud.points[np.random.default_rng(seed).permutation(len(rows))], 0)
    found = canvas_on("cpu", cloud, SMALL)
    np.testing.assert_allclose(canvas_on("cpu", shuffled, SMALL, capacity=128), found, rtol=1e-6, atol=1e-6)
    assert np.isfinite(found).all()


def outputs(rng: np.random.Generator, queries: int = 40) -> dict[str, np.ndarray]:
    widths = {"logits": 10, "center": 3, "log_size": 3, "direction": 2, "velocity": 2, "log_variance": 9}
    return {n: (4 * rng.standard_normal((1, queries, w))).astype(np.float32) for n, w in widths.items()}


def decoded_on(device: str, arrays: dict[str, np.ndarray], threshold: float, most: int) -> Boxes:
    table = best_queries({n: torch.from_numpy(v).to(device) for n, v in arrays.items()})
    assert table.shape == (arrays["logits"].shape[1], COLUMNS)
    return boxes_of(table.cpu().numpy(), threshold, most)


def assert_same_boxes(found: Boxes, expected: Boxes) -> None:
    assert len(found) == len(expected)
    for column in ("center", "size", "yaw", "velocity", "label", "score", "variance") if len(expected) else ():
        np.testing.assert_allclose(getattr(found, column), getattr(expected, column), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("threshold", "most"), [(0.0, 100), (0.3, 100), (0.9, 10), (0.0, 3), (1.0, 5)])
def test_boxes_are_those_of_the_cpu(device: str, threshold: float, most: int) -> None:
    for seed in range(5):
        arrays = outputs(np.random.default_rng(seed))
        assert_same_boxes(decoded_on(device, arrays, threshold, most), decode(arrays, threshold, most))


@pytest.mark.parametrize("device", DEVICES)
def test_broken_masked_wild_and_equal_queries_are_treated_as_on_the_cpu(device: str) -> None:
    arrays = outputs(np.random.default_rng(0))
    arrays["center"][0, 3, 1] = np.nan
    arrays["logits"][0, 5, 2] = np.inf
    arrays["log_variance"][0, 6, 0] = -np.inf
    arrays["logits"][0, 7] = -1e4
    arrays["logits"][0, 8:12] = arrays["logits"][0, 8]
    arrays["logits"][0, 12:16, 3] = (900.0, 50.0, 60.0, 40.0)  # saturated: all are 1
    arrays["center"][0, 16] = 1e30
    arrays["log_size"][0, 16] = (1e5, -1e5, 0)
    arrays["velocity"][0, 16] = 1e9
    assert_same_boxes(decoded_on(device, arrays, 0.0, 100), decode(arrays, 0.0, 100))
    nothing = {name: np.full_like(values, np.nan) for name, values in arrays.items()}
    assert len(decoded_on(device, nothing, 0.0, 100)) == 0
