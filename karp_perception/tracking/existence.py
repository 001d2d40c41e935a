"""Whether a track is a thing at all: log odds that grow with what fits and shrink with what should have been seen."""

from __future__ import annotations

import numpy as np

from karp_perception.tracking.tracker_settings import TrackerSettings
from karp_perception.tracking.tracks import Tracks


def believe(tracks: Tracks, rows: np.ndarray, likelihood: np.ndarray, settings: TrackerSettings) -> None:
    """After a match of the tracks `rows` (M,): the surer, the better it fits where the track was expected.

    `likelihood` (M,) is the log density of what was measured, which is compared with that of chance measurements
    (Blackman and Popoli, "Design and Analysis of Modern Tracking Systems", 1999, ch. 6: the track score).
    """
    gain = np.clip(likelihood - np.log(settings.clutter_density), -1.0, 2.0)
    most = np.log(settings.most_existence / (1 - settings.most_existence))
    tracks.existence[rows] = np.minimum(tracks.existence[rows] + gain, most)
    tracks.unseen[rows] = 0.0


def doubt(tracks: Tracks, seen: np.ndarray, hidden: np.ndarray, dt: float, settings: TrackerSettings) -> np.ndarray:
    """After a frame of `dt` s: less belief in what was not seen, little less where something hides it.

    Args:
        tracks: N of them, changed in place.
        seen, hidden: (N,) masks.

    Returns:
        sorted rows of the tracks that stay.
    """
    lost = np.where(hidden, settings.hidden, settings.missed) * dt
    tracks.existence = tracks.existence - np.where(seen, 0.0, lost)
    probability = tracks.probability
    tracks.confirmed = tracks.confirmed | (probability >= settings.confirm)
    longest = np.minimum(settings.longest_unseen, tracks.age - tracks.unseen + 0.2)
    return np.flatnonzero((probability >= settings.forget) & (tracks.unseen <= longest))
