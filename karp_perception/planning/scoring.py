"""How good a simulated motion is: gates times a weighted mean of terms, as nuPlan scores drives (and PDM-Closed plans).

Karnchanachari et al., Towards learning-based planning: The nuPlan benchmark for real-world autonomous driving, ICRA
2024; Dauner et al., CoRL 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from karp_perception.core import ScoredProposals, Vehicle
from karp_perception.core.geometry import transform_points
from karp_perception.core.settings import Settings, setting
from karp_perception.planning.collision import Things, touches
from karp_perception.planning.proposals import Proposal
from karp_perception.planning.road_raster import CELL, RoadRaster
from karp_perception.planning.rollout import Motions

_WEIGHED = ("progress", "ttc", "speed", "comfort", "middle", "pace", "steady")
_ALL_PROGRESS_M = 5.0  # where no motion gets farther, progress says nothing
_JERK_S = 0.4  # over which a change of acceleration is felt
_LOOK_S = 0.5  # between two moments at which the road below the vehicle is looked at


@dataclass(frozen=True)
class ScoringSettings(Settings):
    """What counts, and how much. The bounds of comfort are nuPlan's."""

    horizon: float = setting(4.0, "of the simulated motion", unit="s", low=1.0, high=8.0)
    doubt: float = setting(0.15, "collisions less probable are not counted", low=0.0, high=1.0)
    certain: float = setting(0.5, "collisions as probable as this rule a motion out", low=0.01, high=1.0)
    ttc: float = setting(0.95, "time to collision that is too short", unit="s", low=0.0, high=3.0)
    ttc_until: float = setting(3.0, "how far ahead that is asked", unit="s", low=0.0, high=8.0)
    progress_weight: float = setting(5.0, "of the way that is made", low=0.0, high=100.0)
    ttc_weight: float = setting(5.0, "of times to collision", low=0.0, high=100.0)
    speed_weight: float = setting(4.0, "of keeping to the speed limit", low=0.0, high=100.0)
    comfort_weight: float = setting(2.0, "of comfort", low=0.0, high=100.0)
    middle_weight: float = setting(1.0, "of driving on the route's own line", low=0.0, high=100.0)
    steady_weight: float = setting(0.5, "of staying on the way that was chosen last", low=0.0, high=100.0)
    pace_weight: float = setting(1.0, "of the share of the limit that is driven", low=0.0, high=100.0)
    stop_share: float = setting(0.5, "of its score that a mere stop keeps: the last thing to do", low=0.0, high=1.0)
    acceleration: float = setting(2.4, "comfortable, along the way", unit="m/s2", low=0.1, high=10.0)
    deceleration: float = setting(4.05, "comfortable", unit="m/s2", low=0.1, high=10.0)
    lateral_acceleration: float = setting(4.89, "comfortable, to the side", unit="m/s2", low=0.1, high=10.0)
    jerk: float = setting(4.13, "comfortable, along the way", unit="m/s3", low=0.1, high=50.0)
    yaw_rate: float = setting(0.95, "comfortable", unit="rad/s", low=0.1, high=5.0)
    yaw_acceleration: float = setting(1.93, "comfortable", unit="rad/s2", low=0.1, high=20.0)

    @property
    def weights(self) -> dict[str, float]:
        """Of the terms that are weighed, by name; the others are gates."""
        return {name: getattr(self, f"{name}_weight") for name in _WEIGHED}


@dataclass(frozen=True)
class Scores:
    """Of P proposals.

    Attributes:
        total: (P,) 0..1.
        terms: (P,) each, 0..1, by name: gates (`collision`, `drivable`, `direction`), then those that are weighed.
        impact: (P,) m/s of the vehicle at the first touch that counts, 0 for none.
        culprit: (P,) index of the thing that most probably is touched or too near, -1 for none.
    """

    total: np.ndarray
    terms: Mapping[str, np.ndarray]
    impact: np.ndarray
    culprit: np.ndarray

    @property
    def best(self) -> int:
        """The proposal to drive: of the highest score; where all are ruled out, of the slowest touch."""
        return int(np.lexsort((-self.total, np.where(self.total > 0, 0.0, self.impact), self.total <= 0))[0])


