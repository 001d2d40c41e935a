"""A simple camera: a textured street and flat-shaded solids, painted from far to near."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from karp_perception.core.geometry import invert_pose, pose_from_rotation, transform_points
from karp_perception.world.solids import Solids
from karp_perception.world.street import Street

# Corners of the six faces (front, left, back, right, top, bottom), counter-clockwise seen from outside.
_FACES = np.array([[0, 4, 7, 3], [1, 5, 4, 0], [2, 6, 5, 1], [3, 7, 6, 2], [4, 5, 6, 7], [0, 3, 2, 1]])
_NEAR = 0.25  # m, where solids are cut off before the lens
_SUN = np.array([-0.35, -0.55, 0.76])  # direction towards the sun in the street's frame at s = 0
_HAZE = np.array([206.0, 216.0, 226.0])
_HAZE_DISTANCE = 260.0  # m after which a colour has gone 63 % of the way to haze
_FRACTION_BITS = 4
_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # base axes of an optical frame


@dataclass(frozen=True)
class CameraModel:
    """A pinhole camera that looks forward and a little down."""

    width: int = 1280
    height: int = 720
    focal: float = 0.68  # of the width: about 73 degrees of view
    place: tuple[float, float, float] = (0.6, 0.0, 1.5)  # m in base_link
    pitch: float = 0.035  # rad downwards

    @property
    def intrinsics(self) -> np.ndarray:
        """(3, 3) pixels; pixel centres have whole coordinates."""
        f = self.focal * self.width
        return np.array([[f, 0, (self.width - 1) / 2], [0, f, (self.height - 1) / 2], [0, 0, 1.0]])

    @property
    def T_base_camera(self) -> np.ndarray:
        """(4, 4) pose of the optical frame in base_link."""
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        return pose_from_rotation(np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ _OPTICAL, self.place)


class Camera:
    """Paints what a camera sees that drives along one lane of a street, `d` m to the left of the centre line.

    Because the vehicle keeps its lane, where each pixel meets the ground is known once for all frames, up to the way
    driven: a frame costs one texture look-up and the solids' faces.
    """

    def __init__(self, model: CameraModel, street: Street, d: float, reach: float, seed: int) -> None:
        self.model, self._K = model, model.intrinsics
        self._T_camera_base = invert_pose(model.T_base_camera)
        rotation, place = model.T_base_camera[:3, :3], model.T_base_camera[:3, 3]
        v, u = np.mgrid[: model.height, : model.width].astype(np.float64)
        rays = np.stack([(u - self._K[0, 2]) / self._K[0, 0], (v - self._K[1, 2]) / self._K[1, 1], np.ones_like(u)])
        dx, dy, dz = np.einsum("ij,jhw->ihw", rotation, rays)
        below = (dz < 0) & (place[2] / np.maximum(-dz, 1e-9) < 4e2)
        self._horizon = int(np.flatnonzero(below.any(axis=1))[0])
        t = place[2] / np.maximum(-dz[self._horizon :], 1e-3)
        x, y = place[0] + t * dx[self._horizon :], place[1] + t * dy[self._horizon :]
        s, across = street.coordinates(x, y + d)
        self._step = 0.05
        side = street.kerb + street.pavement + 14.0
        start = float(s.min()) - 1.0
        texture = street.texture((start, start + reach + 130.0), (-side, side), self._step, seed)
        self._columns = ((np.clip(across, -side, side) + side) / self._step).astype(np.float32)
        self._rows = ((s - start) / self._step).astype(np.float32)
        self._bands = self._levels(texture, s)
        haze = 1 - np.exp(-np.hypot(x, y) / _HAZE_DISTANCE)
        self._ground_haze = np.round(haze * 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
        self._ground_tint = np.uint8(_HAZE * haze[..., None])
        self._sky = self._painted_sky()

    def _levels(self, texture: np.ndarray, s: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
        """Bands of image rows, each with the texture blurred along s by what one of its pixels covers: no flicker."""
        covered = np.abs(np.diff(s[:, s.shape[1] // 2], append=s[-1, s.shape[1] // 2])) / self._step
        level = np.clip(np.round(np.log2(np.maximum(covered, 1))), 0, 6).astype(int)
        level = np.maximum.accumulate(level[::-1])[::-1]
        bands = []
        for value in np.unique(level):
            rows = np.flatnonzero(level == value)
            kernel = 2**value | 1
            blurred = texture if value == 0 else cv2.blur(texture, (max(1, kernel // 8), kernel))
            bands.append((int(rows[0]), int(rows[-1]) + 1, blurred))
        return bands

    def _painted_sky(self) -> np.ndarray:
        height = self._horizon
        up = np.linspace(1, 0, height)[:, None, None]
        sky = np.array([112.0, 158.0, 214.0]) * up + np.array([214.0, 224.0, 232.0]) * (1 - up)
        return np.broadcast_to(sky.round(), (height, self.model.width, 3)).astype(np.uint8)

    def paint(self, s: float, solids: Solids, heading: float) -> np.ndarray:
        """(H, W, 3) uint8 RGB.

        Args:
            s: the vehicle's place along the street, m.
            solids: the scene in base_link.
            heading: of base_link in the street's frame, rad; the sun stands still.
        """
        image = np.empty((self.model.height, self.model.width, 3), np.uint8)
        image[: self._horizon] = self._sky
        ground = image[self._horizon :]
        rows = self._rows + np.float32(s / self._step)
        for top, bottom, texture in self._bands:
            ground[top:bottom] = cv2.remap(
                texture, self._columns[top:bottom], rows[top:bottom], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        clear = cv2.multiply(ground, 255 - self._ground_haze, scale=1 / 255)
        cv2.add(clear, self._ground_tint, dst=ground)
        self._paint_solids(image, solids, heading)
        return image

    def _paint_solids(self, image: np.ndarray, solids: Solids, heading: float) -> None:
        place = self.model.T_base_camera[:3, 3]
        corners = solids.corners()
        in_camera = transform_points(self._T_camera_base, corners.reshape(-1, 3)).reshape(-1, 8, 3)
        side, depth = np.abs(in_camera[..., 0]), in_camera[..., 2]
        half_view = 0.5 / self.model.focal
        seen = (depth.max(axis=1) > _NEAR) & (side < half_view * np.maximum(depth, 0) + 2.0).any(axis=1)
        attached = (solids.facing != 0).any(axis=1)
        outside = np.einsum("nk,nk->n", solids.facing, place[:2] - solids.center[:, :2]) > 0
        seen &= ~attached | outside
        chosen = np.flatnonzero(seen)
        faces = corners[chosen][:, _FACES]  # (n, 6, 4, 3)
        normals = np.cross(faces[:, :, 1] - faces[:, :, 0], faces[:, :, 3] - faces[:, :, 0])
        normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
        middle = faces.mean(axis=2)
        towards = np.einsum("nfk,nfk->nf", normals, place - middle) > 0
        c, s = np.cos(heading), np.sin(heading)
        sun = np.array([c * _SUN[0] + s * _SUN[1], c * _SUN[1] - s * _SUN[0], _SUN[2]])
        light = 0.64 + 0.40 * np.clip(normals @ sun, 0, 1) + 0.06 * normals[..., 2]
        haze = (1 - np.exp(-np.linalg.norm(middle - place, axis=-1) / _HAZE_DISTANCE))[..., None]
        color = np.clip(solids.color[chosen][:, None] * light[..., None], 0, 255) * (1 - haze) + _HAZE * haze
        color = color.round().tolist()
        points = in_camera[chosen][:, _FACES]
        near = points[..., 2].min(axis=-1) < _NEAR
        pixels = points @ self._K.T
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = _fixed_point(pixels)
        for k in self._far_to_near(solids[chosen], place):
            for face in np.flatnonzero(towards[k]):
                polygon = pixels[k, face]
                if near[k, face]:
                    cut = _clipped(points[k, face])
                    if len(cut) < 3:
                        continue
                    polygon = _fixed_point(cut @ self._K.T)
                cv2.fillConvexPoly(image, polygon, color[k][face], cv2.LINE_AA, _FRACTION_BITS)

    def _far_to_near(self, solids: Solids, place: np.ndarray) -> np.ndarray:
        """Order of painting: layer by layer, bodies from far to near, what is fixed to a body after the body itself."""
        attached = (solids.facing != 0).any(axis=1)
        _, body = np.unique(solids.owner, return_inverse=True)
        count = np.bincount(body)
        middle = np.stack([np.bincount(body, solids.center[:, axis]) / count for axis in (0, 1)], axis=1)
        away = np.linalg.norm(middle - place[:2], axis=1)
        return np.lexsort((np.arange(len(solids)), attached, body, -away[body], solids.layer))


def _fixed_point(homogeneous: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) int32 with fractional bits, as OpenCV's polygons take them, of homogeneous ones (..., 3)."""
    pixels = np.nan_to_num(homogeneous[..., :2] / homogeneous[..., 2:], nan=0.0, posinf=2e4, neginf=-2e4)
    return np.int32(np.round(np.clip(pixels, -2e4, 2e4) * (1 << _FRACTION_BITS)))


def _clipped(polygon: np.ndarray) -> np.ndarray:
    """The part of a polygon (N, 3) beyond the near plane (Sutherland and Hodgman, one plane)."""
    result = []
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if a[2] >= _NEAR:
            result.append(a)
        if (a[2] >= _NEAR) != (b[2] >= _NEAR):
            result.append(a + (_NEAR - a[2]) / (b[2] - a[2]) * (b - a))
    return np.array(result).reshape(-1, 3)
