"""Cameras of the embedded world: images with their calibration, and what each pixel truly shows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from karp_perception.core import CameraFrame
from karp_perception.core.errors import ConfigurationError
from karp_perception.core.frames import Distortion, DistortionModel
from karp_perception.world.geometry.cast import Carrier
from karp_perception.world.geometry.ground import Ground, GroundRays
from karp_perception.world.geometry.scene import SceneRays
from karp_perception.world.geometry.shape import rotation_matrix
from karp_perception.world.sensors.ground_cast import ROWS_TOGETHER, GroundView, ground_view, meet_ground
from karp_perception.world.sensors.image_cast import Layers, clear, new_layers, rasterise, summarise
from karp_perception.world.sensors.lens import Lens, develop
from karp_perception.world.sensors.motion import blur_motion
from karp_perception.world.sensors.outline import View
from karp_perception.world.sensors.rain import mirror_in_water
from karp_perception.world.sensors.shading import Beam, linear, shade
from karp_perception.world.sensors.shadows import Shadows, cast_shadows
from karp_perception.world.sensors.sky import Light, light_of
from karp_perception.world.sensors.textures import noise
from karp_perception.world.sensors.weather import Weather

_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # base_link from an optical frame ahead
_DROPS_STAY_NS = 800_000_000  # on a lens, until a wiper passes
_BEAM_PLACE = np.array([2.2, 0.0, 0.65, 1.0])  # m in base_link, of the own head lamps


@dataclass(frozen=True)
class CameraModel:
    """A camera: image, lens and where it is mounted.

    Attributes:
        name: its own among the cameras of a vehicle.
        width, height: px.
        intrinsics: (3, 3) camera matrix, px; no skew.
        T_base_camera: (4, 4) maps points of the optical frame (z ahead, x right, y down) into `base_link`.
        distortion: NONE (pinhole) or EQUIDISTANT (fisheye).
        lens: exposure, noise, blur.
        reach: m, how far it sees.
    """

    name: str
    width: int
    height: int
    intrinsics: np.ndarray
    T_base_camera: np.ndarray
    distortion: Distortion = field(default_factory=Distortion)
    lens: Lens = field(default_factory=Lens)
    reach: float = 400.0

    def __post_init__(self) -> None:
        K = np.asarray(self.intrinsics, float)
        if self.width < 2 or self.height < 2:
            raise ConfigurationError(f"camera {self.name}: expected at least 2x2 px, got {self.width}x{self.height}")
        if K.shape != (3, 3) or K[0, 0] <= 0 or K[1, 1] <= 0 or K[0, 1] != 0 or not np.isfinite(K).all():
            raise ConfigurationError(
                f"camera {self.name}: expected intrinsics fx, fy > 0 without skew, got {K.tolist()}"
            )
        if self.distortion.model not in (DistortionModel.NONE, DistortionModel.EQUIDISTANT):
            raise ConfigurationError(
                f"camera {self.name}: expected no distortion or equidistant, got {self.distortion.model.value}; "
                "rectified images need none"
            )
        pose = np.asarray(self.T_base_camera, float)
        if pose.shape != (4, 4) or not np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-6):
            raise ConfigurationError(f"camera {self.name}: expected T_base_camera (4, 4) with a rotation, got {pose}")
        object.__setattr__(self, "intrinsics", K)
        object.__setattr__(self, "T_base_camera", pose)

    @classmethod
    def pinhole(
        cls, name: str, width: int, height: int, hfov_deg: float, position: tuple[float, float, float],
        yaw_deg: float = 0.0, pitch_deg: float = 0.0, lens: Lens | None = None,
    ) -> CameraModel:  # fmt: skip
        """A pinhole of that horizontal field of view, at `position` (m, base_link); yaw to the left, pitch down."""
        if not 1.0 <= hfov_deg <= 170.0:
            raise ConfigurationError(f"camera {name}: expected a pinhole of 1 to 170 degrees, got {hfov_deg}")
        focal = 0.5 * width / math.tan(0.5 * math.radians(hfov_deg))
        K = np.array([[focal, 0, 0.5 * (width - 1)], [0, focal, 0.5 * (height - 1)], [0, 0, 1]])
        return cls(name, width, height, K, mounted(position, yaw_deg, pitch_deg), lens=lens or Lens())

    @classmethod
    def fisheye(
        cls, name: str, width: int, height: int, fov_deg: float, position: tuple[float, float, float],
        yaw_deg: float = 0.0, pitch_deg: float = 0.0, lens: Lens | None = None,
        coefficients: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    ) -> CameraModel:  # fmt: skip
        """An equidistant lens whose field of view fills the image's width, at `position` (m, base_link)."""
        if not 10.0 <= fov_deg <= 220.0:
            raise ConfigurationError(f"camera {name}: expected a fisheye of 10 to 220 degrees, got {fov_deg}")
        angle = 0.5 * math.radians(fov_deg)
        focal = 0.5 * width / float(_equidistant(np.array(angle), coefficients))
        K = np.array([[focal, 0, 0.5 * (width - 1)], [0, focal, 0.5 * (height - 1)], [0, 0, 1]])
        distortion = Distortion(DistortionModel.EQUIDISTANT, coefficients)
        return cls(name, width, height, K, mounted(position, yaw_deg, pitch_deg), distortion, lens or Lens())

    @cached_property
    def directions(self) -> np.ndarray:
        """(H, W, 3) float32 unit vectors along the rays of its pixels, optical frame; 0 where a fisheye's lens ends."""
        v, u = np.mgrid[: self.height, : self.width].astype(float)
        K = self.intrinsics
        x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
        if self.distortion.model is DistortionModel.NONE:
            rays = np.stack([x, y, np.ones_like(x)], axis=-1)
            return (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32)
        r = np.hypot(x, y)
        angle, seen = _angle_of(r, self.distortion.coefficients)
        s = np.sin(angle) / np.maximum(r, 1e-12)
        rays = np.stack([s * x, s * y, np.cos(angle)], axis=-1)
        return np.where(seen[..., None], rays, 0.0).astype(np.float32)