def score(
    options: Sequence[Proposal],
    motions: Motions,
    things: Things,
    vehicle: Vehicle,
    limit: float,
    raster: RoadRaster | None,
    T_odom_base: np.ndarray,
    last_way: str | None,
    settings: ScoringSettings,
) -> Scores:
    """Scores every proposal by its simulated motion.

    Args:
        motions: of the proposals, in order.
        things: what could be touched.
        limit: speed limit, m/s.
        raster: of the road, None where there is no map.
        last_way: name of the way that was driven until now.
    """
    aside = np.array([option.way != 0 for option in options])
    found = touches(motions.pose, motions.speed, motions.step, aside, things, vehicle, settings.ttc, settings.ttc_until)
    span = max(settings.certain - settings.doubt, 1e-6)
    hit = np.clip((found.probability - settings.doubt) / span, 0.0, 1.0)
    soon = np.clip((found.ahead - settings.doubt) / span, 0.0, 1.0)
    counts = found.probability > settings.doubt
    first = np.where(counts, found.time, np.inf).min(axis=1, initial=np.inf)
    moment = np.minimum(np.nan_to_num(first, posinf=0.0) / motions.step, motions.speed.shape[1] - 1).astype(int)
    impact = np.where(np.isfinite(first), motions.speed[np.arange(len(options)), moment], 0.0)
    worst = np.maximum(found.probability, found.ahead)
    culprit = np.full(len(options), -1)
    if worst.shape[1]:
        culprit = np.where(worst.max(axis=1) > settings.doubt, worst.argmax(axis=1), -1)
    collision = 1.0 - hit.max(axis=1, initial=0.0)
    drivable, direction = _on_the_road(motions, vehicle, raster, T_odom_base)
    gate = collision * drivable * direction
    made = np.maximum(motions.distance[:, -1] - motions.distance[:, 0], 0.0)
    most = float((made * (gate > 0)).max(initial=0.0))
    progress = np.clip(made / most, 0.0, 1.0) if most > _ALL_PROGRESS_M else np.ones(len(options))
    over = np.maximum(motions.speed - max(limit, float(motions.speed[0, 0])), 0.0).mean(axis=1)
    off_line = np.abs(motions.offset[:, -1])
    terms = {
        "collision": collision,
        "drivable": drivable,
        "direction": direction,
        "progress": progress,
        "ttc": 1.0 - soon.max(axis=1, initial=0.0),
        "speed": np.clip(1.0 - over / 2.23, 0.0, 1.0),  # nuPlan: 2.23 m/s too fast all the time scores 0
        "comfort": _comfortable(motions, settings).astype(float),
        "middle": np.clip(1.0 - 0.5 * off_line, 0.0, 1.0),
        "pace": np.array([option.share for option in options]),
        "steady": np.array([option.way_name == last_way for option in options], float),
    }
    weights = settings.weights
    mean = sum(weights[name] * terms[name] for name in weights) / max(sum(weights.values()), 1e-9)
    wish = np.array([settings.stop_share if option.share == 0.0 else 1.0 for option in options])
    return Scores(gate * wish * mean, terms, impact, culprit)


def scored_proposals(
    options: Sequence[Proposal], motions: Motions, scores: Scores, settings: ScoringSettings
) -> ScoredProposals:
    """What there was to choose from, for drawings and logs."""
    return ScoredProposals(
        tuple(option.name for option in options), tuple(option.way_name for option in options),
        motions.step * np.arange(motions.speed.shape[1]), *np.moveaxis(motions.pose, -1, 0), motions.speed,
        scores.total, scores.terms, settings.weights, scores.best,
    )  # fmt: skip


def _comfortable(motions: Motions, settings: ScoringSettings) -> np.ndarray:
    """(P,) whether a motion stays within all bounds. What the vehicle does already is nobody's fault."""
    dt = motions.step
    over = max(1, round(_JERK_S / dt))
    jerk = (motions.acceleration[:, over:] - motions.acceleration[:, :-over]) / (over * dt)
    bounds = (
        (motions.acceleration, settings.acceleration),
        (-motions.acceleration, settings.deceleration),
        (np.abs(motions.speed * motions.yaw_rate), settings.lateral_acceleration),
        (np.abs(jerk), settings.jerk),
        (np.abs(motions.yaw_rate), settings.yaw_rate),
        (np.abs(np.diff(motions.yaw_rate, axis=1)) / dt, settings.yaw_acceleration),
    )
    fine = np.ones(len(motions), bool)
    for values, bound in bounds:
        fine &= values.max(axis=1) <= max(bound, float(values[0, 0])) + 1e-6
    return fine


def _on_the_road(
    motions: Motions, vehicle: Vehicle, raster: RoadRaster | None, T_odom_base: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(P,) each: 1 where no corner leaves the road that is on it now, and where nobody is driven towards; else 0."""
    count = len(motions)
    if raster is None:
        return np.ones(count), np.ones(count)
    every = max(1, round(_LOOK_S / motions.step))
    pose = motions.pose[:, ::every]
    c, s = np.cos(pose[..., 2])[..., None], np.sin(pose[..., 2])[..., None]
    # Edges of the road are known to about a cell.
    front, rear, half = vehicle.front - CELL, vehicle.rear - CELL, max(0.5 * vehicle.width - CELL, 0.0)
    x, y = np.array([front, front, -rear, -rear]), half * np.array([1.0, -1.0, 1.0, -1.0])
    corner = np.stack([pose[..., :1] + c * x - s * y, pose[..., 1:2] + s * x + c * y], axis=-1)
    inside = raster.drivable(_in_odom(corner, T_odom_base))
    drivable = (inside | ~inside[:, :1]).all(axis=(1, 2))
    yaw = pose[..., 2] + np.arctan2(T_odom_base[1, 0], T_odom_base[0, 0])
    against = raster.against(_in_odom(pose[..., :2], T_odom_base), yaw)
    direction = (~against | against[:, :1]).all(axis=1)
    return drivable.astype(float), direction.astype(float)


def _in_odom(points: np.ndarray, T_odom_base: np.ndarray) -> np.ndarray:
    flat = points.reshape(-1, 2)
    lifted = np.column_stack([flat, np.zeros(len(flat))])
    return transform_points(T_odom_base, lifted)[:, :2].reshape(points.shape)
