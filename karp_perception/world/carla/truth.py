"""Truth of one moment of a CARLA world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from karp_perception.core import Boxes, EgoState, LidarSweep
from karp_perception.core.geometry import invert_pose, transform_points
from karp_perception.world.carla.actors import actor_box, boxes_in_base
from karp_perception.world.carla.coordinates import depth_from_carla
from karp_perception.world.carla.episode import Episode
from karp_perception.world.carla.road_map import lanes_around
from karp_perception.world.carla.sensors import MountedCamera, MountedRig
from karp_perception.world.carla.visibility import meet, visible_share
from karp_perception.world.interface import TrafficLight, Truth


def tell_truth(
    episode: Episode,
    actors: Any,
    snapshot: Any,
    ego: EgoState,
    sweep: LidarSweep | None,
    data: Mapping[str, Any | None],
    rig: MountedRig,
    reach: float,
) -> Truth:
    """What is true at a tick.

    Args:
        episode: the drive.
        actors: carla.ActorList. snapshot: carla.WorldSnapshot of the tick.
        ego: the vehicle's state.
        sweep, data: what the sensors said at the tick.
        rig: the sensors.
        reach: m within which actors, lights and lanes are told.
    """
    T_base_odom = invert_pose(ego.T_odom_base)
    things = list(episode.standing)
    for actor in actors:
        state = snapshot.find(actor.id)
        if state is not None and actor.id != episode.ego.id:
            box = actor_box(actor, state)
            if box is not None:
                things.append(box)
    boxes, numbers = boxes_in_base(things, T_base_odom, reach)
    visibility, masks = _seen(boxes, numbers, sweep, data, rig)
    inside = np.zeros(len(boxes), np.int64) if sweep is None else boxes.contains(sweep.points).sum(axis=1)
    lights = []
    for line in episode.stop_lines:
        stop, color = transform_points(T_base_odom, line.position[None])[0], line.color
        if color is not None and np.hypot(*stop[:2]) <= reach:
            lights.append(TrafficLight(line.light, stop[:2], color))
    around = lanes_around(episode.road_map.lanes, ego.T_odom_base[:3, 3], reach)
    lanes = tuple(transform_points(T_base_odom, lane.center)[:, :2] for lane in around)
    return Truth(ego.stamp_ns, ego, boxes, numbers, visibility, inside, tuple(lights), lanes, episode.route, masks)


def _seen(
    boxes: Boxes, numbers: np.ndarray, sweep: LidarSweep | None, data: Mapping[str, Any | None], rig: MountedRig
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(N,) visible share of each box, the largest that a sensor tells; and masks by camera."""
    share = np.zeros(len(boxes))
    if sweep is not None and rig.lidar is not None and len(sweep.points):
        origin = rig.lidar.T_base_lidar[:3, 3]
        offset = sweep.points[:, :3].astype(np.float64) - origin
        length = np.linalg.norm(offset, axis=1)
        share = visible_share(*meet(boxes, origin, offset / length[:, None], length))
    masks: dict[str, np.ndarray] = {}
    for camera in rig.cameras if rig.depth else ():
        depth = data.get(camera.depth_name)
        if depth is not None:
            owner, stopped = _look(boxes, camera, depth)
            share = np.maximum(share, visible_share(owner, stopped))
            shown = np.concatenate([numbers, [0]])[owner].astype(np.int32)
            masks[camera.model.name] = camera.view.numbers(shown.reshape(camera.view.height, camera.view.width))
    return share, masks


def _look(boxes: Boxes, camera: MountedCamera, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """`meet` for the pixels of a depth camera."""
    view, T = camera.view, camera.model.T_base_camera
    depth = depth_from_carla(data.raw_data, view.width, view.height).ravel()
    u, v = np.meshgrid(np.arange(view.width, dtype=np.float64), np.arange(view.height, dtype=np.float64))
    f, (cx, cy) = view.focal, view.intrinsics[:2, 2]
    rays = np.column_stack([(u.ravel() - cx) / f, (v.ravel() - cy) / f, np.ones(u.size)])
    stretch = np.linalg.norm(rays, axis=1)
    return meet(boxes, T[:3, 3], (rays / stretch[:, None]) @ T[:3, :3].T, depth * stretch)
