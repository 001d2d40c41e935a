"""What is around, seen from a line: objects, the parts that were measured of them, and where each may go.

Worked out once for a moment; any number of corridors along the line then ask for what is in their way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core import Boxes, Objects
from karp_perception.core.settings import Settings, nested, setting
from karp_perception.planning.collision import Things
from karp_perception.planning.part_owners import joined_to_bodies, owners
from karp_perception.planning.reference_line import ReferenceLine
from karp_perception.tracking.bodies import BodySettings

_EDGE = 0.2
"""How far inside a detected box's edges an object surely is, m: where its edges are, measured parts say better."""
_PIECES = 8
"""Into how many pieces the edge of a footprint is cut, so that it may bend in line coordinates."""
_FASTEST = 100.0  # m/s
_MARGIN, _MARGIN_SHARE, _MOST_MARGIN = 0.1, 0.5, 0.3  # m, of a position's deviation, m: around what may be touched
_FARTHEST = 1e4  # m, of predicted paths

Identity = tuple[int | None, tuple[float, float]]
"""Track id of an object, None for a part that is nobody's, and the place, m: what tells things of a frame apart."""


@dataclass(frozen=True)
class SurroundingsSettings(Settings):
    """What is looked at, and what counts as moving."""

    bodies: BodySettings = nested(BodySettings)
    speed_significance: float = setting(2.5, "speed in its deviations from which a thing moves", low=0.0, high=10.0)
    slowest: float = setting(0.3, "slower things stand", unit="m/s", low=0.0, high=5.0)
    crossing_speed: float = setting(0.4, "sideways speed from which a thing crosses", unit="m/s", low=0.0, high=5.0)
    settled: float = setting(0.5, "age from which an unclassed track's motion is believed", unit="s", low=0.0, high=5.0)
    look_ahead: float = setting(5.0, "how far ahead predicted paths count", unit="s", low=0.0, high=30.0)
    unclassed_look_ahead: float = setting(2.0, "the same for things without a class", unit="s", low=0.0, high=30.0)
    known_deviation: float = setting(
        1.0, "speed and its deviation below which a thing stands", unit="m/s", low=0.1, high=10.0
    )
    hold: float = setting(0.3, "how long a hazard that vanished still counts", unit="s", low=0.0, high=3.0)
    range: float = setting(200.0, "farther things are not looked at", unit="m", low=10.0, high=1000.0)


