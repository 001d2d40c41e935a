"""The transform buffer: where frames are relative to each other, now and a little while ago, without a ROS graph.

Frames form trees: every frame has one parent. An edge is static (holds for all times) or moving (a history of stamped
poses, interpolated in between, never extrapolated). It follows tf2 where tf2 is right for a recorded drive too:

- A frame that is published under another parent moves there; its old history is forgotten.
- A frame that was static and is published as moving (or the reverse) becomes what came last.
- A transform that would close a loop is refused with InvalidInput (reason "transform_loop"); the tree stays as it was.
- A stamp older than the newest one by more than the history starts that edge's history anew: time has jumped back.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from typing import Any

import numpy as np

from karp_perception.core.errors import InvalidInput, MissingTransform
from karp_perception.core.geometry import interpolate_pose, invert_pose, pose_from_quaternion
from karp_perception.core.validation import as_pose, as_stamp

MALFORMED = "malformed_transform"
LOOP = "transform_loop"
_QUATERNION_TOLERANCE = 0.1  # how far from 1 a length may be: single precision and rounded decimals pass, junk does not

# One step of a chain from a source up to an ancestor or down to a target: a constant, or an edge and "inverted".
_Step = "np.ndarray | tuple[_Edge, bool]"


class _Edge:
    """The pose of one frame in its parent, over time."""

    __slots__ = ("child", "parent", "poses", "stamps", "static")

    def __init__(self, parent: str, child: str, static: bool) -> None:
        self.parent, self.child, self.static = parent, child, static
        self.stamps: list[int] = []
        self.poses: list[np.ndarray] = []

    def insert(self, stamp: int, T: np.ndarray, history_ns: int) -> None:
        """Puts a pose into its place in time; a second one of the same stamp replaces the first."""
        stamps, poses = self.stamps, self.poses
        if stamps and stamp < stamps[-1] - history_ns:
            stamps.clear()
            poses.clear()
        i = bisect_left(stamps, stamp)
        if i < len(stamps) and stamps[i] == stamp:
            poses[i] = T
        else:
            stamps.insert(i, stamp)
            poses.insert(i, T)
        old = bisect_left(stamps, stamps[-1] - history_ns)
        if old:
            del stamps[:old], poses[:old]

    def at(self, stamp: int) -> np.ndarray | None:
        """T_parent_child at a time, None outside of what is known."""
        stamps, poses = self.stamps, self.poses
        i = bisect_left(stamps, stamp)
        if i == len(stamps):
            return None
        if stamps[i] == stamp:
            return poses[i]
        if i == 0:
            return None
        return interpolate_pose(poses[i - 1], poses[i], (stamp - stamps[i - 1]) / (stamps[i] - stamps[i - 1]))


class TransformBuffer:
    """Collects transforms and answers where one frame was in another at a time. Safe to use from several threads.

    Args:
        history_s: how long moving transforms are remembered behind the newest one of the same frame, s.
    """

    def __init__(self, history_s: float = 10.0) -> None:
        if not (np.isfinite(history_s) and history_s > 0):
            raise InvalidInput("TransformBuffer.history_s", "a time above 0 s", history_s)
        self._history_ns = round(history_s * 1e9)
        self._changed = threading.Condition()
        self._edges: dict[str, _Edge] = {}  # by child
        self._chains: dict[tuple[str, str], list[_Step]] = {}  # until the tree or a static transform changes

    def set(
        self, parent: str, child: str, T_parent_child: np.ndarray, stamp_ns: int | None, *, static: bool = False
    ) -> None:
        """Takes one transform, in any order of time.

        Args:
            parent, child: frame names; a leading "/" is dropped.
            T_parent_child: (4, 4), maps points of `child` into `parent`, m.
            stamp_ns: when it held; ignored (and may be None) for a static one.
            static: it holds for all times.

        Raises InvalidInput, reason "malformed_transform" or "transform_loop", and leaves the buffer as it was.
        """
        parent, child = _frame_name(parent), _frame_name(child)
        subject = f"transform {parent!r} -> {child!r}"
        if not parent or not child:
            raise InvalidInput(subject, "two frame names", "an empty one", reason=MALFORMED)
        if parent == child:
            raise InvalidInput(subject, "two different frames", "a frame that is its own parent", reason=MALFORMED)
        try:
            T = as_pose(subject, np.array(T_parent_child, dtype=np.float64))
            stamp = 0 if static else as_stamp(f"{subject} stamp", -1 if stamp_ns is None else stamp_ns)
        except InvalidInput as error:
            raise InvalidInput(error.subject, error.expected, error.got, error.advice, reason=MALFORMED) from None
        with self._changed:
            self._insert(parent, child, T, stamp, static)
            self._changed.notify_all()

    def _insert(self, parent: str, child: str, T: np.ndarray, stamp: int, static: bool) -> None:
        edge = self._edges.get(child)
        if edge is None or edge.parent != parent or edge.static != static:
            above = self._ancestors(parent)
            if child in above:
                loop = " -> ".join([*above[: above.index(child) + 1][::-1], child])
                raise InvalidInput(
                    f"transform {parent!r} -> {child!r}", "a tree", f"the loop {loop}",
                    "two publishers disagree about the tree: stop one of them", reason=LOOP,
                )  # fmt: skip
            edge = self._edges[child] = _Edge(parent, child, static)
            self._chains.clear()
        if not static:
            edge.insert(stamp, T, self._history_ns)
        elif not edge.poses or not np.array_equal(edge.poses[0], T):
            edge.poses[:] = [T]
            self._chains.clear()

    def add_message(self, tf_message: Any, static: bool) -> None:
        """Takes every good transform of a tf2_msgs/TFMessage (of rclpy or rosbags, or anything with the same fields).

        Raises InvalidInput about the first bad one, after all good ones were taken: zero or far from normalised
        quaternion, NaN, empty frame, a frame that is its own parent (reason "malformed_transform"), a loop
        ("transform_loop").
        """
        first_error: InvalidInput | None = None
        for stamped in tf_message.transforms:
            try:
                parent, child = stamped.header.frame_id, stamped.child_frame_id
                stamp = stamped.header.stamp
                T = _matrix(stamped.transform, f"transform {parent!r} -> {child!r}")
                self.set(parent, child, T, stamp.sec * 1_000_000_000 + stamp.nanosec, static=static)
            except InvalidInput as error:
                first_error = first_error or error
        if first_error is not None:
            raise first_error

    def lookup(self, target: str, source: str, stamp_ns: int, *, timeout_s: float = 0.0) -> np.ndarray:
        """T_target_source (4, 4, read-only) at a time: maps points of `source` into `target`.

        Moving transforms are interpolated between their two neighbours in time and never extrapolated. Waits up to
        `timeout_s` of wall-clock time for a transform that is still on its way; another thread must deliver it.

        Raises MissingTransform, saying which frame is unknown, which trees are not joined, or which transform is
        known from when to when.
        """
        stamp = int(stamp_ns)
        deadline = time.monotonic() + timeout_s if timeout_s > 0 else 0.0
        with self._changed:
            while True:
                try:
                    return self._evaluate(_frame_name(target), _frame_name(source), stamp)
                except MissingTransform:
                    remaining = deadline - time.monotonic() if deadline else 0.0
                    if remaining <= 0:
                        raise
                    self._changed.wait(remaining)

    def latest(self, target: str, source: str) -> np.ndarray:
        """T_target_source (4, 4, read-only) at the latest time for which all transforms between the two are known."""
        target, source = _frame_name(target), _frame_name(source)
        with self._changed:
            moving = [step[0] for step in self._chain(target, source) if isinstance(step, tuple)]
            return self._evaluate(target, source, min((edge.stamps[-1] for edge in moving), default=0))

    def frames(self) -> list[str]:
        """Names of all frames, sorted."""
        with self._changed:
            return self._frame_list()

    def joined(self, target: str, source: str) -> bool:
        """Whether a chain of transforms joins two frames, at whatever time."""
        with self._changed:
            try:
                self._chain(_frame_name(target), _frame_name(source))
            except MissingTransform:
                return False
            return True

    def clear(self, *, keep_static: bool = True) -> None:
        """Forgets moving transforms (when a recording starts over), and the static ones too if asked."""
        with self._changed:
            self._edges = {name: edge for name, edge in self._edges.items() if keep_static and edge.static}
            self._chains.clear()

    def describe(self) -> str:
        """The trees as indented text, one frame a line, with the known time range of moving ones."""
        with self._changed:
            if not self._edges:
                return "no transforms"
            children: dict[str, list[str]] = {}
            for name, edge in self._edges.items():
                children.setdefault(edge.parent, []).append(name)
            lines: list[str] = []
            open_frames = [(0, root) for root in sorted(set(children) - set(self._edges), reverse=True)]
            while open_frames:
                depth, name = open_frames.pop()
                edge = self._edges.get(name)
                how = "" if edge is None else " (static)" if edge.static else f" ({_range(edge)})"
                lines.append("  " * depth + name + how)
                open_frames += [(depth + 1, child) for child in sorted(children.get(name, ()), reverse=True)]
            return "\n".join(lines)

    # The methods below expect the lock to be held.

    def _frame_list(self) -> list[str]:
        return sorted(set(self._edges) | {edge.parent for edge in self._edges.values()})

    def _ancestors(self, name: str) -> list[str]:
        """`name`, its parent, and so on up to the root."""
        names = [name]
        while (edge := self._edges.get(names[-1])) is not None:
            names.append(edge.parent)
        return names

    def _chain(self, target: str, source: str) -> list[_Step]:
        """The steps whose product is T_target_source, neighbouring static ones already multiplied."""
        key = (target, source)
        if key not in self._chains:
            self._chains[key] = self._new_chain(target, source)
        return self._chains[key]

    def _new_chain(self, target: str, source: str) -> list[_Step]:
        if target == source:
            return [_read_only(np.eye(4))]
        known = self._frame_list()
        for name in (target, source):
            if name not in known:
                raise MissingTransform(
                    f"no transform from {source!r} to {target!r}: the frame {name!r} was never published; "
                    f"known frames: {_listing(known)}"
                )
        up_target, up_source = self._ancestors(target), self._ancestors(source)
        common = next((name for name in up_source if name in up_target), None)
        if common is None:
            trees = " and ".join(
                "{" + _listing([n for n in known if self._ancestors(n)[-1] == up[-1]]) + "}"
                for up in (up_target, up_source)
            )
            raise MissingTransform(
                f"no transform from {source!r} to {target!r}: they are in two trees that are not joined, {trees}; "
                "publish a transform between them (a static one for a mounted sensor)"
            )
        down = [(self._edges[name], True) for name in up_target[: up_target.index(common)]]
        up = [(self._edges[name], False) for name in reversed(up_source[: up_source.index(common)])]
        steps: list[_Step] = []
        for edge, inverted in [*down, *up]:
            if not edge.static:
                steps.append((edge, inverted))
                continue
            T = invert_pose(edge.poses[0]) if inverted else edge.poses[0]
            if steps and isinstance(steps[-1], np.ndarray):
                steps[-1] = _read_only(steps[-1] @ T)
            else:
                steps.append(_read_only(T.copy()))
        return steps

    def _evaluate(self, target: str, source: str, stamp: int) -> np.ndarray:
        steps = self._chain(target, source)
        if len(steps) == 1 and isinstance(steps[0], np.ndarray):
            return steps[0]
        product: np.ndarray | None = None
        for step in steps:
            if isinstance(step, tuple):
                edge, inverted = step
                T = edge.at(stamp)
                if T is None:
                    raise MissingTransform(self._out_of_range(target, source, stamp, edge))
                T = invert_pose(T) if inverted else T
            else:
                T = step
            product = T if product is None else product @ T
        assert product is not None  # a chain has at least one step
        return _read_only(product.copy() if product.base is not None else product)

    def _out_of_range(self, target: str, source: str, stamp: int, edge: _Edge) -> str:
        late = (stamp - edge.stamps[-1]) / 1e9
        early = (edge.stamps[0] - stamp) / 1e9
        miss = f"{late:.3f} s after its newest" if late > 0 else f"{early:.3f} s before its oldest"
        return (
            f"no transform from {source!r} to {target!r} at {stamp / 1e9:.9f}: {edge.parent!r} -> {edge.child!r} "
            f"is known {_range(edge)}, the asked time is {miss}, and nothing is extrapolated; "
            f"frames: {_listing(self._frame_list())}"
        )


def _matrix(transform: Any, subject: str) -> np.ndarray:
    """(4, 4) of a geometry_msgs/Transform."""
    t, q = transform.translation, transform.rotation
    translation, quaternion = (t.x, t.y, t.z), (q.x, q.y, q.z, q.w)
    length = float(np.linalg.norm(quaternion))
    if not (np.isfinite(translation).all() and abs(length - 1) <= _QUATERNION_TOLERANCE):
        raise InvalidInput(
            subject, "finite numbers and a quaternion of length 1", f"translation {translation}, rotation {quaternion}",
            "an unset rotation is 0 0 0 1", reason=MALFORMED,
        )  # fmt: skip
    return pose_from_quaternion(translation, quaternion)


def _frame_name(name: str) -> str:
    return name.removeprefix("/")


def _read_only(T: np.ndarray) -> np.ndarray:
    T.flags.writeable = False
    return T


def _range(edge: _Edge) -> str:
    return f"from {edge.stamps[0] / 1e9:.9f} to {edge.stamps[-1] / 1e9:.9f}"


def _listing(names: list[str]) -> str:
    return ", ".join(names) if names else "none"
