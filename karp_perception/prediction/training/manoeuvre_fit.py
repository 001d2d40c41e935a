"""The table of manoeuvres from traffic: which six, of many that are possible, come nearest to what things do.

Six are chosen greedily, each such that the mean distance between the truth and the nearest of those chosen falls most
(what k-medoids begin with); their probabilities are the shares of things to which each is the nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path

import numpy as np

from karp_perception.detection.training.world_frames import TRAINING_FAMILIES
from karp_perception.prediction.kinematic import manoeuvre_paths
from karp_perception.prediction.lanes import Lanes
from karp_perception.prediction.manoeuvres import COUNT, LANES, PACES, Manoeuvres, row_names, row_of
from karp_perception.prediction.settings import PredictionSettings
from karp_perception.prediction.state import GROUPS
from karp_perception.prediction.training.moments import Moment, moments
from karp_perception.prediction.training.perceived import PerceptionErrors, perceived
from karp_perception.records import atomic_file
from karp_perception.world.traffic_drives import TrafficDrives, reversed_sides

_ACCELERATIONS = {
    "vehicle": (-5.0, -3.0, -2.0, -1.2, -0.6, 0.0, 0.5, 1.0, 1.6),
    "two_wheeler": (-3.0, -1.5, -0.7, 0.0, 0.5, 1.2),
    "pedestrian": (-1.0, -0.4, 0.0, 0.25, 0.5),
}
_TURNS = {
    "vehicle": (0.0, 0.1, 0.25, 0.5, 1.0, 1.5),
    "two_wheeler": (0.0, 0.1, 0.25, 0.5, 1.0, 1.5),
    "pedestrian": (0.0, 0.3, 0.8, 1.57, 2.6),
}
_STAYS = -2.0  # m/s²: what is left of a speed that counts as standing is gone at once
_KEEPS = (0.0, 1.0, 3.0)  # s
_HORIZON_S, _EVERY_S = 5.0, 0.5
_AT = (10, 30, 50)  # steps at which paths are compared with the truth
_WEIGHTS = (0.5, 1.0, 0.5)
_ENOUGH = 30  # examples from which a row is fitted; below, it is as the row before it
_LEAST = 0.01  # probability of a manoeuvre
_MOST = 20_000  # examples of a row


def candidates(group: str, pace: str, lane: bool) -> Manoeuvres:
    """Everything that is possible for a group at a pace: columns (1, C). What stands stays, or starts."""
    accelerations, turns = _ACCELERATIONS[group], _TURNS[group]
    if pace == PACES[0]:
        accelerations = tuple(a for a in accelerations if a > 0)
        rows = [(_STAYS, 0.0, 0.0, 0.0, 1.0)]
    else:
        rows = [(0.0, 0.0, 0.0, 0.0, 1.0)]
    for a, turn in product(accelerations, turns):
        if turn == 0.0:
            rows += [(a, 0.0, keep, 0.0, 1.0) for keep in _KEEPS if (a, keep) != (0.0, 0.0)]
        else:
            rows += [(a, turn, 0.0, 0.0, 1.0), (a, -turn, 0.0, 0.0, 1.0)]
    if lane:
        rows += [(a, 0.0, 0.0, 1.0, 1.0) for a in accelerations]
    return Manoeuvres.of(np.array(rows)[None])


def fit(examples: Iterable[tuple[Moment, Lanes | None]], settings: PredictionSettings) -> np.ndarray:
    """The table (R, COUNT, 5) from moments and the lanes that are known at each."""
    names = row_names()
    cost: dict[int, list[np.ndarray]] = {}
    for moment, lanes in examples:
        state = moment.state
        joined = np.full(len(state), -1) if lanes is None else lanes.joined(state)
        rows = row_of(state, joined >= 0)
        # What is parked or stands about counts as well: nobody can tell it from what waits.
        whole = moment.there[:, _AT[-1] - 1] & (state.group < len(GROUPS) - 1)
        for row in np.unique(rows[whole]).tolist():
            which = np.flatnonzero(whole & (rows == row))
            many = _possible(names[row]).take(np.zeros(len(which), int))
            paths = manoeuvre_paths(state.take(which), many, settings, lanes, joined[which])
            at = np.array(_AT) - 1
            away = paths[:, :, at, :2] - moment.future[which][:, None, at]
            cost.setdefault(row, []).append(np.hypot(away[..., 0], away[..., 1]) @ np.array(_WEIGHTS))
    table = np.zeros((len(names), COUNT, 5))
    table[:, 0, 4] = 1.0  # going on as it is, where nothing was found to learn from
    for row, name in enumerate(names):
        found = np.concatenate(cost[row])[:_MOST] if row in cost else np.zeros((0, 1))
        if name.startswith(GROUPS[-1]):
            continue
        if len(found) < _ENOUGH:
            table[row] = table[max(row - 1, 0)]
        else:
            table[row] = _chosen(_possible(name), found)
    return table


def _possible(name: str) -> Manoeuvres:
    group, pace, lane = name.split()
    return candidates(group, pace, lane == LANES[1])


def _chosen(possible: Manoeuvres, cost: np.ndarray) -> np.ndarray:
    """(COUNT, 5) of the columns of `cost` (M, C), the most probable first."""
    nearest, picked = np.full(len(cost), np.inf), []
    for _ in range(COUNT):
        total = np.minimum(nearest[:, None], cost).mean(axis=0)
        total[picked] = np.inf
        picked.append(int(total.argmin()))
        nearest = np.minimum(nearest, cost[:, picked[-1]])
    share = np.bincount(cost[:, picked].argmin(axis=1), minlength=COUNT) / len(cost)
    share = np.maximum(share, _LEAST) / np.maximum(share, _LEAST).sum()
    columns = [column[0, picked] for column in possible.columns()[:4]]
    rows = np.column_stack([*columns, share])
    return rows[np.argsort(-share, kind="stable")]


def fit_to_world(
    drives: int, seed: int, duration: float, progress: Callable[[int, int], None] = lambda done, of: None
) -> np.ndarray:
    """The table from so many drives of training, `duration` s each, and their mirror images.

    A third of the moments know no lanes, a third the vehicle's route, a third all lanes. `progress` gets how many
    drives are made, of how many.
    """
    source = TrafficDrives(seed, TRAINING_FAMILIES, duration)

    def examples() -> Iterator[tuple[Moment, Lanes | None]]:
        for number in range(drives):
            right = source.drive(number)
            for drive in (right, reversed_sides(right)):
                told = perceived(drive, PerceptionErrors(), number)
                known = (None, Lanes.of([drive.route]), Lanes.of(drive.ways))
                for k, moment in enumerate(moments(drive, told, _HORIZON_S, _EVERY_S)):
                    yield moment, known[(number + k) % len(known)]
            progress(number + 1, drives)

    return fit(examples(), PredictionSettings(horizon=_HORIZON_S))


def write_manoeuvres(table: np.ndarray, file: Path, origin: str) -> None:
    """The table as YAML, with where it is from."""
    lines = [
        f"# {origin}",
        "# Each row: six manoeuvres of a group of classes at a pace, on a known lane or without one (free):",
        "# [acceleration m/s2, turn rad, s that the present turn rate lasts, follows the lane, probability].",
        "manoeuvres:",
    ]
    for name, row in zip(row_names(), table, strict=True):
        rounded = [[*np.round(m[:4], 3).tolist(), float(p)] for m, p in zip(row, _summing(row[:, 4]), strict=True)]
        lines += [f"  {name}:", *(f"    - {m}" for m in rounded)]
    with atomic_file(file) as stream:
        stream.write("\n".join(lines) + "\n")


def _summing(probability: np.ndarray) -> np.ndarray:
    """Rounded to three decimals such that they still sum to 1."""
    rounded = np.round(probability, 3)
    rounded[0] += 1.0 - rounded.sum()
    return np.round(rounded, 3)
