"""Known faults of simulated cameras, found by the numbers themselves and mended, with a line that says so.

- **Focal length.** Releases of CARLA's native ROS 2 up to 0.9.16 compute the focal length of camera_info from the
  tangent of a field of view in degrees: fx = width / (2 tan(fov) pi / 360), instead of width / (2 tan(fov pi / 360)).
  What comes out is negative or that of a telescope for most angles. No two fields of view in tenths of a degree give
  the same wrong number, so the field of view can be read back from it.
- **Frame.** The same releases (and simulators that publish the camera's link) stamp images with a frame of REP-103
  body axes, x forward and z up, where REP-103 wants an optical frame, z forward and y down. An upright camera's body
  frame has its z axis up; an optical frame like that would look at the sky.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.sensing.messages import attribute, integer

log = logging.getLogger(__name__)

BODY_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""(4, 4) pose of an optical frame in body axes at the same place (REP-103)."""
BODY_FROM_OPTICAL.flags.writeable = False

_FOVS = np.arange(10, 1790) / 10.0  # deg
_SINGLE = _FOVS.astype(np.float32)
_WRONG = 180.0 / math.pi / np.array([np.tan(_FOVS), np.tan(_SINGLE.astype(np.float64)), np.tan(_SINGLE)], np.float64)
"""Focal lengths for a width of 1, as the fault has them, in the precisions in which it may have been computed."""
_RIGHT = 0.5 / np.tan(np.radians(0.5 * _FOVS))
_SAME = 1e-5  # relative: wrong numbers of two fields of view differ by 1.8e-3 at least
_EXACT = 1e-6
_UP = math.cos(math.radians(45.0))
_SUBJECT, _REASON = "CameraInfo", "invalid_calibration"


def fov_of_wrong_focal_length(fx: float, width: int) -> float | None:
    """The field of view (deg) of a camera whose focal length was computed the wrong way; None where it was not.

    A focal length that is right for a whole tenth of a degree is taken for right.
    """
    if width < 1 or not math.isfinite(fx) or fx == 0.0:
        return None
    share = fx / width
    if np.isclose(_RIGHT, share, rtol=_EXACT, atol=0.0).any():
        return None
    error = np.abs(share / _WRONG - 1.0).min(axis=0)
    best = int(np.argmin(error))
    return float(_FOVS[best]) if error[best] < _SAME else None


def focal_length(fov: float, width: int) -> float:
    """Pixels, for a horizontal field of view in deg."""
    return 0.5 * width / math.tan(math.radians(0.5 * fov))


def is_body_frame(T_base_frame: np.ndarray) -> bool:
    """Whether a camera's frame (4, 4, in `base_link`) has body axes: its z axis within 45 degrees of up."""
    return bool(T_base_frame[2, 2] > _UP)


class CameraMender:
    """Mends calibration and frames of cameras as settings say; each fault of each camera is told once.

    Args:
        frames: `optical` where every frame is taken as REP-103 wants it, `body` where none is, `auto` to look.
        camera_info: `trust`, or `mend` to look for the wrong focal length.
        fov: horizontal field of view (deg) to go by where that is known; 0 to read it back from the wrong number.
    """

    def __init__(self, frames: str = "optical", camera_info: str = "trust", fov: float = 0.0) -> None:
        self._frames, self._camera_info, self._fov = frames, camera_info, fov
        self._told: set[tuple[str, str]] = set()

    def camera_info(self, name: str, message: Any) -> Any:
        """The sensor_msgs/CameraInfo, or one with the focal length that it should have."""
        if self._camera_info != "mend":
            return message
        width = integer(message, "width", _SUBJECT, _REASON)
        try:
            K = np.array(attribute(message, "k", _SUBJECT, _REASON), float).reshape(3, 3)
            P = np.array(attribute(message, "p", _SUBJECT, _REASON), float).reshape(3, 4)
        except (TypeError, ValueError) as error:
            raise InvalidInput(_SUBJECT, "9 numbers in K and 12 in P", error, reason=_REASON) from None
        fov = fov_of_wrong_focal_length(float(K[0, 0]), width)
        if fov is None:
            return message
        right = focal_length(self._fov or fov, width)
        self._tell(
            name,
            "camera_info",
            f"its camera_info has fx = {K[0, 0]:.6g}, the tangent of degrees taken for radians: "
            f"mended to {right:.6g}, for a field of view of {self._fov or fov:g} deg",
        )
        for matrix in (K, P):
            if matrix.any():
                matrix[0, 0] = matrix[1, 1] = right
        return _Mended(message, K.ravel(), P.ravel())

    def pose(self, name: str, T_base_frame: np.ndarray) -> np.ndarray:
        """(4, 4) pose of the optical frame, of that of the frame which the image names."""
        if self._frames == "optical" or (self._frames == "auto" and not is_body_frame(T_base_frame)):
            return T_base_frame
        self._tell(name, "frame", "its frame has body axes (x forward, z up), not optical ones: rotated")
        return T_base_frame @ BODY_FROM_OPTICAL

    def _tell(self, name: str, fault: str, text: str) -> None:
        if (name, fault) not in self._told:
            self._told.add((name, fault))
            log.warning("camera %s: %s", name, text, extra={"once": True})


class _Mended:
    """A message with other K and P."""

    def __init__(self, message: Any, k: np.ndarray, p: np.ndarray) -> None:
        self._message, self.k, self.p = message, k, p

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)
