"""What the proposer reads of a moment, in route coordinates: along the line, and to its left.

Every column is either the same in a mirror or turns its sign there, so the mirror image of a scene is its tokens times
a row of signs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core.columns import Columns
from karp_perception.core.geometry import wrap_angle
from karp_perception.planning.learned.offsets import span_at
from karp_perception.planning.proposals import Moment, Proposal

THINGS, PIECES, STOPS = 12, 8, 6
"""Most things around, pieces of the line ahead, and hazards in the lane, that are looked at."""

SECONDS = 8
"""Of the motion, with an acceleration for each."""

_KIND = np.array([0, 1, 1, 1, 1, 2, 3, 4, 1, 1, 0])  # by label: car, heavy, on foot, motorcycle, bicycle
_KINDS = 6  # the last one: no class
_MEETING_S = (0.0, 1.5, 3.0)  # who is near now, or will be if all go straight on
_LATER_S = (2.0, 4.0)
_PIECE_UNTIL = 2.5  # spans
_FAR, _FAST, _ASIDE = 20.0, 10.0, 4.0  # m, m/s, m sideways: what counts as 1
_REACH = 80.0  # m: what is farther away is not looked at
_SOON = 5.0  # s

_E, _O = 1.0, -1.0  # even, odd in a mirror
SIGNS = {
    "ego": np.array([_E] * 7 + [_O] * 4 + [_E] * SECONDS, np.float32),
    "things": np.array([_E, _O, _E, _E, _O, _E, _O] + [_E, _O] * len(_LATER_S) + [_E] * (4 + _KINDS), np.float32),
    "pieces": np.array([_E, _O, _O, _E, _E, _O], np.float32),
    "stops": np.array([_E, _E, _E, _O, _E, _E, _E, _E], np.float32),
}
"""Of the columns of each table."""
EGO_WIDTH, THING_WIDTH, PIECE_WIDTH, STOP_WIDTH = (len(SIGNS[name]) for name in ("ego", "things", "pieces", "stops"))


@dataclass(frozen=True)
class SceneTokens(Columns):
    """Of B moments, float32; masks say which tokens exist.

    Attributes:
        ego: (B, EGO_WIDTH). things: (B, THINGS, THING_WIDTH), thing_known (B, THINGS).
        pieces: (B, PIECES, PIECE_WIDTH), all of which exist. stops: (B, STOPS, STOP_WIDTH), stop_known (B, STOPS).
    """

    ego: np.ndarray
    things: np.ndarray
    thing_known: np.ndarray
    pieces: np.ndarray
    stops: np.ndarray
    stop_known: np.ndarray

    def mirrored(self) -> SceneTokens:
        """The same moments in a mirror: left is right."""
        named = zip(self.names(), self.columns(), strict=True)
        return SceneTokens(*(column * SIGNS[name] if name in SIGNS else column for name, column in named))


def tokens_of(moment: Moment) -> SceneTokens:
    """The tokens of one moment (B = 1). Numbers that are none count as 0, and none is larger than 6."""
    things, thing_known = _things(moment)
    stops, stop_known = _stops(moment)
    tables = (_ego(moment), things, thing_known, _pieces(moment), stops, stop_known)
    return SceneTokens(*(_tidy(table)[None] if table.dtype != bool else table[None] for table in tables))


def usual(moment: Moment) -> np.ndarray:
    """(SECONDS,) m/s² of the first proposal, second by second: free driving along the lane, as far as one may."""
    return by_second(moment.options[0])


def by_second(option: Proposal) -> np.ndarray:
    """(SECONDS,) m/s² that a proposal's speed changes by, second by second."""
    profile = option.profile
    return np.diff(np.interp(np.arange(SECONDS + 1), profile.time, profile.speed))


def _tidy(table: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(table, nan=0.0, posinf=6.0, neginf=-6.0), -6.0, 6.0).astype(np.float32)


def _ego(moment: Moment) -> np.ndarray:
    low, high = moment.room
    limit = max(moment.limit, 1.0)
    goal = float(np.exp(-max(moment.line.end, 0.0) / 30.0))
    even = [moment.speed / _FAST, moment.speed / limit, limit / _FAST, moment.acceleration / 3.0, goal]
    even += [(high - low) / _ASIDE, float(moment.speed < 0.5)]
    offset, slope = _beside(moment)
    odd = [offset, 3.0 * slope, 5.0 * moment.ego.yaw_rate, (high + low) / _ASIDE]
    return np.concatenate([even, odd, usual(moment) / 2.0])


