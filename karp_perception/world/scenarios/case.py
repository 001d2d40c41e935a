"""A case: one drive to be made, with everything that makes it what it is. Scenarios of the files expand into cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

ANCHORS = (
    "start", "end", "crossing", "stop_line", "yield_line", "junction", "bend", "crest", "dip", "parking_left",
    "parking_right",
)  # fmt: skip
"""What a place can be given from: where the vehicle starts, where its route ends, or the first, second ... of what
lies on its route."""


class Kind(str, Enum):
    """What the right answer is."""

    CONFLICT = "conflict"  # slow down, stop, keep clear
    CLEAR = "clear"  # braking is wrong
    FAULT = "fault"  # sensors fail on the way
    RANDOM = "random"  # whatever comes in a generated place with its traffic


@dataclass(frozen=True)
class Place:
    """Somewhere along the vehicle's route.

    Attributes:
        anchor: one of ANCHORS. index: the how manieth of its kind on the route, from 0. after: only those count that
            lie so many m beyond the vehicle's start.
        along: m further along the route. lateral: m to the left of its middle.
        turn: rad, heading relative to the route's direction there.
        gap: m free between the vehicle's front bumper, where it starts, and the near end of what stands here; takes
            the place of `along`. None where it is not given so.
    """

    anchor: str = "start"
    index: int = 0
    along: float = 0.0
    lateral: float = 0.0
    turn: float = 0.0
    gap: float | None = None
    after: float = 0.0


@dataclass(frozen=True)
class Trigger:
    """When something happens: at a time (s), when the vehicle's front passes a place, when it would get to a place in
    `value` s at its present speed, or when the free way along the route between both is less than `value` m.
    """

    kind: str  # time, ego_at, ego_arrives, gap
    value: float = 0.0
    place: Place | None = None


@dataclass(frozen=True)
class Event:
    """What an actor does from a trigger on: reach a speed (m/s) at an acceleration (m/s²), or a lateral offset (m, from
    its own way, left positive) within a time (s).
    """

    trigger: Trigger
    speed: float | None = None
    acceleration: float = 2.0
    lateral: float | None = None
    within: float = 2.5


@dataclass(frozen=True)
class Way:
    """Where an actor goes.

    Attributes:
        kind: `stand`; `along` or `against` the route at its lateral offset; `line`, straight on in its heading;
            `points`; `lane`, along lanes of the layout that meet the route.
        points: (m along the route from its place, m to the left of the route), for `points`.
        lane: from_left, from_right, oncoming or joining, for `lane`.
        turn: straight, left or right after the meeting point, for `lane`.
    """

    kind: str = "stand"
    points: tuple[tuple[float, float], ...] = ()
    lane: str = ""
    turn: str = "straight"


@dataclass(frozen=True)
class ActorPart:
    """One of the scenario's own actors.

    Attributes:
        name: its own in the case. family: of `world.models`. seed: of its shape. size: m, None draws it.
        place: where it begins. way: where it goes. speed: m/s at the beginning.
        events: what it does later. backwards: it moves with its rear first.
        meets: (m to the left of the route's middle, s later than the vehicle): it begins to move, or for `lane` begins
            so far away, that it gets there then, if the vehicle keeps its speed. None: it moves from the beginning.
    """

    name: str
    family: str
    seed: int
    place: Place
    way: Way
    speed: float = 0.0
    size: tuple[float, float, float] | None = None
    events: tuple[Event, ...] = ()
    meets: tuple[float, float] | None = None
    backwards: bool = False


@dataclass(frozen=True)
class SceneryPart:
    """Something without a label that stands in a case: a sign, a gantry, steam. See `layout.Placement`."""

    family: str
    seed: int
    place: Place
    size: tuple[float, float, float] | None = None
    sink: float = 0.0


@dataclass(frozen=True)
class Fault:
    """A sensor, or the detector, that fails: from when to when (s), how, and how much (s of delay or jump, share kept,
    m of noise)."""

    sensor: str
    kind: str
    begin: float
    end: float
    amount: float = 0.0


@dataclass(frozen=True)
class Check:
    """Something that must hold after a drive, by its name in `evaluation.checks`, with parameters."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One drive.

    Attributes:
        name: of the case: that of its scenario and the values that were chosen, such as "ccrs,speed=30,overlap=50".
        scenario, group, sentence, kind: of its scenario; the group is its file.
        parameters: what the formulas saw.
        layout: family of the layout. layout_parameters, seed: of its generator.
        start: m along the route. lateral: m left of it. speed, limit: m/s; None for those of the lane.
        actors, scenery, faults: see there.
        traffic: settings of background traffic. weather: settings that differ from a clear day, None draws it.
        duration: s.
        avoidable: whether braking at 8 m/s² 0.3 s after the danger can be seen prevents contact.
        checks: what must hold.
        source: where it comes from, for messages.
    """

    name: str
    scenario: str
    group: str
    sentence: str
    kind: Kind
    parameters: Mapping[str, Any]
    layout: str
    layout_parameters: Mapping[str, Any]
    seed: int
    start: float
    lateral: float
    speed: float | None
    limit: float | None
    actors: tuple[ActorPart, ...]
    scenery: tuple[SceneryPart, ...]
    faults: tuple[Fault, ...]
    traffic: Mapping[str, Any]
    weather: Mapping[str, Any] | None
    duration: float
    avoidable: bool
    checks: tuple[Check, ...]
    source: str


@dataclass(frozen=True)
class Scenario:
    """A scenario of a file and its cases: one for each combination of its grid."""

    name: str
    group: str
    kind: Kind
    sentence: str
    cases: tuple[Case, ...]
