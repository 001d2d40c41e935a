"""A Rig as CARLA's sensors: which blueprints with which attributes, and what they send as our frames."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.core import Boxes, CameraFrame, LidarSweep
from karp_perception.core.geometry import invert_pose, transform_points
from karp_perception.sensing.camera_mending import BODY_FROM_OPTICAL
from karp_perception.world.carla.coordinates import image_from_carla, points_from_carla
from karp_perception.world.carla.pinhole_view import PinholeView

if TYPE_CHECKING:
    from karp_perception.world.rig import Rig
    from karp_perception.world.sensors.camera import CameraModel
    from karp_perception.world.sensors.lidar_models import LidarModel

log = logging.getLogger(__name__)

_CLOSE_BEAMS = 0.15  # deg by which a beam may stand beside that of the table
_MOST_UNITS = 4  # CARLA lidars that stand in for one with an uneven table
_OWN_MARGIN = 0.05  # m around the own vehicle's box within which a return comes from it


@dataclass(frozen=True)
class SensorOrder:
    """One sensor to spawn.

    Attributes:
        name: key of what it sends.
        blueprint: id.
        attributes: of the blueprint; those that this CARLA does not have are left out.
        T_base_sensor: (4, 4) pose in `base_link`, x of the sensor forward.
    """

    name: str
    blueprint: str
    attributes: Mapping[str, str]
    T_base_sensor: np.ndarray


@dataclass(frozen=True)
class MountedCamera:
    """A camera of the rig as CARLA renders it."""

    model: CameraModel
    view: PinholeView

    @property
    def depth_name(self) -> str:
        """Key of the depth camera beside it."""
        return f"{self.model.name}/depth"

    def order(self, *, depth: bool = False) -> SensorOrder:
        """The sensor to spawn, or the depth camera that sees the same."""
        attributes = {
            "image_size_x": str(self.view.width),
            "image_size_y": str(self.view.height),
            "fov": f"{self.view.fov:.9g}",
            # CARLA's own lens is switched off: its formula is none that anybody calibrates for.
            "lens_k": "0.0",
            "lens_kcube": "0.0",
        }
        T = self.model.T_base_camera @ invert_pose(BODY_FROM_OPTICAL)
        if depth:
            return SensorOrder(self.depth_name, "sensor.camera.depth", attributes, T)
        return SensorOrder(self.model.name, "sensor.camera.rgb", {**attributes, "motion_blur_intensity": "0.0"}, T)

    def frame(self, data: Any, stamp_ns: int) -> CameraFrame:
        """What a carla.Image shows. Raises InvalidInput for one of another size."""
        rendered = image_from_carla(data.raw_data, self.view.width, self.view.height)
        model = self.model
        return CameraFrame(
            self.view.picture(rendered), model.intrinsics, model.T_base_camera, stamp_ns, model.distortion
        )


@dataclass(frozen=True)
class BeamBlock:
    """Beams at equal distances, as CARLA's lidar has them: from `lower` to `upper`, deg above the horizon."""

    count: int
    lower: float
    upper: float


@lru_cache(maxsize=16)
def beam_blocks(elevations: tuple[float, ...], most: int = _MOST_UNITS) -> tuple[tuple[BeamBlock, ...], float]:
    """A beam table (deg, any order) as blocks of equally spaced beams, and the largest error of a beam, deg.

    Real lidars have beams closer together where it matters. As few blocks as bring every beam close to its place, at
    most `most`, cut where the largest error is least (dynamic programming over where the last block begins).
    """
    beams = np.sort(np.asarray(elevations, float))
    n = len(beams)
    lines = {(i, j): _line(beams[i:j]) for i in range(n) for j in range(i + 1, n + 1)}
    # best[j]: the first j beams in the present number of blocks, as (largest error, blocks).
    best: list[tuple[float, tuple[BeamBlock, ...]]] = [(0.0, ())] + [(math.inf, ())] * n
    for _ in range(min(most, n)):
        grown = [(math.inf, ())] * (n + 1)
        for j in range(1, n + 1):
            errors = [max(best[i][0], lines[i, j][1]) for i in range(j)]
            i = int(np.argmin(errors))
            grown[j] = (errors[i], (*best[i][1], lines[i, j][0]))
        best = grown
        if best[n][0] <= _CLOSE_BEAMS:
            break
    error, blocks = best[n]
    return blocks, error


