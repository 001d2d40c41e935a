"""A closed loop that was recorded: what the stack answered to each frame, what was true, and how the drive went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from karp_perception.core import Boxes, EgoState, Objects, Plan, SensorFrame, Trajectory, Vehicle, class_name
from karp_perception.core.geometry import yaw_of
from karp_perception.evaluation.drive_record import DriveRecord
from karp_perception.evaluation.driving import contacts, gaps
from karp_perception.pipeline import Result
from karp_perception.sensing.bags import BagReader

STANDING = 0.2  # m/s
"""Speed below which the vehicle stands."""

_LEAST_STOP_S = 0.3  # s: a shorter one is none


@dataclass
class RecordedDrive:
    """Outputs of the stack and truth by frame stamp, the route, and the last diagnostics by status name."""

    detections: dict[int, Boxes] = field(default_factory=dict)
    obstacles: dict[int, Boxes] = field(default_factory=dict)
    objects: dict[int, Objects] = field(default_factory=dict)
    trajectories: dict[int, Trajectory] = field(default_factory=dict)
    plans: dict[int, Plan] = field(default_factory=dict)
    truth: dict[int, tuple[Boxes, np.ndarray]] = field(default_factory=dict)
    route: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)

    def result(self, frame: SensorFrame) -> Result | None:
        """The stack's answer to a frame, or None where none came."""
        stamp_ns = frame.stamp_ns
        plan = self.plans.get(stamp_ns)
        if plan is None:
            return None
        plan = replace(plan, trajectory=self.trajectories.get(stamp_ns, Trajectory.empty()))
        return Result(
            stamp_ns,
            frame.ego or EgoState.standing(stamp_ns),
            self.detections.get(stamp_ns, Boxes.empty()),
            self.obstacles.get(stamp_ns, Boxes.empty()),
            self.objects.get(stamp_ns, Objects.empty()),
            plan,
            {},
        )

    def record(self, egos: Sequence[EgoState], vehicle: Vehicle) -> DriveRecord:
        """The drive as measures see it, for the vehicle's states (one a frame, at even times)."""
        pose = np.array([ego.T_odom_base for ego in egos])
        stamps = [ego.stamp_ns for ego in egos]
        decisions = [self.plans[s].decision if s in self.plans else None for s in stamps]
        nothing = (Boxes.empty(), np.zeros(0, np.int64))
        told = [self.truth.get(s, nothing) for s in stamps]
        actors = Boxes.concatenate(
            [boxes.transformed(ego.T_odom_base, "odom") for (boxes, _), ego in zip(told, egos, strict=True)]
        )
        return DriveRecord(
            time=(np.array(stamps) - stamps[0]) * 1e-9,
            x=pose[:, 0, 3],
            y=pose[:, 1, 3],
            yaw=np.array([yaw_of(T) for T in pose]),
            speed=np.array([ego.speed for ego in egos]),
            steering=np.zeros(len(egos)),
            decision=np.array(["" if d is None else d.kind.value for d in decisions]),
            reason=tuple("" if d is None else d.reason for d in decisions),
            front=vehicle.front,
            rear=vehicle.rear,
            width=vehicle.width,
            route=self.route if len(self.route) > 1 else pose[[0, -1], :2, 3] + [[0.0, 0.0], [1e-3, 0.0]],
            actor_tick=np.repeat(np.arange(len(egos)), [len(boxes) for boxes, _ in told]),
            actor_id=np.concatenate([ids for _, ids in told]),
            actor_label=actors.label,
            actor_x=actors.center[:, 0],
            actor_y=actors.center[:, 1],
            actor_yaw=actors.yaw,
            actor_length=actors.size[:, 0],
            actor_width=actors.size[:, 1],
            actor_vx=actors.velocity[:, 0],
            actor_vy=actors.velocity[:, 1],
            visibility=np.ones(len(actors)),
        )


def read_recording(recording: Path, wheelbase: float, prefix: str = "/stack/output/") -> RecordedDrive:
    """Read back what a recorder wrote, as the core's types. `wheelbase` in m; `prefix` of the stack's topics."""
    from karp_perception.ros import messages as ros

    found = RecordedDrive()
    wanted = ("/diagnostics", "/route", "/world/truth/objects")
    with BagReader(recording) as bag:
        for item in bag.messages([name for name in bag.topics if name in wanted or name.startswith(prefix)]):
            name, message = item.topic.removeprefix(prefix), item.message
            if item.topic == "/diagnostics":
                for status in message.status:
                    found.diagnostics[status.name] = {pair.key: pair.value for pair in status.values}
            elif item.topic == "/route":
                found.route = ros.route_from_path(message).points
            elif item.topic == "/world/truth/objects":
                ids = np.array([int(detection.id) for detection in message.detections], np.int64)
                found.truth[ros.get_stamp(message.header.stamp)] = (ros.boxes_from_detections(message), ids)
            elif name in ("detections", "obstacles"):
                getattr(found, name)[ros.get_stamp(message.header.stamp)] = ros.boxes_from_detections(message)
            elif name == "objects":
                found.objects[ros.get_stamp(message.header.stamp)] = ros.objects_from_message(message)
            elif name == "trajectory":
                way = ros.trajectory_from_message(message, wheelbase)
                found.trajectories[ros.get_stamp(message.header.stamp)] = way
            elif name == "decision":
                stamp_ns, decision = ros.decision_from_status(message)
                found.plans[stamp_ns] = Plan(stamp_ns, Trajectory.empty(), decision)
    return found


def account(record: DriveRecord) -> dict[str, Any]:
    """How a drive went: way and speed, `contacts`, what came `closest`, and where it stopped and why.

    `t_s` are s from the first frame. Distances are between outlines, m.
    """
    steps = np.hypot(np.diff(record.x), np.diff(record.y))
    gap = gaps(record)
    nearest = int(gap.argmin()) if len(gap) else None
    return {
        "duration_s": round(float(record.time[-1]), 3),
        "distance_m": round(float(steps.sum()), 2),
        "top_speed_m_s": round(float(record.speed.max()), 2),
        "contacts": [
            {
                "t_s": round(contact.time, 2),
                "what": f"{class_name(contact.label)} {contact.actor_id}",
                "speed_m_s": round(contact.speed, 2),
                "side": contact.side,
                "at_fault": contact.at_fault,
            }
            for contact in contacts(record)
        ],
        "closest": None
        if nearest is None
        else {
            "m": round(float(gap[nearest]), 2),
            "what": f"{class_name(int(record.actor_label[nearest]))} {int(record.actor_id[nearest])}",
            "t_s": round(float(record.time[record.actor_tick[nearest]]), 1),
        },
        "stops": _stops(record),
    }


def _stops(record: DriveRecord) -> list[dict[str, Any]]:
    """Stretches at a stand: from when to when, how far along, the reason given, and the free way to what is ahead."""
    standing = np.concatenate([[False], record.speed < STANDING, [False]])
    edges = np.flatnonzero(np.diff(standing.astype(np.int8)))
    way = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(record.x), np.diff(record.y)))])
    found = []
    for i, j in zip(edges[::2], edges[1::2], strict=True):
        if record.time[j - 1] - record.time[i] < _LEAST_STOP_S:
            continue
        found.append(
            {
                "t_s": round(float(record.time[i]), 1),
                "until_s": round(float(record.time[j - 1]), 1),
                "after_m": round(float(way[i]), 1),
                "for": record.reason[i],
            }
        )
    return found
