"""Recorded drives through the pipeline, without a ROS graph."""

from karp_perception.replay.bag_frames import BagFrames, Moment
from karp_perception.replay.run import ReplayOptions, replay

__all__ = ["BagFrames", "Moment", "ReplayOptions", "replay"]
