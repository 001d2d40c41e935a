"""The tracker on the world's traffic with a detector's noise: identity through occlusion, speeds, stated errors."""

from __future__ import annotations

import numpy as np
import pytest
from tracked_traffic import HIDDEN_S, Noise, choose_hidden, ego_of, run

from karp_perception.core import Objects
from karp_perception.core.classes import VEHICLES
from karp_perception.world.traffic_drives import TrafficDrive, TrafficDrives

FAMILIES = ("straight", "intersection", "roundabout", "curve")
DRIVES = 12


class Tracked:
    """What became of all drives together."""

    def __init__(self) -> None:
        self.kept: list[bool] = []
        self.speed_error, self.errors, self.standing = [], [], []
        drives = TrafficDrives(11, FAMILIES, duration=12.0)
        for number in range(DRIVES):
            drive = drives.drive(number)
            hidden = choose_hidden(drive, np.random.default_rng(number), 5)
            frames = run(drive, hidden, Noise(), number)
            self._identity(drive, hidden, frames)
            for frame in range(20, len(frames)):
                self._compare(drive, frame, *frames[frame])

    def _identity(self, drive: TrafficDrive, hidden: list, frames: list) -> None:
        length = round(HIDDEN_S / drive.step)
        for case in hidden:
            ids = [set(objects.track_id[who == case.thing].tolist()) for objects, who in frames]
            before, after = ids[case.begin - 1], ids[case.begin + length + 3 : case.begin + length + 6]
            if before:
                self.kept.append(any(before & now for now in after))

    def _compare(self, drive: TrafficDrive, frame: int, objects: Objects, who: np.ndarray) -> None:
        rows = np.flatnonzero((who >= 0) & (objects.unseen == 0) & (objects.age > 1))
        T = ego_of(drive, frame).T_odom_base
        R, thing, C = T[:2, :2], who[rows], objects.covariance[rows]
        velocity, truth = objects.boxes.velocity[rows], drive.velocity[frame, thing] @ R
        place = objects.boxes.center[rows, :2] - (drive.position[frame, thing] - T[:2, 3]) @ R
        error = np.column_stack([place, velocity - truth])
        planar = C[:, [0, 1, 4, 5]][:, :, [0, 1, 4, 5]]
        squared = np.einsum("ni,ni->n", error, np.linalg.solve(planar, error[:, :, None])[:, :, 0])
        alive, wheels = drive.alive[thing], np.isin(drive.label[thing], list(VEHICLES))
        apart = np.abs(np.hypot(*velocity.T) - np.hypot(*truth.T))
        self.speed_error += apart[alive & wheels].tolist()
        self.errors += squared[alive].tolist()
        deviation = np.sqrt(C[:, 4, 4] + C[:, 5, 5])
        self.standing += (np.hypot(*velocity.T) / deviation)[~alive].tolist()


@pytest.fixture(scope="module")
def tracked() -> Tracked:
    return Tracked()


def test_nine_in_ten_keep_their_identity_through_two_seconds_behind_something(tracked: Tracked) -> None:
    assert len(tracked.kept) >= 20
    assert np.mean(tracked.kept) >= 0.9


def test_speeds_of_vehicles_are_right_to_three_tenths(tracked: Tracked) -> None:
    assert len(tracked.speed_error) > 500
    assert np.median(tracked.speed_error) <= 0.3


def test_what_stands_has_no_speed_beyond_its_deviation(tracked: Tracked) -> None:
    assert len(tracked.standing) > 500
    assert np.quantile(tracked.standing, 0.99) < 2.0


def test_errors_are_no_larger_than_stated_and_not_stated_far_too_large(tracked: Tracked) -> None:
    """Four states: 4 on average. Drivers accelerate less than they might, so that it may be somewhat less."""
    assert 2.0 < np.mean(tracked.errors) < 4.2
