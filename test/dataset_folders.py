"""Tiny folders in the formats of KITTI object and nuScenes, written by the formats' definitions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from karp_perception.core import Boxes, CameraFrame, EgoState, LidarSweep, SensorFrame
from karp_perception.sensing.labelled_frame import LabelledFrame

LIDAR_HEIGHT = 1.73
T_CAMERA_AXES = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # T_optical_body
INTRINSICS = np.array([[70.0, 0, 48], [0, 71.0, 20], [0, 0, 1]])
KITTI_NAMES = {0: "Car", 1: "Truck", 2: "Tram", 5: "Pedestrian", 7: "Cyclist", -1: "Misc"}
NUSCENES_NAMES = {
    0: "vehicle.car", 1: "vehicle.truck", 2: "vehicle.bus.rigid", 5: "human.pedestrian.adult", 7: "vehicle.bicycle",
    -1: "animal",
}  # fmt: skip


def pose(x: float, y: float, z: float, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix()
    T[:3, 3] = x, y, z
    return T


def camera_at(x: float, y: float, z: float, yaw: float = 0.0, pitch: float = 0.0) -> np.ndarray:
    return pose(x, y, z, yaw, pitch) @ np.linalg.inv(T_CAMERA_AXES)


def made_up_frame(seed: int = 0, cameras: dict[str, np.ndarray] | None = None, stamp_ns: int = 0) -> LabelledFrame:
    """A few objects with points on them, ground between them, noise for pictures."""
    rng = np.random.default_rng(seed)
    size = np.array([[4.2, 1.8, 1.5], [7.5, 2.6, 3.1], [0.8, 0.7, 1.75], [1.8, 0.6, 1.7], [1.1, 0.5, 0.8]])
    x, y = np.array([12.0, 30.0, 9.0, 16.0, 8.0]), np.array([-3.0, 6.0, 2.0, -7.0, -1.0])
    center = np.column_stack([x, y, 0.5 * size[:, 2]]) + rng.uniform(-0.5, 0.5, (5, 3)) * [1, 1, 0.1]
    yaw = rng.uniform(-3.1, 3.1, 5)
    velocity = np.column_stack([np.cos(yaw), np.sin(yaw)]) * rng.uniform(0, 9, (5, 1))
    labels = Boxes(center, size, yaw, velocity, [0, 1, 5, 7, -1], np.ones(5))
    inside = np.array([80, 60, 40, 25, 10])
    parts = []
    for box in range(5):
        local = rng.uniform(-0.45, 0.45, (inside[box], 3)) * size[box]
        parts.append(local @ pose(0, 0, 0, yaw[box])[:3, :3].T + center[box])
    ground = np.column_stack([rng.uniform(-40, 40, (300, 2)), rng.uniform(-0.6, -0.3, 300)])
    points = np.concatenate([*parts, ground])
    points = np.column_stack([points, rng.integers(0, 256, len(points)) / 255.0]).astype(np.float32)
    poses = {"front": camera_at(0.3, 0.06, 1.65)} if cameras is None else cameras
    pictures = {
        name: CameraFrame(rng.integers(0, 255, (40, 96, 3), np.uint8), INTRINSICS, T, stamp_ns)
        for name, T in poses.items()
    }
    ego = EgoState(stamp_ns, np.eye(4), np.zeros(2))
    return LabelledFrame(
        SensorFrame(stamp_ns, pictures, LidarSweep(points, stamp_ns), ego),
        labels,
        inside,
        np.zeros((0, 3)),
        sector=False,
    )


def write_kitti(root: Path, frames: Sequence[LabelledFrame], T_camera_velodyne: np.ndarray | None = None) -> None:
    """KITTI's training folder. The rectified camera 0 is 0.06 m to the right of camera 2.

    `T_camera_velodyne`: of the rectified camera 0; by default the one that fits the frame's camera.
    """
    training = root / "training"
    for part in ("velodyne", "image_2", "calib", "label_2"):
        (training / part).mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        name = f"{number:06d}"
        camera = frame.sensors.cameras["front"]
        T_velodyne_base = pose(0, 0, -LIDAR_HEIGHT)
        offset = pose(-0.06, 0, 0)  # of camera 2 in the frame of camera 0
        if T_camera_velodyne is None:
            T_rect_velo = offset @ np.linalg.inv(camera.T_base_camera) @ np.linalg.inv(T_velodyne_base)
        else:
            T_rect_velo = T_camera_velodyne
        rectification = Rotation.from_euler("xyz", [0.004, -0.007, 0.009]).as_matrix()
        T_velo_to_cam = np.linalg.inv(np.block([[rectification, np.zeros((3, 1))], [0, 0, 0, 1]])) @ T_rect_velo
        P2 = camera.intrinsics @ np.linalg.inv(offset)[:3]
        lines = {"P0": P2, "P2": P2, "R0_rect": rectification, "Tr_velo_to_cam": T_velo_to_cam[:3]}
        text = "".join(f"{key}: {' '.join(f'{v:.12e}' for v in np.ravel(m))}\n" for key, m in lines.items())
        (training / "calib" / f"{name}.txt").write_text(text + "\n")
        points = frame.sensors.lidar.points.copy()
        points[:, 2] -= np.float32(LIDAR_HEIGHT)
        points.astype("<f4").tofile(training / "velodyne" / f"{name}.bin")
        cv2.imwrite(str(training / "image_2" / f"{name}.png"), camera.image[..., ::-1])
        rows = [
            kitti_line(frame.labels, i, T_rect_velo @ T_velodyne_base, occluded=i % 4) for i in range(len(frame.labels))
        ]
        rows.append("DontCare -1 -1 -10 40.0 10.0 60.0 20.0 -1 -1 -1 -1000 -1000 -1000 -10")
        (training / "label_2" / f"{name}.txt").write_text("\n".join(rows) + "\n")


def kitti_line(labels: Boxes, i: int, T_rect_base: np.ndarray, occluded: int) -> str:
    length, width, height = labels.size[i]
    bottom = T_rect_base @ [*(labels.center[i] - [0, 0, 0.5 * height]), 1]
    heading = T_rect_base[:3, :3] @ [np.cos(labels.yaw[i]), np.sin(labels.yaw[i]), 0]
    rotation_y = np.arctan2(-heading[2], heading[0])
    numbers = (height, width, length, *bottom[:3], rotation_y)
    kind = KITTI_NAMES[int(labels.label[i])]
    return f"{kind} 0.25 {occluded} 0.00 1.0 2.0 3.0 4.0 " + " ".join(f"{v:.9f}" for v in numbers)


def wxyz(R: np.ndarray) -> list[float]:
    x, y, z, w = Rotation.from_matrix(R[:3, :3]).as_quat()
    return [w, x, y, z]


def placed(T: np.ndarray) -> dict[str, Any]:
    return {"translation": T[:3, 3].tolist(), "rotation": wxyz(T)}


START_US = 1_600_000_000_000_000
CAMERA_DELAY_US = {"CAM_FRONT": -35_000, "CAM_BACK": 12_000}
CAMERAS = {"CAM_FRONT": camera_at(1.7, 0.02, 1.5), "CAM_BACK": camera_at(0.03, 0, 1.57, np.pi)}
T_BASE_LIDAR = pose(0.94, 0, 1.84, -np.pi / 2, 0.01)
SPEED, TURN = 8.0, 0.2  # m/s, rad/s


def vehicle_at(seconds: float) -> np.ndarray:
    """T_map_base of a vehicle that drives along an arc, on sloping ground."""
    radius, angle = SPEED / TURN, TURN * seconds
    x, y = radius * np.sin(angle), radius * (1 - np.cos(angle))
    return pose(400.0, 1100.0, 3.0, 0.7) @ pose(x, y, 0.0, angle, 0.02, -0.01)


def write_nuscenes(root: Path, count: int = 3, sweeps_between: int = 9) -> list[Boxes]:
    """One scene of nuScenes, samples every 0.5 s. Returns the labels of each sample, in the vehicle's frame.

    Object k moves through the map with a velocity of its own; the last one is annotated once.
    """
    folder = root / "v1.0-mini"
    folder.mkdir(parents=True)
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in (
        "sensor", "calibrated_sensor", "sample", "sample_data", "ego_pose", "instance", "category", "sample_annotation",
        "scene", "log",
    )}  # fmt: skip
    channels = {"LIDAR_TOP": T_BASE_LIDAR, **CAMERAS}
    for channel, T in channels.items():
        modality = "camera" if channel in CAMERAS else "lidar"
        tables["sensor"].append({"token": f"s{channel}", "channel": channel, "modality": modality})
        intrinsics = INTRINSICS.tolist() if channel in CAMERAS else []
        calibrated = {"token": f"c{channel}", "sensor_token": f"s{channel}", "camera_intrinsic": intrinsics}
        tables["calibrated_sensor"].append({**calibrated, **placed(T)})
    tables["scene"].append({"token": "scene", "name": "scene-0001"})
    start = made_up_frame(3)
    world = start.labels.transformed(vehicle_at(0.0), "map")
    for label in dict.fromkeys(start.labels.label.tolist()):
        tables["category"].append({"token": f"k{label}", "name": NUSCENES_NAMES[label]})
    for k, label in enumerate(start.labels.label.tolist()):
        tables["instance"].append({"token": f"i{k}", "category_token": f"k{label}"})

    def record(channel: str, seconds: float, sample: int, key_frame: bool) -> Path:
        time = START_US + round(seconds * 1e6)
        kind, suffix = "samples" if key_frame else "sweeps", "jpg" if channel in CAMERAS else "pcd.bin"
        file = f"{kind}/{channel}/{time}.{suffix}"
        token = f"{channel}{time}"
        tables["ego_pose"].append({"token": token, "timestamp": time, **placed(vehicle_at(seconds))})
        tables["sample_data"].append({
            "token": token, "sample_token": f"n{sample}", "ego_pose_token": token,
            "calibrated_sensor_token": f"c{channel}", "is_key_frame": key_frame, "filename": file, "timestamp": time,
        })  # fmt: skip
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        return root / file

    def sweep(seconds: float, sample: int, key_frame: bool) -> None:
        T_lidar_map = np.linalg.inv(vehicle_at(seconds) @ T_BASE_LIDAR)
        points = start.sensors.lidar.points.astype(np.float64)
        shift = seconds * np.repeat(np.append(world.velocity, np.zeros((1, 2)), axis=0), [*start.points_inside, 300], 0)
        places = points[:, :3] @ vehicle_at(0)[:3, :3].T + vehicle_at(0)[:3, 3]
        places[:, :2] += shift
        local = places @ T_lidar_map[:3, :3].T + T_lidar_map[:3, 3]
        rows = np.column_stack([local, np.round(points[:, 3] * 255), np.zeros(len(points))])
        rows.astype("<f4").tofile(record("LIDAR_TOP", seconds, sample, key_frame))

    truth = []
    for sample in range(count):
        seconds = 0.5 * sample
        tables["sample"].append(
            {"token": f"n{sample}", "timestamp": START_US + round(seconds * 1e6), "scene_token": "scene"}
        )
        sweep(seconds, sample, True)
        for k in range(1, sweeps_between + 1) if sample + 1 < count else ():
            sweep(seconds + 0.5 * k / (sweeps_between + 1), sample + 1, False)
        for channel, delay in CAMERA_DELAY_US.items():
            picture = np.random.default_rng([sample, len(channel)]).integers(0, 255, (40, 96, 3), np.uint8)
            cv2.imwrite(str(record(channel, seconds + delay * 1e-6, sample, True)), picture)
        shown = range(len(world) - 1) if sample else range(len(world))
        there = world.center[list(shown)].copy()
        there[:, :2] += seconds * world.velocity[list(shown)]
        moved = Boxes(
            there, world.size[list(shown)], world.yaw[list(shown)], world.velocity[list(shown)],
            world.label[list(shown)], np.ones(len(shown)), frame="map",
        )  # fmt: skip
        truth.append(moved.transformed(np.linalg.inv(vehicle_at(seconds)), "base_link"))
        for k in shown:
            length, width, height = world.size[k]
            last = k not in range(len(world) - 1)
            tables["sample_annotation"].append({
                "token": f"a{sample}.{k}", "sample_token": f"n{sample}", "instance_token": f"i{k}",
                "visibility_token": str(1 + k % 4), "attribute_tokens": [], "size": [width, length, height],
                "translation": there[k].tolist(), "rotation": wxyz(pose(0, 0, 0, world.yaw[k])),
                "prev": f"a{sample - 1}.{k}" if sample and not last else "",
                "next": f"a{sample + 1}.{k}" if sample + 1 < count and not last else "",
                "num_lidar_pts": int(start.points_inside[k]), "num_radar_pts": 0,
            })  # fmt: skip
    for name, table in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(table, indent=0))
    return truth
