"""What would have been best: many tries, scored as the planner scores, but by what everybody really did then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Vehicle
from karp_perception.planning.collision import Things
from karp_perception.planning.decision import choose
from karp_perception.planning.learned.network import KINDS, MOST_CHANGE, MOST_SHIFT, Ideas
from karp_perception.planning.learned.offsets import STATIONS, span_at
from karp_perception.planning.learned.proposer import idea_of
from karp_perception.planning.learned.tokens import SECONDS, by_second, usual
from karp_perception.planning.planner import PlannerSettings
from karp_perception.planning.proposals import Moment
from karp_perception.planning.rollout import motions_of
from karp_perception.planning.scoring import score

_FORMS = np.array([[0.16, 0.5, 0.84, 1.0, 1.0, 1.0], [0.5, 1.0, 1.0, 1.0, 1.0, 1.0], [0.4, 1.0, 1.0, 0.6, 0.1, 0.0]])
"""Of sideways motion, as shares of the farthest at the stations: calm, early, and there and back."""
_ASIDE = np.array([-1.0, -0.5, 0.5, 1.0])  # shares of the room to either side
_LEAST = 0.2  # m: nearer places are no others
_AT_MOST = (1.0, 0.3, 0.0, -0.5, -1.0, -1.5, -2.5, -3.5)  # m/s²
_UNTIL = (2, 4, SECONDS)  # s
_ASIDE_AT_MOST = ((1.0, SECONDS), (0.0, SECONDS), (-1.0, 2), (-1.0, 4), (-2.0, 2))


@dataclass(frozen=True)
class Tries:
    """N motions that were tried at a moment.

    Attributes:
        shifts: (N, 6) m. change: (N, SECONDS) m/s² more than usual. Both as the network says them.
        kind: (N,) index in KINDS of what each amounts to. score: (N,) 0..1.
    """

    shifts: np.ndarray
    change: np.ndarray
    kind: np.ndarray
    score: np.ndarray

    def best(self, count: int) -> Tries:
        """So many of the highest scores, the best first; repeated where there are fewer."""
        order = np.resize(np.argsort(-self.score, kind="stable")[:count], count)
        return Tries(self.shifts[order], self.change[order], self.kind[order], self.score[order])


def candidates(moment: Moment) -> list[tuple[np.ndarray, np.ndarray]]:
    """Shifts (6,) and accelerations (SECONDS,) of what is worth trying at any moment."""
    straight = np.zeros(len(STATIONS))
    found = [(straight, _at_most(most, until)) for most in _AT_MOST for until in _UNTIL]
    low, high = moment.room
    for share in _ASIDE:
        target = share * (high if share > 0 else -low)
        if abs(target) >= _LEAST:
            found += [(target * form, _at_most(*speed)) for form in _FORMS for speed in _ASIDE_AT_MOST]
    return found


def perturbed(
    ideas: Ideas, moment: Moment, count: int, shift_noise: float, change_noise: float, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The ideas for one moment, and `count` copies of each with smooth noise (m, m/s²): what lies around them."""
    found, usually = [], usual(moment)
    for shifts, change in zip(ideas.shifts[0], ideas.change[0], strict=True):
        found.append((shifts, usually + change))
        for _ in range(count):
            sideways = shift_noise * rng.normal() * np.minimum(STATIONS, 1.0)
            faster = change_noise * np.convolve(rng.normal(size=SECONDS + 2), np.ones(3) / np.sqrt(3.0), "valid")
            found.append((shifts + sideways, usually + change + faster))
    return found


def tried(
    moment: Moment,
    what: Sequence[tuple[np.ndarray, np.ndarray]],
    things: Things,
    settings: PlannerSettings,
    vehicle: Vehicle,
    horizon: float,
    own_share: float = 0.0,
) -> Tries:
    """Simulates and scores what the planner proposed at a moment, and more.

    Args:
        what: shifts and accelerations, see `proposer.idea_of`.
        things: on the paths that they really took, for `horizon` s.
        own_share: of the score that is the planner's own, by foreseen paths and as far as it looks.
    """
    ways, options = list(moment.ways), list(moment.options)
    for number, (shifts, acceleration) in enumerate(what):
        way, option = moment.carry_out(idea_of(moment, f"try {number}", "", shifts, acceleration), len(ways))
        ways.append(way)
        options.append(option)

    def scored(what_moves: Things, until: float) -> np.ndarray:
        motions = motions_of(
            options, ways, moment.line, moment.speed, moment.acceleration, moment.ego, until, settings.limits.step,
            vehicle,
        )  # fmt: skip
        T = moment.ego.T_odom_base
        found = score(options, motions, what_moves, vehicle, moment.limit, moment.raster, T, None, settings.scoring)
        return found.total

    total = scored(things, horizon)
    if own_share > 0.0:
        own = settings.scoring.horizon
        foreseen = moment.around.things(frozenset(), round(own / settings.limits.step))
        total = (1.0 - own_share) * total + own_share * scored(foreseen, own)
    stations, usually = span_at(moment.speed) * STATIONS, usual(moment)
    offsets = np.array([ways[option.way].corridor.approach.offset_at(stations)[0] for option in options])
    change = np.array([by_second(option) for option in options]) - usually
    kinds = [choose(o.profile, o.hazards, None, moment.limit, settings.decision)[0].kind for o in options]
    return Tries(
        np.clip(offsets - offsets[0], -0.99 * MOST_SHIFT, 0.99 * MOST_SHIFT),
        np.clip(change, -0.99 * MOST_CHANGE, 0.99 * MOST_CHANGE),
        np.array([KINDS.index(kind) for kind in kinds]),
        total,
    )


def _at_most(acceleration: float, until: int) -> np.ndarray:
    """(SECONDS,) m/s² at most until then, and after it as one likes."""
    return np.where(np.arange(SECONDS) < until, acceleration, np.inf)
