"""Plan -> Command: what the actuators are to do now, so that the vehicle drives what was planned."""

from karp_perception.planning.control.controller import Controller
from karp_perception.planning.control.reference import planned
from karp_perception.planning.control.settings import ControlSettings

__all__ = ["ControlSettings", "Controller", "planned"]