@dataclass(frozen=True)
class Surroundings:
    """N objects and Q measured parts relative to a line, in the frame of the boxes (`base_link`).

    Attributes:
        objects: all of them; `row` (R,) of those that are looked at: in range, measured or classed, part of no other.
        parts: measured obstacles in range. owner: (Q,) row of the object each is of, -1 for none.
        measured: (N,) whether an object owns a part.
        box_s, box_d: (N, V) outlines along and beside the line, m, of what is surely of an object that was measured
            as well; NaN for objects that are not looked at.
        part_s, part_d: (Q, V) the same of the parts.
        along, across: (N,) m/s along the line and to its left; `along` is 0 where it is not significant.
        stands: (N,) whether a thing surely stands.
        moves_across, crosses: (N,) whether it moves sideways, and more so than along.
        distance: (N,) along the line of the objects' middles, m. heading: (N,) rad, of the line there.
        path_s, path_d, half_s, half_d: (N, K, T) predicted middles along and beside the line, and half the extents
            there, m; NaN for objects that do not move across and for times that do not count.
        probability: (N, K) of the predicted paths.
        step: s between two points of a path.
    """

    objects: Objects
    row: np.ndarray
    parts: Boxes
    owner: np.ndarray
    measured: np.ndarray
    box_s: np.ndarray
    box_d: np.ndarray
    part_s: np.ndarray
    part_d: np.ndarray
    along: np.ndarray
    across: np.ndarray
    stands: np.ndarray
    moves_across: np.ndarray
    crosses: np.ndarray
    distance: np.ndarray
    heading: np.ndarray
    path_s: np.ndarray
    path_d: np.ndarray
    half_s: np.ndarray
    half_d: np.ndarray
    probability: np.ndarray
    step: float

    @classmethod
    def of(
        cls, objects: Objects, obstacles: Boxes, line: ReferenceLine, settings: SurroundingsSettings
    ) -> Surroundings:
        """Everything relative to a line.

        An obstacle that updated an object, or lies on one, is a part of that object. What appears in the body of
        something that moves, and does not surely move otherwise, is of that too. The rest of the obstacles stand for
        themselves.
        """
        obstacle_row = np.flatnonzero(_in_range(obstacles, settings.range))
        parts, boxes = obstacles[obstacle_row], objects.boxes
        owner = owners(objects, obstacles)[obstacle_row]
        measured = np.zeros(len(boxes), bool)
        measured[owner[owner >= 0]] = True
        # A part without a class that is not seen now says little of where anything is; memory holds it for a moment.
        current = (boxes.label >= 0) | measured | (objects.unseen == 0)
        row = np.flatnonzero(_in_range(boxes, settings.range) & current)
        part_of, owner = joined_to_bodies(objects, parts, owner, settings.bodies, settings.hold)
        row = row[part_of[row] < 0]
        box_s, box_d = (np.full((len(boxes), 4 * _PIECES), np.nan) for _ in range(2))
        box_s[row], box_d[row] = outlines(_sure(boxes, measured)[row], line)
        part_s, part_d = outlines(parts, line)
        motion = _motion(objects, line, settings)
        looked_at = np.zeros(len(boxes), bool)
        looked_at[row] = True
        paths = _paths(objects, looked_at & motion["moves_across"], line, settings)
        return cls(
            objects, row, parts, owner, measured, box_s, box_d, part_s, part_d, **motion, **paths,
            probability=np.maximum(objects.predicted_probability, 0.0), step=objects.prediction_step,
        )  # fmt: skip

    @property
    def lone(self) -> np.ndarray:
        """Indices of the parts that are nobody's."""
        return np.flatnonzero(self.owner < 0)

    def things(self, doubtful: frozenset[Identity], times: int) -> Things:
        """What the vehicle could touch: objects (`row`) on their predicted paths, then `lone` parts, which stand.

        What was measured of an object moves with it; of one without a class it is all there is of it. Things that do
        not surely move stand. The margins grow with what is not known of a position.

        Args:
            doubtful: hazards that were not seen often enough to be believed.
            times: moments ahead that are asked for; paths that end before stay where they end.
        """
        boxes, covariance = _sure(self.objects.boxes, self.measured), self.objects.covariance
        whole = self.row[(boxes.label[self.row] >= 0) | ~self.measured[self.row]]
        known = np.zeros(len(boxes), bool)
        known[self.row] = True
        owned = np.flatnonzero((self.owner >= 0) & known[np.maximum(self.owner, 0)]) if len(boxes) else np.zeros(0, int)
        lone = self.lone
        number = np.full(len(boxes), -1)
        number[self.row] = np.arange(len(self.row))
        n, m = len(self.row), len(self.row) + len(lone)
        rows = [
            _rectangles(boxes, whole, number[whole], covariance),
            _rectangles(self.parts, owned, number[self.owner[owned]], None),
            _rectangles(self.parts, lone, n + np.arange(len(lone)), None),
        ]
        box = np.concatenate([row[0] for row in rows])
        start = np.concatenate([_states(boxes, self.row), _states(self.parts, lone)])
        ways = max(1, self.probability.shape[1])
        paths = np.repeat(np.repeat(start[:, None, None], ways, axis=1), times, axis=2)
        probability = np.zeros((m, ways))
        probability[:, 0] = 1.0
        moving = (self.along[self.row] != 0.0) | self.moves_across[self.row]
        moving &= self.probability[self.row].sum(axis=1) > 0.0
        here = np.flatnonzero(moving)
        if len(here) and (count := min(times, self.objects.predicted.shape[2])):
            predicted = np.clip(self.objects.predicted[self.row[here], :, :count], -_FARTHEST, _FARTHEST)
            paths[here, :, :count], paths[here, :, count:] = predicted, predicted[:, :, -1:]
            probability[here] = self.probability[self.row[here]]
            # Of a part without a class only the motion along the road is believed: it may be none of its own.
            for k in here[boxes.label[self.row[here]] < 0]:
                row = self.row[k]
                along = self.along[row] * self.step * np.arange(1, times + 1)
                paths[k, :, :, 0] = start[k, 0] + along * np.cos(self.heading[row])
                paths[k, :, :, 1] = start[k, 1] + along * np.sin(self.heading[row])
                paths[k, :, :, 2] = start[k, 2]
        sure = [(int(self.objects.track_id[i]), place_of(boxes, i)) not in doubtful for i in self.row]
        sure += [(None, place_of(self.parts, k)) not in doubtful for k in lone]
        return Things(box, np.concatenate([row[1] for row in rows]), start, paths, probability, np.array(sure, bool))


def _sure(boxes: Boxes, measured: np.ndarray) -> Boxes:
    """The boxes, of those with a class that were `measured` (N,) as well only what is inside their edges: one passes
    what one sees, not by how much a guess of the whole is off.
    """
    inside = np.maximum(boxes.size[:, :2] - 2 * _EDGE, 0.3 * boxes.size[:, :2])
    size = boxes.size.copy()
    size[:, :2] = np.where((measured & (boxes.label >= 0))[:, None], inside, size[:, :2])
    return replace(boxes, size=size)


