"""Objects cut out of images, and drawn into others at another bearing.

A camera that turns about its own centre sees the same picture, warped by a homography (Hartley and Zisserman, "Multiple
view geometry", 8.4). So an object that is turned about the camera, with the ground it stands on, looks in the image as
its picture warped: exactly, whatever its shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from karp_perception.core import CameraFrame, DistortionModel

_MARGIN_PX = 2  # around a patch
_OPAQUE = 0.5
_GAIN = (0.6, 1.7)  # by which a patch may be made darker or brighter
_STEP = 4  # pixels between those that brightness is measured with


@dataclass(frozen=True)
class Patch:
    """An object in one image.

    Attributes:
        image: (h, w, 3) uint8.
        alpha: (h, w) uint8, 255 where the object is.
        corner: (2,) column and row of the patch in its image.
        intrinsics: (3, 3). T_base_camera: (4, 4).
        whole: whether the image's border does not cut the object off.
        brightness: mean of the image.
    """

    image: np.ndarray
    alpha: np.ndarray
    corner: np.ndarray
    intrinsics: np.ndarray
    T_base_camera: np.ndarray
    whole: bool
    brightness: float

    @classmethod
    def cut(cls, camera: CameraFrame, mask: np.ndarray, number: int, least_px: int) -> Patch | None:
        """The object `number` of a mask (H, W); None where fewer than `least_px` pixels show it, or lenses bend it."""
        if camera.distortion.model is not DistortionModel.NONE:
            return None
        shown = (mask == number).view(np.uint8)
        x, y, w, h = cv2.boundingRect(shown)
        if w * h < least_px or cv2.countNonZero(shown[y : y + h, x : x + w]) < least_px:
            return None
        height, width = mask.shape
        whole = x > 0 and y > 0 and x + w < width and y + h < height
        left, top = max(0, x - _MARGIN_PX), max(0, y - _MARGIN_PX)
        rows, columns = slice(top, y + h + _MARGIN_PX), slice(left, x + w + _MARGIN_PX)
        return cls(
            camera.image[rows, columns].copy(),
            shown[rows, columns] * np.uint8(255),
            np.array([left, top], float),
            camera.intrinsics,
            camera.T_base_camera,
            whole,
            _brightness(camera.image),
        )

    def fits(self, camera: CameraFrame) -> bool:
        """Whether this camera has the patch's lens and place, so that the patch stays what it is."""
        same = np.allclose(self.intrinsics, camera.intrinsics) and np.allclose(self.T_base_camera, camera.T_base_camera)
        return same and camera.distortion.model is DistortionModel.NONE


@dataclass(frozen=True)
class Drawing:
    """A patch as it would lie in an image.

    Attributes:
        rows, columns: of the image.
        colors: (h, w, 3) uint8.
        alpha: (h, w) float32, 0..1.
        pixels: that the patch would have if nothing, and no border, hid it.
    """

    rows: slice
    columns: slice
    colors: np.ndarray
    alpha: np.ndarray
    pixels: float

    def over(self, image: np.ndarray, mask: np.ndarray, free: np.ndarray, number: int) -> None:
        """Draws into image (H, W, 3) and mask (H, W), in place, where `free` (h, w) says that nothing nearer is."""
        part = image[self.rows, self.columns]
        alpha = (self.alpha * free)[..., None]
        part[:] = np.rint(part + alpha * (self.colors.astype(np.float32) - part)).astype(np.uint8)
        mask[self.rows, self.columns][(self.alpha >= _OPAQUE) & free] = number

    def shown(self, free: np.ndarray) -> float:
        """Share of the patch that is drawn where `free` (h, w) says so."""
        return float(((self.alpha >= _OPAQUE) & free).sum()) / max(self.pixels, 1.0)


def warped(patch: Patch, camera: CameraFrame, turn: float, raised: tuple[np.ndarray, float]) -> Drawing | None:
    """The patch in another camera's image, of an object turned about its camera; None where it lies outside.

    Args:
        patch: of the object.
        camera: to draw for.
        turn: rad about z of `base_link`, about the camera.
        raised: where the object's middle then is, (3,) m in `base_link`, and by how much it is raised after, m: small
            heights move the patch as a whole.
    """
    c, s = np.cos(turn), np.sin(turn)
    turned = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ patch.T_base_camera[:3, :3]
    homography = camera.intrinsics @ camera.T_base_camera[:3, :3].T @ turned @ np.linalg.inv(patch.intrinsics)
    middle, height = raised
    up = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, height]])
    low, high = (middle - camera.T_base_camera[:3, 3] + up) @ camera.T_base_camera[:3, :3] @ camera.intrinsics.T
    if min(low[2], high[2]) <= 0:
        return None
    move = high[:2] / high[2] - low[:2] / low[2]
    homography = _shift(*move) @ homography @ _shift(*patch.corner)

    h, w = patch.alpha.shape
    corners = homography @ np.array([[0, w - 1, w - 1, 0], [0, 0, h - 1, h - 1], [1, 1, 1, 1.0]])
    if corners[2].min() <= 0:
        return None
    corners = corners[:2] / corners[2]
    height_px, width_px = camera.image.shape[:2]
    low = np.clip(np.floor(corners.min(axis=1)), 0, (width_px, height_px)).astype(int)
    high = np.clip(np.ceil(corners.max(axis=1)) + 1, 0, (width_px, height_px)).astype(int)
    if (high - low).min() < 1:
        return None
    size = tuple(int(v) for v in high - low)
    into = _shift(*-low) @ homography
    colors = cv2.warpPerspective(patch.image, into, size, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpPerspective(patch.alpha, into, size).astype(np.float32) * np.float32(1 / 255)
    gain = float(np.clip(_brightness(camera.image) / max(patch.brightness, 1.0), *_GAIN))
    # How many pixels all of it has: its own, times the change of area in its middle.
    middle_px = np.array([[0.5 * w, 0.5 * h], [0.5 * w + 1, 0.5 * h], [0.5 * w, 0.5 * h + 1]])
    a, b, d = cv2.perspectiveTransform(middle_px[None], homography)[0]
    area = abs(np.linalg.det(np.stack([b - a, d - a])))
    pixels = area * float((patch.alpha > 0).sum())
    place = slice(low[1], high[1]), slice(low[0], high[0])
    return Drawing(*place, cv2.convertScaleAbs(colors, alpha=gain), alpha, pixels)


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def _brightness(image: np.ndarray) -> float:
    return float(image[::_STEP, ::_STEP].mean())
