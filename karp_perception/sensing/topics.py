"""Which topics of a recording or a live graph are the lidar, the cameras with camera_info, odometry, the route.

Drivers, bridges and data sets name their topics in many ways; these rules read the names as a person would:

- An image topic's last part says what it is (`image_raw`, `image_rect_color/compressed`), what is before it is the
  camera. Several images of one camera: a rectified one before a raw one, colour before grey, uncompressed before
  compressed, of those that have (nearly) all messages. Depth, masks and drawings are left out.
- camera_info is where image_transport puts it, beside the image; else at the few other places in use.
- A camera's name is the last part of its namespace that says something, with more of them where two would be alike.
- Lidar: merged clouds before single ones, the roof's before others, then the one with most messages. Radar is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from karp_perception.sensing.bags import Topic

POINTS, IMAGE, COMPRESSED = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO, ODOMETRY, PATH = "sensor_msgs/msg/CameraInfo", "nav_msgs/msg/Odometry", "nav_msgs/msg/Path"
TRANSFORMS = "tf2_msgs/msg/TFMessage"

_NO_PICTURE = {
    "depth", "compresseddepth", "disparity", "mask", "masks", "semantic", "segmentation", "instance", "label", "labels",
    "confidence", "debug", "annotated", "overlay", "detections", "heatmap", "flow", "visualization", "dvs", "events",
}  # fmt: skip
_GENERIC = {
    "camera", "cameras", "cam", "sensing", "sensor", "sensors", "image", "images", "carla", "ego_vehicle", "hero",
    "color", "colour", "rgb", "mono", "raw", "rect", "driver", "proc", "processed", "perception", "traffic_light",
    "stereo",
}  # fmt: skip
_MERGED = {"merged", "concatenated", "combined", "fused"}
_ROOF = {"top", "roof", "center", "centre", "main"}
_LIDAR = {"lidar", "velodyne", "ouster", "hesai", "livox", "rslidar", "robosense", "pandar", "points", "laser"}
_NO_SWEEP = {
    "depth", "map", "ground", "nonground", "obstacle", "obstacles", "cluster", "clusters", "segmented", "filtered",
    "debug", "stereo", "voxel", "outlier", "aligned", "submap", "registered",
}  # fmt: skip
_NEARLY_ALL = 0.9  # a topic with this share of the messages of its best sibling is as good


@dataclass(frozen=True)
class CameraTopics:
    """The topics of one camera; camera_info is None where none was found."""

    image: str
    camera_info: str | None
    compressed: bool = False

    @property
    def rectified(self) -> bool:
        """Whether the image's name says that it is rectified."""
        return "rect" in re.split(r"[/_]", self.image)


@dataclass(frozen=True)
class Inputs:
    """What a drive is made of. None, or nothing, where there is no such topic."""

    points: str | None
    cameras: Mapping[str, CameraTopics]
    odometry: str | None = None
    route: str | None = None
    transforms: tuple[str, ...] = ()
    other_points: tuple[str, ...] = field(default=())
    """Clouds that were not chosen, best first."""

    def all_topics(self) -> list[str]:
        """Names of everything to read, sorted."""
        cameras = [name for camera in self.cameras.values() for name in (camera.image, camera.camera_info)]
        names = [self.points, self.odometry, self.route, *self.transforms, *cameras]
        return sorted({name for name in names if name is not None})


def find_inputs(topics: Mapping[str, Topic] | Iterable[Topic]) -> Inputs:
    """The inputs among some topics (`BagReader.topics`, or those of a live graph with a count of 1 each)."""
    listed = sorted(topics.values() if isinstance(topics, Mapping) else topics, key=lambda topic: topic.name)
    points = _clouds([topic for topic in listed if topic.type == POINTS])
    return Inputs(
        points=points[0] if points else None,
        cameras=_cameras(listed),
        odometry=_best_odometry([topic for topic in listed if topic.type == ODOMETRY]),
        route=next((t.name for t in listed if t.type == PATH and _words(t.name) & {"route", "global"}), None),
        transforms=tuple(topic.name for topic in listed if topic.type == TRANSFORMS),
        other_points=tuple(points[1:]),
    )


def _words(name: str) -> set[str]:
    """`/CAM_FRONT/image_rect` -> cam, front, image, rect, and the whole parts cam_front, image_rect."""
    parts = [part for part in name.lower().split("/") if part]
    return set(parts) | {word for part in parts for word in part.split("_")}


def _clouds(topics: list[Topic]) -> list[str]:
    def rank(topic: Topic) -> tuple[object, ...]:
        words = _words(topic.name)
        lidar = any(word.startswith(tuple(_LIDAR)) for word in words)
        liked = (bool(words & _MERGED), bool(words & _ROOF))
        return (not topic.count, bool(words & _NO_SWEEP), not lidar, *(not x for x in liked), -topic.count, topic.name)

    sweeps = [topic for topic in topics if not any("radar" in word for word in _words(topic.name))]
    return [topic.name for topic in sorted(sweeps, key=rank)]


