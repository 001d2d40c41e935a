"""The world's traffic as a detector would tell of it: noise, missed frames, things hidden for two seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, EgoState, Objects
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.tracking.tracker import Tracker, TrackerSettings
from karp_perception.world.traffic_drives import TrafficDrive

NEAR_M = 50.0
HIDDEN_FROM_M = 15.0  # nearer things are hard to hide behind something that is not beside them
ALONE_M = 1.5
SCREEN = 0.35  # of the way to what it hides
HIDDEN_S = 2.0


@dataclass(frozen=True)
class Noise:
    """Of a detector: deviations of place (m), yaw (rad) and size (m), and the share of frames in which it misses."""

    place: float = 0.25
    yaw: float = 0.1
    size: float = 0.1
    missed: float = 0.1


@dataclass(frozen=True)
class Hidden:
    """A thing that is hidden behind something from frame `begin` on, for HIDDEN_S."""

    thing: int
    begin: int


def detections(drive: TrafficDrive, frame: int, gone: np.ndarray, noise: Noise, rng: np.random.Generator) -> Boxes:
    """What is seen in `base_link` of the things within NEAR_M of which `gone` (A,) is False; rows tell nothing."""
    x, y, yaw = drive.ego[frame, :3]
    offset = drive.position[frame] - (x, y)
    near = drive.present[frame] & (np.hypot(*offset.T) < NEAR_M) & ~gone & (rng.random(len(offset)) > noise.missed)
    rows = np.flatnonzero(near)
    n = len(rows)
    c, s = np.cos(yaw), np.sin(yaw)
    place = offset[rows] @ np.array([[c, -s], [s, c]]) + rng.normal(0, noise.place, (n, 2))
    size = np.maximum(drive.size[rows] + rng.normal(0, noise.size, (n, 3)), 0.2)
    variance = np.tile([noise.place**2] * 3 + [noise.size**2] * 3 + [noise.yaw**2] + [4.0] * 2, (n, 1))
    return Boxes(
        np.column_stack([place, 0.5 * drive.size[rows, 2]]), size, drive.yaw[frame, rows] - yaw
        + rng.normal(0, noise.yaw, n), np.full((n, 2), np.nan), drive.label[rows], np.full(n, 0.8), variance,
    )  # fmt: skip


def screens(drive: TrafficDrive, frame: int, hidden: list[Hidden]) -> Boxes:
    """Parts of something, on the way to each hidden thing and wide enough to hide it, in `base_link`."""
    if not hidden:
        return Boxes.empty()
    x, y, yaw = drive.ego[frame, :3]
    things = [h.thing for h in hidden]
    offset = drive.position[frame, things] - (x, y)
    c, s = np.cos(yaw), np.sin(yaw)
    place = SCREEN * offset @ np.array([[c, -s], [s, c]])
    n = len(things)
    width = SCREEN * np.hypot(drive.size[things, 0], drive.size[things, 1]) + 1.0
    size = np.column_stack([np.full(n, 0.2), width, np.full(n, 2.5)])
    across = np.arctan2(place[:, 1], place[:, 0])
    return Boxes(
        np.column_stack([place, np.full(n, 1.2)]),
        size,
        across,
        np.full((n, 2), np.nan),
        np.full(n, -1),
        np.full(n, 0.5),
    )


def ego_of(drive: TrafficDrive, frame: int) -> EgoState:
    """The vehicle's exact motion."""
    x, y, yaw, vx, vy = drive.ego[frame]
    return EgoState(round(frame * drive.step * 1e9), pose_from_xy_yaw(x, y, yaw), np.array([vx, vy]))


def who_is_who(drive: TrafficDrive, frame: int, objects: Objects) -> np.ndarray:
    """(N,) the thing that each object lies on: of its class, the nearest within 2.5 m; -1 for none."""
    T = pose_from_xy_yaw(*drive.ego[frame, :3])
    place = objects.boxes.center[:, :2] @ T[:2, :2].T + T[:2, 3]
    apart = np.hypot(*(place[:, None] - drive.position[frame][None]).transpose(2, 0, 1))
    apart[:, ~drive.present[frame]] = np.inf
    apart[objects.boxes.label[:, None] != drive.label[None]] = np.inf
    best = apart.argmin(axis=1) if apart.size else np.zeros(len(objects), int)
    return np.where(apart[np.arange(len(objects)), best] < 2.5, best, -1) if apart.size else best


def choose_hidden(drive: TrafficDrive, rng: np.random.Generator, count: int) -> list[Hidden]:
    """Things that drive or walk, near for 2 s before, while, and 1 s after they are hidden.

    Not those with another of their class beside them: which of two people is which nobody can tell after 2 s.
    """
    before, while_, after = (round(t / drive.step) for t in (2.0, HIDDEN_S, 1.0))
    distance = np.hypot(*(drive.position - drive.ego[:, None, :2]).transpose(2, 0, 1))
    near = drive.present & (distance < NEAR_M - 5) & (distance > HIDDEN_FROM_M)
    apart = np.hypot(*(drive.position[:, :, None] - drive.position[:, None]).transpose(3, 0, 1, 2))
    other = (drive.label[:, None] == drive.label) & ~np.eye(len(drive.label), dtype=bool)
    near &= ~((apart < ALONE_M) & other & drive.present[:, None]).any(axis=2)
    found = []
    for thing in rng.permutation(np.flatnonzero(drive.alive)).tolist():
        starts = [
            b for b in range(before, len(near) - while_ - after) if near[b - before : b + while_ + after, thing].all()
        ]
        if starts:
            found.append(Hidden(thing, int(rng.choice(starts))))
    return found[:count]


def run(
    drive: TrafficDrive, hidden: list[Hidden], noise: Noise, seed: int = 0, settings: TrackerSettings | None = None
) -> list[tuple[Objects, np.ndarray]]:
    """The tracker over a drive: objects of each frame, and the thing that each lies on."""
    rng, tracker, out = np.random.default_rng(seed), Tracker(settings), []
    length = round(HIDDEN_S / drive.step)
    for frame in range(len(drive.ego)):
        now = [h for h in hidden if h.begin <= frame < h.begin + length]
        gone = np.zeros(len(drive.label), bool)
        gone[[h.thing for h in now]] = True
        ego = ego_of(drive, frame)
        seen = detections(drive, frame, gone, noise, rng)
        objects = tracker.step(ego.stamp_ns, seen, screens(drive, frame, now), ego)
        out.append((objects, who_is_who(drive, frame, objects)))
    return out
