"""What a predictor learns from: things in drives, as a tracker would tell them, and where they went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from karp_perception.detection.training.world_frames import TRAINING_FAMILIES
from karp_perception.prediction.history import EGO_ID
from karp_perception.prediction.lanes import Lanes
from karp_perception.prediction.rollout import SEGMENT_S
from karp_perception.prediction.tokens import LanePieces, tokens_of
from karp_perception.prediction.training.moments import Moment, moments
from karp_perception.prediction.training.perceived import PerceptionErrors, perceived
from karp_perception.prediction.training.settings import PredictorTrainSettings
from karp_perception.small_network.training.samples import KeptSamples, as_text
from karp_perception.world.traffic_drives import TrafficDrive, TrafficDrives, reversed_sides

HORIZON_S = 5.0
_ERRORS = (0.3, 1.6)  # times PerceptionErrors, one number a drive


@dataclass(frozen=True)
class Samples(KeptSamples):
    """N things; tokens as in `tokens.Tokens`, with the route alone and with all lanes.

    Attributes:
        target, others, other_known: see Tokens.
        route, route_known, lanes, lane_known: pieces, see Tokens.
        speed: (N,) m/s. limits: (N, 2) see MotionState.
        future: (N, S, 2) m, in the thing's own frame, every SEGMENT_S. there: (N, S) whether it was there then.
    """

    target: np.ndarray
    others: np.ndarray
    other_known: np.ndarray
    route: np.ndarray
    route_known: np.ndarray
    lanes: np.ndarray
    lane_known: np.ndarray
    speed: np.ndarray
    limits: np.ndarray
    future: np.ndarray
    there: np.ndarray


def samples_of(drive: TrafficDrive, number: int, settings: PredictorTrainSettings) -> list[Samples]:
    """The samples of a drive, moment by moment; its number decides what is random about them."""
    rng = np.random.default_rng([settings.seed, number, 3])
    told = perceived(drive, PerceptionErrors().scaled(float(rng.uniform(*_ERRORS))), number)
    route, lanes = LanePieces.of(Lanes.of([drive.route])), LanePieces.of(Lanes.of(drive.ways))
    found = []
    for moment in moments(drive, told, HORIZON_S, settings.every):
        stay = moment.alive | (rng.random(len(moment.ids)) < settings.standing)
        rows = np.flatnonzero(stay & moment.there[:, 0] & (moment.ids != EGO_ID))
        if len(rows):
            found.append(_of_moment(moment, rows, route, lanes, round(SEGMENT_S / drive.step)))
    return found


def made_from(settings: PredictorTrainSettings) -> str:
    """The settings that samples depend on, as text."""
    return as_text(settings, ("seed", "drives", "duration", "every", "standing"))


def world_samples(
    settings: PredictorTrainSettings, progress: Callable[[int, int], None] = lambda done, of: None
) -> Samples:
    """The samples of all drives, every second one in a mirror: the world drives on the right."""
    drives = TrafficDrives(settings.seed, TRAINING_FAMILIES, settings.duration)
    parts: list[Samples] = []
    for number in range(settings.drives):
        drive = drives.drive(number)
        found = samples_of(reversed_sides(drive) if number % 2 else drive, number, settings)
        parts += (samples.with_floats(np.float16) for samples in found)  # hundreds of thousands of them lie in memory
        progress(number + 1, settings.drives)
    return Samples.concatenate(parts)


def _of_moment(moment: Moment, rows: np.ndarray, route: LanePieces, lanes: LanePieces, stride: int) -> Samples:
    state, own = moment.state, moment.ids == EGO_ID
    tokens = tokens_of(rows, state, moment.past, moment.size, own, route)
    every = tokens_of(rows, state, moment.past, moment.size, own, lanes)
    chosen = state.take(rows)
    c, s = np.cos(chosen.heading)[:, None], np.sin(chosen.heading)[:, None]
    at = slice(stride - 1, None, stride)
    away = moment.future[rows][:, at] - chosen.position[:, None]
    future = np.stack([c * away[..., 0] + s * away[..., 1], c * away[..., 1] - s * away[..., 0]], axis=-1)
    there = moment.there[rows][:, at]
    return Samples(
        tokens.target, tokens.others, tokens.other_known, tokens.pieces, tokens.piece_known, every.pieces,
        every.piece_known, chosen.speed, chosen.limits, np.where(there[..., None], future, 0.0), there,
    )  # fmt: skip
