"""visualization_msgs/MarkerArray for RViz and Foxglove: boxes, objects with where they were and may go, the plan.

What there can be hundreds of is drawn in a few markers: all boxes of one kind and colour are one list of lines, as are
all velocities, all predicted paths and all proposals. Those with a class and those that move stand out: they are
filled, and have their name above them. Each array begins with a marker that deletes the ones before it, so that nothing
stale stays on screen.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from karp_perception.core import Boxes, DecisionKind, Objects, Plan, ScoredProposals, class_name
from karp_perception.ros.cdr import Cdr, header_bytes
from karp_perception.ros.trails import Trail
from karp_perception.view.palette import score_color

_ARROW, _LINE_STRIP, _LINE_LIST, _TEXT, _TRIANGLE_LIST = 0, 4, 5, 9, 11  # Marker.type
_ADD, _DELETE_ALL = 0, 3  # Marker.action

_LINE_WIDTH, _EDGE_WIDTH, _TEXT_HEIGHT = 0.15, 0.05, 0.7  # m
_VELOCITY_SECONDS = 1.0  # a velocity is drawn as the way of this time
_MOVING_SPEED = 0.3  # m/s from which something moves

_PATH_POINTS = 12  # at most, of a predicted path or a proposal: enough for the eye

_FILLED, _EDGES = 0.35, 0.8  # alpha of faces and edges

_OBSTACLE = (0.55, 0.55, 0.6)
_BY_LABEL = {
    **dict.fromkeys((0, 1, 2, 3, 4), (0.20, 0.55, 0.95)),
    5: (0.95, 0.35, 0.30),
    **dict.fromkeys((6, 7), (0.95, 0.65, 0.15)),
}
_BY_DECISION = {
    DecisionKind.CRUISE: (0.20, 0.80, 0.35),
    DecisionKind.FOLLOW: (0.20, 0.80, 0.35),
    DecisionKind.SLOW: (0.95, 0.75, 0.15),
    DecisionKind.YIELD: (0.95, 0.75, 0.15),
    DecisionKind.STOP: (0.95, 0.25, 0.20),
    DecisionKind.EMERGENCY_STOP: (0.95, 0.25, 0.20),
    DecisionKind.NO_INPUT: (0.60, 0.60, 0.60),
}

# Pairs of Boxes.corners() that are edges; triples that are halves of faces, counter-clockwise from outside.
_EDGE_CORNERS = np.array([0, 1, 1, 2, 2, 3, 3, 0, 4, 5, 5, 6, 6, 7, 7, 4, 0, 4, 1, 5, 2, 6, 3, 7])
_FACE_CORNERS = np.array([
    [0, 2, 1], [0, 3, 2], [4, 5, 6], [4, 6, 7], [0, 1, 5], [0, 5, 4],
    [1, 2, 6], [1, 6, 5], [2, 3, 7], [2, 7, 6], [3, 0, 4], [3, 4, 7],
]).ravel()  # fmt: skip

_FIXED = struct.Struct("<3d4d3d4f2iB")  # pose, scale, color, lifetime, frame_locked
_NO_TEXTURE = struct.pack("<IB3x II IB3x IB3x II", 1, 0, 0, 0, 1, 0, 1, 0, 0, 0)
"""texture_resource; header, format and data of the texture; uv_coordinates."""
_NO_MESH = struct.pack("<IB3x IB3x IB", 1, 0, 1, 0, 0, 0)
"""mesh_resource; name and data of mesh_file; mesh_use_embedded_materials."""

Color = tuple[float, float, float]


@dataclass(frozen=True)
class _Marker:
    """A marker without orientation.

    `points` (P, 3) m and `colors` (P, 4), which may be empty: then `color` is that of all points.
    """

    namespace: str
    kind: int
    color: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)
    scale: tuple[float, float, float] = (0.0, 0.0, 0.0)
    position: tuple[float, ...] = (0.0, 0.0, 0.0)
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    text: str = ""
    action: int = _ADD


class MarkerDrawing:
    """Collects the markers of one moment; `message` is the serialised array."""

    def __init__(self, stamp_ns: int, frame: str) -> None:
        self._header = header_bytes(stamp_ns, frame)
        self._markers = [_Marker("", _ARROW, action=_DELETE_ALL)]

    def perception(self, detections: Boxes, obstacles: Boxes) -> MarkerDrawing:
        """Detections, filled, with class and score, and the edges of geometric obstacles."""
        self._edges("detections", detections)
        self._faces("detections", detections)
        self._velocities("detections_velocity", detections)
        names = map(class_name, detections.label.tolist())
        texts = [f"{name} {score:.2f}" for name, score in zip(names, detections.score.tolist(), strict=True)]
        self._texts("detection_names", detections, texts)
        self._edges("obstacles", obstacles)
        return self

    def objects(self, objects: Objects) -> MarkerDrawing:
        """Edges of tracked objects; of those with a class or a speed also faces, id and predicted paths, which are
        paler where less likely.
        """
        boxes, speed = objects.boxes, np.hypot(*objects.boxes.velocity.T)
        self._edges("objects", boxes)
        of_interest = np.flatnonzero((boxes.label >= 0) | (speed > _MOVING_SPEED))
        shown = boxes[of_interest]
        self._faces("objects", shown)
        self._velocities("objects_velocity", shown)
        columns = (shown.label.tolist(), objects.track_id[of_interest].tolist(), speed[of_interest].tolist())
        texts = [f"{class_name(label)} {track}: {v:.1f} m/s" for label, track, v in zip(*columns, strict=True)]
        self._texts("object_names", shown, texts)
        self._paths(shown, objects.predicted[of_interest], objects.predicted_probability[of_interest])
        return self

    def trails(self, trails: Sequence[Trail]) -> MarkerDrawing:
        """Where objects came from, paler than they are: lists of lines, one a colour."""
        for color, which in _by_color(np.array([trail.label for trail in trails], int)):
            ways = [trails[i].points for i in which]
            ends = np.concatenate([np.stack([way[:-1], way[1:]], axis=1).reshape(-1, 3) for way in ways])
            self._add(_Marker("trails", _LINE_LIST, (*color, _FILLED), (_LINE_WIDTH, 0.0, 0.0), points=ends))
        return self

    def plan(self, plan: Plan) -> MarkerDrawing:
        """The planned way in the colour of the decision, the decision with its reason, and what it was chosen from."""
        color, way = (*_BY_DECISION[plan.decision.kind], 1.0), plan.trajectory
        if plan.proposals is not None:
            self._proposals(plan.proposals)
        if len(way):
            points = np.column_stack([way.x, way.y, np.full(len(way), _LINE_WIDTH)])
            self._add(_Marker("trajectory", _LINE_STRIP, color, (_LINE_WIDTH, 0.0, 0.0), points=points))
        text = f"{plan.decision.kind.value}: {plan.decision.reason}"
        self._add(_Marker("decision", _TEXT, color, (0.0, 0.0, _TEXT_HEIGHT), (0.0, 0.0, 3.0), text=text))
        return self

    @property
    def message(self) -> bytes:
        """Serialised visualization_msgs/MarkerArray."""
        cdr = Cdr()
        cdr.put("I", len(self._markers))
        for number, marker in enumerate(self._markers):
            self._put(cdr, marker, number)
        return cdr.message()

    def _put(self, cdr: Cdr, marker: _Marker, number: int) -> None:
        cdr.aligned(4, self._header)
        cdr.string(marker.namespace)
        cdr.put("i", number, marker.kind, marker.action)
        orientation, lifetime, locked = (0.0, 0.0, 0.0, 1.0), (0, 0), 0  # it stays until it is deleted
        fields = *marker.position, *orientation, *marker.scale, *marker.color, *lifetime, locked
        cdr.aligned(8, _FIXED.pack(*fields))
        for values, kind in ((marker.points, "<f8"), (marker.colors, "<f4")):
            cdr.put("I", len(values))
            cdr.array(values.astype(kind, copy=False))
        cdr.aligned(4, _NO_TEXTURE)
        cdr.string(marker.text)
        cdr.aligned(4, _NO_MESH)

    def _add(self, marker: _Marker) -> None:
        self._markers.append(marker)

    def _edges(self, namespace: str, boxes: Boxes) -> None:
        corners = boxes.corners()
        for color, rows in _by_color(boxes.label):
            points = corners[rows][:, _EDGE_CORNERS].reshape(-1, 3)
            self._add(_Marker(namespace, _LINE_LIST, (*color, _EDGES), (_EDGE_WIDTH, 0.0, 0.0), points=points))

    def _faces(self, namespace: str, boxes: Boxes) -> None:
        corners = boxes.corners()
        for color, rows in _by_color(boxes.label):
            points = corners[rows][:, _FACE_CORNERS].reshape(-1, 3)
            self._add(_Marker(namespace, _TRIANGLE_LIST, (*color, _FILLED), (1.0, 1.0, 1.0), points=points))

    def _velocities(self, namespace: str, boxes: Boxes) -> None:
        moving = np.flatnonzero(np.hypot(*boxes.velocity.T) > _MOVING_SPEED)  # not for NaN
        ends = np.repeat(boxes.center[moving, None], 2, axis=1)
        ends[:, 1, :2] += _VELOCITY_SECONDS * boxes.velocity[moving]
        for color, rows in _by_color(boxes.label[moving]):
            points = ends[rows].reshape(-1, 3)
            self._add(_Marker(namespace, _LINE_LIST, (*color, 1.0), (_LINE_WIDTH, 0.0, 0.0), points=points))

    def _texts(self, namespace: str, boxes: Boxes, texts: list[str]) -> None:
        above = boxes.center.copy()
        above[:, 2] += 0.5 * boxes.size[:, 2] + _TEXT_HEIGHT
        for position, label, text in zip(above.tolist(), boxes.label.tolist(), texts, strict=True):
            color = (*_BY_LABEL.get(label, _OBSTACLE), 1.0)
            self._add(_Marker(namespace, _TEXT, color, (0.0, 0.0, _TEXT_HEIGHT), tuple(position), text=text))

    def _proposals(self, proposals: ScoredProposals) -> None:
        """Where `base_link` would go, just above the ground, in the colour of the score; one list of lines for all."""
        places = np.stack([proposals.x, proposals.y, np.full_like(proposals.x, _EDGE_WIDTH)], axis=-1)
        places = places[:, proposals.moments(_PATH_POINTS)]
        points = np.stack([places[:, :-1], places[:, 1:]], axis=2)  # (P, segments, 2, 3)
        rgb = np.array([score_color(score) for score in proposals.score.tolist()]) / 255
        colors = np.repeat(np.column_stack([rgb, np.full(len(rgb), _EDGES)]), 2 * points.shape[1], axis=0)
        scale = (_EDGE_WIDTH, 0.0, 0.0)
        self._add(_Marker("proposals", _LINE_LIST, scale=scale, points=points.reshape(-1, 3), colors=colors))

    def _paths(self, boxes: Boxes, predicted: np.ndarray, probability: np.ndarray) -> None:
        """Paths (N, K, T, 3) with their probabilities (N, K), at the height of the boxes' centres."""
        if not predicted.size:
            return
        paths = predicted[:, :, :: -(-predicted.shape[2] // _PATH_POINTS)].copy()
        paths[..., 2] = boxes.center[:, 2, None, None]
        drawn = (np.ptp(paths[..., :2], axis=2).max(axis=-1) > _LINE_WIDTH) & (probability > 0.0)
        ends = np.stack([paths[:, :, :-1], paths[:, :, 1:]], axis=3)[drawn]  # (P, segments, 2, 3)
        if not ends.size:
            return
        rgb = np.array([_BY_LABEL.get(label, _OBSTACLE) for label in boxes.label.tolist()])
        colors = np.concatenate(
            [np.broadcast_to(rgb[:, None], (*drawn.shape, 3)), 0.2 + 0.8 * probability[..., None]], -1
        )
        colors = np.repeat(colors[drawn], ends.shape[1] * 2, axis=0)
        scale, points = (_LINE_WIDTH, 0.0, 0.0), ends.reshape(-1, 3)
        self._add(_Marker("predictions", _LINE_LIST, scale=scale, points=points, colors=colors))


def _by_color(labels: np.ndarray) -> Iterator[tuple[Color, list[int]]]:
    """The rows of labels (N,) that have the same colour, by colour."""
    colors = [_BY_LABEL.get(label, _OBSTACLE) for label in labels.tolist()]
    for color in dict.fromkeys(colors):
        yield color, [i for i, other in enumerate(colors) if other == color]
