"""Rectangles in images -> boxes in space: by the lidar's points, or by the ground and the usual sizes of things."""