def _line(beams: np.ndarray) -> tuple[BeamBlock, float]:
    """The straight line through a run of beams (least squares), and how far the farthest lies beside it."""
    n = len(beams)
    index = np.arange(n) - 0.5 * (n - 1)
    slope = float(index @ beams / (index @ index)) if n > 1 else 0.0
    fitted = beams.mean() + slope * index
    return BeamBlock(n, float(fitted[0]), float(fitted[-1])), float(np.abs(fitted - beams).max())


@dataclass(frozen=True)
class MountedLidar:
    """The lidar of the rig as one or several of CARLA's, each of which turns once a tick.

    All rays of a tick are cast at its end, at one moment: a sweep has no times of its points, and no motion in it.
    """

    model: LidarModel
    T_base_lidar: np.ndarray
    step_s: float

    def orders(self) -> list[SensorOrder]:
        """The sensors to spawn."""
        blocks, error = beam_blocks(self.model.elevations)
        if error > _CLOSE_BEAMS:
            log.info("CARLA: beams of lidar %s stand up to %.2f deg beside their table", self.model.name, error)
        return [
            SensorOrder(f"lidar/{k}", "sensor.lidar.ray_cast", self._attributes(block), self.T_base_lidar)
            for k, block in enumerate(blocks)
        ]

    def _attributes(self, block: BeamBlock) -> dict[str, str]:
        model = self.model
        return {
            "channels": str(block.count),
            "range": f"{model.max_range:g}",
            "points_per_second": str(math.ceil(block.count * model.columns / self.step_s)),
            "rotation_frequency": f"{1.0 / self.step_s:.9g}",
            "upper_fov": f"{block.upper:.6g}",
            "lower_fov": f"{block.lower:.6g}",
            "horizontal_fov": "360.0",
            "noise_stddev": f"{model.noise:g}",
            "dropoff_general_rate": f"{model.missing:g}",
            "dropoff_intensity_limit": "1.0",
            "dropoff_zero_intensity": "0.1",
        }

    def sweep(self, parts: Sequence[Any], stamp_ns: int, own: Boxes | None = None) -> LidarSweep:
        """What the carla.LidarMeasurements of a tick say, without returns of the own vehicle (its one box, `own`)."""
        points = np.concatenate([points_from_carla(part.raw_data) for part in parts])
        points = points[np.isfinite(points).all(axis=1)]
        distance = np.linalg.norm(points[:, :3], axis=1)
        points = points[(distance >= self.model.min_range) & (distance <= self.model.max_range)]
        points[:, :3] = transform_points(self.T_base_lidar, points[:, :3])
        points[:, 3] = np.clip(points[:, 3], 0.0, 1.0)
        if own is not None:
            points = points[~own.contains(points, _OWN_MARGIN)[0]]
        return LidarSweep(points, stamp_ns)


@dataclass(frozen=True)
class MountedRig:
    """All sensors of a rig, and the depth cameras beside the cameras where masks are asked for."""

    lidar: MountedLidar | None
    cameras: tuple[MountedCamera, ...]
    depth: bool

    @classmethod
    def of(cls, rig: Rig, step_s: float, *, masks: bool) -> MountedRig:
        """A rig in a world of this step. Without a lidar only depth tells what is hidden: masks then come anyway."""
        lidar = None if rig.lidar is None else MountedLidar(rig.lidar, np.asarray(rig.T_base_lidar, float), step_s)
        cameras = tuple(MountedCamera(model, PinholeView(model)) for model in rig.cameras)
        return cls(lidar, cameras, masks or lidar is None)

    def orders(self) -> list[SensorOrder]:
        """Every sensor to spawn."""
        orders = [] if self.lidar is None else self.lidar.orders()
        for camera in self.cameras:
            orders.append(camera.order())
            if self.depth:
                orders.append(camera.order(depth=True))
        return orders