def _beside(moment: Moment) -> tuple[float, float]:
    """Of the vehicle now: m to the left of the line, and the tangent of its heading there."""
    offset, slope, _ = moment.ways[0].corridor.approach.offset_at(np.zeros(1))
    return float(offset[0]), float(slope[0])


def _pieces(moment: Moment) -> np.ndarray:
    line = moment.line
    at = span_at(moment.speed) * np.linspace(0.0, _PIECE_UNTIL, PIECES)
    _, heading, curvature = line.at(at)
    bound = np.interp(at, line.distance, moment.ways[0].bound)
    return np.column_stack([
        at / 40.0, 20.0 * curvature, np.sin(heading - heading[0]), bound / _FAST, bound / max(moment.limit, 1.0),
        moment.ways[0].corridor.approach.offset_at(at)[0],
    ])  # fmt: skip


def _stops(moment: Moment) -> tuple[np.ndarray, np.ndarray]:
    table, known = np.zeros((STOPS, STOP_WIDTH)), np.zeros(STOPS, bool)
    for k, h in enumerate(moment.ways[0].hazards[:STOPS]):
        side = {"left": 1.0, "right": -1.0}.get(h.side, 0.0)
        begin, end = (min(time, 2 * _SOON) / _SOON for time in h.occupied)
        table[k] = (h.gap / _FAR, h.speed / _FAST, float(h.crossing), side, begin, end, float(bool(h.title)), h.known)
        known[k] = True
    return table, known


def _things(moment: Moment) -> tuple[np.ndarray, np.ndarray]:
    """Objects, and what was measured that belongs to none: those that come nearest first."""
    around, line = moment.around, moment.line
    boxes, row, lone = around.objects.boxes, around.row, np.flatnonzero(around.owner < 0)
    table, known = np.zeros((THINGS, THING_WIDTH)), np.zeros(THINGS, bool)
    center = np.concatenate([boxes.center[row, :2], around.parts.center[lone, :2]])
    if not len(center):
        return table, known
    s, d = line.project(center)
    offset = _beside(moment)[0]
    heading = line.at(s)[1]
    none = np.zeros(len(lone))
    along, across = np.r_[around.along[row], none], np.r_[around.across[row], none]
    nearest = np.full(len(center), np.inf)
    for t in _MEETING_S:
        nearest = np.minimum(nearest, np.hypot(s + t * (along - moment.speed), 2.0 * (d - offset + t * across)))
    nearest[~((np.abs(s) < _REACH) & (np.abs(d) < _REACH))] = np.inf
    chosen = np.argsort(nearest, kind="stable")[:THINGS]
    chosen = chosen[np.isfinite(nearest[chosen])]
    n = len(chosen)
    size = np.concatenate([boxes.size[row], around.parts.size[lone]])[chosen]
    turn = wrap_angle(np.r_[boxes.yaw[row], around.parts.yaw[lone]][chosen] - heading[chosen])
    label = np.r_[boxes.label[row], np.full(len(lone), -1)][chosen]
    kind = np.where((label >= 0) & (label < len(_KIND)), _KIND[np.clip(label, 0, len(_KIND) - 1)], _KINDS - 1)
    s, d, along, across = s[chosen], d[chosen], along[chosen], across[chosen]
    columns = [
        s / _FAR, d / _ASIDE, np.abs(d - offset) / _ASIDE, along / _FAST, across / 3.0, np.cos(2 * turn),
        np.sin(2 * turn),
    ]  # fmt: skip
    for ahead, aside in _later(moment, chosen, s, d, along, across):
        columns += [ahead / _FAR, aside / _ASIDE]
    columns += [size[:, 0] / 10.0, size[:, 1] / 3.0, chosen >= len(row), np.exp(-np.hypot(s, d) / 10.0)]
    table[:n] = np.column_stack([*columns, np.eye(_KINDS)[kind]])
    known[:n] = True
    return table, known


def _later(
    moment: Moment, chosen: np.ndarray, s: np.ndarray, d: np.ndarray, along: np.ndarray, across: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where things will be, (n,) along and (n,) beside the line, by their likeliest predicted paths."""
    around = moment.around
    objects = around.objects
    n, ways, times = objects.predicted.shape[:3]
    of_object = chosen < len(around.row)
    rows = around.row[chosen[of_object]]
    found = []
    for later in _LATER_S:
        ahead, aside = s + later * along, d + later * across
        at = round(later / objects.prediction_step) - 1
        if len(rows) and n and ways and 0 <= at < times:
            likeliest = objects.predicted_probability[rows].argmax(axis=1)
            place = np.clip(objects.predicted[rows, likeliest, at, :2], -1e4, 1e4)
            ahead[of_object], aside[of_object] = moment.line.project(place)
        found.append((ahead, aside))
    return found
