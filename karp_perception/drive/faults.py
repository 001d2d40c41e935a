"""Sensors that fail on the way: what comes of a frame, or of the truth, while a fault lasts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from karp_perception.core import Boxes, CameraFrame, EgoState, LidarSweep, SensorFrame
from karp_perception.world.interface import Truth
from karp_perception.world.scenarios.case import Fault

_RING = math.radians(0.4)  # between the beams of a 64-beam lidar
_MEMORY_S = 6.0  # of frames kept for delays, longer than any of them


class SensorFaults:
    """Applies a case's faults, tick by tick.

    Args:
        faults: of the case.
        seed: of the noise.
        lidar_height: m, the lidar's height above `base_link`, to know which beam a point is of.
    """

    def __init__(self, faults: Sequence[Fault], seed: int = 0, lidar_height: float = 1.73) -> None:
        self._faults, self._height = tuple(faults), lidar_height
        self._rng = np.random.default_rng([seed, 7])
        self._frames: deque[tuple[float, SensorFrame]] = deque()
        self._truths: deque[tuple[float, Truth]] = deque()
        self._frozen: dict[tuple[int, str], object] = {}

    def __bool__(self) -> bool:
        return bool(self._faults)

    def frame(self, t: float, frame: SensorFrame) -> SensorFrame | None:
        """What arrives at time t (s) instead of `frame`; None where nothing does yet."""
        _remember(self._frames, t, frame)
        cameras, lidar, ego = dict(frame.cameras), frame.lidar, frame.ego
        stamp_ns = frame.stamp_ns
        for index, fault in self._active(t):
            old = _at(self._frames, t - fault.amount) if fault.kind == "delayed" else None
            if fault.kind == "delayed" and old is None:
                return None
            if fault.sensor == "all" and old is not None:
                cameras, lidar, ego, stamp_ns = dict(old.cameras), old.lidar, old.ego, old.stamp_ns
            if fault.sensor == "lidar":
                lidar = self._lidar(index, fault, lidar, old, stamp_ns)
            if fault.sensor == "odometry":
                ego = self._odometry(index, fault, ego, None if old is None else old.ego, stamp_ns)
            if fault.sensor.startswith("camera"):
                _, _, only = fault.sensor.partition(":")
                for name in [only] if only in cameras else [] if only else list(cameras):
                    was = None if old is None else old.cameras.get(name)
                    cameras[name] = self._camera(index, fault, name, cameras[name], was, stamp_ns)
            if fault.sensor == "clock":
                shift = round(fault.amount * 1e9)
                stamp_ns += shift
                lidar = None if lidar is None else replace(lidar, stamp_ns=lidar.stamp_ns + shift)
                ego = None if ego is None else replace(ego, stamp_ns=ego.stamp_ns + shift)
                cameras = {
                    name: None if camera is None else replace(camera, stamp_ns=camera.stamp_ns + shift)
                    for name, camera in cameras.items()
                }
        return SensorFrame(stamp_ns, cameras, lidar, ego)

    def truth(self, t: float, truth: Truth) -> tuple[int, EgoState | None, Truth | None]:
        """What perfect perception knows at time t (s): stamp, own motion and truth; None for what it lacks.

        One kind of sensor suffices to see; without lidar and cameras there is nothing to go by.
        """
        _remember(self._truths, t, truth)
        stamp_ns, ego, seen = truth.stamp_ns, truth.ego, truth
        blind: set[str] = set()
        for index, fault in self._active(t):
            old = _at(self._truths, t - fault.amount) if fault.kind == "delayed" else None
            if fault.sensor == "all":
                seen, ego = old, None if old is None else old.ego
                stamp_ns = truth.stamp_ns if old is None else old.stamp_ns
            elif fault.sensor == "odometry":
                ego = self._odometry(index, fault, ego, None if old is None else old.ego, stamp_ns)
            elif fault.sensor == "clock":
                stamp_ns += round(fault.amount * 1e9)
                ego = None if ego is None else replace(ego, stamp_ns=stamp_ns)
            elif fault.sensor == "lidar" and fault.kind == "noisy" and seen is not None:
                seen = replace(seen, boxes=self._shaken(seen.boxes, fault.amount))
            elif fault.sensor in ("lidar", "cameras") and fault.kind in ("lost", "frozen"):
                blind.add(fault.sensor)
        return stamp_ns, ego, None if blind == {"lidar", "cameras"} else seen

    def clock(self, t: float) -> float:
        """s by which the vehicle's clock is ahead at time t (s)."""
        return sum(fault.amount for _, fault in self._active(t) if fault.sensor == "clock")

    def silent(self, t: float) -> bool:
        """Whether the network says nothing at time t (s)."""
        return any(fault.sensor == "detector" for _, fault in self._active(t))

    def _active(self, t: float) -> list[tuple[int, Fault]]:
        return [(i, fault) for i, fault in enumerate(self._faults) if fault.begin <= t < fault.end]

    def _lidar(
        self, index: int, fault: Fault, sweep: LidarSweep | None, old: SensorFrame | None, stamp_ns: int
    ) -> LidarSweep | None:
        if fault.kind == "delayed":
            return None if old is None else old.lidar
        if fault.kind == "frozen":
            kept = self._frozen.setdefault((index, "lidar"), sweep)
            return replace(kept, stamp_ns=stamp_ns) if isinstance(kept, LidarSweep) else None
        if fault.kind == "lost" or sweep is None:
            return None
        points = sweep.points
        if fault.kind == "thinned":
            ring = np.floor(np.arctan2(points[:, 2] - self._height, np.hypot(points[:, 0], points[:, 1])) / _RING)
            keep = np.floor((ring + 1) * fault.amount) > np.floor(ring * fault.amount)
            return LidarSweep(points[keep], sweep.stamp_ns, None if sweep.time is None else sweep.time[keep])
        origin = np.array([0.0, 0.0, self._height], np.float32)
        ray = points[:, :3] - origin
        away = np.linalg.norm(ray, axis=1, keepdims=True)
        longer = 1.0 + self._rng.normal(0.0, fault.amount, (len(points), 1)).astype(np.float32) / np.maximum(away, 0.1)
        return LidarSweep(np.column_stack([origin + ray * longer, points[:, 3]]), sweep.stamp_ns, sweep.time)

    def _odometry(
        self, index: int, fault: Fault, ego: EgoState | None, old: EgoState | None, stamp_ns: int
    ) -> EgoState | None:
        if fault.kind == "delayed":
            return old
        if fault.kind == "frozen":
            kept = self._frozen.setdefault((index, "odometry"), ego)
            return replace(kept, stamp_ns=stamp_ns) if isinstance(kept, EgoState) else None
        if fault.kind == "lost" or ego is None:
            return None
        T = ego.T_odom_base.copy()
        T[:2, 3] += self._rng.normal(0.0, fault.amount, 2)
        return replace(ego, T_odom_base=T, velocity=ego.velocity + self._rng.normal(0.0, fault.amount, 2))

    def _camera(
        self, index: int, fault: Fault, name: str, camera: CameraFrame | None, old: CameraFrame | None, stamp_ns: int
    ) -> CameraFrame | None:
        if fault.kind == "delayed":
            return old
        if fault.kind == "frozen":
            kept = self._frozen.setdefault((index, name), camera)
            return replace(kept, stamp_ns=stamp_ns) if isinstance(kept, CameraFrame) else None
        if fault.kind == "lost" or camera is None:
            return None
        noise = self._rng.normal(0.0, 255.0 * fault.amount, camera.image.shape)
        return replace(camera, image=np.clip(camera.image + noise, 0, 255).astype(np.uint8))

    def _shaken(self, boxes: Boxes, deviation: float) -> Boxes:
        noise = self._rng.normal(0.0, deviation, (len(boxes), 2))
        return replace(boxes, center=boxes.center + np.column_stack([noise, np.zeros(len(boxes))]))


def _remember(kept: deque[tuple[float, object]], t: float, value: object) -> None:
    kept.append((t, value))
    while t - kept[0][0] > _MEMORY_S:
        kept.popleft()


def _at(kept: deque[tuple[float, object]], t: float) -> object | None:
    """The last one that is not younger than t."""
    return next((value for when, value in reversed(kept) if when <= t + 1e-9), None)
