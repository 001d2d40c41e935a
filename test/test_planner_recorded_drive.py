"""Obstacles, tracker and planner on a recorded drive: a car closes in calmly on one that hardly moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from karp_perception.core import Boxes, DecisionKind, EgoState, LidarSweep
from karp_perception.core.geometry import pose_from_quaternion, pose_from_xy_yaw, transform_points
from karp_perception.detection.obstacles import ObstacleDetector
from karp_perception.planning.planner import Planner
from karp_perception.sensing.pointclouds import decode_pointcloud
from karp_perception.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def drive(recorded_data: Path) -> list[tuple[int, Boxes]]:
    """Stamp and obstacles of every sweep of `kitti_drive`."""
    highlevel = pytest.importorskip("rosbags.highlevel")
    folder = recorded_data / "kitti_drive"
    if not folder.is_dir():
        pytest.skip(f"no kitti_drive in {recorded_data}")
    detector, frames, T = ObstacleDetector(), [], np.eye(4)
    with highlevel.AnyReader([folder]) as reader:
        for connection, _, raw in reader.messages():
            if connection.topic == "/tf_static":
                for link in reader.deserialize(raw, connection.msgtype).transforms:
                    if link.child_frame_id == "velodyne":
                        p, q = link.transform.translation, link.transform.rotation
                        T = pose_from_quaternion((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
            if connection.topic == "/lidar/points":
                message = reader.deserialize(raw, connection.msgtype)
                points = np.array(decode_pointcloud(message).points)
                points[:, :3] = transform_points(T, points[:, :3])
                stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
                frames.append((stamp, detector.detect(LidarSweep(points, stamp))))
    return frames


@pytest.mark.data
@pytest.mark.parametrize("speed", [None, 0.7, 2.0])
def test_the_car_ahead_is_named_in_every_frame_and_nothing_is_an_emergency(
    drive: list[tuple[int, Boxes]], speed: float | None
) -> None:
    """With the motion unknown, as slow as the gap closes, and as fast as the lidar's odometry says."""
    tracker, planner, named = Tracker(), Planner(), []
    for stamp, obstacles in drive:
        ego = EgoState.standing(stamp)
        if speed is not None:
            along = speed * (stamp - drive[0][0]) * 1e-9
            ego = EgoState(stamp, pose_from_xy_yaw(along, 0, 0), np.array([speed, 0.0]))
        objects = tracker.step(stamp, Boxes.empty(), obstacles, ego)
        decision = planner.step(stamp, objects, obstacles, ego).decision
        assert decision.kind != DecisionKind.EMERGENCY_STOP
        named.append((decision.kind, decision.target_id, decision.distance_m))
    kinds, targets, gaps = zip(*named[5:], strict=True)
    assert set(kinds) <= {DecisionKind.FOLLOW, DecisionKind.SLOW, DecisionKind.STOP}
    assert len(set(targets)) == 1
    assert targets[0] is not None
    rear_face = {6: 7.58, 12: 7.27, 18: 6.81, 24: 6.23}  # m from base_link, measured in the cloud
    for frame, truth in rear_face.items():
        assert named[frame][2] + Planner().vehicle.front == pytest.approx(truth, abs=0.3)
    assert max(gaps) < 5.0
