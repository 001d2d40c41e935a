"""The vocabulary of the package: types and geometry, numpy only."""

from karp_perception.core.boxes import Boxes
from karp_perception.core.classes import CLASS_NAMES, ObjectClass, class_from_name, class_name
from karp_perception.core.errors import (
    BackendUnavailable,
    BagError,
    ConfigurationError,
    InvalidInput,
    KarpError,
    MissingTransform,
)
from karp_perception.core.frames import (
    CameraFrame,
    Distortion,
    DistortionModel,
    EgoState,
    LidarSweep,
    MotionSource,
    SensorFrame,
)
from karp_perception.core.objects import Objects
from karp_perception.core.plans import Command, Decision, DecisionKind, Plan, Route, ScoredProposals, Trajectory
from karp_perception.core.road import Lane, LightColor, Road, StopKind, StopLine
from karp_perception.core.settings import Settings, nested, setting
from karp_perception.core.vehicle import Vehicle

__all__ = [
    "CLASS_NAMES",
    "BackendUnavailable",
    "BagError",
    "Boxes",
    "CameraFrame",
    "Command",
    "ConfigurationError",
    "Decision",
    "DecisionKind",
    "Distortion",
    "DistortionModel",
    "EgoState",
    "InvalidInput",
    "KarpError",
    "Lane",
    "LidarSweep",
    "LightColor",
    "MissingTransform",
    "MotionSource",
    "ObjectClass",
    "Objects",
    "Plan",
    "Road",
    "Route",
    "ScoredProposals",
    "SensorFrame",
    "Settings",
    "StopKind",
    "StopLine",
    "Trajectory",
    "Vehicle",
    "class_from_name",
    "class_name",
    "nested",
    "setting",
]
