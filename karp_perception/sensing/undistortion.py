"""Raw camera images -> pinhole images, with maps that are computed once for each camera."""

from __future__ import annotations

import cv2
import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.core.frames import DistortionModel
from karp_perception.sensing.calibration import CameraModel

_REMAP_LIMIT = 32767  # cv2.remap addresses pixels with 16 bits


class Undistorter:
    """Takes the lens distortion out of one camera's images, as image_proc's rectify node does.

    A camera without distortion (and without a stereo rotation) passes its images through uncopied, and so does one
    whose topic is rectified already. Instances hold maps that never change: threads may share them.

    Attributes:
        model: the camera, in the size of its images.
        image_size: width and height of the images, pixels.
        intrinsics: (3, 3) camera matrix of the images that come out, which have no distortion: P's where
            something is rectified, K where the camera was a pinhole from the beginning.
    """

    def __init__(self, model: CameraModel, *, rectified: bool = False) -> None:
        """`rectified`: the images are `image_rect` already, whatever `model.distortion` says of the raw ones."""
        self.model = model
        self.image_size = (model.width, model.height)
        self._maps: tuple[np.ndarray, np.ndarray] | None = None
        has_distortion = model.distortion.model is not DistortionModel.NONE
        is_rotated = not np.allclose(model.rectification, np.eye(3), atol=1e-9)
        if rectified:
            self.intrinsics = model.rectified_intrinsics
        elif has_distortion or is_rotated:
            self.intrinsics = model.rectified_intrinsics
            self._maps = _maps(model)
        else:
            self.intrinsics = model.intrinsics

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The undistorted image, which `intrinsics` belongs to. Black where the camera saw nothing.

        Args:
            image: (H, W) or (H, W, C), of the model's size.

        Raises InvalidInput (reason `invalid_calibration`) for an image of another size.
        """
        height, width = image.shape[:2]
        if (width, height) != self.image_size:
            expected = f"{self.model.width} x {self.model.height} pixels as in the camera's calibration"
            advice = "use CameraModel.scaled where the image was resized"
            raise InvalidInput("image", expected, f"{width} x {height}", advice, reason="invalid_calibration")
        if self._maps is None:
            return image
        undistorted = cv2.remap(image, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        undistorted.flags.writeable = False
        return undistorted


def _maps(model: CameraModel) -> tuple[np.ndarray, np.ndarray]:
    """Fixed-point maps for cv2.remap: for each pixel of the pinhole image, where it lies in the raw one."""
    if max(model.width, model.height) > _REMAP_LIMIT:
        size = f"{model.width} x {model.height}"
        raise InvalidInput("image", f"at most {_REMAP_LIMIT} pixels a side", size, reason="invalid_calibration")
    coefficients = np.array(model.distortion.coefficients)
    size = (model.width, model.height)
    arguments = (model.intrinsics, coefficients, model.rectification, model.rectified_intrinsics, size, cv2.CV_16SC2)
    if model.distortion.model is DistortionModel.EQUIDISTANT:
        return cv2.fisheye.initUndistortRectifyMap(*arguments)
    return cv2.initUndistortRectifyMap(*arguments)
