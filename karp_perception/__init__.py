"""karp_perception: cameras and lidar in, tracked objects, a path and a driving decision out."""

__version__ = "0.1.0"