def mounted(position: tuple[float, float, float], yaw_deg: float, pitch_deg: float) -> np.ndarray:
    """(4, 4) T_base_camera of a camera at `position` (m, base_link) that looks ahead, turned left and then down."""
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrix(0.0, math.radians(pitch_deg), math.radians(yaw_deg)) @ _OPTICAL
    pose[:3, 3] = position
    return pose


@dataclass(frozen=True)
class Rendered:
    """What a camera sees.

    Attributes:
        frame: image and calibration.
        mask: (H, W) int32, id of the actor that each pixel shows, 0 for none.
        owners: (K,) ids of the actors in view, hidden ones too, ascending.
        covered: (K,) pixels that each would show if nothing hid it.
        visible: (K,) pixels that each shows.
        depth: (H, W) float32 m along each pixel's ray, infinity for the sky; glass counts as what is behind it.
    """

    frame: CameraFrame
    mask: np.ndarray
    owners: np.ndarray
    covered: np.ndarray
    visible: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class Surroundings:
    """What cameras at one place and moment have in common.

    Attributes:
        scene: bodies. look: (P, 6) of their primitives, see `shade`.
        ground, light, shadows: see their modules.
    """

    scene: SceneRays
    look: np.ndarray
    ground: GroundView
    light: Light
    shadows: Shadows

    @classmethod
    def of(
        cls, scene: SceneRays, rays: GroundRays, carrier: Carrier, weather: Weather, ground: Ground | None = None
    ) -> Surroundings:
        """Around a carrier; `scene` and `rays` are of `Scene.rays`. The Scene's `ground` makes near markings finer."""
        center = np.asarray(carrier.pose)[:3, 3]
        light = light_of(weather)
        shadows = cast_shadows(scene, rays, center, light.sun, weather.sunshine > 0.0)
        view = ground_view(rays, float(center[0]), float(center[1]), ground)
        half = 1.0 / np.maximum(np.linalg.norm(scene.affine[:, :, :3], axis=2), 1e-9)
        return cls(scene, np.concatenate([linear(scene.color), half], axis=1), view, light, shadows)


