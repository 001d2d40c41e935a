"""Confirmation of hazards over frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core import EgoState, Vehicle
from karp_perception.core.geometry import invert_pose, transform_points
from karp_perception.planning.hazards import Hazard, HazardSettings
from karp_perception.planning.surroundings import Identity
from karp_perception.planning.trajectory import needed_deceleration


@dataclass(frozen=True)
class Confirmed:
    """What is made of the hazards of a frame.

    Attributes:
        hazards: those that count, nearest first.
        doubtful: which of those that are seen do not count yet.
        lost: those that count and are not seen any more.
    """

    hazards: Sequence[Hazard] = ()
    doubtful: frozenset[Identity] = frozenset()
    lost: Sequence[Hazard] = ()


@dataclass(frozen=True)
class _Known:
    """A hazard of an earlier frame.

    Attributes:
        place, first: (2,) where it is and where it was first, in `odom`.
        frames, seen: how many frames and how long it was seen, s.
        unseen: s since then.
        counted: whether it was ever confirmed.
    """

    place: np.ndarray
    first: np.ndarray
    frames: int
    seen: float
    unseen: float
    hazard: Hazard
    counted: bool


class HazardMemory:
    """Confirms new hazards and keeps vanished ones for a moment, so that one bad frame changes nothing.

    A hazard seen for the first time counts once it is seen again in about the same place, a doubtful one once it was
    seen for some time; at once where waiting would cost comfort, and in the very first frame.

    Args:
        harmless: m/s² of braking; where less is needed, a moment's wait is harmless.
    """

    def __init__(self, settings: HazardSettings, harmless: float, vehicle: Vehicle) -> None:
        self._settings, self._harmless = settings, harmless
        self._comfortable = vehicle.comfortable_deceleration
        self._known: list[_Known] = []
        self._started = False

    def confirmed(self, seen: Sequence[Hazard], speed: float, ego: EgoState, dt: float) -> Confirmed:
        """What is made of what is seen now, dt s after the last call, at a speed (m/s) along the way."""
        needed = [needed_deceleration(h.gap, speed - h.speed) for h in seen]
        urgent = [n > self._comfortable and not h.guessed for h, n in zip(seen, needed, strict=True)]
        soon = [n > self._harmless or h.speed != 0.0 for h, n in zip(seen, needed, strict=True)]
        firm = [replace(h, firm=h.firm and s and not h.guessed) for h, s in zip(seen, soon, strict=True)]
        counting = self._counting(firm, urgent, ego, dt)
        now = {h.identity for h in seen}
        lost = [h for h in counting if h.identity not in now]
        return Confirmed(counting, frozenset(now - {h.identity for h in counting}), lost)

    def _counting(self, hazards: list[Hazard], urgent: list[bool], ego: EgoState, dt: float) -> list[Hazard]:
        """The hazards that count now, nearest first; `urgent`: those that cannot wait."""
        settings, T = self._settings, ego.T_odom_base
        known, result, used = [], [], set()
        for hazard, now in zip(hazards, urgent, strict=True):
            place = _moved(T, hazard.place)
            # What may be moving most likely moves as we do: at low rates it is metres further on in the next frame.
            speed = abs(hazard.speed) if hazard.known else max(abs(hazard.speed), abs(ego.speed))
            k = self._recognise(hazard, place, speed * dt, used)
            used.add(k)
            frames, seen = (1, 0.0) if k is None else (self._known[k].frames + 1, self._known[k].seen + dt)
            first, counted = (place, False) if k is None else (self._known[k].first, self._known[k].counted)
            stays = float(np.hypot(*(place - first))) < settings.around.known_deviation * seen
            if hazard.track_id is None and seen >= settings.confirm_time and stays:
                hazard = replace(hazard, known=True)
            sure = frames >= settings.confirm_frames and (hazard.firm or seen >= settings.confirm_time)
            counted = counted or sure or not self._started
            known.append(_Known(place, first, frames, seen, 0.0, hazard, counted))
            if counted or now:
                result.append(hazard)
        back = invert_pose(T)
        for k, old in enumerate(self._known):
            unseen = old.unseen + dt
            if k in used or not old.counted or unseen > settings.around.hold:
                continue
            here = _moved(back, old.place)
            travelled = old.hazard.place[0] - float(here[0])
            gap = max(old.hazard.gap - travelled + old.hazard.speed * dt, 0.0)
            hazard = replace(old.hazard, gap=gap, place=(float(here[0]), float(here[1])))
            known.append(_Known(old.place, old.first, old.frames, old.seen, unseen, hazard, True))
            result.append(hazard)
        self._known, self._started = known, True
        return sorted(result, key=Hazard.order)

    def _recognise(self, hazard: Hazard, place: np.ndarray, moved: float, used: set[int | None]) -> int | None:
        """Index of the same hazard in the last frame: by its track, else the nearest in about the same place, or
        within what it may have `moved` (m).
        """
        free = [k for k in range(len(self._known)) if k not in used]
        if hazard.track_id is not None:
            for k in free:
                if self._known[k].hazard.track_id == hazard.track_id:
                    return k
        reach = self._settings.same_place + moved
        away = {k: float(np.hypot(*(self._known[k].place - place))) for k in free}
        nearest = min(away, key=lambda k: away[k], default=None)
        return nearest if nearest is not None and away[nearest] < reach else None


def _moved(T: np.ndarray, place: np.ndarray | tuple[float, float]) -> np.ndarray:
    """(2,) a point of the ground in another frame."""
    return transform_points(T, np.array([[place[0], place[1], 0.0]]))[0, :2]
