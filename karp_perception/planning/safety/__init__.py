"""The safety layer, independent of networks and of the planner's choice: RSS, emergency brake, watchdog, limits."""

from karp_perception.planning.safety.layer import SafetyLayer, SafetySettings

__all__ = ["SafetyLayer", "SafetySettings"]
