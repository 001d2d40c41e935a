"""Where tracked things may go: their paths over the next seconds."""

from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.prediction.settings import PredictionSettings

__all__ = ["PredictionSettings", "constant_velocity_paths"]