def _best_odometry(topics: list[Topic]) -> str | None:
    def rank(topic: Topic) -> tuple[object, ...]:
        words = _words(topic.name)
        doubtful = bool(words & {"gps", "gnss", "visual", "map", "truth", "groundtruth", "gt", "debug", "lidar", "icp"})
        fused = bool(words & {"filtered", "kinematic", "fused"})
        return (not topic.count, doubtful, not fused, -topic.count, len(topic.name), topic.name)

    return min(topics, key=rank).name if topics else None


def _cameras(topics: list[Topic]) -> dict[str, CameraTopics]:
    by_camera: dict[str, list[Topic]] = {}
    for topic in topics:
        if topic.type in (IMAGE, COMPRESSED) and not _words(topic.name) & _NO_PICTURE:
            by_camera.setdefault(_camera_of(topic.name), []).append(topic)
    infos = [topic for topic in topics if topic.type == CAMERA_INFO]
    names = _camera_names(list(by_camera))
    cameras: dict[str, CameraTopics] = {}
    for camera, images in by_camera.items():
        image = _best_image(images)
        info = _camera_info_of(image.name, camera, infos, alone=len(by_camera) == 1)
        cameras[names[camera]] = CameraTopics(image.name, info, image.type == COMPRESSED)
    return dict(sorted(cameras.items()))


def _base_image(name: str) -> str:
    """The topic without what image_transport appended."""
    return re.sub(r"[/_](compressed|jpeg|jpg|png)$", "", name, flags=re.IGNORECASE)


def _camera_of(image: str) -> str:
    """The namespace that stands for the camera: what is before the part that begins with `image`, else the topic."""
    parts = _base_image(image).split("/")
    while len(parts) > 1 and re.match(r"(image|img|rgb$|color$|raw$|rect)", parts[-1], flags=re.IGNORECASE):
        parts.pop()
    return "/".join(parts)


def _best_image(images: list[Topic]) -> Topic:
    most = max(topic.count for topic in images)

    def rank(topic: Topic) -> tuple[object, ...]:
        words = _words(topic.name)
        few = topic.count < _NEARLY_ALL * most
        return (few, "rect" not in words, "mono" in words, topic.type == COMPRESSED, -topic.count, topic.name)

    return min(images, key=rank)


def _camera_info_of(image: str, camera: str, infos: list[Topic], *, alone: bool) -> str | None:
    """The camera_info of an image, by the places where drivers put it."""
    names = {topic.name for topic in infos if topic.count} or {topic.name for topic in infos}
    base = _base_image(image)
    beside = base.rsplit("/", 1)[0]
    above = camera.rsplit("/", 1)[0]
    candidates = [
        f"{beside}/camera_info", f"{base}/camera_info", f"{camera}/camera_info", f"{base}_info", f"{camera}_info",
        f"{beside}/info", f"{camera}/info", f"{camera}/image_raw/camera_info", f"{camera}/image/camera_info",
    ]  # fmt: skip
    for candidate in candidates:
        if candidate in names:
            return candidate
    # `/camera_info/front` with `/image/front`: the same words but for what kind of topic it is.
    kind = {"camera", "info", "cam", "image", "images", "raw", "rect", "color", "mono", "rgb", "compressed", "caminfo"}
    own = {word for word in _words(camera) if "_" not in word} - kind
    alike = [name for name in sorted(names) if own and {w for w in _words(name) if "_" not in w} - kind == own]
    if len(alike) == 1:
        return alike[0]
    if alone and f"{above}/camera_info" in names:
        return f"{above}/camera_info"
    return next(iter(names)) if alone and len(names) == 1 else None


def _camera_names(cameras: list[str]) -> dict[str, str]:
    """Short names that tell cameras apart, fit for ROS parameters: lower case letters, digits and underscores."""
    parts = {camera: [_plain(part) for part in camera.split("/") if part] for camera in cameras}
    telling = {c: [p for p in ps if p not in _GENERIC] or ps[-1:] or ["camera"] for c, ps in parts.items()}
    depth = dict.fromkeys(cameras, 1)
    while True:
        names = {camera: "_".join(telling[camera][-depth[camera] :]) for camera in cameras}
        names = {camera: "lidar_camera" if name == "lidar" else name for camera, name in names.items()}
        alike = [c for c in cameras if sum(name == names[c] for name in names.values()) > 1]
        longer = [c for c in alike if depth[c] < len(telling[c])]
        if not longer:
            break
        for camera in longer:
            depth[camera] += 1
    for camera in alike:  # the same words in all telling parts: the whole topic tells them apart
        names[camera] = "_".join(parts[camera])
    return names


def _plain(part: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_") or "camera"
