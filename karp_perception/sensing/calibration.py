"""sensor_msgs/CameraInfo -> CameraModel.

Follows the message's own definition (REP 104) and image_geometry: K, D, R and P are those of the full, unbinned
image; a region of interest moves the principal point, then binning divides focal lengths and principal point. A P of
zeros means that nobody chose a rectified camera: it is K then. Lens coefficients that are all zero are no distortion,
whatever the model is called. The fourth column of P (the baseline of a stereo pair) is not used: tf says where a
camera is.

InvalidInput is raised with the reason `invalid_calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.core.frames import Distortion, DistortionModel
from karp_perception.core.validation import as_array
from karp_perception.sensing.messages import attribute, integer, text

_SUBJECT = "CameraInfo"
_REASON = "invalid_calibration"
_ADVICE = "calibrate the camera (ros2 run camera_calibration cameracalibrator) and load the result into its driver"
# A focal length in units of the longer side. 0.05 would be a view of 168 degrees through a pinhole, or all around
# through a fisheye; 1000 one of 3 minutes of arc. Focal lengths in mm, or in parts of the image, lie outside.
_FOCAL_RANGE = (0.05, 1000.0)
_LARGEST_ASPECT = 5.0  # of pixels
_LARGEST_COEFFICIENT = 1e4  # fits of wide lenses by the rational model reach hundreds

_MODELS = {
    "": DistortionModel.NONE,
    "none": DistortionModel.NONE,
    "plumb_bob": DistortionModel.PLUMB_BOB,
    "rational_polynomial": DistortionModel.RATIONAL,
    "equidistant": DistortionModel.EQUIDISTANT,
    "fisheye": DistortionModel.EQUIDISTANT,
}
_COEFFICIENTS = {
    DistortionModel.NONE: (0,),
    DistortionModel.PLUMB_BOB: (4, 5),
    DistortionModel.RATIONAL: (8, 12, 14),
    DistortionModel.EQUIDISTANT: (4,),
}


@dataclass(frozen=True)
class CameraModel:
    """How a camera maps its optical frame (REP 103: z forward, x right, y down) to the pixels of its image.

    Attributes:
        width: of the image as it is sent, after region of interest and binning, pixels.
        height: alike.
        intrinsics: (3, 3) camera matrix of the raw image, pixels.
        distortion: lens model of the raw image.
        rectified_intrinsics: (3, 3) camera matrix of the rectified image (`image_rect`), pixels.
        frame_id: the optical frame.
        rectification: (3, 3) rotation into the rectified camera; other than the identity in stereo pairs only.
    """

    width: int
    height: int
    intrinsics: np.ndarray
    distortion: Distortion
    rectified_intrinsics: np.ndarray
    frame_id: str
    rectification: np.ndarray = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InvalidInput("CameraModel", "at least one pixel", f"{self.width} x {self.height}", reason=_REASON)
        for name in ("intrinsics", "rectified_intrinsics"):
            object.__setattr__(self, name, _camera_matrix(f"CameraModel.{name}", getattr(self, name)))
        R = _matrix("CameraModel.rectification", self.rectification, (3, 3))
        is_rotation = np.abs(R).max() < 2 and np.allclose(R @ R.T, np.eye(3), atol=1e-3) and np.linalg.det(R) > 0
        if not is_rotation:
            raise InvalidInput("CameraModel.rectification", "a rotation matrix", R.tolist(), reason=_REASON)
        object.__setattr__(self, "rectification", R)

    def scaled(self, width: int, height: int) -> CameraModel:
        """The model of the same image in another size, as drivers send that resize it but not its camera_info.

        Raises InvalidInput where width and height do not change by the same factor: the image was cropped then, and
        nothing tells where.
        """
        if (width, height) == (self.width, self.height):
            return self
        # One pixel of rounding in either direction is allowed.
        if min(width, height) < 1 or abs(width * self.height - height * self.width) > max(self.width, self.height):
            raise InvalidInput(
                f"image of {self.frame_id or 'a camera'}",
                f"{self.width} x {self.height} as in its camera_info, or both by the same factor",
                f"{width} x {height}",
                "set region of interest or binning in the driver's camera_info, or calibrate in this resolution",
                reason=_REASON,
            )
        scale = np.array([[width / self.width], [height / self.height], [1.0]])
        return replace(
            self,
            width=width,
            height=height,
            intrinsics=self.intrinsics * scale,
            rectified_intrinsics=self.rectified_intrinsics * scale,
        )


def decode_camera_info(message: Any) -> CameraModel:
    """The camera model of a sensor_msgs/CameraInfo, for the image as it is sent (region of interest, binning).

    Raises InvalidInput for a camera that was not calibrated and for numbers no camera has.
    """
    header = attribute(message, "header", _SUBJECT, _REASON)
    frame_id = text(header, "frame_id", f"{_SUBJECT} header", _REASON)
    width, height = (integer(message, name, _SUBJECT, _REASON) for name in ("width", "height"))
    if width == 0 or height == 0:
        raise InvalidInput(_SUBJECT, "the image's width and height", f"{width} x {height}", _ADVICE, reason=_REASON)
    K = _nine(message, "k", (3, 3))
    if not K.any():
        raise InvalidInput(f"{_SUBJECT} K", "a calibrated camera", "zeros (not calibrated)", _ADVICE, reason=_REASON)
    P = _nine(message, "p", (3, 4))[:, :3]
    R = _nine(message, "r", (3, 3))
    if not P.any():
        P = K
    if not R.any():
        R = np.eye(3)
    for name, matrix in (("K", K), ("P", P)):
        _check_against_size(f"{_SUBJECT} {name}", _camera_matrix(f"{_SUBJECT} {name}", matrix), width, height)
    distortion = _distortion(message)
    to_image, width, height = _crop_and_binning(message, width, height)
    return CameraModel(width, height, to_image @ K, distortion, to_image @ P, frame_id, R)


def _nine(message: Any, name: str, shape: tuple[int, int]) -> np.ndarray:
    numbers = attribute(message, name, _SUBJECT, _REASON)
    subject = f"{_SUBJECT} {name.upper()}"
    return _matrix(subject, numbers, (shape[0] * shape[1],)).reshape(shape)


def _matrix(subject: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """As `as_array`, with this file's reason."""
    try:
        return as_array(subject, value, shape)
    except InvalidInput as error:
        raise InvalidInput(error.subject, error.expected, error.got, _ADVICE, reason=_REASON) from None


