"""Curves in the plane as (N, 2) polylines in m: made of straights and arcs, offset, cut and joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from karp_perception.core.compiled import njit

STEP = 0.9  # m between points of a lane; the contract allows 1
TURN_STEP = 0.4  # m between points of tight turns, so that headings at their ends are exact


class Spot(NamedTuple):
    """A place on a curve with the direction there, m and rad."""

    x: float
    y: float
    heading: float

    def shifted(self, forward: float, left: float) -> Spot:
        """The place so many m ahead of it and to its left, same direction."""
        c, s = np.cos(self.heading), np.sin(self.heading)
        return Spot(float(self.x + c * forward - s * left), float(self.y + s * forward + c * left), self.heading)


def placed(points: np.ndarray, base: Spot) -> np.ndarray:
    """Points (N, 2) given in a frame whose origin and x axis are `base`, in the world's frame."""
    c, s = np.cos(base.heading), np.sin(base.heading)
    return np.asarray(points, float) @ np.array([[c, s], [-s, c]]) + base[:2]


def distances(points: np.ndarray) -> np.ndarray:
    """(N,) m along the curve to each of its points."""
    return _distances(np.ascontiguousarray(points, np.float64))


def headings(points: np.ndarray) -> np.ndarray:
    """(N,) rad, unwrapped: the mean direction of the pieces on either side of each point."""
    return _headings(np.ascontiguousarray(points, np.float64))


def offset(points: np.ndarray, left: float | np.ndarray) -> np.ndarray:
    """The curve `left` m to the left (negative: right), a number or one a point."""
    points = np.ascontiguousarray(points, np.float64)
    each = np.empty(len(points))
    each[:] = left
    return _offset(points, each)


@njit(cache=True)
def _distances(points):
    found = np.zeros(len(points))
    for i in range(1, len(points)):
        found[i] = found[i - 1] + math.hypot(points[i, 0] - points[i - 1, 0], points[i, 1] - points[i - 1, 1])
    return found


@njit(cache=True)
def _headings(points):
    n = len(points)
    found = np.empty(n)
    before = math.atan2(points[1, 1] - points[0, 1], points[1, 0] - points[0, 0])
    found[0] = before
    for i in range(1, n - 1):
        angle = math.atan2(points[i + 1, 1] - points[i, 1], points[i + 1, 0] - points[i, 0])
        angle += 2.0 * math.pi * math.floor((before - angle) / (2.0 * math.pi) + 0.5)
        found[i] = 0.5 * (before + angle)
        before = angle
    found[n - 1] = before
    return found


@njit(cache=True)
def _offset(points, left):
    n = len(points)
    found = np.empty((n, 2))
    px, py = 0.0, 0.0
    for i in range(n):
        # The sum of the directions of the pieces before and behind points along their bisector.
        x, y = px, py
        if i + 1 < n:
            dx, dy = points[i + 1, 0] - points[i, 0], points[i + 1, 1] - points[i, 1]
            length = math.hypot(dx, dy)
            px, py = dx / length, dy / length
            x, y = x + px, y + py
        length = math.hypot(x, y)
        found[i, 0] = points[i, 0] - y / length * left[i]
        found[i, 1] = points[i, 1] + x / length * left[i]
    return found


@njit(cache=True)
def _interpolated(points, s, at):
    """Points (M, 2) at distances `at` (M,) along a curve with distances `s` (N,)."""
    found = np.empty((len(at), 2))
    k = 0
    for i in range(len(at)):
        if i and at[i] < at[i - 1]:
            k = 0
        while k + 2 < len(s) and s[k + 1] < at[i]:
            k += 1
        step = s[k + 1] - s[k]
        u = min(max((at[i] - s[k]) / step, 0.0), 1.0) if step > 0.0 else 0.0
        found[i, 0] = points[k, 0] + u * (points[k + 1, 0] - points[k, 0])
        found[i, 1] = points[k, 1] + u * (points[k + 1, 1] - points[k, 1])
    return found


def resample(points: np.ndarray, step: float = STEP) -> np.ndarray:
    """The same curve with equal steps of at most `step` m."""
    s = distances(points)
    at = np.linspace(0.0, s[-1], max(int(np.ceil(s[-1] / step)), 1) + 1)
    return _interpolated(np.ascontiguousarray(points, np.float64), s, at)


def piece(points: np.ndarray, begin: float, end: float) -> np.ndarray:
    """The part of the curve from `begin` to `end`, m along it."""
    s = distances(points)
    begin, end = max(begin, 0.0), min(end, float(s[-1]))
    inner = s[(s > begin + 1e-3) & (s < end - 1e-3)]
    return _interpolated(np.ascontiguousarray(points, np.float64), s, np.concatenate([[begin], inner, [end]]))