class Camera:
    """A camera on a vehicle. It keeps room to draw in: one image at a time."""

    def __init__(self, model: CameraModel) -> None:
        self.model = model
        directions = model.directions
        self._rays = tuple(np.ascontiguousarray(directions[..., k]) for k in range(3))
        lowest = float(directions[..., 2][np.linalg.norm(directions, axis=-1) > 0].min())
        self._widest = math.acos(min(max(lowest, -1.0), 1.0))
        self._layers = new_layers(model.height, model.width)
        self._light = np.empty((model.height, model.width, 3), np.float32)

    def view(self, carrier: Carrier) -> View:
        """Where it is now."""
        model, pose = self.model, np.asarray(carrier.pose, float) @ self.model.T_base_camera
        K, coefficients = model.intrinsics, model.distortion.coefficients or (0.0,) * 4
        return View(
            np.ascontiguousarray(pose[:3, 3]), np.ascontiguousarray(pose[:3, :3]), float(K[0, 0]), float(K[1, 1]),
            float(K[0, 2]), float(K[1, 2]), model.distortion.model is DistortionModel.EQUIDISTANT,
            np.array(coefficients, float), self._widest, *self._rays,
        )  # fmt: skip

    def render(
        self, scene: SceneRays, ground: GroundRays, carrier: Carrier, weather: Weather, stamp_ns: int, seed: int
    ) -> Rendered:
        """What it sees of a scene (`Scene.rays`) at `stamp_ns`. Several cameras share work in `render_all`."""
        return self.expose(Surroundings.of(scene, ground, carrier, weather), carrier, stamp_ns, seed)

    def expose(self, around: Surroundings, carrier: Carrier, stamp_ns: int, seed: int, threads: int = 1) -> Rendered:
        """What it sees of its surroundings; `seed` and `stamp_ns` decide the noise. The same for any `threads`."""
        model, view = self.model, self.view(carrier)
        layers, light = self._layers, self._light
        wet = np.zeros((model.height, model.width) if around.light.wetness > 0.0 else (0, 0), np.float32)
        beam = _beam(carrier)
        tile = noise()

        def rows(span: tuple[int, int]) -> np.ndarray:
            covered = np.zeros(len(around.scene.owner), np.int64)
            clear(layers, *span)
            rasterise(around.scene, view, *span, layers, covered)
            meet_ground(around.ground, view, model.reach, *span, layers.w, layers.hit, np.zeros(model.width))
            shade(
                around.scene, around.look, around.ground, view, layers, around.light, around.shadows, beam, tile,
                *span, light, wet,
            )  # fmt: skip
            return covered

        spans = _bands(model.height, threads)
        parts = [rows(spans[0])] if len(spans) == 1 else list(_pool(threads).map(rows, spans))
        if wet.size:
            mirror_in_water(layers, wet, light, np.empty(model.width, np.int64))
        if model.lens.exposure_time > 0.0:
            light = blur_motion(light, around.scene, layers, view, carrier, model.lens.exposure_time)
        key, drops = (
            int(np.random.SeedSequence([seed, moment]).generate_state(1)[0])
            for moment in (stamp_ns, stamp_ns // _DROPS_STAY_NS)
        )
        state = around.light
        image = develop(light, model.lens, state.exposure, state.lamps > 0.0, key, state.rain, drops)
        frame = CameraFrame(image, model.intrinsics, model.T_base_camera, stamp_ns, model.distortion)
        return _rendered(frame, around.scene, layers, np.sum(parts, axis=0))


def render_all(
    cameras: Sequence[Camera], around: Surroundings, carrier: Carrier, stamp_ns: int, seed: int, threads: int = 2
) -> dict[str, Rendered]:
    """What several cameras see at one moment, by name; shared out among `threads`, with the same result."""
    numbered = list(enumerate(cameras))
    if len(numbered) == 1:
        return {camera.model.name: camera.expose(around, carrier, stamp_ns, seed, threads) for camera in cameras}

    def one(item: tuple[int, Camera]) -> Rendered:
        number, camera = item
        return camera.expose(around, carrier, stamp_ns, seed + number)

    found = list(map(one, numbered) if threads <= 1 else _pool(threads).map(one, numbered))
    return {camera.model.name: rendered for camera, rendered in zip(cameras, found, strict=True)}


def _rendered(frame: CameraFrame, scene: SceneRays, layers: Layers, covered: np.ndarray) -> Rendered:
    mask, depth = np.empty(layers.w.shape, np.int32), np.empty(layers.w.shape, np.float32)
    shown = np.zeros(len(scene.owner), np.int64)
    summarise(layers, scene.body, scene.owner, mask, depth, shown)
    seen = np.flatnonzero((covered > 0) & (scene.owner > 0))
    owners, which = np.unique(scene.owner[seen], return_inverse=True)
    total, visible = (np.bincount(which, n[seen], len(owners)).astype(np.int64) for n in (covered, shown))
    return Rendered(frame, mask, owners, total, visible, depth)


def _beam(carrier: Carrier) -> Beam:
    pose = np.asarray(carrier.pose, float)
    return Beam(*(tuple(float(c) for c in v[:3]) for v in (pose @ _BEAM_PLACE, pose[:, 0], pose[:, 1])))


def _bands(height: int, threads: int) -> list[tuple[int, int]]:
    """Rows for each thread: whole groups of ROWS_TOGETHER."""
    groups = math.ceil(height / ROWS_TOGETHER)
    edges = np.unique(np.linspace(0, groups, max(threads, 1) + 1).round().astype(int)) * ROWS_TOGETHER
    return [(int(a), int(min(b, height))) for a, b in itertools.pairwise(edges)]


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="cameras")


def _equidistant(angle: np.ndarray, k: tuple[float, ...]) -> np.ndarray:
    """Distance from the middle of an image, in focal lengths, of rays that far off the axis (OpenCV's fisheye)."""
    s = angle * angle
    return angle * (1.0 + s * (k[0] + s * (k[1] + s * (k[2] + s * k[3]))))


def _angle_of(r: np.ndarray, k: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Angles of pixels r focal lengths from the middle, and whether there are any: up to where the lens turns back."""
    steps = np.linspace(0.0, math.pi - 0.05, 4000)
    reached = _equidistant(steps, k)
    rising = np.flatnonzero(np.diff(reached) <= 0)
    last = int(rising[0]) if len(rising) else len(steps) - 1
    angle = np.interp(r, reached[: last + 1], steps[: last + 1])
    for _ in range(2):  # Newton
        s = angle * angle
        slope = 1.0 + s * (3 * k[0] + s * (5 * k[1] + s * (7 * k[2] + s * 9 * k[3])))
        angle = np.clip(angle - (_equidistant(angle, k) - r) / np.maximum(slope, 1e-3), 0.0, steps[last])
    return angle, r < reached[last]