def _camera_matrix(subject: str, value: Any) -> np.ndarray:
    """(3, 3) fx s cx, 0 fy cy, 0 0 1 with positive focal lengths."""
    K = _matrix(subject, value, (3, 3))
    below = np.array([K[1, 0], K[2, 0], K[2, 1], K[2, 2] - 1.0])
    if K[0, 0] <= 0 or K[1, 1] <= 0 or np.abs(below).max() > 1e-6 or abs(K[0, 1]) > K[0, 0]:
        expected = "fx skew cx, 0 fy cy, 0 0 1 with fx, fy > 0 and a skew below fx"
        raise InvalidInput(subject, expected, K.tolist(), _ADVICE, reason=_REASON)
    return K


def _check_against_size(subject: str, K: np.ndarray, width: int, height: int) -> None:
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    low, high = (factor * max(width, height) for factor in _FOCAL_RANGE)
    size = f"for {width} x {height} pixels"
    if not (low <= fx <= high and low <= fy <= high and 1 / _LARGEST_ASPECT <= fx / fy <= _LARGEST_ASPECT):
        expected = f"focal lengths of {low:g} to {high:g} pixels {size}"
        raise InvalidInput(subject, expected, f"fx {fx:g}, fy {fy:g}", _ADVICE, reason=_REASON)
    # Shifted lenses and stereo rectification move it, even out of the picture, but not by a whole size of it.
    if not (-width <= cx <= 2 * width and -height <= cy <= 2 * height):
        expected = f"a principal point near the image {size}"
        raise InvalidInput(subject, expected, f"cx {cx:g}, cy {cy:g}", _ADVICE, reason=_REASON)


def _distortion(message: Any) -> Distortion:
    name = text(message, "distortion_model", _SUBJECT, _REASON)
    numbers = _matrix(f"{_SUBJECT} D", attribute(message, "d", _SUBJECT, _REASON), (None,))
    model = _MODELS.get(name.strip().lower())
    if model is None:
        known = ", ".join(sorted(filter(None, _MODELS)))
        subject = f"{_SUBJECT} distortion_model"
        advice = "calibrate with one of these models, or rectify the image before it comes here"
        raise InvalidInput(subject, f"one of {known}", repr(name[:40]), advice, reason=_REASON)
    if not numbers.any():
        return Distortion()
    if np.abs(numbers).max() > _LARGEST_COEFFICIENT:
        expected = f"coefficients of at most {_LARGEST_COEFFICIENT:g}"
        raise InvalidInput(f"{_SUBJECT} D", expected, numbers.tolist(), _ADVICE, reason=_REASON)
    allowed = _COEFFICIENTS[model]
    # Drivers with one buffer for all models fill it up with zeros.
    if len(numbers) > allowed[-1] and not numbers[allowed[-1] :].any():
        numbers = numbers[: allowed[-1]]
    if model is DistortionModel.RATIONAL and len(numbers) in _COEFFICIENTS[DistortionModel.PLUMB_BOB]:
        model = DistortionModel.PLUMB_BOB  # the same formula without its denominator
    if len(numbers) not in _COEFFICIENTS[model]:
        expected = f"{' or '.join(map(str, allowed))} coefficients for {name.strip() or 'no model'!r}"
        raise InvalidInput(f"{_SUBJECT} D", expected, len(numbers), _ADVICE, reason=_REASON)
    return Distortion(model, tuple(numbers.tolist()))


def _crop_and_binning(message: Any, width: int, height: int) -> tuple[np.ndarray, int, int]:
    """(3, 3) from pixels of the full image to those of the one that is sent, and that one's width and height."""
    roi = attribute(message, "roi", _SUBJECT, _REASON)
    subject = f"{_SUBJECT} roi"
    left, top, roi_width, roi_height = (
        integer(roi, name, subject, _REASON) for name in ("x_offset", "y_offset", "width", "height")
    )
    roi_width, roi_height = roi_width or width - left, roi_height or height - top
    if roi_width < 1 or roi_height < 1 or left + roi_width > width or top + roi_height > height:
        got = f"{roi_width} x {roi_height} from ({left}, {top})"
        raise InvalidInput(subject, f"a region within {width} x {height}", got, reason=_REASON)
    # 0 means 1, by the message's definition.
    across, down = (integer(message, name, _SUBJECT, _REASON) or 1 for name in ("binning_x", "binning_y"))
    if across > roi_width or down > roi_height:
        got = f"{across} x {down}"
        raise InvalidInput(f"{_SUBJECT} binning", f"at most {roi_width} x {roi_height}", got, reason=_REASON)
    to_image = np.array([[1 / across, 0, -left / across], [0, 1 / down, -top / down], [0, 0, 1.0]])
    return to_image, roi_width // across, roi_height // down