def _rectangles(
    boxes: Boxes, rows: np.ndarray, thing: np.ndarray, covariance: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(R, 6) middles, headings, half extents and margins of some boxes, and the things they belong to."""
    unknown = (
        np.zeros(len(rows)) if covariance is None else np.sqrt(np.maximum(covariance[rows, :2, :2].trace(0, 1, 2), 0))
    )
    margin = np.minimum(_MARGIN + _MARGIN_SHARE * unknown, _MOST_MARGIN)
    return np.column_stack([_states(boxes, rows), 0.5 * boxes.size[rows, :2], margin]), thing


def _states(boxes: Boxes, rows: np.ndarray) -> np.ndarray:
    """(R, 3) x, y, yaw."""
    return np.column_stack([boxes.center[rows, :2], boxes.yaw[rows]])


def place_of(boxes: Boxes, row: int) -> tuple[float, float]:
    """Where the middle of one of some boxes lies, m."""
    return float(boxes.center[row, 0]), float(boxes.center[row, 1])


def outlines(boxes: Boxes, line: ReferenceLine) -> tuple[np.ndarray, np.ndarray]:
    """Distance along and offset of the footprints' outlines, (N, 4 * _PIECES) each, in order."""
    corner = boxes.footprint()
    edge = np.roll(corner, -1, axis=1) - corner
    part = np.arange(_PIECES) / _PIECES
    outline = corner[:, :, None, :] + part[None, None, :, None] * edge[:, :, None, :]
    s, d = line.project(outline.reshape(-1, 2))
    return s.reshape(len(boxes), 4 * _PIECES), d.reshape(len(boxes), 4 * _PIECES)


def _motion(objects: Objects, line: ReferenceLine, settings: SurroundingsSettings) -> dict[str, np.ndarray]:
    """The attributes of Surroundings that tell how objects move."""
    boxes = objects.boxes
    velocity = np.clip(boxes.velocity, -_FASTEST, _FASTEST)
    covariance = objects.covariance[:, 4:6, 4:6]
    distance, _ = line.project(boxes.center[:, :2])
    heading = line.at(distance)[1]
    u = np.column_stack([np.cos(heading), np.sin(heading)])
    left = np.column_stack([-u[:, 1], u[:, 0]])
    along, across = (velocity * u).sum(axis=1), (velocity * left).sum(axis=1)
    along_deviation = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", u, covariance, u), 1e-6))
    across_deviation = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", left, covariance, left), 1e-6))
    least = settings.speed_significance
    stands = np.abs(along) + along_deviation < settings.known_deviation
    along = np.where(np.abs(along) > np.maximum(least * along_deviation, settings.slowest), along, 0.0)
    settled = (boxes.label >= 0) | ((objects.age >= settings.settled) & (objects.unseen == 0))
    moves_across = settled & (np.abs(across) > np.maximum(least * across_deviation, settings.crossing_speed))
    crosses = moves_across & (np.abs(across) > np.abs(along))
    return {
        "along": along, "across": across, "stands": stands, "moves_across": moves_across, "crosses": crosses,
        "distance": distance, "heading": heading,
    }  # fmt: skip


def _paths(
    objects: Objects, wanted: np.ndarray, line: ReferenceLine, settings: SurroundingsSettings
) -> dict[str, np.ndarray]:
    """The attributes of Surroundings that tell where objects go, of those that are `wanted` (N,)."""
    n, k, t = objects.predicted.shape[:3]
    t = min(t, int(settings.look_ahead / objects.prediction_step))
    names = ("path_s", "path_d", "half_s", "half_d")
    found = {name: np.full((n, k, t), np.nan) for name in names}
    row = np.flatnonzero(wanted)
    if len(row) == 0 or k == 0 or t == 0:
        return found
    paths = np.clip(objects.predicted[row, :, :t], -_FARTHEST, _FARTHEST)
    s, d = line.project(paths[..., :2].reshape(-1, 2))
    turn = paths[..., 2] - line.at(s)[1].reshape(paths.shape[:3])
    length, width = (0.5 * objects.boxes.size[row, axis, None, None] for axis in (0, 1))
    c, sine = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    s, d = s.reshape(paths.shape[:3]), d.reshape(paths.shape[:3])
    unclassed = objects.boxes.label[row] < 0
    s[unclassed, :, int(settings.unclassed_look_ahead / objects.prediction_step) :] = np.nan
    for name, values in zip(names, (s, d, length * c + width * sine, length * sine + width * c), strict=True):
        found[name][row] = values
    return found


def _in_range(boxes: Boxes, distance: float) -> np.ndarray:
    """(N,) mask of boxes near enough, and small enough, to be things on a road."""
    near = np.abs(boxes.center[:, :2]).max(axis=1, initial=0.0) < distance
    return near & (boxes.size[:, :2].max(axis=1, initial=0.0) < 2 * distance)
