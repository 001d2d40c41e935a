"""Faults of simulated cameras: found by their numbers, mended, told once; what is right is left alone."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from karp_perception.core import InvalidInput
from karp_perception.core.geometry import pose_from_rotation
from karp_perception.ros import messages
from karp_perception.sensing.assembler import FrameAssembler, SensingSettings
from karp_perception.sensing.calibration import decode_camera_info
from karp_perception.sensing.camera_mending import (
    BODY_FROM_OPTICAL,
    CameraMender,
    focal_length,
    fov_of_wrong_focal_length,
    is_body_frame,
)
from karp_perception.sensing.message_types import default_message

STAMP = 1_700_000_000 * 10**9


def wrong_focal_length(fov: float, width: int) -> float:
    """As CARLA's RGB camera publisher computes it up to 0.9.16."""
    return width / (2.0 * math.tan(fov) * math.pi / 360.0)


def camera_info(fx: float, width: int = 800, height: int = 600) -> object:
    K = np.array([[fx, 0, width / 2], [0, fx, height / 2], [0, 0, 1]])
    return messages.camera_info_message(K, (width, height), STAMP, "front", default_message)


@pytest.mark.parametrize("fov", [30.0, 45.0, 60.0, 69.4, 70.0, 82.3, 90.0, 100.0, 110.0, 120.0, 163.5])
@pytest.mark.parametrize("precision", [float, np.float32], ids=["double", "single"])
def test_the_field_of_view_is_read_back_from_the_wrong_focal_length(fov: float, precision: type) -> None:
    wrong = 1280 / (2.0 * float(np.tan(precision(fov))) * math.pi / 360.0)
    assert fov_of_wrong_focal_length(wrong, 1280) == pytest.approx(fov)


def test_a_known_case() -> None:
    # 1616 x 1240 at 60 degrees came with 289307 instead of 1399.497 pixels.
    wrong = wrong_focal_length(60.0, 1616)
    assert wrong == pytest.approx(289307, rel=1e-4)
    mended = CameraMender(camera_info="mend").camera_info("front", camera_info(wrong, 1616, 1240))
    model = decode_camera_info(mended)
    np.testing.assert_allclose(model.intrinsics, [[1399.4970525, 0, 808], [0, 1399.4970525, 620], [0, 0, 1]], rtol=1e-9)
    np.testing.assert_allclose(model.rectified_intrinsics, model.intrinsics)


def test_no_right_focal_length_is_taken_for_a_wrong_one() -> None:
    for fov in np.arange(1.0, 179.0, 0.1):
        assert fov_of_wrong_focal_length(focal_length(round(float(fov), 1), 1000), 1000) is None
    rng = np.random.default_rng(0)
    odd = [fov_of_wrong_focal_length(focal_length(fov, 1000), 1000) for fov in rng.uniform(20.0, 150.0, 5000)]
    assert sum(fov is not None for fov in odd) <= 5  # one in a thousand, and only where mending was asked for
    for never in (math.nan, math.inf, 0.0):
        assert fov_of_wrong_focal_length(never, 1000) is None


def test_every_tenth_of_a_degree_is_told_from_every_other() -> None:
    for tenths in range(10, 1790):
        assert fov_of_wrong_focal_length(wrong_focal_length(tenths / 10, 640), 640) == pytest.approx(tenths / 10)


def test_calibration_is_trusted_unless_mending_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    wrong, right = camera_info(wrong_focal_length(90.0, 800)), camera_info(400.0)
    assert CameraMender().camera_info("front", wrong) is wrong
    mender = CameraMender(camera_info="mend")
    with caplog.at_level(logging.WARNING):
        assert mender.camera_info("front", right) is right
        assert caplog.text == ""
        for _ in range(3):
            mended = mender.camera_info("front", wrong)
    assert decode_camera_info(mended).intrinsics[0, 0] == pytest.approx(400.0)
    assert caplog.text.count("mended to 400") == 1
    # A field of view that is known goes before one read back.
    known = CameraMender(camera_info="mend", fov=60.0).camera_info("front", wrong)
    assert decode_camera_info(known).intrinsics[0, 0] == pytest.approx(focal_length(60.0, 800))


def test_malformed_calibration_is_still_refused_by_name() -> None:
    broken = camera_info(400.0)
    broken.k = [1.0, 2.0]
    with pytest.raises(InvalidInput) as raised:
        CameraMender(camera_info="mend").camera_info("front", broken)
    assert raised.value.reason == "invalid_calibration"


def pose(yaw: float, pitch: float, *, optical: bool) -> np.ndarray:
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    R = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]]) @ np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    body = pose_from_rotation(R, (1.0, 0.0, 1.5))
    return body @ BODY_FROM_OPTICAL if optical else body


@pytest.mark.parametrize("yaw", [0.0, 1.0, math.pi, -2.0])
@pytest.mark.parametrize("pitch", [0.0, 0.5, -0.5])
def test_body_axes_are_told_from_optical_ones_and_turned(yaw: float, pitch: float) -> None:
    right, wrong = pose(yaw, pitch, optical=True), pose(yaw, pitch, optical=False)
    assert is_body_frame(wrong)
    assert not is_body_frame(right)
    auto = CameraMender(frames="auto")
    np.testing.assert_allclose(auto.pose("a", wrong), right, atol=1e-12)
    assert auto.pose("a", right) is right
    assert CameraMender(frames="optical").pose("a", wrong) is wrong
    np.testing.assert_allclose(CameraMender(frames="body").pose("a", wrong), right, atol=1e-12)


def test_the_assembler_mends_frames_as_its_settings_say(caplog: pytest.LogCaptureFixture) -> None:
    """What CARLA's native ROS 2 sends: bgra8, a body frame, the wrong focal length."""
    settings = SensingSettings(base_frame="hero", camera_frames="auto", camera_info="mend")
    assembler = FrameAssembler(settings, ["front"], lidar=False)
    tf = messages.transforms_message([("hero", "front", pose(0.0, 0.0, optical=False))], STAMP, default_message)
    assembler.add_transforms(tf, static=True)
    info = camera_info(wrong_focal_length(90.0, 64), 64, 48)
    assembler.add_camera_info("front", info)
    image = messages.image_message(np.zeros((48, 64, 3), np.uint8), STAMP, "front", default_message)
    image.encoding, image.step = "bgra8", 64 * 4
    image.data = np.tile(np.array([10, 20, 30, 255], np.uint8), 48 * 64)
    with caplog.at_level(logging.WARNING):
        assembler.add_image("front", image, STAMP)
        (frame,) = assembler.flush()
    camera = frame.cameras["front"]
    np.testing.assert_allclose(camera.T_base_camera, pose(0.0, 0.0, optical=True), atol=1e-12)
    assert camera.intrinsics[0, 0] == pytest.approx(32.0)
    assert camera.image[0, 0].tolist() == [30, 20, 10]
    assert caplog.text.count("body axes") == 1
