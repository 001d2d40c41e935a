"""Camera calibrations: models, region of interest and binning against image_geometry's rules, and what is refused."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from sensor_message_builders import camera_info_message

from karp_perception.core.errors import InvalidInput
from karp_perception.core.frames import DistortionModel
from karp_perception.sensing.calibration import CameraModel, decode_camera_info

K = (500.0, 0, 320, 0, 510, 240, 0, 0, 1)
PLUMB_BOB = (-0.3, 0.1, 0.001, -0.002, 0.01)
RATIONAL = (*PLUMB_BOB, 0.2, 0.05, 0.003)
ROTATION = tuple(cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))[0].reshape(-1))


def refused(message: Any, match: str | None = None) -> None:
    with pytest.raises(InvalidInput, match=match) as caught:
        decode_camera_info(message)
    assert caught.value.reason == "invalid_calibration"


def test_numbers_arrive_where_they_belong() -> None:
    P = (480.0, 0, 330, -48, 0, 485, 250, 0, 0, 0, 1, 0)
    model = decode_camera_info(camera_info_message(640, 480, K, d=PLUMB_BOB, p=P, r=ROTATION))
    np.testing.assert_array_equal(model.intrinsics, np.reshape(K, (3, 3)))
    np.testing.assert_array_equal(model.rectified_intrinsics, [[480, 0, 330], [0, 485, 250], [0, 0, 1]])
    np.testing.assert_array_equal(model.rectification, np.reshape(ROTATION, (3, 3)))
    assert (model.width, model.height, model.frame_id) == (640, 480, "sensor")
    assert (model.distortion.model, model.distortion.coefficients) == (DistortionModel.PLUMB_BOB, PLUMB_BOB)


@pytest.mark.parametrize(
    ("name", "coefficients", "model", "kept"),
    [
        ("plumb_bob", PLUMB_BOB, DistortionModel.PLUMB_BOB, 5),
        ("plumb_bob", PLUMB_BOB[:4], DistortionModel.PLUMB_BOB, 4),
        ("plumb_bob", (*PLUMB_BOB, 0, 0, 0), DistortionModel.PLUMB_BOB, 5),
        ("rational_polynomial", RATIONAL, DistortionModel.RATIONAL, 8),
        ("rational_polynomial", (*RATIONAL, 0.1, 0.1, 0.1, 0.1), DistortionModel.RATIONAL, 12),
        ("rational_polynomial", PLUMB_BOB, DistortionModel.PLUMB_BOB, 5),
        ("equidistant", (0.1, -0.02, 0.003, 0.0), DistortionModel.EQUIDISTANT, 4),
        ("fisheye", (0.1, -0.02, 0.003, 0.0), DistortionModel.EQUIDISTANT, 4),
        ("equidistant", (0.1, -0.02, 0.003, 0.01, 0), DistortionModel.EQUIDISTANT, 4),
        ("plumb_bob", (), DistortionModel.NONE, 0),
        ("plumb_bob", (0, 0, 0, 0, 0), DistortionModel.NONE, 0),
        ("rational_polynomial", (0,) * 8, DistortionModel.NONE, 0),
        ("", (), DistortionModel.NONE, 0),
        ("none", (), DistortionModel.NONE, 0),
    ],
)
def test_distortion_models(name: str, coefficients: tuple[float, ...], model: DistortionModel, kept: int) -> None:
    distortion = decode_camera_info(camera_info_message(model=name, d=coefficients)).distortion
    assert distortion.model is model
    assert distortion.coefficients == coefficients[:kept]


@pytest.mark.parametrize(
    ("name", "coefficients", "match"),
    [
        ("plumb_bob", PLUMB_BOB[:3], "4 or 5"),
        ("plumb_bob", RATIONAL, "4 or 5"),
        ("rational_polynomial", RATIONAL[:6], "8 or 12 or 14"),
        ("equidistant", PLUMB_BOB, "4 coefficients"),
        ("", PLUMB_BOB, "0 coefficients"),
        ("scaramuzza", PLUMB_BOB, "plumb_bob"),
        ("plumb_bob", (np.nan, 0, 0, 0, 0), "finite"),
    ],
)
def test_distortions_nobody_can_compute_are_refused(name: str, coefficients: tuple[float, ...], match: str) -> None:
    refused(camera_info_message(model=name, d=coefficients), match)


def test_zeros_in_p_and_r_mean_nothing_was_rectified() -> None:
    model = decode_camera_info(camera_info_message(k=K, p=(0,) * 12, r=(0,) * 9))
    np.testing.assert_array_equal(model.rectified_intrinsics, model.intrinsics)
    np.testing.assert_array_equal(model.rectification, np.eye(3))


@pytest.mark.parametrize("binning", [(0, 0), (1, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("roi", [(0, 0, 0, 0), (100, 50, 400, 300), (40, 0, 0, 0)])
def test_region_of_interest_and_binning(roi: tuple[int, int, int, int], binning: tuple[int, int]) -> None:
    """A point's pixel in the full image, moved by the region's corner and divided, is its pixel in the sent one."""
    model = decode_camera_info(camera_info_message(640, 480, K, binning=binning, roi=roi))
    point = np.array([0.3, -0.2, 2.0])
    full = np.reshape(K, (3, 3)) @ point / point[2]
    divisor = np.maximum(binning, 1)
    for intrinsics in (model.intrinsics, model.rectified_intrinsics):
        sent = intrinsics @ point / point[2]
        np.testing.assert_allclose(sent[:2], (full[:2] - roi[:2]) / divisor)
    width, height = roi[2] or 640 - roi[0], roi[3] or 480 - roi[1]
    assert (model.width, model.height) == (width // divisor[0], height // divisor[1])


@pytest.mark.parametrize(
    "change",
    [
        {"roi": (600, 0, 100, 100)},
        {"roi": (640, 0, 0, 0)},
        {"roi": (0, 0, 641, 480)},
        {"binning": (641, 1)},
        {"width": 0},
        {"height": 0},
        {"k": (0.0, 0, 0, 0, 0, 0, 0, 0, 0)},
        {"k": (0.0, 0, 320, 0, 500, 240, 0, 0, 1)},
        {"k": (-500.0, 0, 320, 0, 500, 240, 0, 0, 1)},
        {"k": (500.0, 0, 320, 0, 500, 240, 0, 0, 0)},
        {"k": (500.0, 0, 320, 7, 500, 240, 0, 0, 1)},
        {"k": (500.0, 1e300, 320, 0, 500, 240, 0, 0, 1)},
        {"d": (-0.3, 1e200, 0, 0, 0)},
        {"r": (1.0, 0, 0, 1e300, 1, 0, 0, 0, 1)},
        {"k": (np.inf, 0, 320, 0, 500, 240, 0, 0, 1)},
        {"k": (np.nan, 0, 320, 0, 500, 240, 0, 0, 1)},
        {"k": (500.0, 0, 5000, 0, 500, 240, 0, 0, 1)},  # of another resolution
        {"k": (0.8, 0, 0.5, 0, 1.1, 0.5, 0, 0, 1)},  # in parts of the image
        {"k": (4.0, 0, 3.2, 0, 4.0, 2.4, 0, 0, 1)},  # in mm
        {"k": (5e6, 0, 320, 0, 5e6, 240, 0, 0, 1)},
        {"k": (100.0, 0, 320, 0, 2000, 240, 0, 0, 1)},
        {"p": (500.0, 0, 320, 0, 0, -500, 240, 0, 0, 0, 1, 0)},
        {"r": (1.0, 0, 0, 0, 1, 0, 0, 0, -1)},
        {"r": (2.0, 0, 0, 0, 2, 0, 0, 0, 2)},
    ],
)
def test_impossible_calibrations_are_refused(change: dict[str, Any]) -> None:
    refused(camera_info_message(**change))


def test_an_uncalibrated_camera_is_called_so() -> None:
    refused(camera_info_message(k=(0.0,) * 9, p=(0,) * 12, r=(0,) * 9), "not calibrated.*calibrate the camera")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("k", np.zeros(8)), ("k", "text"), ("k", None), ("d", None), ("d", np.zeros((5, 1))), ("p", np.ones(9))],
        *[("width", -1), ("width", 1.5), ("roi", None), ("header", None), ("distortion_model", None)],
        *[("binning_x", None)],
    ],
)
def test_wrong_types_are_refused(name: str, value: Any) -> None:
    message = camera_info_message()
    setattr(message, name, value)
    refused(message)


def test_scaled_follows_the_picture() -> None:
    model = decode_camera_info(camera_info_message(640, 480, K, d=PLUMB_BOB))
    half = model.scaled(320, 240)
    assert (half.width, half.height) == (320, 240)
    for before, after in (
        (model.intrinsics, half.intrinsics),
        (model.rectified_intrinsics, half.rectified_intrinsics),
    ):
        np.testing.assert_allclose(after, [[0.5], [0.5], [1]] * before)
    assert half.distortion == model.distortion
    assert model.scaled(640, 480) is model
    odd = decode_camera_info(camera_info_message(1242, 375, (720.0, 0, 610, 0, 720, 175, 0, 0, 1)))
    assert odd.scaled(621, 187).height == 187  # 187.5, rounded by whoever resized


@pytest.mark.parametrize("size", [(640, 360), (480, 640), (0, 0), (641, 490), (320, 200)])
def test_cropped_pictures_are_not_scaled(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="region of interest") as caught:
        decode_camera_info(camera_info_message(640, 480, K)).scaled(*size)
    assert caught.value.reason == "invalid_calibration"


def test_models_check_themselves() -> None:
    good = decode_camera_info(camera_info_message())
    with pytest.raises(InvalidInput):
        CameraModel(0, 480, good.intrinsics, good.distortion, good.intrinsics, "camera")
    with pytest.raises(InvalidInput):
        CameraModel(640, 480, np.eye(4), good.distortion, good.intrinsics, "camera")
    with pytest.raises(ValueError, match="read-only"):
        good.intrinsics[0, 0] = 1