def spots(points: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (M, 2) and headings (M,) at distances `at` (M,) m along the curve."""
    s = distances(points)
    return _interpolated(np.ascontiguousarray(points, np.float64), s, at), np.interp(at, s, headings(points))


def spot(points: np.ndarray, at: float) -> Spot:
    """The place `at` m along the curve."""
    place, heading = spots(points, np.array([at]))
    return Spot(float(place[0, 0]), float(place[0, 1]), float(heading[0]))


def simplified(points: np.ndarray, tolerance: float = 0.02) -> np.ndarray:
    """Fewer points that stay within `tolerance` m of the curve (Douglas and Peucker 1973)."""
    if len(points) < 3:
        return points
    origin = points[0]
    near = cv2.approxPolyDP((points - origin).astype(np.float32)[:, None], tolerance, False)
    return near[:, 0].astype(np.float64) + origin


def from_curvature(knots: Sequence[tuple[float, float]], start: Spot, step: float = STEP) -> np.ndarray:
    """The curve whose curvature (1/m, left positive) is linear between `knots` (m along it, curvature): clothoids."""
    at, curvature = np.array(knots, float).T
    fine = np.linspace(0.0, at[-1], max(int(np.ceil(at[-1] / (0.5 * step))), 2) + 1)
    h = fine[1]
    k = np.interp(fine, at, curvature)
    heading = start.heading + np.concatenate([[0.0], np.cumsum(0.5 * h * (k[1:] + k[:-1]))])
    middle = 0.5 * (heading[1:] + heading[:-1])
    x = start.x + np.concatenate([[0.0], np.cumsum(h * np.cos(middle))])
    y = start.y + np.concatenate([[0.0], np.cumsum(h * np.sin(middle))])
    return resample(np.stack([x, y], axis=1), step)


def line(start: Spot, length: float, step: float = STEP) -> np.ndarray:
    """A straight of `length` m."""
    at = np.linspace(0.0, length, max(int(np.ceil(length / step)), 1) + 1)
    return np.stack([start.x + at * np.cos(start.heading), start.y + at * np.sin(start.heading)], axis=1)


def arc(center: tuple[float, float], radius: float, begin: float, end: float, step: float = TURN_STEP) -> np.ndarray:
    """Part of a circle from angle `begin` to `end`, rad; counterclockwise where `end` is the larger."""
    n = max(int(np.ceil(abs(end - begin) * radius / step)), 2)
    angle = np.linspace(begin, end, n + 1)
    return np.stack([center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle)], axis=1)


def joined(*curves: np.ndarray) -> np.ndarray:
    """Curves end to end, doubled points left out."""
    points = np.concatenate(curves)
    return points[np.concatenate([[True], np.hypot(*np.diff(points, axis=0).T) > 1e-6])]


def turn(begin: Spot, end: Spot, widest: float = np.inf) -> np.ndarray:
    """A smooth way from one spot to another: straight, arc, straight where their directions meet, else an S.

    The arc has the largest radius that fits, at most `widest` m. Steps of at most `TURN_STEP` m.
    """
    bend = (end.heading - begin.heading + np.pi) % (2.0 * np.pi) - np.pi
    d0 = np.array([np.cos(begin.heading), np.sin(begin.heading)])
    d1 = np.array([np.cos(end.heading), np.sin(end.heading)])
    p0, p1 = np.array(begin[:2]), np.array(end[:2])
    if abs(np.sin(bend)) > 0.05:
        across = d0[0] * d1[1] - d0[1] * d1[0]
        gap = p1 - p0
        a = (gap[0] * d1[1] - gap[1] * d1[0]) / across  # m from p0 ahead to where the directions meet
        b = (d0[0] * gap[1] - d0[1] * gap[0]) / across  # m from there on to p1
        if a > 0.5 and b > 0.5:
            half = abs(np.tan(0.5 * bend))
            t = min(a, b, widest * half)
            radius = t / half
            side = np.sign(bend)
            first, last = p0 + d0 * (a - t), p1 - d1 * (b - t)
            center = first + side * radius * np.array([-d0[1], d0[0]])
            from_angle = begin.heading - side * 0.5 * np.pi
            bow = arc((center[0], center[1]), radius, from_angle, from_angle + bend)
            return resample(joined(p0[None], bow, last[None], p1[None]), TURN_STEP)
    return smooth(begin, end)


def smooth(begin: Spot, end: Spot) -> np.ndarray:
    """A cubic from one spot to another with their directions at its ends (Hermite), steps of `TURN_STEP` m."""
    p0, p1 = np.array(begin[:2]), np.array(end[:2])
    reach = float(np.hypot(*(p1 - p0)))
    v0 = reach * np.array([np.cos(begin.heading), np.sin(begin.heading)])
    v1 = reach * np.array([np.cos(end.heading), np.sin(end.heading)])
    t = np.linspace(0.0, 1.0, max(int(np.ceil(reach / TURN_STEP)) * 2, 4) + 1)[:, None]
    points = (
        (2 * t**3 - 3 * t**2 + 1) * p0 + (t**3 - 2 * t**2 + t) * v0 + (-2 * t**3 + 3 * t**2) * p1 + (t**3 - t**2) * v1
    )
    return resample(points, TURN_STEP)


def rounded(corners: np.ndarray, radius: float, step: float = TURN_STEP) -> np.ndarray:
    """The polyline through `corners` (N, 2) with each inner corner an arc of `radius` m, less where it is short."""
    parts = [corners[:1]]
    for before, corner, after in zip(corners[:-2], corners[1:-1], corners[2:], strict=True):
        back, ahead = before - corner, after - corner
        lengths = np.hypot(*back), np.hypot(*ahead)
        back, ahead = back / lengths[0], ahead / lengths[1]
        half = 0.5 * (np.pi - np.arccos(np.clip(back @ ahead, -1.0, 1.0)))
        t = min(radius * np.tan(half), 0.49 * lengths[0], 0.49 * lengths[1])
        parts.append(
            turn(
                Spot(*(corner + back * t), float(np.arctan2(-back[1], -back[0]))),
                Spot(*(corner + ahead * t), float(np.arctan2(ahead[1], ahead[0]))),
            )
        )
    return resample(joined(*parts, corners[-1:]), step)
