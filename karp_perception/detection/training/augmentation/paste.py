"""Objects of other frames put into a frame, so that every sensor shows them as it would have.

An object keeps its distance and the side that it shows, so that its points have the right density: it is turned about
the camera whose picture of it is drawn, or about the lidar where no camera looks. It stands on the ground that the
points show there, in nobody's way; it hides what is behind it and is hidden by what is before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core import Boxes, CameraFrame, LidarSweep, SensorFrame
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.detection.training.augmentation.occlusion import Directions, Silhouette
from karp_perception.detection.training.augmentation.paste_bank import PasteBank, StoredObject
from karp_perception.detection.training.augmentation.patches import Drawing, warped
from karp_perception.detection.training.augmentation.settings import PasteSettings
from karp_perception.sensing.beams import DEFAULT_ORIGIN
from karp_perception.sensing.label_upkeep import in_view, left_of, pixel_counts
from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.sensing.point_index import PointIndex

_IN_IMAGE = 0.6  # share of objects with a picture that are put before a camera
_VIEW_SHARE = 0.9  # of a camera's field of view that objects are put into
_GROUND_REACH_M = 1.5  # around a box, within which ground is looked for
_GROUND_POINTS, _GROUND_QUANTILE = 4, 0.1
_GROUND_SPREAD_M = 0.35  # over the ground, above which points belong to something else
_MOST_IN_THE_WAY = 2  # such points where an object is to stand
_MOST_RAISED_M = 0.4  # by which an object with a picture may be raised: its perspective stays nearly right
_MOST_RAISED_BLIND_M = 1.0  # by which one without may be raised
_FEWEST_POINTS = 5
_OWN_RADIUS_M = 2.8  # around `base_link`, where the vehicle itself is
_DISAGREEMENT = 0.3  # of the hidden shares that points and pixels tell: more means something that has no mask


@dataclass
class _Scene:
    """The frame as it stands between two objects.

    Attributes:
        points, time, seen, index: of the frame, as they were.
        gone: (N,) mask of the frame's points that are hidden by now; changed in place.
        new_points, new_time, new_seen: of each object that was put there.
        images, masks: copies of those that were drawn into, and all masks.
    """

    labels: Boxes
    points: np.ndarray
    time: np.ndarray | None
    seen: Directions
    index: PointIndex
    gone: np.ndarray
    new_points: list[np.ndarray]
    new_time: list[np.ndarray]
    new_seen: list[Directions]
    images: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    object_id: np.ndarray | None
    visibility: np.ndarray | None


def paste(
    frame: LabelledFrame,
    bank: PasteBank,
    rng: np.random.Generator,
    settings: PasteSettings = PasteSettings(),
    *,
    lidar_origin: np.ndarray | None = None,
) -> LabelledFrame:
    """The frame with objects of the bank; itself where none found a place, or where there are no points.

    New labels come last. `points_inside` says what is left; `visibility` of those that are hidden by new ones falls by
    the share of their points or pixels that is left, whichever is more.

    Args:
        frame: cameras whose masks are not known are looked away from.
        bank: to draw from.
        rng: all chance.
        settings: how many, and where.
        lidar_origin: (3,) m in `base_link`, where the beams start; about DEFAULT_ORIGIN where it is not known.
    """
    lidar = frame.sensors.lidar
    if rng.random() >= settings.share or lidar is None or not len(lidar.points) or not len(bank):
        return frame
    origin = np.asarray(DEFAULT_ORIGIN if lidar_origin is None else lidar_origin, np.float64)
    scene = _Scene(
        frame.labels,
        lidar.points,
        lidar.time,
        Directions.of(lidar.points, origin),
        PointIndex(lidar.points),
        np.zeros(len(lidar.points), bool),
        [],
        [],
        [],
        {},
        dict(frame.masks),
        frame.object_id,
        frame.visibility,
    )
    for _ in range(int(rng.integers(1, settings.most + 1))):
        stored = bank.draw(rng)
        for _ in range(settings.tries if stored is not None else 0):
            assert stored is not None
            if _put(frame, scene, stored, rng, settings, origin):
                break
    new = len(scene.labels) - len(frame.labels)
    return frame if new == 0 else _finished(frame, scene, new)


def _put(
    frame: LabelledFrame,
    scene: _Scene,
    stored: StoredObject,
    rng: np.random.Generator,
    settings: PasteSettings,
    origin: np.ndarray,
) -> bool:
    """Tries one place; changes the scene where it is a good one."""
    camera_name = _camera_for(frame, stored, rng)
    if camera_name is None:
        if frame.sector and frame.sensors.cameras:
            return False  # nobody knows what else is there
        turn, pivot, new_pivot = rng.uniform(-np.pi, np.pi), stored.origin, origin
    else:
        camera, patch = frame.sensors.cameras[camera_name], stored.patches[camera_name]
        assert camera is not None
        pivot, new_pivot = patch.T_base_camera[:3, 3], camera.T_base_camera[:3, 3]
        turn = _turn_into_view(stored.box.center[0] - pivot, camera, rng)
    T = pose_from_xy_yaw(0.0, 0.0, turn)
    T[:3, 3] = new_pivot - T[:3, :3] @ pivot
    box = stored.box.transformed(T, stored.box.frame)
    if not _is_free(box, scene.labels, frame.unlabelled, settings.gap):
        return False
    ground = _ground(scene.index, box)
    if ground is None:
        return False
    raised = ground - (box.center[0, 2] - 0.5 * box.size[0, 2])
    if abs(raised) > (_MOST_RAISED_BLIND_M if camera_name is None else _MOST_RAISED_M):
        return False
    low_middle = box.center[0].copy()
    T[2, 3] += raised
    box = replace(box, center=low_middle[None] + (0.0, 0.0, raised))
    corners = box.corners()
    for name, other in frame.sensors.cameras.items():
        if other is not None and name != camera_name and bool(in_view(other, corners)[0]):
            return False

    points = stored.points.copy()
    points[:, :3] = points[:, :3] @ T[:3, :3].T.astype(np.float32) + T[:3, 3].astype(np.float32)
    silhouette = Silhouette(Directions.of(points, origin))
    above = ground + _GROUND_SPREAD_M
    hidden = silhouette.hidden_by(scene.seen, (scene.points[:, 2] > above) & ~scene.gone)
    for others, directions in zip(scene.new_points, scene.new_seen, strict=True):
        hidden |= silhouette.hidden_by(directions, others[:, 2] > above)
    seen_share = 1.0 - float(hidden.mean())
    if seen_share < settings.least_seen or (~hidden).sum() < _FEWEST_POINTS:
        return False
    number = 1 if scene.object_id is None else int(scene.object_id.max(initial=0)) + 1
    if camera_name is not None:
        drawing = warped(stored.patches[camera_name], camera, turn, (low_middle, raised))
        if drawing is None:
            return False
        free = _not_nearer(scene, camera_name, camera, drawing, box)
        share = drawing.shown(free)
        if share < settings.least_seen or abs(share - seen_share) > _DISAGREEMENT:
            return False
        if camera_name not in scene.images:
            scene.images[camera_name] = camera.image.copy()
            scene.masks[camera_name] = scene.masks[camera_name].copy()
        drawing.over(scene.images[camera_name], scene.masks[camera_name], free, number)
        seen_share = max(seen_share, min(1.0, share))
    _place(scene, box, points[~hidden], silhouette, origin)
    if scene.object_id is not None:
        scene.object_id = np.append(scene.object_id, number)
    if scene.visibility is not None:
        scene.visibility = np.append(scene.visibility, stored.visibility * seen_share)
    return True


def _camera_for(frame: LabelledFrame, stored: StoredObject, rng: np.random.Generator) -> str | None:
    """A camera that the object is to be drawn for; None to put it where no camera looks."""
    wanted = rng.random() < _IN_IMAGE
    if frame.object_id is None or not wanted:
        return None
    names = [
        name
        for name, patch in stored.patches.items()
        if patch.whole and name in frame.masks and frame.sensors.cameras.get(name) is not None
    ]
    return names[int(rng.integers(len(names)))] if names else None


def _turn_into_view(offset: np.ndarray, camera: CameraFrame, rng: np.random.Generator) -> float:
    """Rad about z that bring what lies at `offset` (3,) from a camera to a random place in its image."""
    axis = camera.T_base_camera[:3, 2]
    width, focal = camera.image.shape[1], camera.intrinsics[0, 0]
    half = float(np.arctan(0.5 * width / focal)) * _VIEW_SHARE
    return float(np.arctan2(axis[1], axis[0]) + rng.uniform(-half, half) - np.arctan2(offset[1], offset[0]))


def _is_free(box: Boxes, labels: Boxes, unlabelled: np.ndarray, gap: float) -> bool:
    """Whether the box keeps its distance from all labels, objects without label and the own vehicle."""
    reach = 0.5 * np.hypot(*box.size[0, :2])
    place = box.center[0, :2]
    if np.hypot(*place) < reach + _OWN_RADIUS_M:
        return False
    if len(unlabelled) and (np.hypot(*(unlabelled[:, :2] - place).T) < unlabelled[:, 2] + reach).any():
        return False
    return not overlaps(box, labels, gap).any()


def overlaps(box: Boxes, others: Boxes, gap: float = 0.0) -> np.ndarray:
    """(N,) mask: is the ground rectangle of `box` (one row), grown by `gap` m, met by that of each of the others.

    Two rectangles are apart where the direction of one of their sides tells them apart (separating axes).
    """
    offset = others.center[:, :2] - box.center[0, :2]
    near = np.flatnonzero(
        np.hypot(*offset.T) <= 0.5 * (np.hypot(*box.size[0, :2]) + np.hypot(*others.size[:, :2].T)) + np.sqrt(2) * gap
    )
    result = np.zeros(len(others), bool)
    if not len(near):
        return result
    others, offset = others[near], offset[near]
    own_half, half = 0.5 * box.size[0, :2] + gap, 0.5 * others.size[:, :2]
    own = np.broadcast_to(box.yaw, others.yaw.shape)
    apart = np.zeros(len(near), bool)
    for base in (own, others.yaw):
        for axis in (base, base + 0.5 * np.pi):
            reach = np.abs(np.cos(axis - own)) * own_half[0] + np.abs(np.sin(axis - own)) * own_half[1]
            turn = axis - others.yaw
            reach = reach + np.abs(np.cos(turn)) * half[:, 0] + np.abs(np.sin(turn)) * half[:, 1]
            apart |= np.abs(offset[:, 0] * np.cos(axis) + offset[:, 1] * np.sin(axis)) > reach
    result[near] = ~apart
    return result


def _ground(index: PointIndex, box: Boxes) -> float | None:
    """Height of the ground below a box, m; None where no points tell, or where something stands in the way."""
    place, half = box.center[0, :2], 0.5 * box.size[0, :2]
    c, s = abs(np.cos(box.yaw[0])), abs(np.sin(box.yaw[0]))
    reach = np.array([c * half[0] + s * half[1], s * half[0] + c * half[1]]) + _GROUND_REACH_M
    _, near = index.near((place - reach)[None], (place + reach)[None])
    dx, dy, z = (index.points[near, k] for k in range(3))
    dx, dy = dx - np.float32(place[0]), dy - np.float32(place[1])
    around = np.flatnonzero((np.abs(dx) <= reach[0]) & (np.abs(dy) <= reach[1]))
    if len(around) < _GROUND_POINTS:
        return None
    dx, dy, z = dx[around], dy[around], z[around]
    rank = int(_GROUND_QUANTILE * (len(z) - 1))
    ground = float(np.partition(z, rank)[rank])
    c, s = np.cos(box.yaw[0]), np.sin(box.yaw[0])
    standing = (z > ground + _GROUND_SPREAD_M) & (z < ground + box.size[0, 2])
    below = (np.abs(c * dx + s * dy) < half[0]) & (np.abs(c * dy - s * dx) < half[1])
    in_the_way = int((standing & below).sum())
    return None if in_the_way > _MOST_IN_THE_WAY else ground


def _not_nearer(scene: _Scene, name: str, camera: CameraFrame, drawing: Drawing, box: Boxes) -> np.ndarray:
    """(h, w) mask of the pixels of a drawing that show nothing nearer than the box, as far as masks know."""
    assert scene.object_id is not None
    eye = camera.T_base_camera[:3, 3]
    away = np.linalg.norm(scene.labels.center - eye, axis=1)
    nearer = scene.object_id[away < np.linalg.norm(box.center[0] - eye)]
    part = scene.masks[name][drawing.rows, drawing.columns]
    return ~np.isin(part, nearer)


def _place(scene: _Scene, box: Boxes, points: np.ndarray, silhouette: Silhouette, origin: np.ndarray) -> None:
    """Puts box and points into the scene, and takes out the points that they hide."""
    hidden = silhouette.hides(scene.seen, scene.points, origin, box)
    scene.gone[hidden] = True
    scene.gone[scene.index.inside(box)[1]] = True
    for k, (others, seen) in enumerate(zip(scene.new_points, scene.new_seen, strict=True)):
        left = np.ones(len(others), bool)
        left[silhouette.hides(seen, others, origin, box)] = False
        scene.new_points[k], scene.new_seen[k] = others[left], seen.of_rows(left)
        scene.new_time[k] = scene.new_time[k][left]
    # They were met when the beams pointed there: as what they hide was.
    moment = 0.0 if scene.time is None or not len(hidden) else float(np.median(scene.time[hidden]))
    scene.new_time.append(np.full(len(points), moment, np.float32))
    scene.new_points.append(points)
    scene.new_seen.append(Directions.of(points, origin))
    scene.labels = Boxes.concatenate([scene.labels, box])


def _finished(frame: LabelledFrame, scene: _Scene, new: int) -> LabelledFrame:
    """The frame with what was put into it."""
    sensors = frame.sensors
    assert sensors.lidar is not None
    cameras: dict[str, CameraFrame | None] = dict(sensors.cameras)
    for name, image in scene.images.items():
        camera = cameras[name]
        assert camera is not None
        cameras[name] = replace(camera, image=image)
    points = np.concatenate([scene.points[~scene.gone], *scene.new_points])
    time = None if scene.time is None else np.concatenate([scene.time[~scene.gone], *scene.new_time])
    lidar = LidarSweep(points, sensors.lidar.stamp_ns, time)
    # Counted in boxes before and after: see `left_of`.
    owner, point = scene.index.inside(frame.labels)
    was_inside, inside = (np.bincount(rows, minlength=len(frame.labels)) for rows in (owner, owner[~scene.gone[point]]))
    own = np.array([len(of_object) for of_object in scene.new_points], np.int64)
    left = left_of(frame.points_inside, was_inside, inside, 1.0)
    visibility, object_id = scene.visibility, scene.object_id
    if visibility is not None:
        visibility[: len(frame.labels)] *= _share_left(frame, scene, left)
    weight = None if frame.weight is None else np.append(frame.weight, np.ones(new))
    return replace(
        frame,
        sensors=SensorFrame(sensors.stamp_ns, cameras, lidar, sensors.ego),
        labels=scene.labels,
        points_inside=np.concatenate([left, own]),
        object_id=object_id,
        visibility=visibility,
        weight=weight,
        masks=scene.masks,
    )


def _share_left(frame: LabelledFrame, scene: _Scene, inside: np.ndarray) -> np.ndarray:
    """(N,) share of the points or pixels of each object of the frame that is left, whichever is more, 0..1."""
    pairs = [(frame.points_inside, inside)]
    if frame.object_id is not None:
        pairs.append(tuple(pixel_counts(masks, frame.object_id) for masks in (frame.masks, scene.masks)))
    shares = [np.where(before > 0, after / np.maximum(before, 1), 0.0) for before, after in pairs]
    seen = np.logical_or.reduce([before > 0 for before, _ in pairs])
    return np.where(seen, np.minimum(np.maximum.reduce(shares), 1.0), 1.0)
