"""Boxes of the detector fitted to the lidar's points: its canvas has cells of 0.4 m, the points know centimetres."""
