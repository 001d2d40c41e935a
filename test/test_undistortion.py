"""Undistortion: points seen through OpenCV's lens models come out where a pinhole camera sees them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from sensor_message_builders import camera_info_message

from karp_perception.core.errors import InvalidInput
from karp_perception.sensing.calibration import CameraModel, decode_camera_info
from karp_perception.sensing.undistortion import Undistorter

WIDTH, HEIGHT = 640, 480
K = (400.0, 0, 322, 0, 405, 236, 0, 0, 1)
P = (330.0, 0, 310, 0, 0, 335, 244, 0, 0, 0, 1, 0)
TURN = cv2.Rodrigues(np.array([0.01, -0.03, 0.02]))[0]
LENSES = {
    "plumb_bob": (-0.28, 0.09, 0.001, -0.0015, -0.01),
    "rational_polynomial": (0.4, 0.1, 0.001, -0.0008, 0.02, 0.7, 0.15, 0.03),
    "equidistant": (0.03, -0.01, 0.004, -0.001),
}


def camera(lens: str, rotated: bool = False, p: tuple[float, ...] | None = P) -> CameraModel:
    r = tuple(TURN.reshape(-1)) if rotated else tuple(np.eye(3).reshape(-1))
    return decode_camera_info(camera_info_message(WIDTH, HEIGHT, K, lens, LENSES.get(lens, ()), p, r))


def seen(model: CameraModel, points: np.ndarray) -> np.ndarray:
    """(N, 2) pixels of points (N, 3) in the raw image, by OpenCV's projection."""
    arguments = (points[:, None], np.zeros(3), np.zeros(3), model.intrinsics, np.array(model.distortion.coefficients))
    if len(model.distortion.coefficients) == 4 and model.distortion.model.value == "equidistant":
        points, rotation, translation, K, D = arguments
        return cv2.fisheye.projectPoints(points, rotation, translation, K, D)[0].reshape(-1, 2)
    return cv2.projectPoints(*arguments)[0].reshape(-1, 2)


def spot_image(pixel: np.ndarray) -> np.ndarray:
    """A round spot of 3 pixels sigma, in floats' precision of its centre."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    spot = 255 * np.exp(-((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2) / 18)
    return np.repeat(np.rint(spot).astype(np.uint8)[..., None], 3, axis=2)


def centre_of(image: np.ndarray) -> np.ndarray:
    weight = image[..., 0].astype(float)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("lens", LENSES)
def test_points_come_out_where_a_pinhole_sees_them(lens: str, rotated: bool) -> None:
    model = camera(lens, rotated)
    undistorter = Undistorter(model)
    np.testing.assert_array_equal(undistorter.intrinsics, model.rectified_intrinsics)
    points = np.array([[0, 0, 1], [0.4, 0.1, 1], [-0.45, -0.3, 1], [0.2, 0.4, 1], [-0.5, 0.35, 1.0]])
    ideal = points @ model.rectification.T @ undistorter.intrinsics.T
    for raw, expected in zip(seen(model, points), ideal[:, :2] / ideal[:, 2:], strict=True):
        assert np.abs(raw - expected).max() > 1  # there is something to undo
        np.testing.assert_allclose(centre_of(undistorter(spot_image(raw))), expected, atol=0.2)


def test_without_p_the_pinhole_has_the_camera_matrix() -> None:
    model = camera("plumb_bob", p=(0,) * 12)
    np.testing.assert_array_equal(Undistorter(model).intrinsics, model.intrinsics)


@pytest.mark.parametrize(("lens", "rectified"), [("", False), ("plumb_bob", True), ("", True)])
def test_what_needs_nothing_is_not_copied(lens: str, rectified: bool) -> None:
    model = camera(lens)
    undistorter = Undistorter(model, rectified=rectified)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert undistorter(image) is image
    expected = model.rectified_intrinsics if rectified else model.intrinsics
    np.testing.assert_array_equal(undistorter.intrinsics, expected)


def test_a_resized_camera_undistorts_alike() -> None:
    model = camera("plumb_bob")
    half = Undistorter(model.scaled(WIDTH // 2, HEIGHT // 2))
    assert half.image_size == (WIDTH // 2, HEIGHT // 2)
    raw = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 12)
    small = cv2.resize(raw, half.image_size, interpolation=cv2.INTER_AREA)
    expected = cv2.resize(Undistorter(model)(raw), half.image_size, interpolation=cv2.INTER_AREA)
    assert np.abs(half(small).astype(int) - expected)[20:-20, 20:-20].max() <= 4


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(InvalidInput, match="scaled") as caught:
        Undistorter(camera("plumb_bob"))(np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))
    assert caught.value.reason == "invalid_calibration"


def test_threads_share_one_undistorter() -> None:
    undistorter = Undistorter(camera("equidistant"))
    images = np.random.default_rng(2).integers(0, 256, (8, HEIGHT, WIDTH, 3), np.uint8)
    alone = [undistorter(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(undistorter, images))
    np.testing.assert_array_equal(alone, together)
